//! The policies of the small world.

use super::{Op, labels};
use crate::{
    id::{Kind, ObjectRef},
    model::{
        AccountName, AuthorizationPolicy, Labels, Object, OperationCheck, PathPattern, Pattern, PolicyAction,
        PolicyRule, Reach, RequestPrincipal, SourceCheck, Values,
    },
};

impl Op {
    pub(super) fn reach(&self, at: usize) -> Reach {
        let chooses = self.how[at].is_multiple_of(3);
        Reach {
            selector: if chooses { labels(&[("app", self.pick(at, &["s0", "s1"]))]) } else { Labels::new() },
            gateways: self.how[at].is_multiple_of(11).then(|| vec!["g0".into()]),
        }
    }

    pub(super) fn authorization_policy(&self) -> (ObjectRef, Object) {
        let (namespace, name) = (self.namespace(), self.name("z"));
        let source = ObjectRef::new(Kind::AUTHORIZATION_POLICY, namespace, name.as_str());
        let one = |value: &str| Values { any: vec![Pattern::Exact(value.into())], none: vec![Pattern::Any] };
        let check = self.pick(
            1,
            &[
                SourceCheck::Principal(Values {
                    any: vec!["cluster.local/ns/a/sa/one".into()],
                    none: vec!["*".into()],
                }),
                SourceCheck::Namespace(Values { any: Vec::new(), none: vec!["b*".into()] }),
                SourceCheck::ServiceAccount(Values {
                    any: vec![AccountName { namespace: "a".into(), name: "one".into() }],
                    none: Vec::new(),
                }),
                SourceCheck::RequestPrincipal(Values {
                    any: vec![RequestPrincipal { issuer: Pattern::Any, subject: Pattern::Suffix("x".into()) }],
                    none: Vec::new(),
                }),
                SourceCheck::Claim(vec!["a".into()], one("b")),
                SourceCheck::Header("x-h".into(), one("b")),
            ],
        );
        let operation = self.pick(
            2,
            &[
                OperationCheck::Port(Values { any: vec![8080], none: Vec::new() }),
                OperationCheck::Path(Values { any: vec![PathPattern::Template("/a/*".into())], none: Vec::new() }),
                OperationCheck::Host(one("h")),
            ],
        );
        let rule =
            |at| PolicyRule { at, sources: vec![vec![check.clone()]], operations: vec![vec![operation.clone()]] };
        let policy = AuthorizationPolicy {
            source: source.clone(),
            created: i64::from(self.how[3] % 3),
            reach: self.reach(4),
            action: self.pick(5, &[PolicyAction::Allow, PolicyAction::Deny, PolicyAction::Audit]),
            dry_run: self.how[3].is_multiple_of(4),
            rules: (0..usize::from(self.how[0] % 3)).map(rule).collect(),
        };
        (source, Object::AuthorizationPolicy(policy))
    }
}
