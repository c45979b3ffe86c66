//! PeerAuthentications (Istio: `pkg/config/validation/validation.go`, ValidatePeerAuthentication).

use super::{
    Context, Parsed,
    raw::{meta, typed_spec},
    reach::selected,
    value::Findings,
};
use crate::{
    api::peer_authentication::{self as api, MutualTlsMode},
    model::{MtlsMode, PeerAuthentication},
    problem::FieldPath,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// Reads a PeerAuthentication.
pub(super) fn peer_authentication(raw: &Value, context: &Context) -> Parsed<PeerAuthentication> {
    let meta = meta(raw);
    let path = FieldPath::new("spec");
    let (spec, problems) = typed_spec::<api::PeerAuthentication>(&meta.object, raw);
    let Some(spec) = spec else { return (None, problems) };
    let mut found = Findings::new(&meta.object, problems);
    let at = path.field("selector").field("matchLabels");
    let selector = spec.selector.as_ref().map(|s| selected(&mut found, &at, s)).unwrap_or_default();
    if !selector.is_empty() && *meta.object.namespace == *context.system_namespace {
        let message = "chooses workloads, which a policy of the root namespace cannot, so the policy has no effect; \
                       put it into the workloads' namespace, or leave the selector out";
        found.warn(&path.field("selector"), message);
    }
    let ports = ports(&mut found, &path.field("portLevelMtls"), &spec, selector.is_empty());
    let policy = PeerAuthentication {
        source: meta.object.clone(),
        created: meta.created,
        selector,
        mode: mode(spec.mtls.as_ref()),
        ports,
    };
    found.finish(policy)
}

fn ports(
    found: &mut Findings<'_>,
    path: &FieldPath,
    spec: &api::PeerAuthentication,
    everyone: bool,
) -> BTreeMap<u16, Option<MtlsMode>> {
    let Some(named) = &spec.port_level_mtls else { return BTreeMap::new() };
    if named.is_empty() {
        found.error(path, "is empty; name a port of the workload, such as {8080: {mode: DISABLE}}, or leave it out");
    } else if everyone {
        let message = "needs a selector: ports are those of a workload; name the workload's labels in spec.selector";
        found.error(path, message);
    }
    let mut ports = BTreeMap::new();
    for (port, mtls) in named {
        match port.parse::<u16>() {
            Ok(number) if number > 0 => drop(ports.insert(number, mode(mtls.as_ref()))),
            _ => found.error(&path.key(port), format!("{port} is not a port; write a number from 1 to 65535")),
        }
    }
    ports
}

fn mode(mtls: Option<&api::MutualTls>) -> Option<MtlsMode> {
    match mtls?.mode {
        MutualTlsMode::Unset => None,
        MutualTlsMode::Disable => Some(MtlsMode::Disable),
        MutualTlsMode::Permissive => Some(MtlsMode::Permissive),
        MutualTlsMode::Strict => Some(MtlsMode::Strict),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(namespace: &str, spec: Value) -> Parsed<PeerAuthentication> {
        let metadata = json!({"name": "p", "namespace": namespace});
        let raw = json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": metadata, "spec": spec});
        peer_authentication(&raw, &Context::default())
    }

    #[test]
    fn what_is_unset_is_left_to_the_wider_scope() {
        for spec in [json!(null), json!({}), json!({"mtls": {}}), json!({"mtls": {"mode": "UNSET"}})] {
            let (policy, problems) = read("shop", spec);
            assert_eq!((policy.expect("a policy").mode, problems), (None, vec![]));
        }
    }

    #[test]
    fn ports_have_modes_of_their_own() {
        let ports = json!({"8080": {"mode": "DISABLE"}, "9090": {"mode": "UNSET"}, "9091": null});
        let spec =
            json!({"selector": {"matchLabels": {"app": "a"}}, "mtls": {"mode": "STRICT"}, "portLevelMtls": ports});
        let (policy, problems) = read("shop", spec);
        let policy = policy.expect("a policy");
        assert_eq!(problems, []);
        assert_eq!(policy.mode, Some(MtlsMode::Strict));
        assert_eq!(policy.ports, [(8080, Some(MtlsMode::Disable)), (9090, None), (9091, None)].into());
    }

    #[test]
    fn a_selector_in_the_root_namespace_is_said_to_have_no_effect() {
        let spec = json!({"selector": {"matchLabels": {"app": "a"}}});
        let (policy, problems) = read("istio-system", spec.clone());
        assert!(policy.is_some() && problems.len() == 1, "{problems:?}");
        assert_eq!(read("shop", spec).1, []);
    }
}
