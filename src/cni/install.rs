//! What the plugin needs on a node, put there and kept there: its program, the file by which it speaks to the API
//! server, and its entry in the configuration of the network. Every file is replaced in one step.

use super::{KUBECONFIG, PLUGIN};
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::{
    fs,
    io::{ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The file of a plugin that stands alone: the last of a directory, so that it is never the one of the network.
const ALONE: &str = "YYY-mainsheet-cni.conf";
/// The version and the name of a list that a lone plugin is made into.
const LIST_VERSION: &str = "0.3.1";
const LIST_NAME: &str = "k8s-pod-network";

/// What is put onto a node, and where.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The directory of the networks' configurations.
    pub networks: PathBuf,
    /// The file in it to change, where it is not the first.
    pub network: Option<String>,
    /// Whether the plugin comes after others in their file, or has one of its own.
    pub chained: bool,
    /// The mode of a file of its own.
    pub network_mode: u32,
    /// The program.
    pub program: PathBuf,
    /// The directory of plugins.
    pub plugins: PathBuf,
    /// The directory of the agent, by the same name on the node.
    pub agent: PathBuf,
    /// The mode of the file by which the plugin speaks to the API server.
    pub kubeconfig_mode: u32,
    /// The API server: `https://HOST:PORT`.
    pub server: String,
    /// The directory of a service account: `token` and `ca.crt`.
    pub account: PathBuf,
    /// The API server's root, where it is another than the service account's.
    pub root: Option<PathBuf>,
    /// Trust whoever answers.
    pub skip_verification: bool,
    /// The plugin's settings beside its type and its directory.
    pub settings: Value,
}

/// How far it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Installed {
    /// There is no network yet to come after.
    Waiting(String),
    /// All is there. Whether something of it had to be written.
    Done {
        /// The file that the plugin is in.
        file: PathBuf,
        /// What was written.
        written: Vec<&'static str>,
    },
}

impl Installation {
    /// Puts everything where it belongs, as far as it is not there.
    ///
    /// # Errors
    ///
    /// Where a file can be neither read nor written.
    pub fn install(&self) -> Result<Installed> {
        let mut written = Vec::new();
        let program = fs::read(&self.program).with_context(|| self.program.display().to_string())?;
        if keep(&self.plugins.join(PLUGIN), &program, 0o755)? {
            written.push("the program");
        }
        fs::create_dir_all(&self.agent).with_context(|| self.agent.display().to_string())?;
        if keep(&self.agent.join(KUBECONFIG), self.kubeconfig()?.as_bytes(), self.kubeconfig_mode)? {
            written.push("the kubeconfig");
        }
        let Some(file) = self.target()? else {
            return Ok(Installed::Waiting(format!("no network is configured in {} yet", self.networks.display())));
        };
        let (file, changed) = if self.chained { self.chain(&file)? } else { (file.clone(), self.stand_alone(&file)?) };
        if changed {
            written.push("the network's configuration");
        }
        Ok(Installed::Done { file, written })
    }

    /// Takes everything away again. What others have written into the same files stays.
    ///
    /// # Errors
    ///
    /// Where a file can be neither changed nor removed.
    pub fn remove(&self) -> Result<()> {
        // First of all the runtime must no longer call what will be gone.
        for file in files(&self.networks)? {
            let Some(mut network) = read(&file) else { continue };
            if network["type"] == PLUGIN {
                gone(&file)?;
                continue;
            }
            let Some(plugins) = network["plugins"].as_array_mut() else { continue };
            let before = plugins.len();
            plugins.retain(|p| p["type"] != PLUGIN);
            if plugins.len() < before {
                replace(&file, &text(&network), mode(&file)?)?;
            }
        }
        gone(&self.agent.join(KUBECONFIG))?;
        gone(&self.plugins.join(PLUGIN))
    }

    fn entry(&self) -> Value {
        let mut entry = self.settings.clone();
        entry["type"] = json!(PLUGIN);
        entry["cni_agent_run_dir"] = json!(self.agent);
        entry
    }

    /// The file to write the plugin into.
    fn target(&self) -> Result<Option<PathBuf>> {
        if !self.chained {
            return Ok(Some(self.networks.join(self.network.as_deref().unwrap_or(ALONE))));
        }
        let all = files(&self.networks)?;
        let Some(name) = &self.network else {
            return Ok(all.into_iter().find(|f| read(f).is_some_and(|n| is_network(&n))));
        };
        // A lone plugin may have become a list since.
        let stem = |n: &str| n.trim_end_matches(".conflist").trim_end_matches(".conf").to_owned();
        let same = |f: &&PathBuf| f.file_name().is_some_and(|f| stem(&f.to_string_lossy()) == stem(name));
        Ok(all.iter().find(same).cloned())
    }

