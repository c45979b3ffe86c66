//! ServiceEntries and WorkloadEntries: services and workloads that Kubernetes knows nothing of.

use super::{EndpointAddress, Labels, Locality, Service};
use crate::id::{Namespace, ObjectRef};
use std::{net::IpAddr, sync::Arc};

/// A ServiceEntry: a service for each of its hosts, and the endpoints that are written in it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ServiceEntry {
    /// The services, in the order of the hosts.
    pub services: Vec<Service>,
    /// The endpoints written in it.
    pub endpoints: Vec<WorkloadEntry>,
    /// Whether workloads are its endpoints (`workloadSelector`), also where the selector names no label.
    pub selects: bool,
    /// The object.
    pub source: ObjectRef,
}

/// A workload that is no pod: a WorkloadEntry, or an endpoint of a ServiceEntry.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WorkloadEntry {
    /// Its namespace.
    pub namespace: Namespace,
    /// What the workload is called.
    pub name: Arc<str>,
    /// Where it is; `None` where only the gateway of its network is known.
    pub address: Option<EndpointAddress>,
    /// Its ports by the name of the service's port, which count before what the service says.
    pub ports: Vec<(Arc<str>, u16)>,
    /// Its labels.
    pub labels: Labels,
    /// Its service account; empty where it has none.
    pub account: Arc<str>,
    /// The network that it is in; empty where there is only one.
    pub network: Arc<str>,
    /// Where it stands.
    pub locality: Locality,
    /// Its share of the load; at least 1.
    pub weight: u32,
    /// Whether it serves, as far as somebody looks.
    pub healthy: bool,
    /// The object.
    pub source: ObjectRef,
}

impl WorkloadEntry {
    /// Its IP address, where it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self.address {
            Some(EndpointAddress::Ip(ip)) => Some(ip),
            _ => None,
        }
    }

    /// The port that is named after a service's port.
    pub fn port(&self, name: &str) -> Option<u16> {
        self.ports.iter().find(|(n, _)| &**n == name).map(|(_, port)| *port)
    }
}
