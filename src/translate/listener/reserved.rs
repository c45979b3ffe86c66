//! Ports that the proxy itself uses, or may not use.

use crate::snapshot::View;

/// Why a listener cannot be at a port.
pub(super) fn objection(view: &View<'_>, port: u16, wildcard: bool, real: bool) -> Option<String> {
    let mesh = &view.snapshot.mesh;
    let settings = view.key.face.as_ref().map(|face| &face.settings)?;
    if real && port < 1024 && settings.unprivileged {
        return Some(format!("port {port} is below 1024, where a proxy without privileges cannot listen"));
    }
    let own = [mesh.outbound_port, mesh.inbound_port, settings.status_port, settings.prometheus_port];
    (wildcard && own.contains(&port))
        .then(|| format!("port {port} is the proxy's own, so traffic to it is not routed; use another one"))
}
