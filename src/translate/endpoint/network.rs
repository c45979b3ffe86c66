//! Endpoints of other networks: a client reaches them through the gateways of their network, which need mutual TLS to
//! tell where a connection goes (Istio: `pilot/pkg/xds/endpoints/ep_filters.go`).

use crate::{
    model::{Endpoint, EndpointAddress, Health, Labels, Locality},
    snapshot::View,
};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// The networks as a client sees them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Horizon {
    /// The client's own.
    own: Arc<str>,
    /// The gateways of the others.
    gateways: BTreeMap<Arc<str>, Vec<(IpAddr, u16)>>,
    /// What weights are multiplied with, so that they can be divided by the number of any network's gateways.
    scale: u32,
}

impl Horizon {
    /// What a view's nodes see; `None` where no network has a gateway.
    pub(super) fn of(view: &View<'_>) -> Option<Self> {
        let own = view.key.place.as_ref().map(|p| p.network.clone()).unwrap_or_default();
        let networks = view.snapshot.mesh.networks.iter().filter(|n| !n.gateways.is_empty());
        let scale = networks.clone().fold(1, |all, n| least_multiple(all, n.gateways.len() as u64));
        let gateways: BTreeMap<_, _> = networks.map(|n| (n.name.clone(), n.gateways.clone())).collect();
        let scale = u32::try_from(scale).unwrap_or(1);
        (!gateways.is_empty()).then_some(Self { own, gateways, scale })
    }

    /// The endpoints with those of other networks replaced by the gateways there, which get their weights.
    pub(super) fn endpoints<'a>(
        &self,
        endpoints: impl Iterator<Item = &'a Endpoint>,
        takes_mtls: bool,
    ) -> Vec<Endpoint> {
        let mut out = Vec::new();
        let mut through = BTreeMap::new();
        for endpoint in endpoints {
            let weight = endpoint.weight.saturating_mul(self.scale);
            let elsewhere = !endpoint.network.is_empty() && endpoint.network != self.own;
            match self.gateways.get(&endpoint.network).filter(|_| elsewhere) {
                None => out.push(Endpoint { weight, ..endpoint.clone() }),
                Some(gateways) if endpoint.tls && takes_mtls && endpoint.health.serves() => {
                    let share = weight / u32::try_from(gateways.len()).unwrap_or(u32::MAX);
                    for gateway in gateways {
                        let key = (endpoint.locality.clone(), endpoint.network.clone(), *gateway);
                        let sum: &mut u32 = through.entry(key).or_default();
                        *sum = sum.saturating_add(share);
                    }
                }
                Some(_) => {}
            }
        }
        out.extend(
            through
                .into_iter()
                .map(|((locality, network, gateway), weight)| entrance(gateway, locality, network, weight.max(1))),
        );
        out
    }
}

/// A gateway as an endpoint.
fn entrance((ip, port): (IpAddr, u16), locality: Locality, network: Arc<str>, weight: u32) -> Endpoint {
    Endpoint {
        address: EndpointAddress::Ip(ip),
        more_addresses: Vec::new(),
        port_name: "".into(),
        port,
        labels: Labels::new(),
        account: None,
        network,
        locality,
        weight,
        tls: true,
        health: Health::Unknown,
        workload: "".into(),
        namespace: "".into(),
        node: "".into(),
        cluster: "".into(),
        hostname: "".into(),
        subdomain: "".into(),
    }
}

fn least_multiple(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x.max(1) * b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_multiple_is_the_least() {
        assert_eq!((least_multiple(1, 2), least_multiple(4, 6), least_multiple(3, 3)), (2, 12, 3));
    }
}
