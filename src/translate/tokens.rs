//! RequestAuthentications as Envoy's filter that looks at tokens (Istio: `pilot/pkg/security/authn/policy_applier.go`).
//!
//! Each rule is a provider. A request may have no token; one that it has must be good, for one of the providers.

use super::{Input, Resource, guard};
use crate::{
    id::{ObjectRef, Shared},
    model::{JwtRule, KeySource},
    pb::{
        self,
        envoy::{
            config::{
                core::v3::{DataSource, HttpUri, data_source::Specifier, http_uri::HttpUpstreamType},
                route::v3::{RouteMatch, route_match::PathSpecifier},
            },
            extensions::filters::http::jwt_authn::v3::{
                JwtAuthentication, JwtClaimToHeader, JwtHeader, JwtProvider, JwtRequirement, JwtRequirementAndList,
                JwtRequirementOrList, RemoteJwks, RequirementRule,
                jwt_provider::{JwksSourceSpecifier, NormalizePayload},
                jwt_requirement::RequiresType,
                requirement_rule::RequirementType,
            },
        },
    },
    problem::{FieldPath, Problem},
    snapshot::{FoundKeys, Policies, TokenRule},
};

/// The key of an issuer whose keys are not known. Nobody has its other half: the first coordinate is the hash of a
/// sentence, which a test holds it to.
const NO_KEY: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"6QgQWifEf4NCe9BYrbbc4XgkKgH_OHNvHaVFySyyWLg","y":"tlsqpH_euJr99P8HY3eFMUmFjh8L_UyAzdUGUpnFByQ"}]}"#;
/// How long Envoy keeps keys that it fetched, in milliseconds.
const CACHE: u64 = 300_000;

/// The filter that looks at tokens.
#[derive(Hash)]
pub(super) struct Tokens {
    rules: Vec<(Shared<JwtRule>, FoundKeys)>,
    /// Routes depend on what tokens say.
    routes: bool,
    sources: Vec<ObjectRef>,
}

impl Tokens {
    /// For these policies; `routes` says that routes may depend on what tokens say.
    pub(super) fn of(policies: &Policies, routes: bool) -> Option<Self> {
        let rules: Vec<_> = policies.tokens.iter().map(|t| (t.rule.clone(), t.keys.clone())).collect();
        let sources = policies.tokens.iter().map(|t| t.source.clone()).collect();
        (!rules.is_empty()).then_some(Self { rules, routes, sources })
    }
}

/// What is wrong with the rules as far as these workloads are concerned.
pub(super) fn problems(policies: &Policies) -> Vec<Problem> {
    policies.tokens.iter().filter_map(problem).collect()
}

fn problem(token: &TokenRule) -> Option<Problem> {
    let KeySource::Fetched(locator) = token.rule.keys.clone() else { return None };
    if token.keys != FoundKeys::Nowhere {
        return None;
    }
    let path = FieldPath::new("spec.jwtRules").index(token.at);
    let message = format!(
        "the keys at {} are not known, so no token of `{}` is taken until they are",
        locator.url(),
        token.rule.issuer
    );
    Some(Problem::warning(&token.source, path, message))
}

impl Input for Tokens {
    fn render(&self) -> Resource {
        let providers = self.rules.iter().enumerate();
        let message = JwtAuthentication {
            providers: providers.map(|(i, (rule, keys))| (name(i), self.provider(rule, keys))).collect(),
            rules: vec![RequirementRule {
                r#match: Some(RouteMatch {
                    path_specifier: Some(PathSpecifier::Prefix("/".into())),
                    ..Default::default()
                }),
                requirement_type: Some(RequirementType::Requires(self.required())),
            }],
            bypass_cors_preflight: true,
            ..Default::default()
        };
        guard::filter("envoy.filters.http.jwt_authn", &message, self.sources.clone())
    }
}

impl Tokens {
    fn provider(&self, rule: &JwtRule, keys: &FoundKeys) -> JwtProvider {
        let texts = |of: &[std::sync::Arc<str>]| of.iter().map(ToString::to_string).collect::<Vec<_>>();
        JwtProvider {
            issuer: rule.issuer.to_string(),
            audiences: texts(&rule.audiences),
            forward: rule.forward,
            from_headers: rule
                .headers
                .iter()
                .map(|(name, prefix)| JwtHeader { name: name.to_string(), value_prefix: prefix.to_string() })
                .collect(),
            from_params: texts(&rule.params),
            from_cookies: texts(&rule.cookies),
            forward_payload_header: rule.payload_header.to_string(),
            claim_to_headers: rule
                .claim_headers
                .iter()
                .map(|(header, claim)| JwtClaimToHeader {
                    header_name: header.to_string(),
                    claim_name: claim.to_string(),
                    ..Default::default()
                })
                .collect(),
            payload_in_metadata: "payload".into(),
            normalize_payload_in_metadata: Some(NormalizePayload {
                space_delimited_claims: texts(&rule.spaced_claims),
            }),
            clear_route_cache: self.routes,
            jwks_source_specifier: Some(source(rule, keys)),
            ..Default::default()
        }
    }

    /// One of the providers takes the token, or none finds a token where it looks for one. With several providers that
    /// look in the same place, the token of one is a bad one for the others.
    fn required(&self) -> JwtRequirement {
        let count = self.rules.len();
        let optional = |i| any(vec![by(i), of(RequiresType::AllowMissing(pb::google::protobuf::Empty {}))]);
        if count == 1 {
            return optional(0);
        }
        let all = JwtRequirementAndList { requirements: (0..count).map(optional).collect() };
        any((0..count).map(by).chain([of(RequiresType::RequiresAll(all))]).collect())
    }
}

fn name(at: usize) -> String {
    format!("origins-{at}")
}

fn source(rule: &JwtRule, keys: &FoundKeys) -> JwksSourceSpecifier {
    let text: &str = match (keys, &rule.keys) {
        (FoundKeys::Inline, KeySource::Inline(text)) => text,
        (FoundKeys::Fetched(set), _) => &set.keys,
        (FoundKeys::Inline | FoundKeys::Nowhere, _) => NO_KEY,
        (FoundKeys::Through { cluster, url }, _) => {
            let http_uri = HttpUri {
                uri: url.to_string(),
                timeout: Some(pb::millis(rule.timeout)),
                http_upstream_type: Some(HttpUpstreamType::Cluster(cluster.to_string())),
            };
            return JwksSourceSpecifier::RemoteJwks(RemoteJwks {
                http_uri: Some(http_uri),
                cache_duration: Some(pb::millis(CACHE)),
                ..Default::default()
            });
        }
    };
    let specifier = Some(Specifier::InlineString(text.to_owned()));
    JwksSourceSpecifier::LocalJwks(DataSource { specifier, ..Default::default() })
}

fn of(requires: RequiresType) -> JwtRequirement {
    JwtRequirement { requires_type: Some(requires) }
}

fn by(provider: usize) -> JwtRequirement {
    of(RequiresType::ProviderName(name(provider)))
}

fn any(requirements: Vec<JwtRequirement>) -> JwtRequirement {
    of(RequiresType::RequiresAny(JwtRequirementOrList { requirements }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::digest::{SHA256, digest};
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    #[test]
    fn nobody_can_know_the_key_of_issuers_without_one() {
        let hash = digest(&SHA256, b"no token of mainsheet is signed by this key 0");
        let set: serde_json::Value = serde_json::from_str(NO_KEY).expect("a set of keys");
        assert_eq!(set["keys"][0]["x"], URL_SAFE_NO_PAD.encode(hash));
        assert!(crate::parse::jwks(NO_KEY).is_ok(), "Envoy takes it");
    }
}
