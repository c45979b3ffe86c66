//! Of whom requests come: `from`.

use super::{
    Broken, Reader,
    values::{Written, block, request_principal, trust_domain},
};
use crate::{
    api::authorization_policy::{Action, Source},
    model::SourceCheck,
    problem::FieldPath,
};
use std::sync::Arc;

impl Reader<'_, '_> {
    /// The checks of a source, in the order in which Envoy is told of them.
    pub(super) fn source(&mut self, path: &FieldPath, raw: &Source) -> Result<Vec<SourceCheck>, Broken> {
        let lists: [(&str, &[String], &[String]); 7] = [
            ("principals", &raw.principals, &raw.not_principals),
            ("requestPrincipals", &raw.request_principals, &raw.not_request_principals),
            ("serviceAccounts", &raw.service_accounts, &raw.not_service_accounts),
            ("trustDomains", &raw.trust_domains, &raw.not_trust_domains),
            ("namespaces", &raw.namespaces, &raw.not_namespaces),
            ("remoteIpBlocks", &raw.remote_ip_blocks, &raw.not_remote_ip_blocks),
            ("ipBlocks", &raw.ip_blocks, &raw.not_ip_blocks),
        ];
        let given: Vec<&str> =
            lists.iter().filter(|(_, any, none)| any.len() + none.len() > 0).map(|(name, ..)| *name).collect();
        if given.is_empty() {
            return self.missing(path);
        }
        if given.contains(&"serviceAccounts") && (given.contains(&"principals") || given.contains(&"namespaces")) {
            let message = "must not stand beside principals or namespaces; write one way to say who the peer is";
            self.found.error(&path.field("serviceAccounts"), message);
        }
        let mut checks = Vec::new();
        let mut broken = false;
        for (name, any, none) in lists {
            let written = Written::fields(path, name, any, none);
            if given.contains(&name) && self.not_with_custom(&path.field(name), !name.ends_with("Blocks"), name) {
                continue;
            }
            match self.source_check(name, &written) {
                Ok(check) => checks.extend(check),
                Err(Broken) => broken = true,
            }
        }
        if broken { Err(Broken) } else { Ok(checks) }
    }

    fn source_check(&mut self, name: &str, written: &Written<'_>) -> super::Read<SourceCheck> {
        Ok(match name {
            "principals" => self.principals(written)?,
            "requestPrincipals" => {
                self.values(written, |t| Ok(request_principal(t)))?.map(SourceCheck::RequestPrincipal)
            }
            "serviceAccounts" => self.accounts(written)?.map(SourceCheck::ServiceAccount),
            "trustDomains" => self.values(written, trust_domain)?.map(SourceCheck::TrustDomain),
            "namespaces" => self.values(written, |t| Ok(t.into()))?.map(SourceCheck::Namespace),
            "remoteIpBlocks" => self.values(written, block)?.map(SourceCheck::RemoteIp),
            _ => self.values(written, block)?.map(SourceCheck::Ip),
        })
    }

    /// Identities of peers. The scheme is not part of one.
    pub(super) fn principals(&mut self, written: &Written<'_>) -> super::Read<SourceCheck> {
        for (path, texts) in [&written.any, &written.none] {
            for (i, text) in texts.iter().enumerate().filter(|(_, t)| t.starts_with("spiffe://")) {
                let message =
                    format!("`{text}` is taken without spiffe://, which principals do not have; leave it out");
                self.found.warn(&path.index(i), message);
            }
        }
        let read = |text: &str| Ok(Arc::from(text.strip_prefix("spiffe://").unwrap_or(text)));
        Ok(self.values(written, read)?.map(SourceCheck::Principal))
    }

    /// Refuses what CUSTOM does not take, and says whether it is left out: tokens are looked at after the authorizer
    /// was asked, so that a check of one would never hold.
    pub(super) fn not_with_custom(&mut self, path: &FieldPath, refused: bool, what: &str) -> bool {
        if self.action != Action::Custom || !refused {
            return false;
        }
        let token = what == "requestPrincipals" || what.starts_with("request.auth.");
        let so = if token { "so it is not asked for" } else { "though it is asked for here" };
        self.found.error(path, format!("is not supported with CUSTOM, {so}; let the authorizer look at it"));
        token
    }
}
