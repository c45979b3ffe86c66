//! The policies of the small world.

use super::{Op, labels};
use crate::{
    id::{Kind, ObjectRef, Shared},
    model::{
        AccountName, AuthorizationPolicy, JwtRule, KeyLocator, KeySet, KeySource, Labels, Object, OperationCheck,
        PathPattern, Pattern, PolicyAction, PolicyRule, Reach, RequestAuthentication, RequestPrincipal, SourceCheck,
        Values,
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

    pub(super) fn request_authentication(&self) -> (ObjectRef, Object) {
        let (namespace, name) = (self.namespace(), self.name("t"));
        let source = ObjectRef::new(Kind::REQUEST_AUTHENTICATION, namespace, name.as_str());
        let rule = |at: usize| JwtRule {
            issuer: self.pick(at, &["one", "two"]).into(),
            audiences: Vec::new(),
            keys: self.pick(
                at + 1,
                &[
                    KeySource::Inline("{}".into()),
                    KeySource::Fetched(KeyLocator::Keys("http://k0/".into())),
                    KeySource::Fetched(KeyLocator::Discovery("http://k1/".into())),
                    KeySource::Missing,
                ],
            ),
            headers: Vec::new(),
            params: Vec::new(),
            cookies: Vec::new(),
            forward: self.how[at].is_multiple_of(2),
            payload_header: "".into(),
            claim_headers: Vec::new(),
            timeout: 5000,
            spaced_claims: Vec::new(),
        };
        let policy = RequestAuthentication {
            source: source.clone(),
            created: i64::from(self.how[3] % 3),
            reach: self.reach(4),
            rules: (0..usize::from(self.how[0] % 3)).map(|at| Shared::new(rule(at))).collect(),
        };
        (source, Object::RequestAuthentication(policy))
    }

    pub(super) fn key_set(&self) -> (ObjectRef, Object) {
        let locator = match self.which % 2 {
            0 => KeyLocator::Keys("http://k0/".into()),
            _ => KeyLocator::Discovery("http://k1/".into()),
        };
        let keys = self.pick(0, &["{1}", "{2}"]).into();
        (locator.object(), Object::KeySet(KeySet { locator, keys }))
    }
}
