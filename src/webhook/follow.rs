//! Follows what injection depends on: the ConfigMaps with the templates and with the mesh's settings, the versions of the
//! nodes, and where namespaces have users of their own, which.

use super::{
    inject::{Injector, mesh},
    openshift::Users,
    proxies::Proxies,
    settings::Settings,
};
use crate::parse::{with_revision, yaml};
use futures_util::{Stream, StreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watcher},
    },
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};
use tokio::{sync::watch, time};

/// The ConfigMap with the templates, in the system namespace.
const SETTINGS: &str = "istio-sidecar-injector";
/// The minor version of Kubernetes from which on all nodes know native sidecars.
const NATIVE_SINCE: u32 = 33;
/// How often the file of the mesh's settings is looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// Whether sidecars are native ones, where pods do not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Native {
    /// Where all nodes know them.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Where it is followed.
#[derive(Clone)]
pub struct Options {
    /// The cluster; none where the chart's own templates are used.
    pub client: Option<Client>,
    /// The namespace of the control plane.
    pub namespace: String,
    /// Its revision; empty for the default one.
    pub revision: String,
    /// The file of the mesh's settings, which goes before the ConfigMap.
    pub mesh_file: Option<PathBuf>,
    /// Whether sidecars are native ones.
    pub native: Native,
    /// Whether each namespace has users of its own, as on OpenShift.
    pub users_of_namespaces: bool,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("namespace", &self.namespace).field("revision", &self.revision).finish()
    }
}

/// What injection depends on, as it is now.
#[derive(Clone, Debug)]
pub struct State {
    /// What pods are injected with, or why they cannot be.
    pub injector: Result<Arc<Injector>, String>,
    /// Whether sidecars are native ones where pods do not say.
    pub native: bool,
}

/// Something has changed.
enum News {
    Settings(Option<ConfigMap>),
    Mesh(Option<ConfigMap>),
    File(Value),
    /// All nodes will be told anew.
    Nodes,
    Node(String, Option<u32>),
    Namespace(String, BTreeMap<String, String>),
    NamespaceGone(String),
    /// All ProxyConfigs will be told anew.
    Proxies,
    Proxy(Value),
    ProxyGone(Value),
    /// Nothing can be read.
    Lost(&'static str, String),
}

/// What is known.
struct Known {
    options: Options,
    settings: Result<Settings, String>,
    mesh: Value,
    nodes: BTreeMap<String, u32>,
    proxies: Proxies,
    users: Option<Arc<Users>>,
}

/// What injection depends on, and what keeps it up to date.
pub fn follow(options: Options) -> (watch::Receiver<State>, impl Future<Output = ()>) {
    let settings = match &options.client {
        Some(_) => {
            Err(format!("the ConfigMap {} was not read yet; try again", with_revision(SETTINGS, &options.revision)))
        }
        None => Ok(Settings::built_in()),
    };
    let mut known = Known::new(options, settings);
    let (sender, receiver) = watch::channel(known.state());
    let task = async move {
        let mut news = known.news();
        while let Some(one) = news.next().await {
            if known.take(one) {
                sender.send_replace(known.state());
            }
        }
        // Where nothing can change there is nothing to follow.
        std::future::pending().await
    };
    (receiver, task)
}

impl Known {
    fn new(options: Options, settings: Result<Settings, String>) -> Self {
        let users = options.users_of_namespaces.then(Arc::default);
        Self { options, settings, mesh: json!({}), nodes: BTreeMap::new(), proxies: Proxies::default(), users }
    }

