//! `/metrics`: counters and gauges in Prometheus' text form, under istiod's names where istiod has the thing
//! (reference: `pilot/pkg/xds/monitoring.go` and neighbours).

use super::{Debug, Identity};
use crate::{id::ResourceType, model::Registry, peer::Proof, prometheus::Page, source::kubernetes::Health};
use std::collections::BTreeMap;

/// Everything that is measured, as it is now.
pub(super) fn text(debug: &Debug) -> String {
    let mut page = Page::default();
    world(debug, &mut page);
    streams(debug, &mut page);
    work(debug, &mut page);
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        let tasks = runtime.metrics().num_alive_tasks();
        page.gauge("mainsheet_tasks", "Tasks that are alive.").value(tasks);
    }
    if let Some(health) = &debug.cluster {
        cluster(health, &mut page);
    }
    if let Some(identity) = &debug.identity {
        certificates(identity, &mut page);
    }
    if let Some(webhooks) = &debug.webhooks {
        webhooks.write(&mut page);
    }
    if let Some(machines) = &debug.machines {
        machines.write(&mut page);
    }
    page.into_text()
}

/// How it stands with each kind of the cluster's objects.
fn cluster(health: &Health, page: &mut Page) {
    let kinds = health.kinds();
    let lost = health.lost().map_or(0, |(since, ..)| since.as_secs());
    page.gauge("mainsheet_cluster_lost_seconds", "For how long some kind cannot be read.").value(lost);
    let mut up = page.gauge("mainsheet_cluster_kind_readable", "Whether a kind is read and followed.");
    for (kind, standing) in &kinds {
        up.with(&[("kind", kind)], i32::from(standing.synced && standing.failing.is_none()));
    }
    let mut events = page.counter("mainsheet_cluster_events", "Changes that the API server told of.");
    kinds.iter().for_each(|(kind, s)| events.with(&[("kind", kind)], s.events));
    let mut lists = page.counter("mainsheet_cluster_lists", "How often all of a kind was read.");
    kinds.iter().for_each(|(kind, s)| lists.with(&[("kind", kind)], s.lists));
    let mut failures = page.counter("mainsheet_cluster_failures", "How often reading a kind failed.");
    kinds.iter().for_each(|(kind, s)| failures.with(&[("kind", kind)], s.failures));
}

/// What was signed, and who was refused (reference: `security/pkg/server/ca/monitoring.go`).
fn certificates(identity: &Identity, page: &mut Page) {
    let signed = identity.signer.metrics();
    page.counter("citadel_server_csr_count", "Requests for certificates.").value(signed.requests());
    page.counter("citadel_server_success_cert_issuance_count", "Certificates made.").value(signed.issued());
    let mut errors = page.counter("citadel_server_csr_sign_err_count", "Requests that were not signed, by why.");
    for (why, count) in signed.unfit() {
        errors.with(&[("error", why.word())], count);
    }
    errors.with(&[("error", "overload")], signed.overloads());
    errors.with(&[("error", "impersonation")], signed.impersonations());
    errors.with(&[("error", "failure")], signed.failures());
    let expires = identity.signer.authority().borrow().expires();
    page.gauge("citadel_server_cert_chain_expiry_timestamp", "When the signing certificate ends.").value(expires);
    let callers = identity.authenticator.metrics();
    let refused: u64 = callers.refusals().map(|(_, count)| count).sum();
    page.counter("citadel_server_authentication_failure_count", "Callers who proved nothing.").value(refused);
    let mut reasons = page.counter("mainsheet_callers_refused", "Callers who proved nothing, by why.");
    for (why, count) in callers.refusals() {
        reasons.with(&[("reason", why.word())], count);
    }
    if let Some(reviewer) = identity.authenticator.reviewer() {
        page.counter("mainsheet_tokens_reviewed", "Tokens that the cluster was asked about.").value(reviewer.asked());
        page.counter("mainsheet_tokens_known", "Tokens about which the answer was known.").value(reviewer.known());
    }
    let mut accepted = page.counter("mainsheet_callers", "Callers who proved who they are, by what.");
    for (name, proof) in [("certificate", Proof::Certificate), ("token", Proof::Token)] {
        accepted.with(&[("proof", name)], callers.accepted_by(proof));
    }
}

