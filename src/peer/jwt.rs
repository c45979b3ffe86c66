//! Tokens: signed claims (RFC 7519, RFC 7515). Only what a mesh needs, and nothing that is decided by the token itself.

use super::{Issuer, jwks::Algorithm};
use crate::id::Namespace;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;
use std::{
    fmt,
    sync::{Arc, PoisonError},
};

/// The largest token that is looked at, in bytes.
const MAX: usize = 16 << 10;
/// How far the clocks of those who sign tokens may be off, in seconds.
const SKEW: u64 = 60;

/// Why a client has proved nothing. For logs and counters, never for the client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// It showed nothing.
    Nothing,
    /// Its certificate does not name exactly one workload.
    Certificate,
    /// Its certificate is of another trust domain.
    TrustDomain,
    /// Its token is not one.
    Malformed,
    /// Nobody who is known has signed its token.
    Issuer,
    /// The key or the algorithm of its token is not known.
    Key,
    /// The signature of its token is wrong.
    Signature,
    /// Its token is for somebody else.
    Audience,
    /// Its token or certificate is no longer valid.
    Expired,
    /// Its token is not valid yet.
    TooEarly,
    /// Its token is not that of a service account.
    Subject,
    /// The cluster that has signed its token does not answer.
    Unavailable,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Refusal; 12] = [
        Self::Nothing,
        Self::Certificate,
        Self::TrustDomain,
        Self::Malformed,
        Self::Issuer,
        Self::Key,
        Self::Signature,
        Self::Audience,
        Self::Expired,
        Self::TooEarly,
        Self::Subject,
        Self::Unavailable,
    ];

    /// The word for it in logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing_shown",
            Self::Certificate => "certificate",
            Self::TrustDomain => "trust_domain",
            Self::Malformed => "malformed",
            Self::Issuer => "issuer",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::TooEarly => "too_early",
            Self::Subject => "subject",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a token says that was found to be true.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claims {
    /// Whom it is about.
    pub subject: String,
    /// Until when it holds, in seconds since 1970.
    pub expires: u64,
    /// The pod that it was made for.
    pod: Option<(String, String)>,
}

impl Claims {
    /// What a cluster has found to be true of a token.
    pub(super) fn reviewed(subject: String, expires: u64) -> Self {
        Self { subject, expires, pod: None }
    }

    /// The same for a pod of a namespace.
    pub(super) fn of_pod(self, namespace: String, pod: String) -> Self {
        Self { pod: Some((namespace, pod)), ..self }
    }

    /// The namespace and name of the service account that it is about.
    pub fn account(&self) -> Option<(&str, &str)> {
        let (namespace, account) = self.subject.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        (!account.contains(':')).then_some((namespace, account))
    }

    /// The pod of the namespace that it was made for.
    pub fn pod(&self, namespace: &Namespace) -> Option<Arc<str>> {
        let (of, pod) = self.pod.as_ref()?;
        (**namespace == *of).then(|| pod.as_str().into())
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that must be understood; none is.
    #[serde(default)]
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Body {
    iss: String,
    sub: String,
    aud: Audience,
    exp: u64,
    #[serde(default)]
    nbf: Option<u64>,
    #[serde(default, rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Kubernetes {
    namespace: String,
    #[serde(default)]
    pod: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Until when a token says that it holds; nobody has checked who says so.
pub(super) fn expires_unchecked(token: &str) -> Result<u64, Refusal> {
    #[derive(Deserialize)]
    struct Expires {
        exp: u64,
    }
    let body = token.split('.').nth(1).filter(|_| token.len() <= MAX).ok_or(Refusal::Malformed)?;
    let body = URL_SAFE_NO_PAD.decode(body).map_err(|_| Refusal::Malformed)?;
    serde_json::from_slice::<Expires>(&body).map(|said| said.exp).map_err(|_| Refusal::Malformed)
}

/// What a token says, if one of the issuers has signed it for one of its audiences and it holds at `now`.
pub(super) fn verify(token: &str, issuers: &[Arc<Issuer>], now: u64) -> Result<Claims, Refusal> {
    if token.len() > MAX {
        return Err(Refusal::Malformed);
    }
    let mut parts = token.split('.');
    let (Some(header), Some(body), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::Malformed);
    };
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed);
    let signed = &token[..header.len() + 1 + body.len()];
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| Refusal::Malformed)?;
    let body: Body = serde_json::from_slice(&decode(body)?).map_err(|_| Refusal::Malformed)?;
    let signature = decode(signature)?;
    if header.crit.is_some() {
        return Err(Refusal::Malformed);
    }
    let issuer = issuers.iter().find(|i| i.name == body.iss).ok_or(Refusal::Issuer)?;
    let algorithm = Algorithm::named(&header.alg).ok_or(Refusal::Key)?;
    let keys = issuer.keys.read().unwrap_or_else(PoisonError::into_inner);
    keys.verify(algorithm, header.kid.as_deref(), signed.as_bytes(), &signature)?;
    let for_us = |audience: &String| issuer.audiences.contains(audience);
    let right = match &body.aud {
        Audience::One(one) => for_us(one),
        Audience::Many(many) => many.iter().any(for_us),
    };
    if !right {
        return Err(Refusal::Audience);
    }
    if body.exp.saturating_add(SKEW) <= now {
        return Err(Refusal::Expired);
    }
    if body.nbf.is_some_and(|from| from > now + SKEW) {
        return Err(Refusal::TooEarly);
    }
    let pod = body.kubernetes.and_then(|k| Some((k.namespace, k.pod?.name)));
    Ok(Claims { subject: body.sub, expires: body.exp, pod })
}
