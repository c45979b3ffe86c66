//! Who may look at debug pages, where callers can prove who they are: the machine itself, the control plane's namespace,
//! and others at what is their own.

use super::{Debug, Parameters};
use crate::{
    ca,
    peer::{Caller, Evidence},
};
use axum::http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use std::net::SocketAddr;

/// What a caller may look at who is of no such namespace: proxies of its own.
const OWN: [&str; 3] = ["debug/config_dump", "debug/edsz", "debug/ndsz"];

impl Debug {
    /// Refuses whoever may not look at a page.
    pub(super) async fn admit(
        &self,
        peer: SocketAddr,
        headers: &HeaderMap,
        page: &str,
        parameters: &Parameters,
    ) -> Result<(), (StatusCode, String)> {
        let Some(identity) = &self.identity else { return Ok(()) };
        if peer.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = shown.and_then(|text| text.strip_prefix("Bearer ").or_else(|| text.strip_prefix("Istio ")));
        let evidence = Evidence { certificate: None, token };
        let caller = identity.authenticator.authenticate_by_all(evidence, ca::now()).await;
        let caller = caller.map_err(|_| (StatusCode::UNAUTHORIZED, String::new()))?;
        let namespace = &caller.identity.namespace;
        let root = self.snapshots.borrow().mesh.root_namespace.clone();
        if *namespace == root || identity.namespaces.iter().any(|n| **n == **namespace) {
            return Ok(());
        }
        if let Some(access) = &identity.access
            && access.may_get(&caller, &format!("/{page}")).await
        {
            return Ok(());
        }
        match OWN.contains(&page) {
            true => self.admit_to_proxy(&caller, parameters),
            false => Err((StatusCode::FORBIDDEN, format!("{page} is for the namespace {root} alone\n"))),
        }
    }

    /// A proxy of another's is none that the caller could know of.
    fn admit_to_proxy(&self, caller: &Caller, parameters: &Parameters) -> Result<(), (StatusCode, String)> {
        let Some(id) = parameters.get("proxyID").filter(|id| !id.is_empty()) else { return Ok(()) };
        let connections = self.registry.connections();
        let found = connections.iter().find(|connection| connection.id.contains(id.as_str()));
        match found.is_some_and(|connection| connection.node.namespace == caller.identity.namespace) {
            true => Ok(()),
            false => Err(super::unknown_proxy(id)),
        }
    }
}
