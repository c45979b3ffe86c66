//! `mainsheet cni`: the plugin that container runtimes call, and the agent that installs it on a node.

use crate::{app, cni};
use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand};
use serde_json::json;
use std::{
    env,
    io::{IsTerminal as _, Read as _},
    path::PathBuf,
    process::ExitCode,
};

/// `mainsheet cni`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Answer one call of a container runtime; the same as being called by the name mainsheet-cni.
    Plugin,
    /// Install the plugin on a node, keep it there, and repair pods that came before it.
    Install(Box<Install>),
}

/// The flags of Istio's install-cni, by the same names.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct Install {
    /// The directory of the networks' configurations.
    #[arg(long, env, default_value = "/host/etc/cni/net.d", value_name = "DIR")]
    mounted_cni_net_dir: PathBuf,
    /// The file in it to write the plugin into [default: the first].
    #[arg(long, env, value_name = "FILE")]
    cni_conf_name: Option<String>,
    /// Whether the plugin comes after those of the network, or has a file of its own.
    #[arg(long, env, default_value = "true", action = clap::ArgAction::Set, value_name = "BOOL")]
    chained_cni_plugin: bool,
    /// The directory of plugins.
    #[arg(long, env, default_value = "/host/opt/cni/bin", value_name = "DIR")]
    cni_bin_dir: PathBuf,
    /// The directory of the agent, by the same name on the node.
    #[arg(long, env, default_value = "/var/run/mainsheet-cni", value_name = "DIR")]
    cni_agent_run_dir: PathBuf,
    /// The mode of the kubeconfig, in octal.
    #[arg(long, env, default_value = "600", value_parser = octal, value_name = "MODE")]
    kubeconfig_mode: u32,
    /// Whether a group may read a configuration of the plugin's own.
    #[arg(long, env, default_value = "false", action = clap::ArgAction::Set, value_name = "BOOL")]
    cni_conf_group_read: bool,
    /// The API server's root [default: the service account's].
    #[arg(long, env, value_name = "FILE")]
    kube_ca_file: Option<PathBuf>,
    /// Let the plugin trust whoever answers for the API server.
    #[arg(long, env, default_value = "false", action = clap::ArgAction::Set, value_name = "BOOL")]
    skip_tls_verify: bool,
    /// The directory of the service account.
    #[arg(long, default_value = "/var/run/secrets/kubernetes.io/serviceaccount", value_name = "DIR")]
    service_account: PathBuf,
    /// Namespaces whose pods are left alone, comma-separated.
    #[arg(long, env, value_delimiter = ',', value_name = "NAMESPACES")]
    exclude_namespaces: Vec<String>,
    /// The namespace of the agent.
    #[arg(long, env, default_value = "istio-system", value_name = "NAMESPACE")]
    pod_namespace: String,
    /// Use nft, not iptables.
    #[arg(long, env, default_value = "false", action = clap::ArgAction::Set, value_name = "BOOL")]
    native_nftables: bool,
    /// Where the agent tells how it is: /readyz and /healthz.
    #[arg(long, default_value_t = 8000, value_name = "PORT")]
    health_port: u16,
    #[command(flatten)]
    repair: Repair,
    #[command(flatten)]
    log: crate::config::Log,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct Repair {
    /// Look for pods that came before the plugin.
    #[arg(long, env, default_value = "true", action = clap::ArgAction::Set, value_name = "BOOL")]
    repair_enabled: bool,
    /// Give them the rules; this goes before the other two.
    #[arg(long, env, default_value = "false", action = clap::ArgAction::Set, value_name = "BOOL")]
    repair_repair_pods: bool,
    /// Delete them.
    #[arg(long, env, default_value = "false", action = clap::ArgAction::Set, value_name = "BOOL")]
    repair_delete_pods: bool,
    /// Label them.
    #[arg(long, env, default_value = "false", action = clap::ArgAction::Set, value_name = "BOOL")]
    repair_label_pods: bool,
    /// The label's key.
    #[arg(long, env, default_value = "cni.istio.io/uninitialized", value_name = "KEY")]
    repair_broken_pod_label_key: String,
    /// The label's value.
    #[arg(long, env, default_value = "true", value_name = "VALUE")]
    repair_broken_pod_label_value: String,
    /// The node.
    #[arg(long, env, default_value = "", value_name = "NODE")]
    repair_node_name: String,
    /// The annotation of pods with a sidecar; empty for all pods.
    #[arg(long, env, default_value = "sidecar.istio.io/status", value_name = "KEY")]
    repair_sidecar_annotation: String,
    /// The container that fails where nothing is captured; empty for any.
    #[arg(long, env, default_value = "istio-validation", value_name = "NAME")]
    repair_init_container_name: String,
    /// What it says; empty for anything.
    #[arg(long, env, default_value = "", value_name = "TEXT")]
    repair_init_container_termination_message: String,
    /// Its exit code; 0 for any.
    #[arg(long, env, default_value_t = 126, value_name = "CODE")]
    repair_init_container_exit_code: i32,
    /// Which pods are looked at, by labels.
    #[arg(long, env, default_value = "", value_name = "SELECTOR")]
    repair_label_selectors: String,
    /// Which pods are looked at, by fields.
    #[arg(long, env, default_value = "", value_name = "SELECTOR")]
    repair_field_selectors: String,
    /// The node's /proc, in which the network namespaces of pods are found.
    #[arg(long, default_value = "/host/proc", value_name = "DIR")]
    host_proc: PathBuf,
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text.trim_start_matches("0o"), 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "write a mode as 600".to_owned())
}