    /// Writes the plugin after the others of a file. Answers the file that it is in then.
    fn chain(&self, file: &Path) -> Result<(PathBuf, bool)> {
        let Some(mut network) = read(file) else { bail!("{}: is no object of JSON", file.display()) };
        let lone = network.get("plugins").is_none();
        if lone {
            let version = network.as_object_mut().and_then(|n| n.remove("cniVersion"));
            let name = network.get("name").cloned().unwrap_or_else(|| json!(LIST_NAME));
            let version = version.unwrap_or_else(|| json!(LIST_VERSION));
            network = json!({"cniVersion": version, "name": name, "plugins": [network]});
        }
        let Some(plugins) = network["plugins"].as_array_mut() else {
            bail!("{}: `plugins` is no list", file.display())
        };
        let entry = self.entry();
        if plugins.last() == Some(&entry) && plugins.iter().filter(|p| p["type"] == PLUGIN).count() == 1 {
            return Ok((file.to_owned(), false));
        }
        plugins.retain(|p| p["type"] != PLUGIN);
        plugins.push(entry);
        if !lone {
            replace(file, &text(&network), mode(file)?)?;
            return Ok((file.to_owned(), true));
        }
        let list = file.with_extension("conflist");
        replace(&list, &text(&network), mode(file)?)?;
        gone(file)?;
        Ok((list, true))
    }

    fn stand_alone(&self, file: &Path) -> Result<bool> {
        let mut network = self.entry();
        network["cniVersion"] = json!(LIST_VERSION);
        network["name"] = json!(PLUGIN);
        keep(file, &text(&network), self.network_mode)
    }

    fn kubeconfig(&self) -> Result<String> {
        let read = |file: &Path| fs::read_to_string(file).with_context(|| file.display().to_string());
        let token = read(&self.account.join("token"))?;
        let mut cluster = json!({"server": self.server});
        if self.skip_verification {
            cluster["insecure-skip-tls-verify"] = json!(true);
        } else {
            let root = read(&self.root.clone().unwrap_or_else(|| self.account.join("ca.crt")))?;
            let root = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, root);
            cluster["certificate-authority-data"] = json!(root);
        }
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "local", "cluster": cluster}],
            "users": [{"name": PLUGIN, "user": {"token": token.trim()}}],
            "contexts": [{"name": PLUGIN, "context": {"cluster": "local", "user": PLUGIN}}],
            "current-context": PLUGIN,
        });
        Ok(format!("{kubeconfig:#}\n"))
    }
}

/// The configurations of a directory, in the order in which a runtime looks at them.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| dir.display().to_string())?,
    };
    let paths = entries.filter_map(|e| Some(e.ok()?.path()));
    let mut files: Vec<PathBuf> =
        paths.filter(|p| p.extension().is_some_and(|e| e == "conf" || e == "conflist")).collect();
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(file).ok()?).ok().filter(Value::is_object)
}

/// Whether a runtime would take it for a network.
fn is_network(value: &Value) -> bool {
    let lone = value["type"].as_str().is_some_and(|t| t != PLUGIN);
    lone || value["name"].is_string() && value["plugins"].as_array().is_some_and(|p| !p.is_empty())
}

fn text(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

fn mode(file: &Path) -> Result<u32> {
    let metadata = fs::metadata(file).with_context(|| file.display().to_string())?;
    Ok(metadata.permissions().mode() & 0o777)
}

/// Writes a file where it is not so already.
fn keep(file: &Path, content: &[u8], mode: u32) -> Result<bool> {
    if fs::read(file).is_ok_and(|there| there == content) {
        return Ok(false);
    }
    replace(file, content, mode).map(|()| true)
}

/// Replaces a file in one step: nobody ever reads half of it.
fn replace(file: &Path, content: &[u8], mode: u32) -> Result<()> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let new = file.with_file_name(format!(".{name}.new"));
    let write = || {
        gone_file(&new)?;
        let mut open = fs::OpenOptions::new().create_new(true).write(true).mode(mode).open(&new)?;
        open.write_all(content)?;
        // The mask of the process takes rights away.
        open.set_permissions(fs::Permissions::from_mode(mode))?;
        open.sync_all()?;
        fs::rename(&new, file)
    };
    write().with_context(|| format!("writing {}", file.display()))
}

fn gone(file: &Path) -> Result<()> {
    gone_file(file).with_context(|| format!("removing {}", file.display()))
}

fn gone_file(file: &Path) -> std::io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
