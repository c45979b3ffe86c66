//! The charts, which are part of the binary, and what they come to.

use crate::{
    parse::yaml,
    source::files,
    template::{Kind, Library, Native, Value},
};
use serde_json::{Value as Json, json};
use std::{collections::BTreeMap, fmt, rc::Rc, str::FromStr};

/// The files of a chart, by their paths in it.
type Files = &'static [(&'static str, &'static str)];

macro_rules! files {
    ($chart:literal: $($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../deploy/charts/", $chart, "/", $path)))),*]
    };
}

const BASE: Files = files!("base":
    "Chart.yaml",
    "files/crd-all.gen.yaml",
    "templates/crds.yaml",
    "templates/default-validator.yaml",
    "values.yaml",
);
const ISTIOD: Files = files!("istiod":
    "Chart.yaml",
    "files/gateway.yaml",
    "files/sidecar.yaml",
    "templates/_names.tpl",
    "templates/autoscale.yaml",
    "templates/clusterrole.yaml",
    "templates/configmap.yaml",
    "templates/deployment.yaml",
    "templates/injector-configmap.yaml",
    "templates/mutatingwebhook.yaml",
    "templates/networkpolicy.yaml",
    "templates/poddisruptionbudget.yaml",
    "templates/role.yaml",
    "templates/service.yaml",
    "templates/serviceaccount.yaml",
    "templates/validatingwebhook.yaml",
    "values.yaml",
);
const CNI: Files = files!("cni":
    "Chart.yaml",
    "templates/_names.tpl",
    "templates/daemonset.yaml",
    "templates/limits.yaml",
    "templates/multus.yaml",
    "templates/rights.yaml",
    "values.yaml",
);
const GATEWAY: Files = files!("gateway":
    "Chart.yaml",
    "templates/_names.tpl",
    "templates/deployment.yaml",
    "templates/rights.yaml",
    "templates/scale.yaml",
    "templates/service.yaml",
    "values.yaml",
);

/// A part that is installed by itself, each from its chart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Component {
    /// The definitions of the mesh's kinds.
    Base,
    /// The control plane.
    Istiod,
    /// The node's part.
    Cni,
    /// A gateway.
    Gateway,
}

impl Component {
    /// All, in the order in which they are installed.
    pub const ALL: [Self; 4] = [Self::Base, Self::Istiod, Self::Cni, Self::Gateway];

    /// What it and its chart are called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Istiod => "istiod",
            Self::Cni => "cni",
            Self::Gateway => "gateway",
        }
    }

    /// What its release is called as Istio's documentation has it, where nobody says.
    pub fn release(self, revision: &str) -> String {
        match (self, revision) {
            (Self::Base, _) => "istio-base".into(),
            (Self::Istiod, "") => "istiod".into(),
            (Self::Istiod, revision) => format!("istiod-{revision}"),
            (Self::Cni, _) => "istio-cni".into(),
            (Self::Gateway, _) => "istio-ingressgateway".into(),
        }
    }

    pub(super) fn files(self) -> Files {
        match self {
            Self::Base => BASE,
            Self::Istiod => ISTIOD,
            Self::Cni => CNI,
            Self::Gateway => GATEWAY,
        }
    }

    fn file(self, name: &str) -> &'static str {
        self.files().iter().find(|(path, _)| *path == name).map_or("", |(_, text)| text)
    }

    /// The values where nobody says anything.
    pub(super) fn values(self) -> Json {
        yaml::value(self.file("values.yaml")).expect("the chart's values are YAML, as a test holds")
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Component {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|c| c.name() == text).ok_or_else(|| format!("there are {known}"))
    }
}

/// What a chart is told of its installation.
#[derive(Clone, Debug)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Who installs it.
    pub service: &'static str,
}

/// What a chart comes to with these values over its own: its objects, in the order in which they can be applied.
///
/// # Errors
///
/// When the values make no objects, in the words of the chart.
pub fn render(component: Component, release: &Release, values: &Json) -> Result<Vec<Json>, String> {
    let mut library = Library::default();
    for (path, text) in component.files().iter().filter(|(path, _)| path.starts_with("templates/")) {
        library.add(path, text).map_err(|why| format!("the chart {component}, {path}: {why}"))?;
    }
    let mut all = component.values();
    super::values::overlay(&mut all, values);
    let mut objects = Vec::new();
    for (path, _) in component.files().iter().filter(|(path, _)| path.starts_with("templates/")) {
        if path.ends_with(".tpl") {
            continue;
        }
        // Templates may change what they are given, for themselves alone.
        let text = library.run(path, &data(component, release, &all));
        let text = text.map_err(|why| format!("the chart {component}, {path}: {why}"))?;
        for (number, document) in files::documents(&text) {
            let wrong = |why| format!("the chart {component}, {path}, with these values: document {number} {why}");
            objects.push(document.map_err(wrong)?);
        }
    }
    objects.sort_by_key(|object| super::cluster::place(object).unwrap_or(usize::MAX));
    Ok(objects)
}

/// What templates see.
fn data(component: Component, release: &Release, values: &Json) -> Value {
    let chart = yaml::value(component.file("Chart.yaml")).expect("the chart's own file is YAML, as a test holds");
    let release = json!({ "name": release.name, "namespace": release.namespace, "service": release.service });
    let get = Native(Rc::new(move |arguments: &[Value]| match arguments {
        [Value::Text(path)] => Ok(component.file(path).into()),
        _ => Err("Files.Get takes the path of a file".into()),
    }));
    let files = BTreeMap::from([("Get".to_owned(), Value::Native(get))]);
    Value::map(
        Kind::Map,
        [
            ("Values".to_owned(), Value::of(values, Kind::Map)),
            ("Release".to_owned(), Value::of(&release, Kind::Struct)),
            ("Chart".to_owned(), Value::of(&chart, Kind::Struct)),
            ("Files".to_owned(), Value::map(Kind::Map, files)),
        ],
    )
}
