//! The Ingresses of the small world, and their classes.

use super::{NAMESPACES, Op};
use crate::{
    id::{Host, Kind, ObjectRef},
    model::{
        BackendPort, Ingress, IngressClass, IngressControl, IngressMode, IngressPath, IngressTls, Object, StringMatch,
    },
    problem::FieldPath,
};

impl Op {
    pub(super) fn ingress(&self) -> (ObjectRef, Object) {
        let source = ObjectRef::new(Kind::INGRESS, self.namespace(), self.name("i"));
        let host = |at: usize| Host::from(self.pick(at, &["one.example", "two.example", "*"]));
        let path = |at: usize| {
            let uri = self.pick(at + 1, &[None, Some("/a"), Some("/a/b")]);
            IngressPath {
                at: FieldPath::new(format!("spec.rules[{at}]")),
                host: host(at),
                uri: uri.map(|u| match self.how[at].is_multiple_of(2) {
                    true => StringMatch::Exact(u.into()),
                    false => StringMatch::Segments(u.into()),
                }),
                length: uri.map(str::len),
                service: self.pick(at + 2, &["s0", "s1"]).into(),
                port: match self.how[at + 3].is_multiple_of(2) {
                    true => BackendPort::Number(80),
                    false => BackendPort::Name(self.pick(at, &["http-0", "any-0", "tcp-0"]).into()),
                },
            }
        };
        let ingress = Ingress {
            source: source.clone(),
            created: i64::from(self.how[0] % 3),
            annotated: self.how[1].is_multiple_of(4).then(|| "istio".into()),
            class: self.pick(1, &[Some("k0"), Some("k1"), None]).map(Into::into),
            tls: match self.how[2].is_multiple_of(2) {
                true => vec![IngressTls { at: 0, hosts: vec![host(3)], secret: self.pick(4, &["c0", "c1"]).into() }],
                false => Vec::new(),
            },
            paths: (0..usize::from(self.how[5] % 4).min(3)).map(path).collect(),
        };
        (source, Object::Ingress(ingress))
    }

    pub(super) fn ingress_class(&self) -> (ObjectRef, Object) {
        let name = format!("k{}", self.which % 2);
        let controller = self.pick(0, &["istio.io/ingress-controller", "other.example/controller"]).into();
        let source = ObjectRef::new(Kind::INGRESS_CLASS, "", name.as_str());
        (source, Object::IngressClass(IngressClass { name: name.into(), controller }))
    }

    pub(super) fn ingress_control(&self) -> IngressControl {
        IngressControl {
            mode: self.pick(5, &[IngressMode::Strict, IngressMode::Default, IngressMode::Default, IngressMode::Off]),
            namespace: self.pick(4, &NAMESPACES).into(),
            ..IngressControl::default()
        }
    }
}
