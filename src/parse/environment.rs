//! Switches that istiod takes from its environment: their names, and what they set
//! (Istio: `pilot/pkg/features`). The environment itself is read elsewhere.

use crate::model::{KeysByProxy, Mesh};
use std::sync::Arc;

type Set = fn(&mut Mesh, &str) -> Result<(), &'static str>;

/// What is understood.
const SWITCHES: &[(&str, Set)] = &[
    ("DISABLE_SHADOW_HOST_SUFFIX", |m, v| on(&mut m.features.disable_shadow_host_suffix, v)),
    ("ENABLE_SELECTOR_BASED_K8S_GATEWAY_POLICY", |m, v| on(&mut m.features.selectors_at_gateways, v)),
    ("ENABLE_TLS_ON_SIDECAR_INGRESS", |m, v| on(&mut m.features.sidecar_tls, v)),
    ("ISTIO_DUAL_STACK", |m, v| on(&mut m.features.dual_stack, v)),
    ("K8S_INGRESS_NS", |m, v| {
        m.ingress.namespace = v.into();
        Ok(())
    }),
    ("MAINSHEET_WHOLE_ROUTES", |m, v| on(&mut m.features.whole_routes, v)),
    ("PILOT_ALLOW_ANY_DYNAMIC_DNS_MAX_HOSTS", |m, v| {
        let count = v.parse::<u32>().ok().filter(|count| *count > 0);
        m.features.unknown_names = count.ok_or("is not a count; write a number from 1")?;
        Ok(())
    }),
    ("PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS", |m, v| on(&mut m.features.several_authorizers, v)),
    ("PILOT_ENABLE_QUIC_LISTENERS", |m, v| on(&mut m.features.quic, v)),
    ("PILOT_FILTER_GATEWAY_CLUSTER_CONFIG", |m, v| on(&mut m.features.gateway_clusters_by_route, v)),
    ("PILOT_HTTP10", |m, v| on(&mut m.features.http10, v)),
    ("PILOT_IGNORE_RESOURCES", |m, v| list(&mut m.features.left_out.ignored, v)),
    ("PILOT_INCLUDE_RESOURCES", |m, v| list(&mut m.features.left_out.included, v)),
    ("PILOT_JWT_ENABLE_REMOTE_JWKS", |m, v| {
        m.features.keys_by_proxy = match v {
            "false" | "istiod" => KeysByProxy::Never,
            "true" | "hybrid" => KeysByProxy::WhereTheyCan,
            "envoy" => KeysByProxy::Always,
            _ => return Err("is none of istiod, hybrid and envoy"),
        };
        Ok(())
    }),
    ("PILOT_SKIP_VALIDATE_TRUST_DOMAIN", |m, v| on(&mut m.features.any_trust_domain, v)),
    ("PILOT_TRACE_SAMPLING", |m, v| {
        let percent = v.parse::<f64>().ok().filter(|p| (0.0..=100.0).contains(p));
        m.trace_sampling = (percent.ok_or("is not a percentage; write a number from 0 to 100")? * 100.0).round() as u32;
        Ok(())
    }),
];

