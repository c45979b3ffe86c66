//! AuthorizationPolicies: who may call whom, and for what.

use super::{Created, Reach};
use crate::id::{Namespace, ObjectRef};
use ipnet::IpNet;
use std::sync::Arc;

/// What one AuthorizationPolicy says. Parts that could not be understood are left out so that nothing gets through
/// which the whole would have held back.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AuthorizationPolicy {
    /// The object.
    pub source: ObjectRef,
    /// When it was made.
    pub created: Created,
    /// The proxies that it is for.
    pub reach: Reach,
    /// What happens to requests that a rule takes.
    pub action: PolicyAction,
    /// What would happen is only counted (`istio.io/dry-run`).
    pub dry_run: bool,
    /// The rules.
    pub rules: Vec<PolicyRule>,
}

/// What happens to requests that a rule takes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PolicyAction {
    /// They are allowed, and those that no such rule takes are not.
    Allow,
    /// They are denied, whatever others allow.
    Deny,
    /// They are noted.
    Audit,
    /// The external authorizer of this name is asked.
    Custom(Arc<str>),
}

impl PolicyAction {
    /// The word for it in an AuthorizationPolicy.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
            Self::Audit => "AUDIT",
            Self::Custom(_) => "CUSTOM",
        }
    }
}

/// A rule takes a request where one of the lists of checks of its source holds, and one of those of its operation.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PolicyRule {
    /// Where it stands in the object.
    pub at: usize,
    /// Of whom the request comes; a list without checks is for all.
    pub sources: Vec<Vec<SourceCheck>>,
    /// What is asked for; a list without checks is for all.
    pub operations: Vec<Vec<OperationCheck>>,
}

/// The values of which one must hold, where there are any, and those of which none may.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Values<T> {
    /// One of these.
    pub any: Vec<T>,
    /// None of these.
    pub none: Vec<T>,
}

/// How a text is compared.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Pattern {
    /// It is there, and not empty.
    Any,
    /// It is this.
    Exact(Arc<str>),
    /// It starts with this.
    Prefix(Arc<str>),
    /// It ends with this.
    Suffix(Arc<str>),
}

/// How a path is compared.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum PathPattern {
    /// As a text.
    Text(Pattern),
    /// By its parts: `*` stands for one, `**` for any number of them.
    Template(Arc<str>),
}

/// Who a token is about, and who made it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RequestPrincipal {
    /// The claim `iss`.
    pub issuer: Pattern,
    /// The claim `sub`.
    pub subject: Pattern,
}

/// A service account of a namespace.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct AccountName {
    /// The namespace.
    pub namespace: Namespace,
    /// The account.
    pub name: Arc<str>,
}

/// A value of what a filter notes: a text, or a text within a list.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NotedValue {
    /// It is within a list.
    pub listed: bool,
    /// How it is compared.
    pub pattern: Pattern,
}

/// What is asked of whom a request comes from.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum SourceCheck {
    /// The identity of the peer, `TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, where `*` may stand at one end.
    Principal(Values<Arc<str>>),
    /// Who the request's token is about.
    RequestPrincipal(Values<RequestPrincipal>),
    /// The service account of the peer.
    ServiceAccount(Values<AccountName>),
    /// The trust domain of the peer, where `*` may stand at one end.
    TrustDomain(Values<Arc<str>>),
    /// The namespace of the peer, where `*` stands for any letters.
    Namespace(Values<Arc<str>>),
    /// Where the request comes from, as proxies before this one say.
    RemoteIp(Values<IpNet>),
    /// Where the connection comes from.
    Ip(Values<IpNet>),
    /// A header of the request.
    Header(Arc<str>, Values<Pattern>),
    /// For whom the token is (`aud`).
    Audience(Values<Pattern>),
    /// Who may show the token (`azp`).
    Presenter(Values<Pattern>),
    /// A claim of the token, by the names that lead to it.
    Claim(Vec<Arc<str>>, Values<Pattern>),
}

impl SourceCheck {
    /// Whether only requests have what is asked for, and connections have not.
    pub fn needs_requests(&self) -> bool {
        matches!(
            self,
            Self::RequestPrincipal(_) | Self::Header(..) | Self::Audience(_) | Self::Presenter(_) | Self::Claim(..)
        )
    }

    /// Whether the request's token is asked about.
    pub fn needs_token(&self) -> bool {
        self.needs_requests() && !matches!(self, Self::Header(..))
    }
}

/// What is asked of a request or connection itself.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum OperationCheck {
    /// The host, in any case of letters.
    Host(Values<Pattern>),
    /// The method.
    Method(Values<Pattern>),
    /// The path.
    Path(Values<PathPattern>),
    /// The port.
    Port(Values<u16>),
    /// The address.
    Ip(Values<IpNet>),
    /// The name that a TLS client asks for.
    Sni(Values<Pattern>),
    /// What a filter of this name noted under this key.
    Noted(Arc<str>, Arc<str>, Values<NotedValue>),
}

impl OperationCheck {
    /// Whether only requests have what is asked for, and connections have not.
    pub fn needs_requests(&self) -> bool {
        matches!(self, Self::Host(_) | Self::Method(_) | Self::Path(_))
    }
}

impl AuthorizationPolicy {
    /// The order in which policies are shown: the oldest first.
    pub fn rank(&self) -> (Created, &Arc<str>, &Namespace) {
        (self.created, &self.source.name, &self.source.namespace)
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.source.namespace
    }
}