    fn news(&self) -> stream::SelectAll<stream::BoxStream<'static, News>> {
        let Options { client, namespace, revision, mesh_file, native, users_of_namespaces } = &self.options;
        let mut all = Vec::new();
        if let Some(file) = mesh_file.clone() {
            all.push(follow_file(file).boxed());
        }
        if let Some(client) = client {
            let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
            let followed = |name: &str, news: fn(Option<ConfigMap>) -> News, what: &'static str| {
                let events = watcher::watch_object(maps.clone(), name).default_backoff();
                events.map(move |event| event.map_or_else(|e| News::Lost(what, e.to_string()), news)).boxed()
            };
            all.push(followed(&with_revision(SETTINGS, revision), News::Settings, "the templates of injection"));
            if mesh_file.is_none() {
                all.push(followed(&with_revision("istio", revision), News::Mesh, "the mesh's settings"));
            }
            all.push(follow_proxies(client.clone()).boxed());
            if *native == Native::Auto {
                all.push(follow_nodes(client.clone()).boxed());
            }
            if *users_of_namespaces {
                all.push(follow_namespaces(client.clone()).boxed());
            }
        }
        stream::select_all(all)
    }

    /// Takes what is new; says whether anything follows from it.
    fn take(&mut self, news: News) -> bool {
        let (before, nodes) = (self.is_native(), matches!(news, News::Nodes | News::Node(..)));
        match news {
            News::Settings(map) => self.settings = self.read(map),
            News::Mesh(map) => {
                let text = map.and_then(|map| map.data?.remove("mesh")).unwrap_or_default();
                // Settings that are no YAML leave those in force that were.
                match yaml::value(&text) {
                    Ok(value) => self.mesh = value,
                    Err(error) => tracing::warn!(%error, "the mesh's settings for injection stay as they were"),
                }
            }
            News::File(value) => self.mesh = value,
            News::Nodes => self.nodes.clear(),
            News::Node(name, Some(minor)) => drop(self.nodes.insert(name, minor)),
            News::Node(name, None) => drop(self.nodes.remove(&name)),
            News::Namespace(name, annotations) => {
                return self.users.as_mut().is_some_and(|users| Arc::make_mut(users).insert(&name, &annotations));
            }
            News::NamespaceGone(name) => self.users.iter_mut().for_each(|users| Arc::make_mut(users).remove(&name)),
            News::Proxies => self.proxies.clear(),
            News::Proxy(object) => self.proxies.insert(object),
            News::ProxyGone(object) => self.proxies.remove(&object),
            News::Lost(what, error) => {
                tracing::warn!(error, "{what} cannot be read; what was read before stays in force");
                return false;
            }
        }
        // What nodes say matters only where it changes the whole.
        !nodes || before != self.is_native()
    }

    fn read(&self, map: Option<ConfigMap>) -> Result<Settings, String> {
        let name = with_revision(SETTINGS, &self.options.revision);
        let namespace = &self.options.namespace;
        let Some(data) = map.map(|map| map.data.unwrap_or_default()) else {
            return Err(format!(
                "there is no ConfigMap {name} in {namespace}, which says what is injected; helm upgrade makes it"
            ));
        };
        let text = |key: &str| data.get(key).map(String::as_str).unwrap_or_default();
        let settings = Settings::parse(text("config"), text("values"));
        match &settings {
            Ok(settings) => settings.said.iter().for_each(|text| tracing::warn!("in the ConfigMap {name}: {text}")),
            Err(why) => tracing::error!("the ConfigMap {name} cannot be used: {why}"),
        }
        // A broken edit must not stop pods from starting, nor let them start without a sidecar.
        match (settings, &self.settings) {
            (Err(_), Ok(before)) => Ok(before.clone()),
            (Err(why), Err(_)) => Err(format!("the ConfigMap {name} in {namespace} cannot be used: {why}")),
            (settings, _) => settings,
        }
    }

    fn is_native(&self) -> bool {
        match self.options.native {
            Native::On => true,
            Native::Off => false,
            Native::Auto => !self.nodes.is_empty() && self.nodes.values().all(|minor| *minor >= NATIVE_SINCE),
        }
    }

    fn state(&self) -> State {
        let injector = self.settings.clone().map(|settings| {
            let (mesh, revision) = (mesh(&self.mesh), self.options.revision.clone());
            Arc::new(Injector { settings, mesh, revision, proxies: self.proxies.clone(), users: self.users.clone() })
        });
        State { injector, native: self.is_native() }
    }
}

/// The minor version of each node, as it joins, is updated and goes.
fn follow_nodes(client: Client) -> impl Stream<Item = News> {
    let config = watcher::Config::default().any_semantic().page_size(100);
    let one = |node: Node| {
        let version = node.status.and_then(|status| status.node_info).map(|info| info.kubelet_version);
        News::Node(node.metadata.name.unwrap_or_default(), Some(version.as_deref().map_or(0, minor)))
    };
    watcher(Api::<Node>::all(client), config).default_backoff().filter_map(move |event| {
        let news = match event {
            Ok(watcher::Event::Init) => Some(News::Nodes),
            Ok(watcher::Event::InitApply(node) | watcher::Event::Apply(node)) => Some(one(node)),
            Ok(watcher::Event::Delete(node)) => Some(News::Node(node.metadata.name.unwrap_or_default(), None)),
            Ok(watcher::Event::InitDone) => None,
            Err(error) => Some(News::Lost("the versions of nodes", error.to_string())),
        };
        std::future::ready(news)
    })
}