/// What istiod knows and has no meaning here.
const UNUSED: &str = "
    AMBIENT_ENABLE_BAGGAGE AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY AMBIENT_ENABLE_MULTI_NETWORK
    AMBIENT_ENABLE_MULTI_NETWORK_INGRESS AMBIENT_ENABLE_MULTI_NETWORK_WAYPOINT AMBIENT_ENABLE_STATUS
    AMBIENT_SCOPED_ADDRESS_PUSHES BLOCKED_CIDRS_IN_WASM_FETCH
    CERT_SIGNER_DOMAIN CITADEL_ENABLE_JITTER_FOR_ROOT_CERT_ROTATOR CITADEL_SELF_SIGNED_CA_RSA_KEY_SIZE
    CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL CITADEL_SELF_SIGNED_ROOT_CERT_GRACE_PERIOD_PERCENTILE
    COMPLIANCE_POLICY DISABLE_TRACK_REMAINING_CB_METRICS
    ENABLE_100_CONTINUE_HEADERS ENABLE_DEBUG_ENDPOINT_AUTH
    ENABLE_DEBUG_ON_HTTP ENABLE_ENHANCED_DESTINATIONRULE_MERGE ENABLE_GATEWAY_API_INFERENCE_EXTENSION
    ENABLE_GATEWAY_API_MANUAL_DEPLOYMENT ENABLE_HCM_INTERNAL_NETWORKS ENABLE_INGRESS_WAYPOINT_ROUTING
    ENABLE_LAYERED_WAYPOINT_AUTHORIZATION_POLICIES ENABLE_LAZY_SIDECAR_EVALUATION ENABLE_LEADER_ELECTION
    ENABLE_LOCALITY_WEIGHTED_LB_CONFIG ENABLE_MCS_AUTO_EXPORT ENABLE_MCS_CLUSTER_LOCAL ENABLE_MCS_HOST
    ENABLE_MCS_SERVICE_DISCOVERY ENABLE_MULTICLUSTER_HEADLESS ENABLE_NATIVE_SIDECARS ENABLE_PROXY_FIND_POD_BY_IP
    ENABLE_VTPROTOBUF
    ENABLE_WILDCARD_HOST_SERVICE_ENTRIES_FOR_TLS ENABLE_XDS_API_GENERATOR_AUTH
    ENVOY_STATUS_PORT_ENABLE_PROXY_PROTOCOL EXTERNAL_CA EXTERNAL_ISTIOD
    HTTP_STRIP_FRAGMENT_FROM_PATH_UNSAFE_IF_DISABLED INJECTION_WEBHOOK_CONFIG_NAME INJECT_ENABLED
    ISTIO_AGENT_ENABLE_WASM_REMOTE_LOAD_CONVERSION ISTIO_DELTA_XDS ISTIO_ENABLE_CONTROLLER_QUEUE_METRICS
    ISTIO_ENABLE_IPV4_OUTBOUND_LISTENER_FOR_IPV6_CLUSTERS ISTIO_KUBE_CLIENT_CONTENT_TYPE ISTIO_MULTIROOT_MESH
    ISTIO_WASM_MAX_BINARY_SIZE_BYTES
    K8S_SIGNER
    LABEL_CANONICAL_SERVICES_FOR_MESH_EXTERNAL_SERVICE_ENTRIES LOCAL_CLUSTER_SECRET_WATCHER
    MAX_CONNECTIONS_PER_SOCKET_EVENT_LOOP MCS_API_GROUP MCS_API_VERSION METRICS_LOCALHOST_ACCESS_ONLY
    MUTEX_PROFILE_FRACTION PILOT_AGENT_MERGE_ENVOY_STATS
    PILOT_ALLOW_SIDECAR_SERVICE_INBOUND_LISTENER_MERGE PILOT_ANALYSIS_INTERVAL PILOT_AUTO_ALLOW_WAYPOINT_POLICY
    PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS PILOT_CERT_PROVIDER
    PILOT_CONVERT_SIDECAR_SCOPE_CONCURRENCY PILOT_CRL_CONFIGMAP PILOT_DISABLE_MX_ALPN
    PILOT_DNS_CARES_UDP_MAX_QUERIES PILOT_DNS_JITTER_DURATION PILOT_DRAINING_LABEL
    PILOT_ENABLE_ABSOLUTE_FQDN_VHOST_DOMAIN PILOT_ENABLE_AGENTGATEWAY PILOT_ENABLE_ALPHA_GATEWAY_API
    PILOT_ENABLE_ALPN_FILTER PILOT_ENABLE_AMBIENT PILOT_ENABLE_AMBIENT_WAYPOINTS PILOT_ENABLE_ANALYSIS
    PILOT_ENABLE_CA_CRL PILOT_ENABLE_CDS_CACHE PILOT_ENABLE_CROSS_CLUSTER_WORKLOAD_ENTRY PILOT_ENABLE_EDS_DEBOUNCE
    PILOT_ENABLE_EDS_FOR_HEADLESS_SERVICES PILOT_ENABLE_GATEWAY_API PILOT_ENABLE_GATEWAY_API_COPY_LABELS_ANNOTATIONS
    PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER PILOT_ENABLE_GATEWAY_API_GATEWAYCLASS_CONTROLLER
    PILOT_ENABLE_GATEWAY_API_STATUS PILOT_ENABLE_HEADLESS_FILTER_CHAIN_LISTENER
    PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES PILOT_ENABLE_METADATA_EXCHANGE PILOT_ENABLE_MONGO_FILTER
    PILOT_ENABLE_MYSQL_FILTER PILOT_ENABLE_NODE_UNTAINT_CONTROLLERS
    PILOT_ENABLE_PERSISTENT_SESSION_FILTER PILOT_ENABLE_RDS_CACHE
    PILOT_ENABLE_REDIS_FILTER PILOT_ENABLE_REMOTE_CREDENTIALS_CONTROLLER PILOT_ENABLE_ROUTE_COLLAPSE_OPTIMIZATION
    PILOT_ENABLE_SENDING_HBONE PILOT_ENABLE_SERVICEENTRY_SELECT_PODS PILOT_ENABLE_SIDECAR_LISTENING_HBONE
    PILOT_ENABLE_STRICT_GATEWAY_MERGING PILOT_ENABLE_TELEMETRY_LABEL
    PILOT_ENABLE_WORKLOAD_ENTRY_HEALTHCHECKS PILOT_ENABLE_XDS_CACHE PILOT_ENABLE_XDS_IDENTITY_CHECK
    PILOT_ENDPOINT_TELEMETRY_LABEL PILOT_ENVOY_FILTER_STATS 
    PILOT_GATEWAY_API_CONTROLLER_NAME PILOT_GATEWAY_API_DEFAULT_GATEWAYCLASS_NAME
    PILOT_GATEWAY_TRANSPORT_SOCKET_CONNECT_TIMEOUT PILOT_HBONE_INITIAL_CONNECTION_WINDOW_SIZE
    PILOT_HBONE_INITIAL_STREAM_WINDOW_SIZE
    PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS
    PILOT_MAX_REQUESTS_PER_SECOND PILOT_MULTICLUSTER_KUBECONFIG_PATH PILOT_MULTI_NETWORK_DISCOVER_GATEWAY_API
    PILOT_MX_ADDITIONAL_LABELS PILOT_NODE_UNTAINT_CONTROLLERS_TAINT_NAME PILOT_PERSISTENT_SESSION_HEADER_LABEL
    PILOT_PERSISTENT_SESSION_LABEL PILOT_PREFER_SENDING_HBONE PILOT_PUSH_THROTTLE PILOT_REMOTE_CLUSTER_TIMEOUT
    PILOT_SCOPE_GATEWAY_TO_NAMESPACE PILOT_SEND_UNHEALTHY_ENDPOINTS PILOT_SIDECAR_PICK_BEST_SERVICE_NAMESPACE
    PILOT_SIDECAR_USE_REMOTE_ADDRESS PILOT_STATUS_MAX_WORKERS
    PILOT_UNIFIED_SIDECAR_SCOPE PILOT_XDS_CACHE_INDEX_CLEAR_INTERVAL
    PILOT_XDS_CACHE_SIZE PILOT_XDS_CACHE_STATS PREFER_DESTINATIONRULE_TLS_FOR_EXTERNAL_SERVICES
    RESOLVE_HOSTNAME_GATEWAYS ROOT_CA_DIR SHARED_MESH_CONFIG TRUSTED_GATEWAY_CIDR
    UNSAFE_ENABLE_ADMIN_ENDPOINTS UNSAFE_PILOT_ENABLE_RUNTIME_ASSERTIONS USE_CACERTS_FOR_SELF_SIGNED_CA
    USE_REMOTE_CERTS VALIDATION_WEBHOOK_CONFIG_NAME XDS_AUTH XDS_AUTH_PLAINTEXT
