//! The hosts that a request may name to mean a service.

use crate::{
    id::Host,
    model::{Registry, Service, Vip},
    snapshot::View,
};
use std::net::IpAddr;

/// The domains of a virtual host.
#[derive(Default)]
pub(super) struct Domains {
    /// All of them, the full name first.
    pub(super) all: Vec<String>,
    /// Those among them that are short for a full name: they give way to a service that really has that name.
    pub(super) short: Vec<String>,
}

/// The domains of a service and of those that stand for it.
pub(super) fn of_service(view: &View<'_>, service: &Service) -> Domains {
    let mut domains = Domains::default();
    let aliases = view.aliases(&service.host);
    for host in std::iter::once(&service.host).chain(aliases.iter().map(|a| &a.host)) {
        let short = short_names(host, &view.key.domain);
        domains.all.push(bracketed(host));
        domains.all.extend(short.iter().cloned());
        domains.short.extend(short);
    }
    if service.is_headless() {
        let below: Vec<String> = domains.all.iter().map(|d| format!("*.{d}")).collect();
        domains.all.extend(below);
    }
    domains.all.extend(addresses(view, service));
    domains
}

/// A host as Envoy writes it among domains: an IPv6 address has brackets.
pub(super) fn bracketed(host: &str) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}

/// Other names for a host that a client of this DNS domain may write (Istio: `GenerateAltVirtualHosts`).
fn short_names(host: &Host, domain: &str) -> Vec<String> {
    let mut names = Vec::new();
    if host.parse::<IpAddr>().is_err() {
        names.push(format!("{host}."));
    }
    match domain.split_once(".svc.") {
        Some((namespace, suffix)) => names.extend(kubernetes_names(host, namespace, suffix)),
        None => names.extend(shared_names(host, domain)),
    }
    names
}

/// The short names of a Kubernetes service, for a client in a namespace of the same cluster domain.
fn kubernetes_names(host: &str, namespace: &str, suffix: &str) -> Vec<String> {
    let Some((name, rest)) = host.split_once(".svc.") else { return Vec::new() };
    let Some((service, of)) = name.split_once('.').filter(|_| rest.ends_with(suffix)) else { return Vec::new() };
    let own = (of == namespace).then(|| service.to_owned());
    own.into_iter().chain([name.to_owned(), format!("{name}.svc")]).collect()
}

/// The short names of a host that shares the end of its name with the client's domain.
fn shared_names(host: &str, domain: &str) -> Vec<String> {
    let (mut own, mut theirs): (Vec<&str>, Vec<&str>) = (host.split('.').collect(), domain.split('.').collect());
    let mut shared = Vec::new();
    while let (Some(a), Some(b)) = (own.last(), theirs.last())
        && a == b
        && own.len() > 1
    {
        shared.insert(0, *a);
        own.pop();
        theirs.pop();
    }
    if shared.is_empty() || domain.is_empty() {
        return Vec::new();
    }
    let name = own.join(".");
    let longer = (own.len() == 2).then(|| format!("{name}.{}", shared[0]));
    std::iter::once(name).chain(longer).collect()
}

/// The addresses that the client may dial. Those of a ServiceEntry count whatever their family.
fn addresses(view: &View<'_>, service: &Service) -> Vec<String> {
    let text = |vip: &Vip| match vip {
        Vip::Ip(ip) => bracketed(&ip.to_string()),
        Vip::Block(block) => bracketed(&block.to_string()),
    };
    let addresses = view.addresses(service);
    let usable = |vip: &&Vip| match vip {
        Vip::Ip(ip) => view.key.families.has(*ip),
        Vip::Block(block) => view.key.families.has(block.addr()),
    };
    let all: Vec<String> = addresses.iter().filter(usable).map(text).collect();
    match all.is_empty() && service.registry == Registry::External {
        true => addresses.iter().map(text).collect(),
        false => all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(host: &str, domain: &str) -> Vec<String> {
        short_names(&host.into(), domain)
    }

    #[test]
    fn a_service_of_the_own_namespace_has_its_bare_name() {
        let own = names("a.shop.svc.cluster.local", "shop.svc.cluster.local");
        assert_eq!(own, ["a.shop.svc.cluster.local.", "a", "a.shop", "a.shop.svc"]);
        let other = names("a.back.svc.cluster.local", "shop.svc.cluster.local");
        assert_eq!(other, ["a.back.svc.cluster.local.", "a.back", "a.back.svc"]);
    }

    #[test]
    fn a_host_outside_has_no_short_name() {
        assert_eq!(names("www.example.com", "shop.svc.cluster.local"), ["www.example.com."]);
        assert_eq!(names("a.shop.svc.other.domain", "shop.svc.cluster.local"), ["a.shop.svc.other.domain."]);
        assert_eq!(names("10.0.0.1", "shop.svc.cluster.local"), [""; 0]);
    }

    #[test]
    fn a_client_of_another_domain_leaves_out_what_is_shared() {
        assert_eq!(names("foo.local.campus.net", "local.campus.net"), ["foo.local.campus.net.", "foo"]);
        assert_eq!(
            names("foo.local.campus.net", "remote.campus.net"),
            ["foo.local.campus.net.", "foo.local", "foo.local.campus"]
        );
        assert_eq!(names("foo.local.campus.net", "example.com"), ["foo.local.campus.net."]);
    }
}