fn world(debug: &Debug, page: &mut Page) {
    let snapshot = debug.snapshots.borrow().clone();
    page.gauge("pilot_info", "The version of the control plane.").with(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.gauge("pilot_services", "Services known.").value(snapshot.services().count());
    page.gauge("pilot_virt_services", "VirtualServices known.").value(snapshot.virtual_services.len());
    page.gauge("mainsheet_snapshot_generation", "How often the world was published.").value(snapshot.generation);
    page.gauge("mainsheet_pods", "Pods known.").value(snapshot.pods.len());
    let external = snapshot.services().filter(|s| s.registry == Registry::External).count();
    page.gauge("mainsheet_external_services", "Services of ServiceEntries.").value(external);
    let mut problems: BTreeMap<(String, String), usize> = BTreeMap::new();
    for problem in snapshot.problems.values().flat_map(|p| p.iter()) {
        *problems.entry((problem.severity.to_string(), problem.object.kind.to_string())).or_default() += 1;
    }
    let mut family = page.gauge("mainsheet_problems", "What is wrong with objects, by severity and kind.");
    for ((severity, kind), count) in &problems {
        family.with(&[("severity", severity), ("kind", kind)], count);
    }
}

fn streams(debug: &Debug, page: &mut Page) {
    let mut versions: BTreeMap<String, usize> = BTreeMap::new();
    for connection in debug.registry.connections() {
        let version = Some(connection.node.version.to_string()).filter(|v| !v.is_empty());
        *versions.entry(version.unwrap_or_else(|| "unknown".into())).or_default() += 1;
    }
    let mut family = page.gauge("pilot_xds", "Streams open, by the version of the proxy's agent.");
    for (version, count) in &versions {
        family.with(&[("version", version)], count);
    }
    let mut pushes = page.counter("pilot_xds_pushes", "Responses sent, by type.");
    for kind in ResourceType::ALL {
        pushes.with(&[("type", kind.short())], debug.metrics.pushes(kind));
    }
    let mut rejects = page.counter("pilot_total_xds_rejects", "Responses refused by proxies, by type.");
    for kind in ResourceType::ALL {
        rejects.with(&[("type", kind.short())], debug.metrics.nacks(kind));
    }
    page.counter("pilot_xds_expired_nonce", "Answers to responses that were not the newest.")
        .value(debug.metrics.stale_nonces.get());
}

fn work(debug: &Debug, page: &mut Page) {
    let metrics = &debug.metrics;
    page.counter("mainsheet_resources_rendered", "Resources rendered.").value(metrics.rendered.get());
    page.counter("mainsheet_render_hits", "Resources wanted that had been rendered before.")
        .value(metrics.cache_hits.get());
    page.counter("mainsheet_parts_built", "Parts of translations built from nothing.").value(metrics.parts_built.get());
    page.counter("mainsheet_parts_updated", "Parts of translations that followed the world.")
        .value(metrics.parts_updated.get());
    page.counter("mainsheet_units_built", "Units of parts built.").value(metrics.units_built.get());
    page.counter("mainsheet_streams", "Streams opened.").value(metrics.streams.get());
    page.counter("mainsheet_responses", "Responses sent.").value(metrics.responses.get());
    page.counter("mainsheet_resources_sent", "Resources in them.").value(metrics.resources.get());
    page.counter("mainsheet_bytes_sent", "Bytes of resources in them.").value(metrics.bytes.get());
    page.counter("mainsheet_message_bytes_sent", "Bytes of their messages, which may be compressed.")
        .value(metrics.message_bytes.get());
}
