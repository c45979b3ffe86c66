//! The plugin: called by the container runtime once for each thing that becomes of a pod's network.
//!
//! It comes after the plugins that make the network, and passes on what they answered. A pod that should be captured
//! and cannot be does not start: it would speak without the mesh.

use super::{
    KUBECONFIG, PLUGIN,
    decision::{Decision, decide},
    protocol::{Configuration, Failure, PodName, VERSIONS},
};
use crate::{
    capture::{Options, Settings},
    hostnet,
    source::kubernetes,
};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How often a pod is asked for, and how long between: the API server may be late, and the installer about to bring
/// another token.
const TRIES: u32 = 30;
const BETWEEN: Duration = Duration::from_secs(1);

/// Answers one call. `read` reads the environment, `input` is what came on the standard input. Answers what goes to the
/// standard output, and whether all is well.
pub fn plugin(read: impl Fn(&str) -> Option<String>, input: &str) -> (String, bool) {
    let command = read("CNI_COMMAND").unwrap_or_default();
    if command == "VERSION" {
        let version =
            serde_json::from_str::<Value>(input).ok().and_then(|v| v["cniVersion"].as_str().map(str::to_owned));
        let version = version.unwrap_or_else(|| (*VERSIONS.last().expect("several")).to_owned());
        return (json!({"cniVersion": version, "supportedVersions": VERSIONS}).to_string(), true);
    }
    let configuration = match Configuration::read(input) {
        Ok(configuration) => configuration,
        Err(failure) => return (failure.to_json(VERSIONS[VERSIONS.len() - 1]).to_string(), false),
    };
    let result = match command.as_str() {
        "ADD" => add(&configuration, &read).map(|()| Some(configuration.result())),
        "CHECK" => check(&configuration, &read).map(|()| None),
        // The rules go with the network namespace, and nothing else is kept of a pod.
        "DEL" | "GC" => Ok(None),
        "STATUS" => status(&configuration).map(|()| None),
        other => Err(Failure::new(
            Failure::VARIABLES,
            format!(
                "CNI_COMMAND is {other:?}: {PLUGIN} is called by a container runtime, which sets it to ADD, CHECK, DEL, GC, STATUS or VERSION"
            ),
        )),
    };
    match result {
        Ok(answer) => (answer.map(|a| a.to_string()).unwrap_or_default(), true),
        Err(failure) => (failure.to_json(&configuration.version).to_string(), false),
    }
}

fn add(configuration: &Configuration, read: &impl Fn(&str) -> Option<String>) -> Result<(), Failure> {
    let Some((options, namespace)) = captured(configuration, read)? else { return Ok(()) };
    within(&namespace, move || {
        let network = hostnet::network(&options)?;
        hostnet::apply(&options, &network).map(|_| ())
    })
    .map_err(|error| Failure::new(Failure::RULES, format!("{error:#}")))
}

fn check(configuration: &Configuration, read: &impl Fn(&str) -> Option<String>) -> Result<(), Failure> {
    let Some((options, namespace)) = captured(configuration, read)? else { return Ok(()) };
    let there = within(&namespace, move || Ok(hostnet::is_applied(&options, &hostnet::network(&options)?)))
        .map_err(|error| Failure::new(Failure::RULES, format!("{error:#}")))?;
    let missing = || Failure::new(Failure::NOT_CAPTURED, "the rules that capture the pod's traffic are not there");
    there.then_some(()).ok_or_else(missing)
}

fn status(configuration: &Configuration) -> Result<(), Failure> {
    let file = configuration.cni_agent_run_dir.join(KUBECONFIG);
    match file.is_file() {
        true => Ok(()),
        false => Err(Failure::new(
            Failure::UNAVAILABLE,
            format!("{} is not there yet: `mainsheet cni install` writes it", file.display()),
        )),
    }
}

/// How a pod is captured and where, if it is.
fn captured(
    configuration: &Configuration,
    read: &impl Fn(&str) -> Option<String>,
) -> Result<Option<(Options, PathBuf)>, Failure> {
    let Some(name) = PodName::read(&read("CNI_ARGS").unwrap_or_default()) else { return Ok(None) };
    let own = name.namespace == configuration.pod_namespace && name.name.starts_with(super::node::PODS);
    if own || configuration.exclude_namespaces.contains(&name.namespace) {
        // The installer's own pod brings what a pod is asked for by, so it must not wait for that.
        return Ok(None);
    }
    let pod = ask(&configuration.cni_agent_run_dir.join(KUBECONFIG), &name)?;
    let Decision::Capture(mut settings) = decide(&pod, configuration.native_nftables) else { return Ok(None) };
    let namespace = read("CNI_NETNS").filter(|n| !n.is_empty());
    let namespace = namespace.ok_or_else(|| Failure::new(Failure::VARIABLES, "CNI_NETNS is not set"))?;
    settings.set("network-namespace", namespace.as_str(), "CNI_NETNS");
    let options = options(&settings, &name)?;
    Ok(Some((options, namespace.into())))
}

fn options(settings: &Settings, name: &PodName) -> Result<Options, Failure> {
    Options::read(settings, &hostnet::names()).map_err(|wrong| {
        let pod = format!("pod {}/{}", name.namespace, name.name);
        Failure::new(Failure::CONFIGURATION, format!("{pod}: {}", wrong.join("; ")))
    })
}

/// Does something within a network namespace, on a thread of its own.
pub(super) fn within<T: Send + 'static>(
    namespace: &Path,
    what: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let namespace = namespace.to_owned();
    let thread = std::thread::spawn(move || {
        hostnet::enter(&namespace)?;
        what()
    });
    thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the thread within the network namespace has failed")))
}

fn ask(kubeconfig: &Path, name: &PodName) -> Result<Pod, Failure> {
    let again = |text: String| Failure::new(Failure::AGAIN, text);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| again(format!("starting a thread: {e}")))?;
    runtime.block_on(async {
        let mut last = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                tokio::time::sleep(BETWEEN).await;
            }
            // The file is read each time: a token that has ended may have been replaced.
            let client = match kubernetes::connect(Some(kubeconfig)).await {
                Ok(client) => client,
                Err(error) => {
                    last = format!("{}: {error}", kubeconfig.display());
                    continue;
                }
            };
            match Api::<Pod>::namespaced(client, &name.namespace).get(&name.name).await {
                Ok(pod) => return Ok(pod),
                Err(error) => last = error.to_string(),
            }
        }
        Err(again(format!(
            "pod {}/{} cannot be asked for, so it is not known whether its traffic is captured: {last}. If mainsheet's \
             CNI plugin was removed, take {PLUGIN} out of the node's network configuration",
            name.namespace, name.name
        )))
    })
}