/// Answers a call of a container runtime.
pub(super) fn plugin() -> ExitCode {
    let mut input = String::new();
    let stdin = std::io::stdin();
    if !stdin.is_terminal()
        && let Err(error) = stdin.lock().read_to_string(&mut input)
    {
        eprintln!("mainsheet-cni: the standard input: {error}");
    }
    let (answer, good) = cni::plugin(|name| env::var(name).ok(), &input);
    if !answer.is_empty() {
        println!("{answer}");
    }
    super::offline::exit(!good)
}

pub(super) fn cni(command: Command) -> Result<ExitCode> {
    match command {
        Command::Plugin => Ok(plugin()),
        Command::Install(options) => {
            let node = options.node()?;
            app::node(&options.log, node).map(|()| ExitCode::SUCCESS)
        }
    }
}

impl Install {
    fn node(&self) -> Result<cni::Node> {
        let variable = |name: &str| env::var(name).ok().filter(|v| !v.is_empty());
        let missing = |name: &str| anyhow!("{name} is not set: `mainsheet cni install` runs in a pod, which has it");
        let host = variable("KUBERNETES_SERVICE_HOST").ok_or_else(|| missing("KUBERNETES_SERVICE_HOST"))?;
        let port = variable("KUBERNETES_SERVICE_PORT").ok_or_else(|| missing("KUBERNETES_SERVICE_PORT"))?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let installation = cni::Installation {
            networks: self.mounted_cni_net_dir.clone(),
            network: self.cni_conf_name.clone().filter(|n| !n.is_empty()),
            chained: self.chained_cni_plugin,
            network_mode: if self.cni_conf_group_read { 0o640 } else { 0o600 },
            program: env::current_exe().context("the path of this program")?,
            plugins: self.cni_bin_dir.clone(),
            agent: self.cni_agent_run_dir.clone(),
            kubeconfig_mode: self.kubeconfig_mode,
            server: format!("https://{host}:{port}"),
            account: self.service_account.clone(),
            root: self.kube_ca_file.clone(),
            skip_verification: self.skip_tls_verify,
            settings: json!({
                "exclude_namespaces": self.exclude_namespaces,
                "pod_namespace": self.pod_namespace,
                "native_nftables": self.native_nftables,
            }),
        };
        Ok(cni::Node {
            installation,
            repair: self.repair.read(self.native_nftables)?,
            namespace: self.pod_namespace.clone(),
            port: self.health_port,
        })
    }
}

impl Repair {
    fn read(&self, native_nftables: bool) -> Result<Option<cni::Repair>> {
        let mend = match (self.repair_repair_pods, self.repair_delete_pods, self.repair_label_pods) {
            (true, ..) => cni::Mend::Rules,
            (_, true, _) => cni::Mend::Delete,
            (.., true) => cni::Mend::Label,
            _ => return Ok(None),
        };
        if !self.repair_enabled {
            return Ok(None);
        }
        let node = self.repair_node_name.clone();
        anyhow::ensure!(
            !node.is_empty(),
            "--repair-node-name is empty; write the name of the node, from spec.nodeName"
        );
        Ok(Some(cni::Repair {
            mend,
            node,
            annotation: self.repair_sidecar_annotation.clone(),
            container: self.repair_init_container_name.clone(),
            exit_code: self.repair_init_container_exit_code,
            message: self.repair_init_container_termination_message.clone(),
            label: (self.repair_broken_pod_label_key.clone(), self.repair_broken_pod_label_value.clone()),
            labels: self.repair_label_selectors.clone(),
            fields: self.repair_field_selectors.clone(),
            native_nftables,
            proc: self.host_proc.clone(),
        }))
    }
}
