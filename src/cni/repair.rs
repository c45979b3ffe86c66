//! Pods that came to a node before the plugin did: their validating container ends with an error, again and again,
//! since nothing captures their traffic. They are given the rules, or deleted, or labelled.

use super::{PLUGIN, decide, decision::Decision, plugin::within};
use crate::{capture::Options, hostnet};
use anyhow::{Context as _, Result, bail};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    runtime::{
        WatchStreamExt as _,
        events::{Event, EventType, Recorder, Reporter},
        watcher,
    },
};
use serde_json::json;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    pin::pin,
};

/// What is done about a broken pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mend {
    /// It is given the rules.
    Rules,
    /// It is deleted, to be made anew.
    Delete,
    /// It is labelled.
    Label,
}

/// Which pods are broken, and what is done about them.
#[derive(Clone, Debug)]
pub struct Repair {
    /// What is done.
    pub mend: Mend,
    /// The node.
    pub node: String,
    /// The annotation of pods with a sidecar; empty for all pods.
    pub annotation: String,
    /// The container that validates; empty for any.
    pub container: String,
    /// The exit code by which it says that nothing is captured; 0 for any.
    pub exit_code: i32,
    /// What it says beside; empty for anything.
    pub message: String,
    /// The label of broken pods.
    pub label: (String, String),
    /// Which pods are looked at.
    pub labels: String,
    /// The same, by fields beside that of the node.
    pub fields: String,
    /// Whether the rules are set by nft.
    pub native_nftables: bool,
    /// The node's `/proc`.
    pub proc: PathBuf,
}

/// Whether a pod waits in vain for its traffic to be captured.
pub fn broken(pod: &Pod, repair: &Repair) -> bool {
    if !repair.annotation.is_empty() && !pod.annotations().contains_key(&repair.annotation) {
        return false;
    }
    let says_so = |state: &ContainerStateTerminated| {
        let message = repair.message.trim();
        (repair.exit_code == 0 || state.exit_code == repair.exit_code)
            && (message.is_empty() || state.message.as_deref().map(str::trim) == Some(message))
    };
    let statuses = pod.status.iter().flat_map(|s| s.init_container_statuses.iter().flatten());
    let mut statuses = statuses.filter(|s| repair.container.is_empty() || s.name == repair.container);
    statuses.any(|status| {
        let now = status.state.as_ref().and_then(|s| s.terminated.as_ref());
        let before = status.last_state.as_ref().and_then(|s| s.terminated.as_ref());
        // One that has ended well is never taken for broken.
        now.is_none_or(|n| n.exit_code != 0) && before.or(now).is_some_and(says_so)
    })
}

/// What became of a pod, for those who look at it.
fn told(kind: EventType, reason: &str, note: String) -> Event {
    // More than this the API server does not take.
    let note = note.chars().take(1000).collect();
    Event { type_: kind, reason: reason.into(), note: Some(note), action: "Repair".into(), secondary: None }
}

impl Repair {
    /// Repairs every broken pod of the node, as long as it is polled.
    pub(super) async fn run(&self, client: Client) {
        let fields = [self.fields.as_str(), &format!("spec.nodeName={}", self.node)].join(",");
        let mut config = watcher::Config::default().fields(fields.trim_start_matches(','));
        if !self.labels.is_empty() {
            config = config.labels(&self.labels);
        }
        let pods = Api::<Pod>::all(client.clone());
        let mut stream = pin!(watcher(pods, config).default_backoff().applied_objects());
        let mut done = BTreeSet::new();
        let reporter = Reporter { controller: PLUGIN.into(), instance: Some(self.node.clone()) };
        let recorder = Recorder::new(client.clone(), reporter);
        while let Some(event) = stream.next().await {
            let pod = match event {
                Ok(pod) => pod,
                Err(error) => {
                    tracing::warn!("the pods of node {} cannot be watched: {error}", self.node);
                    continue;
                }
            };
            let uid = pod.uid().unwrap_or_default();
            if !broken(&pod, self) || done.contains(&uid) {
                continue;
            }
            let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
            let mended = self.mend(&client, &pod).await;
            let event = match &mended {
                Ok(what) => {
                    tracing::info!("pod {name} came before the plugin: {what}");
                    done.insert(uid);
                    told(EventType::Normal, "Repaired", format!("it came to the node before the CNI plugin: {what}"))
                }
                // The pod comes again with its next failure.
                Err(error) => {
                    tracing::warn!("pod {name} came before the plugin and cannot be repaired: {error:#}");
                    told(
                        EventType::Warning,
                        "NotRepaired",
                        format!("it came to the node before the CNI plugin: {error:#}"),
                    )
                }
            };
            if let Err(error) = recorder.publish(&event, &pod.object_ref(&())).await {
                tracing::debug!(%error, "the event cannot be written");
            }
        }
    }

    async fn mend(&self, client: &Client, pod: &Pod) -> Result<&'static str> {
        let pods = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        let name = pod.name_any();
        match self.mend {
            Mend::Rules => {
                let (repair, pod) = (self.clone(), pod.clone());
                tokio::task::spawn_blocking(move || repair.capture(&pod)).await.context("the repair has failed")??;
                Ok("its traffic is captured now")
            }
            Mend::Delete => {
                // It is the very pod that was looked at, in the state that was looked at.
                let preconditions = Preconditions { uid: pod.uid(), resource_version: pod.resource_version() };
                let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                pods.delete(&name, &parameters).await?;
                Ok("it is deleted")
            }
            Mend::Label if pod.labels().contains_key(&self.label.0) => Ok("it is labelled"),
            Mend::Label => {
                let patch = json!({"metadata": {"labels": {&self.label.0: self.label.1}}});
                pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
                Ok("it is labelled")
            }
        }
    }

    /// Sets the rules in the network namespace of a pod that runs.
    fn capture(&self, pod: &Pod) -> Result<()> {
        let settings = match decide(pod, self.native_nftables) {
            Decision::Capture(settings) => settings,
            Decision::Leave(why) => bail!("its traffic is not to be captured: {why}"),
        };
        let namespace = namespace(&self.proc, &pod.uid().unwrap_or_default())?;
        let mut settings = *settings;
        settings.set("network-namespace", namespace.to_string_lossy(), "the pod");
        let options = Options::read(&settings, &hostnet::names()).map_err(|wrong| anyhow::anyhow!(wrong.join("; ")))?;
        within(&namespace, move || {
            let network = hostnet::network(&options)?;
            hostnet::apply(&options, &network).map(|_| ())
        })
    }
}

/// The network namespace of a pod: that of the oldest process in its control group, which is the one that holds it.
pub(super) fn namespace(proc: &Path, uid: &str) -> Result<PathBuf> {
    // systemd writes the number of a pod in its own way.
    let names = [uid.to_owned(), uid.replace('-', "_")];
    let mut processes: Vec<u32> = fs::read_dir(proc)
        .with_context(|| proc.display().to_string())?
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    processes.sort_unstable();
    let of_pod = |id: &u32| {
        let groups = fs::read_to_string(proc.join(id.to_string()).join("cgroup")).unwrap_or_default();
        !uid.is_empty() && names.iter().any(|name| groups.contains(name))
    };
    match processes.into_iter().find(of_pod) {
        Some(id) => Ok(proc.join(id.to_string()).join("ns/net")),
        None => bail!("no process of the pod is in {}", proc.display()),
    }
}
