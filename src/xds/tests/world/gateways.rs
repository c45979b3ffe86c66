//! The gateways of the small world, and the secrets that they name.

use super::{Op, PORTS, labels};
use crate::{
    id::{Kind, Namespace, ObjectRef},
    model::{
        Certificates, Gateway, KeyPair, Labels, Object, PrivateKey, Protocol, Secret, Server, ServerHost, ServerTls,
        ServerTlsMode,
    },
};
use std::sync::Arc;

impl Op {
    pub(super) fn gateway(&self) -> (ObjectRef, Object) {
        let (namespace, name) = (self.namespace(), self.name("g"));
        let source = ObjectRef::new(Kind::GATEWAY, namespace, name.as_str());
        let hosts = |at: usize| {
            let namespace = self.how[at].is_multiple_of(3).then(|| Namespace::from("a"));
            vec![ServerHost { namespace, host: self.some_host(at) }]
        };
        let server = |at: usize, protocol: Protocol, tls: Option<ServerTlsMode>| Server {
            name: "".into(),
            port: PORTS[usize::from(self.how[at]) % 4],
            port_name: format!("p{at}").into(),
            protocol,
            bind: self.how[at].is_multiple_of(5).then(|| "10.9.9.9".into()),
            hosts: hosts(at),
            redirect: tls.is_none() && self.how[at].is_multiple_of(4),
            tls: tls.map(|mode| ServerTls {
                mode,
                certificates: match mode {
                    ServerTlsMode::Simple => Certificates::Secrets(vec![self.pick(at, &["c0", "c1"]).into()]),
                    _ => Certificates::None,
                },
                authorities: "".into(),
                crl: "".into(),
                subject_alt_names: Vec::new(),
                spki: Vec::new(),
                hashes: Vec::new(),
                min_version: Default::default(),
                max_version: Default::default(),
                ciphers: Vec::new(),
                curves: Vec::new(),
                insecure: false,
            }),
        };
        let modes = [ServerTlsMode::Passthrough, ServerTlsMode::AutoPassthrough, ServerTlsMode::Simple];
        let gateway = Gateway {
            source: source.clone(),
            created: i64::from(self.how[0] % 3),
            selector: self.pick(1, &[Labels::new(), labels(&[("app", "s0")])]),
            servers: vec![
                server(2, self.pick(0, &[Protocol::Http, Protocol::Http, Protocol::Tcp]), None),
                server(3, Protocol::Https, Some(ServerTlsMode::Simple)),
                server(4, Protocol::Tls, Some(self.pick(5, &modes))),
            ],
        };
        (source, Object::Gateway(gateway))
    }

    pub(super) fn secret(&self) -> (ObjectRef, Object) {
        let source = ObjectRef::new(Kind::SECRET, self.namespace(), self.name("c"));
        let bytes = |text: &str| Arc::<[u8]>::from(text.as_bytes());
        let certificate = (!self.how[0].is_multiple_of(3)).then(|| KeyPair {
            chain: bytes(self.pick(1, &["one", "two"])),
            key: PrivateKey::new(*b"key"),
            staple: bytes(""),
        });
        let authorities = bytes(self.pick(2, &["", "roots"]));
        (source.clone(), Object::Secret(Secret { source, certificate, authorities, crl: bytes("") }))
    }
}
