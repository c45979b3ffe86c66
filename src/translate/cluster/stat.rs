//! The names of clusters in statistics, where the mesh has a pattern for them.

use crate::model::{Registry, Service};

/// What a pattern may name.
pub(in crate::translate) struct Subject<'a> {
    /// The service's host.
    pub(in crate::translate) host: &'a str,
    /// The name and the namespace of a service of Kubernetes.
    pub(in crate::translate) kubernetes: Option<(&'a str, &'a str)>,
    /// The number and the name of the port.
    pub(in crate::translate) port: (u16, &'a str),
    /// The subset.
    pub(in crate::translate) subset: &'a str,
    /// The port of the workload; 0 where there are many.
    pub(in crate::translate) target: Option<u16>,
}

impl<'a> Subject<'a> {
    /// A port of a service, or of a subset of it, as clients see it.
    pub(in crate::translate) fn outbound(service: &'a Service, subset: &'a str, port: (u16, &'a str)) -> Self {
        Self { host: &service.host, kubernetes: in_kubernetes(service), port, subset, target: Some(0) }
    }
}

/// The name and the namespace of a service, where it is one of Kubernetes.
pub(in crate::translate) fn in_kubernetes(service: &Service) -> Option<(&str, &str)> {
    (service.registry == Registry::Kubernetes).then_some((&*service.name, &*service.namespace))
}

/// The name in statistics: the cluster's own where there is no pattern. The `;` ends it where statistics are taken apart
/// by regular expressions.
pub(in crate::translate) fn name(pattern: &str, cluster: &str, of: &Subject<'_>) -> String {
    match pattern.is_empty() {
        true => format!("{cluster};"),
        false => format!("{};", expanded(pattern, of)),
    }
}

/// What a pattern makes of a subject. The port of the workload is left as it is written where there is none.
pub(in crate::translate) fn expanded(pattern: &str, of: &Subject<'_>) -> String {
    let (short, name) = match of.kubernetes {
        Some((name, namespace)) => (format!("{name}.{namespace}"), name),
        None => (of.host.to_owned(), of.host),
    };
    let number = of.port.0.to_string();
    let values = [
        ("%SERVICE_FQDN%", of.host),
        ("%SERVICE_PORT_NAME%", of.port.1),
        ("%SERVICE_PORT%", &number),
        ("%SERVICE_NAME%", name),
        ("%SERVICE%", &short),
        ("%SUBSET_NAME%", of.subset),
    ];
    let text = values.iter().fold(pattern.to_owned(), |text, (key, value)| text.replace(key, value));
    match of.target {
        Some(target) => text.replace("%TARGET_PORT%", &target.to_string()),
        None => text,
    }
}
