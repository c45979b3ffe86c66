//! Policies with the action CUSTOM: a filter notes which of their rules takes a request, and the next one asks the
//! authorizer where one did (Istio: `pilot/pkg/security/authz/builder/extauthz.go`).

use super::{Over, RoleBased, filter, matcher};
use crate::{
    id::{Host, ObjectRef, Shared},
    model::{Authorizer, AuthorizerHttp, AuthorizerProtocol, Pattern},
    pb::{
        self,
        envoy::{
            config::{
                core::v3::{
                    ApiVersion, GrpcService, HeaderValue, HttpUri,
                    grpc_service::{EnvoyGrpc, TargetSpecifier},
                    http_uri::HttpUpstreamType,
                },
                rbac::v3::{Rbac, rbac::Action},
            },
            extensions::filters::{
                http::ext_authz::v3::{
                    AuthorizationRequest, AuthorizationResponse, BufferSettings, ExtAuthz, HttpService,
                    ext_authz::Services,
                },
                network::ext_authz::v3::ExtAuthz as NetworkExtAuthz,
            },
            r#type::{
                matcher::v3::{ListStringMatcher, MetadataMatcher, StringMatcher},
                v3::HttpStatus,
            },
        },
    },
    translate::{Input, Resource, cluster::outbound_name, guard},
};

/// What is put before keys that the first filter notes for the second.
const NOTES: &str = "istio_ext_authz_";
/// What is put before the names of rules.
pub(super) const RULE: &str = "istio-ext-authz";

/// The filter that notes which rule takes a request.
#[derive(Hash)]
pub(super) struct Noting(pub(super) RoleBased);

impl Input for Noting {
    fn render(&self) -> Resource {
        let rules = self.0.maker().policies(&self.0.enforced);
        let shadow = Rbac { action: Action::Deny.into(), policies: rules, ..Default::default() };
        filter(self.0.over, None, Some(shadow), NOTES, self.0.sources())
    }
}

/// The filter that denies what the rules take, where nobody can be asked.
#[derive(Hash)]
pub(super) struct Denying(pub(super) RoleBased);

impl Input for Denying {
    fn render(&self) -> Resource {
        let rules = self.0.maker().policies(&self.0.enforced);
        let marked = rules.into_iter().map(|(name, rule)| (format!("{name}-deny-due-to-bad-CUSTOM-action"), rule));
        let rules = Rbac { action: Action::Deny.into(), policies: marked.collect(), ..Default::default() };
        filter(self.0.over, Some(rules), None, "", self.0.sources())
    }
}

/// The filter that asks an authorizer.
#[derive(Hash)]
pub(super) struct Asking {
    pub(super) over: Over,
    pub(super) authorizer: Shared<Authorizer>,
    /// The service that it is, as its cluster names it.
    pub(super) host: Host,
    pub(super) sources: Vec<ObjectRef>,
}

impl Input for Asking {
    fn render(&self) -> Resource {
        let authorizer = &*self.authorizer;
        if self.over == Over::Connections {
            let message = NetworkExtAuthz {
                stat_prefix: "tcp.".into(),
                failure_mode_allow: authorizer.fail_open,
                transport_api_version: ApiVersion::V3.into(),
                grpc_service: Some(self.grpc()),
                filter_enabled_metadata: Some(self.noted("envoy.filters.network.rbac")),
                ..Default::default()
            };
            return guard::filter("envoy.filters.network.ext_authz", &message, self.sources.clone());
        }
        let (services, allowed_headers) = match &authorizer.protocol {
            AuthorizerProtocol::Grpc => (Services::GrpcService(self.grpc()), None),
            AuthorizerProtocol::Http(http) => (Services::HttpService(self.http(http)), headers(&http.sees)),
        };
        let message = ExtAuthz {
            services: Some(services),
            allowed_headers,
            failure_mode_allow: authorizer.fail_open,
            status_on_error: authorizer.status_on_error.map(|code| HttpStatus { code: code.into() }),
            clear_route_cache: authorizer.clear_route_cache,
            with_request_body: authorizer.body.as_ref().map(|body| BufferSettings {
                max_request_bytes: body.max,
                allow_partial_message: body.partial,
                pack_as_bytes: body.as_bytes,
            }),
            transport_api_version: ApiVersion::V3.into(),
            filter_enabled_metadata: Some(self.noted("envoy.filters.http.rbac")),
            ..Default::default()
        };
        guard::filter("envoy.filters.http.ext_authz", &message, self.sources.clone())
    }
}

impl Asking {
    fn cluster(&self) -> String {
        outbound_name(self.authorizer.port, "", &self.host)
    }

    fn grpc(&self) -> GrpcService {
        let grpc = EnvoyGrpc { cluster_name: self.cluster(), authority: self.host.to_string(), ..Default::default() };
        GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(grpc)),
            timeout: Some(pb::millis(self.authorizer.timeout)),
            ..Default::default()
        }
    }

    fn http(&self, http: &AuthorizerHttp) -> HttpService {
        let sent: Vec<HeaderValue> = http
            .is_sent
            .iter()
            .map(|(key, value)| HeaderValue { key: key.to_string(), value: value.to_string(), ..Default::default() })
            .collect();
        let answers = [&http.to_workload, &http.to_denied, &http.to_allowed].iter().any(|list| !list.is_empty());
        HttpService {
            server_uri: Some(HttpUri {
                uri: format!("http://{}", self.host),
                timeout: Some(pb::millis(self.authorizer.timeout)),
                http_upstream_type: Some(HttpUpstreamType::Cluster(self.cluster())),
            }),
            path_prefix: http.path_prefix.to_string(),
            authorization_request: (!sent.is_empty())
                .then(|| AuthorizationRequest { headers_to_add: sent, ..Default::default() }),
            authorization_response: answers.then(|| AuthorizationResponse {
                allowed_upstream_headers: headers(&http.to_workload),
                allowed_client_headers: headers(&http.to_denied),
                allowed_client_headers_on_success: headers(&http.to_allowed),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// Whether a rule was noted that this authorizer is asked about.
    fn noted(&self, filter: &str) -> MetadataMatcher {
        let key = format!("{NOTES}shadow_effective_policy_id");
        let prefix = matcher::prefix(format!("{RULE}-{}", self.authorizer.name));
        matcher::noted(filter, [key.as_str()], matcher::text_value(prefix))
    }
}

/// Headers whose names are compared so, in any case of letters.
fn headers(list: &[Pattern]) -> Option<ListStringMatcher> {
    let patterns: Vec<StringMatcher> =
        list.iter().map(|pattern| StringMatcher { ignore_case: true, ..matcher::string(pattern) }).collect();
    (!patterns.is_empty()).then_some(ListStringMatcher { patterns })
}