";

/// Sets what these variables say, and tells what is wrong with them. Variables that are no switches of istiod's
/// are passed over.
pub fn environment<'a>(mesh: &mut Mesh, variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let mut said = Vec::new();
    for (name, value) in variables {
        if let Some((_, set)) = SWITCHES.iter().find(|(n, _)| *n == name).filter(|_| !value.is_empty()) {
            if let Err(why) = set(mesh, value) {
                said.push(format!("{name}={value} {why}; it has no effect"));
            }
        } else if UNUSED.split_whitespace().any(|n| n == name) {
            said.push(format!("{name} has no meaning here"));
        }
    }
    said.sort();
    said
}

/// Names with commas between them.
fn list(names: &mut Vec<Arc<str>>, text: &str) -> Result<(), &'static str> {
    *names = text.split(',').map(|name| name.trim().into()).collect();
    Ok(())
}

/// A truth as Go writes it.
fn on(switch: &mut bool, text: &str) -> Result<(), &'static str> {
    *switch = match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        _ => return Err("is not a truth; write true or false"),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_set_and_what_is_wrong_is_told() {
        let mut mesh = Mesh::default();
        let said = environment(
            &mut mesh,
            [
                ("PILOT_TRACE_SAMPLING", "0.5"),
                ("PATH", "/bin"),
                ("PILOT_HTTP10", "t"),
                ("ISTIO_DUAL_STACK", "perhaps"),
                ("PILOT_PUSH_THROTTLE", "3"),
                ("DISABLE_SHADOW_HOST_SUFFIX", "false"),
            ],
        );
        assert_eq!((mesh.trace_sampling, mesh.features.http10, mesh.features.dual_stack), (50, true, false));
        assert!(!mesh.features.disable_shadow_host_suffix);
        let wrong = "ISTIO_DUAL_STACK=perhaps is not a truth; write true or false; it has no effect";
        assert_eq!(said, [wrong, "PILOT_PUSH_THROTTLE has no meaning here"]);
    }

    #[test]
    fn kinds_are_left_out_by_name_or_by_how_their_names_end_but_for_those_that_are_included() {
        let mut mesh = Mesh::default();
        let said = environment(
            &mut mesh,
            [
                ("PILOT_IGNORE_RESOURCES", "*.istio.io, gateways.gateway.networking.k8s.io"),
                ("PILOT_INCLUDE_RESOURCES", "*.telemetry.istio.io,virtualservices.networking.istio.io"),
            ],
        );
        assert_eq!(said, [""; 0]);
        let out = |name: &str| mesh.features.left_out.has(name);
        assert!(out("sidecars.networking.istio.io") && out("gateways.gateway.networking.k8s.io"));
        assert!(!out("virtualservices.networking.istio.io") && !out("telemetries.telemetry.istio.io"));
        assert!(!out("httproutes.gateway.networking.k8s.io"));
        assert!(!Mesh::default().features.left_out.has("sidecars.networking.istio.io"));
    }

    #[test]
    fn no_switch_stands_twice() {
        let mut names: Vec<&str> = SWITCHES.iter().map(|(n, _)| *n).chain(UNUSED.split_whitespace()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
