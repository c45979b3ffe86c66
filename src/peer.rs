//! Who is calling: the identity that a client proves, by a certificate of the mesh or by a token.
//!
//! A client that proves nothing learns only that. Why is logged, seldom, and counted.

mod access;
mod jwks;
mod jwt;
mod metrics;
mod review;
mod token;

use crate::{
    id::{Namespace, Spiffe},
    model::Node,
};
use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

pub use access::Access;
pub use jwks::Keys;
pub use jwt::{Claims, Refusal};
pub use metrics::Metrics;
pub use review::Reviewer;
pub use token::{Mint, TokenError};

/// A client that has proved who it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Who.
    pub identity: Spiffe,
    /// By what.
    pub proof: Proof,
    /// Until when that holds, in seconds since 1970.
    pub expires: Option<u64>,
    /// The pod, where the proof names it.
    pub pod: Option<Arc<str>>,
    /// What telemetry calls the workload, where the certificate says.
    pub subject: Option<Arc<str>>,
}

/// What a client proves its identity by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Proof {
    /// A certificate of the mesh, in the TLS handshake.
    Certificate,
    /// A token.
    Token,
}

impl Caller {
    /// Whether the caller may be served what this node is served: it is of its namespace, and of the service account
    /// that the node says it has.
    pub fn may_be(&self, node: &Node) -> bool {
        let named = |text: &str| !text.is_empty();
        let namespace = self.identity.namespace == node.namespace;
        let account = !named(&node.account) || *self.identity.account == *node.account;
        let pod = self.pod.as_ref().is_none_or(|pod| !named(&node.pod) || **pod == *node.pod);
        namespace && account && pod
    }
}

/// What a client shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence<'a> {
    /// The certificate that it has the key of, checked by the handshake against the roots of the mesh.
    pub certificate: Option<&'a [u8]>,
    /// The token that it bears.
    pub token: Option<&'a str>,
}

/// One who signs tokens, and what is asked of them.
#[derive(Debug)]
pub struct Issuer {
    /// What `iss` must be.
    pub name: String,
    /// One of these must be in `aud`.
    pub audiences: Vec<String>,
    /// The keys, which may be replaced at any time.
    pub keys: RwLock<Keys>,
}

impl Issuer {
    /// These are the keys from now on.
    pub fn replace(&self, keys: Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }
}

/// Tells whose certificates are taken, the own trust domain first and then its aliases.
pub type Domains = Box<dyn Fn() -> Vec<Arc<str>> + Send + Sync>;

/// Finds out who a client is.
pub struct Authenticator {
    domains: Domains,
    issuers: Vec<Arc<Issuer>>,
    reviewer: Option<Reviewer>,
    metrics: Metrics,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("issuers", &self.issuers).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// One that takes certificates of these trust domains, and tokens of these issuers.
    pub fn new(domains: Domains, issuers: Vec<Arc<Issuer>>) -> Self {
        Self { domains, issuers, reviewer: None, metrics: Metrics::default() }
    }

    /// One that also asks a cluster about tokens of others than the issuers.
    #[must_use]
    pub fn with_reviewer(self, reviewer: Option<Reviewer>) -> Self {
        Self { reviewer, ..self }
    }

    /// Who asks the cluster, where somebody does.
    pub fn reviewer(&self) -> Option<&Reviewer> {
        self.reviewer.as_ref()
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Who a client is at `now`, in seconds since 1970. A certificate counts before a token, but one that is no
    /// workload's leaves the token to count.
    ///
    /// # Errors
    ///
    /// Why it has proved nothing: not for the client's eyes.
    pub fn authenticate(&self, evidence: Evidence<'_>, now: u64) -> Result<Caller, Refusal> {
        self.note(self.judge(evidence, now), now)
    }

    /// The same, and asks the cluster about a token that nobody known has signed.
    ///
    /// # Errors
    ///
    /// Why it has proved nothing: not for the client's eyes.
    pub async fn authenticate_by_all(&self, evidence: Evidence<'_>, now: u64) -> Result<Caller, Refusal> {
        let judged = self.judge(evidence, now);
        let (Err(Refusal::Issuer), Some(reviewer), Some(token)) = (&judged, &self.reviewer, evidence.token) else {
            return self.note(judged, now);
        };
        let reviewed = reviewer.review(token, now).await;
        self.note(reviewed.and_then(|claims| self.bearer(&claims)), now)
    }

    /// Counts what was found.
    fn note(&self, judged: Result<Caller, Refusal>, now: u64) -> Result<Caller, Refusal> {
        match &judged {
            Ok(caller) => self.metrics.accepted(caller.proof),
            Err(why) => self.metrics.refused(*why, now),
        }
        judged
    }

    fn judge(&self, evidence: Evidence<'_>, now: u64) -> Result<Caller, Refusal> {
        let mut refusal = Refusal::Nothing;
        let by_certificate = evidence.certificate.map(|der| self.by_certificate(der, now));
        let by_token = || evidence.token.map(|token| self.by_token(token, now));
        for attempt in by_certificate.into_iter().chain(std::iter::once_with(by_token).flatten()) {
            match attempt {
                Ok(caller) => return Ok(caller),
                Err(why) => refusal = why,
            }
        }
        Err(refusal)
    }

    fn by_certificate(&self, der: &[u8], now: u64) -> Result<Caller, Refusal> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Refusal::Certificate)?;
        let names = certificate.subject_alternative_name().ok().flatten().ok_or(Refusal::Certificate)?;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        // An identity is one; whoever has two has none.
        let (Some(uri), None) = (uris.next(), uris.next()) else { return Err(Refusal::Certificate) };
        let identity: Spiffe = uri.parse().map_err(|_| Refusal::Certificate)?;
        if !(self.domains)().contains(&identity.trust_domain) {
            return Err(Refusal::TrustDomain);
        }
        let expires = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        if expires <= now {
            return Err(Refusal::Expired);
        }
        let subject = certificate.subject().iter_organizational_unit().next();
        let subject = subject.and_then(|unit| unit.as_str().ok()).map(Into::into);
        Ok(Caller { identity, proof: Proof::Certificate, expires: Some(expires), pod: None, subject })
    }

    fn by_token(&self, token: &str, now: u64) -> Result<Caller, Refusal> {
        self.bearer(&jwt::verify(token, &self.issuers, now)?)
    }

    /// The account that a good token is of.
    fn bearer(&self, claims: &Claims) -> Result<Caller, Refusal> {
        let (namespace, account) = claims.account().ok_or(Refusal::Subject)?;
        let domains = (self.domains)();
        let domain = domains.first().ok_or(Refusal::TrustDomain)?;
        let identity = Spiffe::new(domain, namespace, account).map_err(|_| Refusal::Subject)?;
        let pod = claims.pod(&Namespace::from(namespace));
        Ok(Caller { identity, proof: Proof::Token, expires: Some(claims.expires), pod, subject: None })
    }
}

#[cfg(test)]
mod tests;
