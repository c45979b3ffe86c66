//! The istiod that is to be replaced: its environment and its flags, its templates, its authority.

use super::{Finding, Survey};
use crate::{config, install::called, model::Mesh, parse, webhook::Settings};
use clap::Parser;
use serde_json::Value;

/// What Istio's chart sets in any case, and what says nothing then.
const USUAL: [(&str, &str); 2] = [("PILOT_CERT_PROVIDER", "istiod"), ("PILOT_ENABLE_ANALYSIS", "false")];
/// The templates that Istio brings along.
const ISTIOS: [&str; 8] = [
    "agentgateway",
    "agentgateway-waypoint",
    "gateway",
    "grpc-agent",
    "grpc-simple",
    "kube-gateway",
    "sidecar",
    "waypoint",
];

/// The flags of istiod, as mainsheet takes them.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    all: config::Discovery,
}

/// What the environment and the flags of the control plane set, and what of them would have no effect.
pub(super) fn environment(survey: &Survey) -> (Mesh, Vec<Finding>) {
    let (mut mesh, mut found) = (Mesh::default(), Vec::new());
    for deployment in survey.of_kind("Deployment").filter(|deployment| is_istiod(survey, deployment)) {
        let name = called(deployment);
        let containers = deployment["spec"]["template"]["spec"]["containers"].as_array();
        for container in containers.into_iter().flatten().filter(|c| c["name"] == "discovery") {
            let said = variables(&mut mesh, container).into_iter().chain(flags(container));
            found.extend(said.map(|what| Finding::warning(&name, what)));
        }
    }
    (mesh, found)
}

fn is_istiod(survey: &Survey, deployment: &Value) -> bool {
    let labels = &deployment["metadata"]["labels"];
    deployment["metadata"]["namespace"] == *survey.namespace
        && labels["app"] == "istiod"
        && survey.is_of(&labels["istio.io/rev"])
}

fn variables(mesh: &mut Mesh, container: &Value) -> Vec<String> {
    let env = container["env"].as_array().into_iter().flatten();
    let all = env.filter_map(|v| Some((v["name"].as_str()?, v["value"].as_str()?)));
    let said = parse::environment(mesh, all.filter(|pair| !USUAL.contains(pair)));
    said.into_iter().map(|what| format!("in the environment: {what}")).collect()
}

fn flags(container: &Value) -> Vec<String> {
    let words: Vec<&str> = container["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let Some(("discovery", words)) = words.split_first().map(|(first, rest)| (*first, rest)) else { return Vec::new() };
    match Flags::try_parse_from(std::iter::once("discovery").chain(words.iter().copied())) {
        Ok(flags) => {
            let unused = flags.all.unused.iter();
            unused.map(|(flag, why)| format!("the flag --{flag} has no meaning here: {why}")).collect()
        }
        Err(error) => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            vec![format!("mainsheet would not start with these flags: {first}")]
        }
    }
}

/// The templates of injection that are somebody's own, or cannot be used.
pub(super) fn templates(survey: &Survey) -> Vec<Finding> {
    let templates = parse::with_revision("istio-sidecar-injector", &survey.revision);
    let Some(map) = survey.own("ConfigMap", &templates) else { return Vec::new() };
    let text = |key: &str| map["data"][key].as_str().unwrap_or("{}");
    let name = called(map);
    let settings = match Settings::parse(text("config"), text("values")) {
        Ok(settings) => settings,
        Err(why) => return vec![Finding::error(name, format!("cannot be used, so nothing would be injected: {why}"))],
    };
    let mut found: Vec<Finding> = settings.said.iter().map(|why| Finding::error(&name, why)).collect();
    for template in settings.templates.keys().filter(|template| !ISTIOS.contains(&template.as_str())) {
        let what = "is a template of your own: give it to the chart as sidecarInjectorWebhook.templates, and look at \
                    what `mainsheet inject` makes of a pod with it";
        found.push(Finding::warning(&name, format!("{template} {what}")));
    }
    if !settings.default_templates.iter().all(|template| template == "sidecar") {
        let what = format!("defaultTemplates is {}", settings.default_templates.join(", "));
        let todo = "give the same to the chart as sidecarInjectorWebhook.defaultTemplates";
        found.push(Finding::warning(name, format!("{what}; {todo}")));
    }
    found
}

/// Whether old and new sidecars would trust each other.
pub(super) fn identity(survey: &Survey) -> Vec<Finding> {
    let mut found = Vec::new();
    let authority = ["cacerts", "istio-ca-secret"].iter().any(|name| survey.own("Secret", name).is_some());
    if !authority && survey.of_kind("Deployment").any(|deployment| is_istiod(survey, deployment)) {
        let what = "neither the Secret cacerts nor istio-ca-secret is there, so the certificates come from somewhere else; \
                    mainsheet would make a new root, and sidecars of before and after would not trust each other: \
                    write the authority into a Secret cacerts first";
        found.push(Finding::error(format!("namespace {}", survey.namespace), what));
    }
    for secret in survey.of_kind("Secret").filter(|s| s["metadata"]["labels"]["istio/multiCluster"] == "true") {
        let what = "is the way into another cluster; several clusters are not served yet, so its services and pods would \
                    be gone";
        found.push(Finding::error(called(secret), what));
    }
    found
}
