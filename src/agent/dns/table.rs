//! The names that the mesh has, and all the ways in which a workload may write them.

use crate::pb::istio::networking::nds::v1::NameTable;
use std::{collections::HashMap, net::IpAddr};

/// Where the workload is: what its short names stand for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in crate::agent) struct Place {
    /// Its namespace.
    namespace: String,
    /// The domain of the cluster's services: `svc.cluster.local`.
    domain: String,
    /// What resolvers try first to append.
    search: Option<String>,
}

impl Place {
    /// In a namespace, with the domain of the proxy, and the resolver's search domains.
    pub(in crate::agent) fn new(namespace: &str, domain: &str, search: &[String]) -> Self {
        let own = domain.strip_prefix(namespace).and_then(|rest| rest.strip_prefix('.'));
        Self {
            namespace: namespace.to_owned(),
            domain: own.unwrap_or(domain).to_lowercase(),
            search: search.first().map(|s| s.trim_end_matches('.').to_lowercase()).filter(|s| !s.is_empty()),
        }
    }
}

/// What a name means.
#[derive(Debug)]
struct Entry {
    ips: Vec<IpAddr>,
    kubernetes: bool,
}

/// What was found for a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found<'a> {
    /// The name that it is another one for, where it is.
    pub(super) alias_of: Option<String>,
    /// Its addresses of both families.
    pub(super) ips: &'a [IpAddr],
}

/// The names that the mesh has.
#[derive(Debug, Default)]
pub(in crate::agent) struct Table {
    entries: HashMap<Box<str>, Entry>,
    place: Place,
}

impl Table {
    /// The names of a table of the control plane, for a workload at this place.
    pub(in crate::agent) fn new(from: NameTable, place: &Place) -> Self {
        let entry = |(name, info): (String, crate::pb::istio::networking::nds::v1::name_table::NameInfo)| {
            let ips: Vec<IpAddr> = info.ips.iter().filter_map(|ip| ip.parse().ok()).collect();
            let name = name.trim_end_matches('.').to_lowercase().into_boxed_str();
            (!ips.is_empty()).then(|| (name, Entry { ips, kubernetes: info.registry == "Kubernetes" }))
        };
        Self { entries: from.table.into_iter().filter_map(entry).collect(), place: place.clone() }
    }

    /// How many names there are.
    pub(in crate::agent) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What a name means, if the mesh knows it. It is in lower case, without a dot at its end.
    pub(super) fn find(&self, name: &str) -> Option<Found<'_>> {
        if let Some(entry) = self.entry(name) {
            return Some(Found { alias_of: None, ips: &entry.ips });
        }
        // Resolvers append the search domain also to names that are whole already.
        let bare = name.strip_suffix(self.place.search.as_deref()?)?.strip_suffix('.')?;
        let entry = self.entry(bare)?;
        Some(Found { alias_of: Some(bare.to_owned()), ips: &entry.ips })
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name).or_else(|| self.short(name)).or_else(|| self.wildcard(name))
    }

    /// The Kubernetes service that a name without its whole domain stands for.
    fn short(&self, name: &str) -> Option<&Entry> {
        let Place { namespace, domain, .. } = &self.place;
        let kubernetes = |whole: String| self.entries.get(&*whole).filter(|entry| entry.kubernetes);
        let (first, rest) = domain.split_once('.').unwrap_or((domain, ""));
        kubernetes(format!("{name}.{namespace}.{domain}")).or_else(|| kubernetes(format!("{name}.{domain}"))).or_else(
            || {
                name.strip_suffix(first).is_some_and(|service| service.ends_with('.')).then_some(())?;
                kubernetes(format!("{name}.{rest}"))
            },
        )
    }

    /// The nearest name with a wildcard that a name is one of.
    fn wildcard(&self, name: &str) -> Option<&Entry> {
        let mut rest = name;
        while let Some((_, above)) = rest.split_once('.') {
            if let Some(entry) = self.entries.get(&*format!("*.{above}")) {
                return Some(entry);
            }
            rest = above;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::istio::networking::nds::v1::name_table::NameInfo;

    fn table() -> Table {
        let info = |ips: &[&str], registry: &str| NameInfo {
            ips: ips.iter().map(|ip| (*ip).to_owned()).collect(),
            registry: registry.into(),
            ..Default::default()
        };
        let names = [
            ("a.shop.svc.cluster.local", info(&["10.0.0.1"], "Kubernetes")),
            ("b.other.svc.cluster.local", info(&["10.0.0.2", "fd00::2"], "Kubernetes")),
            ("pod.set.shop.svc.cluster.local", info(&["10.0.0.3"], "Kubernetes")),
            ("Example.com", info(&["10.0.0.4"], "External")),
            ("x.svc.cluster.local", info(&["10.0.0.9"], "External")),
            ("*.wild.com", info(&["10.0.0.5"], "External")),
            ("*.very.wild.com", info(&["10.0.0.6"], "External")),
            ("broken.com", info(&["nowhere"], "External")),
        ];
        let table = NameTable { table: names.map(|(name, info)| (name.to_owned(), info)).into() };
        let search = ["shop.svc.cluster.local".to_owned(), "svc.cluster.local".to_owned()];
        Table::new(table, &Place::new("shop", "shop.svc.cluster.local", &search))
    }

    #[test]
    fn names_are_found_in_every_way_of_writing_them() {
        let table = table();
        let first = |name: &str| table.find(name).map(|found| found.ips[0].to_string());
        for name in ["a", "a.shop", "a.shop.svc", "a.shop.svc.cluster.local"] {
            assert_eq!(first(name).as_deref(), Some("10.0.0.1"), "{name}");
        }
        for (name, ip) in [
            ("b.other", Some("10.0.0.2")),
            ("b.other.svc", Some("10.0.0.2")),
            ("b", None),
            ("pod.set", Some("10.0.0.3")),
            ("pod.set.shop", Some("10.0.0.3")),
            ("example.com", Some("10.0.0.4")),
            ("x", None),
            ("www.wild.com", Some("10.0.0.5")),
            ("a.b.wild.com", Some("10.0.0.5")),
            ("www.very.wild.com", Some("10.0.0.6")),
            ("wild.com", None),
            ("broken.com", None),
            ("com", None),
            ("", None),
        ] {
            assert_eq!(first(name).as_deref(), ip, "{name}");
        }
    }

    #[test]
    fn a_whole_name_with_a_search_domain_is_another_name_for_it() {
        let table = table();
        let alias = |name: &str| table.find(name).and_then(|found| found.alias_of);
        assert_eq!(alias("example.com.shop.svc.cluster.local").as_deref(), Some("example.com"));
        assert_eq!(alias("b.other.shop.svc.cluster.local").as_deref(), Some("b.other"));
        assert_eq!(alias("a.shop.svc.cluster.local"), None);
        assert_eq!(table.find("nobody.com.shop.svc.cluster.local"), None);
        assert_eq!(table.find("example.com.svc.cluster.local"), None, "the first search domain alone");
    }
}