/// The annotations of each namespace.
fn follow_namespaces(client: Client) -> impl Stream<Item = News> {
    let api = Api::<PartialObjectMeta<Namespace>>::all(client);
    let events = watcher(api, watcher::Config::default()).default_backoff();
    events.filter_map(|event| {
        let news = match event {
            Ok(watcher::Event::InitApply(found) | watcher::Event::Apply(found)) => {
                let metadata = found.metadata;
                Some(News::Namespace(metadata.name.unwrap_or_default(), metadata.annotations.unwrap_or_default()))
            }
            Ok(watcher::Event::Delete(found)) => Some(News::NamespaceGone(found.metadata.name.unwrap_or_default())),
            Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
            Err(error) => Some(News::Lost("the users of namespaces", error.to_string())),
        };
        std::future::ready(news)
    })
}

/// The objects of the kind ProxyConfig, as they are made, changed and removed.
fn follow_proxies(client: Client) -> impl Stream<Item = News> {
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1beta1", "ProxyConfig");
    let api = Api::<DynamicObject>::all_with(client, &ApiResource::from_gvk_with_plural(&kind, "proxyconfigs"));
    let json = |object: DynamicObject| serde_json::to_value(object).unwrap_or_default();
    watcher(api, watcher::Config::default()).default_backoff().filter_map(move |event| {
        let news = match event {
            Ok(watcher::Event::Init) => Some(News::Proxies),
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => Some(News::Proxy(json(object))),
            Ok(watcher::Event::Delete(object)) => Some(News::ProxyGone(json(object))),
            Ok(watcher::Event::InitDone) => None,
            // Where the kind is not defined yet there are none.
            Err(error) => {
                tracing::debug!(%error, "ProxyConfigs cannot be read for injection");
                None
            }
        };
        std::future::ready(news)
    })
}

/// `v1.34.2+k3s1` has the minor version 34.
fn minor(version: &str) -> u32 {
    let mut parts = version.trim_start_matches('v').split('.');
    let minor = parts.nth(1).unwrap_or_default();
    minor.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}

/// The file of the mesh's settings, whenever it says something else.
fn follow_file(file: PathBuf) -> impl Stream<Item = News> {
    stream::unfold((file, None::<String>), |(file, before)| async move {
        loop {
            let read = std::fs::read_to_string(&file).unwrap_or_default();
            if before.as_ref() != Some(&read)
                && let Ok(value) = yaml::value(&read)
            {
                return Some((News::File(value), (file, Some(read))));
            }
            time::sleep(INTERVAL).await;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_nodes_are_read_as_distributions_write_them() {
        for (version, is) in [("v1.34.2", 34), ("v1.29.0+k3s1", 29), ("1.33+", 33), ("", 0), ("v2", 0)] {
            assert_eq!(minor(version), is);
        }
    }

    #[test]
    fn a_broken_edit_of_the_templates_leaves_those_that_were() {
        let map = |config: &str| {
            let data = [("config", config), ("values", "{}")].map(|(k, v)| (k.to_owned(), v.to_owned()));
            Some(ConfigMap { data: Some(data.into_iter().collect()), ..ConfigMap::default() })
        };
        let options = Options {
            client: None,
            namespace: "istio-system".into(),
            revision: "canary".into(),
            mesh_file: None,
            native: Native::Auto,
            users_of_namespaces: false,
        };
        let settings = Err("nothing was read".into());
        let mut known = Known::new(options, settings);
        known.take(News::Settings(None));
        assert!(
            known.state().injector.expect_err("no templates").contains("istio-sidecar-injector-canary in istio-system")
        );
        known.take(News::Settings(map("policy: [")));
        assert!(known.state().injector.expect_err("broken templates").contains("is not YAML"));
        known.take(News::Settings(map("policy: enabled\ntemplates: {sidecar: \"{{ .Values }}\"}")));
        assert!(known.state().injector.is_ok());
        known.take(News::Settings(map("policy: {")));
        assert!(known.state().injector.is_ok());
    }

    #[test]
    fn sidecars_are_native_once_every_node_knows_them() {
        let options = Options {
            client: None,
            namespace: "istio-system".into(),
            revision: String::new(),
            mesh_file: None,
            native: Native::Auto,
            users_of_namespaces: false,
        };
        let settings = Ok(Settings::built_in());
        let mut known = Known::new(options, settings);
        let mut native = |news| {
            known.take(news);
            known.state().native
        };
        assert!(!native(News::Nodes));
        assert!(native(News::Node("a".into(), Some(34))));
        assert!(!native(News::Node("b".into(), Some(31))));
        assert!(native(News::Node("b".into(), None)));
    }
}
