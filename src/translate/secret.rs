//! Secrets: the certificates, keys and authorities that gateways and clients outside of the mesh's own TLS use.
//!
//! A proxy is served those alone that its Gateways and DestinationRules name, from its own namespace, and only where
//! it proved to be of that.

use super::{
    Built, Input, Renderer, Resource,
    part::{Affected, Unit},
};
use crate::{
    id::{Namespace, ObjectRef, ResourceType, Shared},
    model::{AUTHORITIES, ObjectKey, Secret, secret_name},
    pb::envoy::{
        config::core::v3::{DataSource, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, Secret as SecretPb, TlsCertificate, secret::Type,
        },
    },
    problem::{FieldPath, Problem},
    snapshot::{Delta, View},
};
use prost::Message;
use std::{collections::BTreeSet, sync::Arc};

const SCHEME: &str = "kubernetes://";

pub(super) fn units(view: &View<'_>) -> BTreeSet<Unit> {
    let Some(secrets) = &view.key.secrets else { return BTreeSet::new() };
    let of_rules = view.rule_credentials().flat_map(|(name, _)| names_of(name));
    secrets.iter().map(|(name, _)| name.clone()).chain(of_rules).map(Unit::Name).collect()
}

/// The names that a credential of a client is asked for by: the certificate and the authorities.
fn names_of(credential: &str) -> [Arc<str>; 2] {
    let name = secret_name(credential);
    [format!("{name}{AUTHORITIES}").into(), name]
}

/// The names that Secrets which differ are asked for by, and those that DestinationRules which differ name.
pub(super) fn affected(new: &View<'_>, delta: &Delta) -> Affected {
    if new.key.secrets.is_none() {
        return Affected::Units(BTreeSet::new());
    }
    let of_secrets = delta.secrets.iter().filter(|key| key.namespace == new.key.namespace).flat_map(|key| {
        let short = [&*key.name, key.name.strip_suffix(AUTHORITIES).unwrap_or(&key.name)];
        short.into_iter().flat_map(|name| [name.to_owned(), format!("{}/{name}", key.namespace)]).collect::<Vec<_>>()
    });
    let of_rules = delta.destination_rules.iter().flat_map(|rule| rule.credentials()).map(ToString::to_string);
    let names = of_secrets.chain(of_rules).flat_map(|name| names_of(&name));
    Affected::Units(names.map(Unit::Name).collect())
}

pub(super) fn build(view: &View<'_>, unit: &Unit, renderer: &dyn Renderer) -> Built {
    let (Unit::Name(name), Some(secrets)) = (unit, &view.key.secrets) else { return Built::default() };
    let of_gateway = secrets.iter().find(|(n, _)| n == name).map(|(_, gateway)| gateway.clone());
    let Some(user) = of_gateway.or_else(|| by_rule(view, name)) else { return Built::default() };
    match find(view, name) {
        Ok(served) => Built { resources: vec![renderer.get(&served)], ..Built::default() },
        Err(why) => {
            let path = FieldPath::new("spec");
            let problems = why.map(|w| Problem::warning(&user, path, w)).into_iter().collect();
            Built { problems, ..Built::default() }
        }
    }
}

/// The DestinationRule by which the view's nodes ask for a secret.
fn by_rule(view: &View<'_>, name: &str) -> Option<ObjectRef> {
    let bare = name.strip_suffix(AUTHORITIES);
    let names = [Some(name), bare, name.strip_prefix(SCHEME), bare.and_then(|n| n.strip_prefix(SCHEME))];
    names.into_iter().flatten().find_map(|n| view.rule_with_credential(n)).map(|rule| rule.source.clone())
}

/// The secret of a name, or what is missing; nothing is said of names that other sources serve.
fn find(view: &View<'_>, name: &Arc<str>) -> Result<Served, Option<String>> {
    let Some(path) = name.strip_prefix(SCHEME) else { return Err(None) };
    let own = &view.key.namespace;
    let (namespace, secret) = match path.split_once('/') {
        Some((namespace, secret)) => (Namespace::from(namespace), secret),
        None => (own.clone(), path),
    };
    if namespace != *own {
        return Err(Some(format!(
            "names the Secret {secret} of namespace {namespace}, but a proxy of {own} may have only those of {own}; copy \
             it there"
        )));
    }
    let get = |name: &str| view.snapshot.secrets.get(&ObjectKey { namespace: own.clone(), name: name.into() });
    let missing = |what: &str| Err(Some(format!("needs the Secret {secret} in namespace {own} with {what}; make it")));
    if let Some(bare) = secret.strip_suffix(AUTHORITIES) {
        let found = [secret, bare].into_iter().filter_map(get).find(|s| !s.authorities.is_empty());
        return match found {
            Some(secret) => Ok(Served { name: name.clone(), secret: secret.clone(), authorities: true }),
            None => missing("ca.crt"),
        };
    }
    match get(secret).filter(|s| s.certificate.is_some()) {
        Some(secret) => Ok(Served { name: name.clone(), secret: secret.clone(), authorities: false }),
        None => missing("tls.crt and tls.key"),
    }
}

/// All that a served secret is made from.
#[derive(Hash)]
struct Served {
    name: Arc<str>,
    secret: Shared<Secret>,
    authorities: bool,
}

impl Input for Served {
    fn render(&self) -> Resource {
        let secret = &*self.secret;
        let kind = match &secret.certificate {
            Some(pair) if !self.authorities => Type::TlsCertificate(TlsCertificate {
                certificate_chain: bytes(&pair.chain),
                private_key: bytes(pair.key.reveal()),
                ocsp_staple: bytes(&pair.staple),
                ..Default::default()
            }),
            _ => Type::ValidationContext(CertificateValidationContext {
                trusted_ca: bytes(&secret.authorities),
                crl: bytes(&secret.crl),
                ..Default::default()
            }),
        };
        let message = SecretPb { name: self.name.to_string(), r#type: Some(kind) };
        Resource::new(ResourceType::Secret, self.name.clone(), message.encode_to_vec(), vec![secret.source.clone()])
    }
}

fn bytes(bytes: &[u8]) -> Option<DataSource> {
    let specifier = Specifier::InlineBytes(bytes.to_vec().into());
    (!bytes.is_empty()).then(|| DataSource { specifier: Some(specifier), ..Default::default() })
}
