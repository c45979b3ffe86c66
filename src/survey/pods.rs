//! Pods and their namespaces: what is injected into them now, what they ask for, and whether there is room for a sidecar.

use super::{Finding, Survey};
use crate::{install::called, parse, webhook};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Annotations and labels of Istio that nothing here reads, and what becomes of them.
pub(super) const NOT_READ: &[(&str, &str)] = &[
    ("ambient.istio.io/bypass-inbound-capture", AMBIENT),
    ("ambient.istio.io/redirection", AMBIENT),
    ("istio.io/use-waypoint", "there are no waypoints, so the policies and routes that they have do not hold"),
    ("readiness.status.sidecar.istio.io/applicationPorts", "the proxy is ready when Envoy is, whatever the ports"),
    ("sidecar.istio.io/enableCoreDump", "no container lets the proxy write core files"),
    ("sidecar.istio.io/statsHistogramBins", "Envoy's own default holds"),
];

const AMBIENT: &str = "there is no ambient mode";
/// The ports of a sidecar.
const TAKEN: [u64; 8] = [15000, 15001, 15004, 15006, 15020, 15021, 15053, 15090];

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["initContainers", "containers"].into_iter();
    lists.flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
}

/// Pods that run Istio's own proxy, by namespaces.
pub(super) fn proxies(survey: &Survey) -> Vec<Finding> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in survey.of_kind("Pod") {
        let mut proxies = containers(pod).filter(|c| c["name"] == "istio-proxy");
        if proxies.any(|c| c["image"].as_str().is_some_and(|image| image.contains("proxyv2"))) {
            *counts.entry(pod["metadata"]["namespace"].as_str().unwrap_or("default")).or_default() += 1;
        }
    }
    let of = |(namespace, count): (&str, usize)| {
        let what = format!(
            "{count} pods run Istio's proxy; they are served, without Istio's own filters (istio.stats, istio.alpn, metadata \
             exchange), so without istio_requests_total, until they are started again and get a stock Envoy"
        );
        Finding::warning(format!("namespace {namespace}"), what)
    };
    counts.into_iter().map(of).collect()
}

/// What pods and Services ask for by annotations and labels, and would not get. The same of several pods is told once.
pub(super) fn annotations(survey: &Survey) -> Vec<Finding> {
    let mut seen: BTreeMap<(String, String), (String, usize)> = BTreeMap::new();
    for object in survey.objects.iter().filter(|o| ["Pod", "Service", "Namespace"].iter().any(|k| o["kind"] == *k)) {
        let metadata = &object["metadata"];
        let place = metadata["namespace"].as_str().unwrap_or_default().to_owned();
        let is_there = |name: &str| !metadata["annotations"][name].is_null() || !metadata["labels"][name].is_null();
        for (name, what) in NOT_READ.iter().filter(|(name, _)| is_there(name)) {
            let entry = seen.entry((place.clone(), format!("{name} has no effect: {what}")));
            entry.or_insert_with(|| (called(object), 0)).1 += 1;
        }
    }
    let mut found: Vec<Finding> = seen
        .into_iter()
        .map(|((_, what), (first, count))| match count {
            1 => Finding::warning(first, what),
            count => Finding::warning(format!("{first} and {} more", count - 1), what),
        })
        .collect();
    for pod in survey.of_kind("Pod").filter(|pod| is_injected(survey, pod)) {
        for what in webhook::annotation_problems(&pod["metadata"]["annotations"]) {
            found.push(Finding::error(called(pod), format!("{what}; the pod would be refused when it is made again")));
        }
    }
    found
}

/// Namespaces and pods without sidecars, whose traffic ztunnel takes.
pub(super) fn ambient(survey: &Survey) -> Vec<Finding> {
    let mut found = Vec::new();
    let label = "istio.io/dataplane-mode";
    for object in survey.objects.iter().filter(|o| o["kind"] == "Namespace" || o["kind"] == "Pod") {
        if object["metadata"]["labels"][label] == "ambient" {
            let what = "is in ambient mode, which is not served: its traffic would not be in the mesh; give it sidecars \
                        first (istio-injection=enabled)";
            found.push(Finding::error(called(object), what));
        }
    }
    if let Some(ztunnel) = survey.of_kind("DaemonSet").find(|d| d["metadata"]["name"] == "ztunnel") {
        found.push(Finding::error(called(ztunnel), "would get neither configuration nor certificates"));
    }
    found
}

/// Whether a pod gets a sidecar, or its namespace says so.
fn is_injected(survey: &Survey, pod: &Value) -> bool {
    let own = &pod["metadata"]["labels"]["sidecar.istio.io/inject"];
    match own.as_str() {
        Some("true") => true,
        Some("false") => false,
        _ => namespaces(survey).contains(pod["metadata"]["namespace"].as_str().unwrap_or_default()),
    }
}

/// The namespaces whose pods this control plane injects.
fn namespaces(survey: &Survey) -> BTreeSet<&str> {
    let tags = survey.tags();
    let is = |namespace: &&Value| {
        let labels = &namespace["metadata"]["labels"];
        let revision = labels["istio.io/rev"].as_str();
        let default = parse::is_same_revision(&survey.revision, "") || tags.contains("default");
        labels["istio-injection"] == "enabled" && default
            || revision.is_some_and(|r| survey.is_of(&r.into()) || tags.contains(r))
    };
    survey.of_kind("Namespace").filter(is).filter_map(|n| n["metadata"]["name"].as_str()).collect()
}

/// Pods beside which no sidecar fits.
pub(super) fn room(survey: &Survey) -> Vec<Finding> {
    let mut found = Vec::new();
    let namespaces = namespaces(survey);
    for pod in survey.of_kind("Pod") {
        let inside = namespaces.contains(pod["metadata"]["namespace"].as_str().unwrap_or_default());
        if inside && pod["spec"]["hostNetwork"] == true {
            let what = "has the network of its node, so it gets no sidecar";
            found.push(Finding::warning(called(pod), what));
            continue;
        }
        if !is_injected(survey, pod) {
            continue;
        }
        for container in containers(pod).filter(|c| c["name"] != "istio-proxy") {
            let ports = container["ports"].as_array().into_iter().flatten();
            for port in ports.filter_map(|p| p["containerPort"].as_u64()).filter(|port| TAKEN.contains(port)) {
                let name = container["name"].as_str().unwrap_or_default();
                let what = format!("the container {name} has the port {port}, which its sidecar needs; use another");
                found.push(Finding::error(called(pod), what));
            }
        }
    }
    found
}
