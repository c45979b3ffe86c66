//! EndpointSlices, and the older Endpoints.

use super::text;
use crate::{
    id::ObjectRef,
    model::{Slice, SliceEndpoint, SliceGroup},
    parse::{
        Context, Parsed,
        raw::{meta, typed},
    },
    problem::{FieldPath, Problem},
};
use k8s_openapi::api::{core::v1, discovery::v1 as discovery};
use serde_json::Value;
use std::{net::IpAddr, sync::Arc};

/// Reads an EndpointSlice. Slices of names and slices that another cluster's Service owns are left alone.
pub(in crate::parse) fn endpoint_slice(raw: &Value, _: &Context) -> Parsed<Slice> {
    let meta = meta(raw);
    let id = meta.object;
    let (typed, mut problems) = typed::<discovery::EndpointSlice>(&id, &FieldPath::default(), raw);
    let Some(slice) = typed else { return (None, problems) };
    let Some(service) = meta.labels.get("kubernetes.io/service-name").cloned() else {
        let path = FieldPath::new("metadata.labels").key("kubernetes.io/service-name");
        problems.push(Problem::warning(
            &id,
            path,
            "is missing, so the slice belongs to no Service; write the Service's name",
        ));
        return (None, problems);
    };
    if slice.address_type == "FQDN" {
        problems.push(Problem::warning(
            &id,
            FieldPath::new("addressType"),
            "FQDN is not supported; use a ServiceEntry for hosts by name",
        ));
        return (None, problems);
    }
    let ports = slice.ports.iter().flatten().enumerate();
    let ports = ports.filter_map(|(i, p)| {
        let path = FieldPath::new("ports").index(i).field("port");
        port(&id, path, p.port?, &mut problems).map(|number| (text(p.name.as_ref()), number))
    });
    let ports: Vec<_> = ports.collect();
    let mut endpoints = Vec::new();
    for (i, endpoint) in slice.endpoints.iter().enumerate() {
        let path = FieldPath::new("endpoints").index(i).field("addresses");
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let pod =
            endpoint.target_ref.as_ref().filter(|t| t.kind.as_deref() == Some("Pod")).and_then(|t| t.name.as_deref());
        let addresses = endpoint.addresses.iter().enumerate();
        endpoints.extend(addresses.filter_map(|(j, a)| address(&id, path.index(j), a, &mut problems)).map(|address| {
            SliceEndpoint {
                address,
                ready: conditions.ready,
                serving: conditions.serving,
                terminating: conditions.terminating,
                pod: pod.map(Arc::from),
                node: text(endpoint.node_name.as_ref()),
                hostname: text(endpoint.hostname.as_ref()),
            }
        }));
    }
    let groups = vec![SliceGroup { ports, endpoints }];
    (Some(Slice { namespace: id.namespace.clone(), service, groups, source: id }), problems)
}

/// Reads an Endpoints: each subset's addresses serve each of its ports.
pub(in crate::parse) fn endpoints(raw: &Value, _: &Context) -> Parsed<Slice> {
    let id = meta(raw).object;
    let (typed, mut problems) = typed::<v1::Endpoints>(&id, &FieldPath::default(), raw);
    let Some(list) = typed else { return (None, problems) };
    let subsets = list.subsets.unwrap_or_default();
    let path = FieldPath::new("subsets");
    let groups = subsets.iter().enumerate().map(|(i, s)| subset(&id, &path.index(i), s, &mut problems)).collect();
    (Some(Slice { namespace: id.namespace.clone(), service: id.name.clone(), groups, source: id }), problems)
}

fn subset(id: &ObjectRef, path: &FieldPath, subset: &v1::EndpointSubset, problems: &mut Vec<Problem>) -> SliceGroup {
    let mut ports = Vec::new();
    for (i, p) in subset.ports.iter().flatten().enumerate() {
        let number = port(id, path.field("ports").index(i).field("port"), p.port, problems);
        ports.extend(number.map(|n| (text(p.name.as_ref()), n)));
    }
    let ready = subset.addresses.iter().flatten().enumerate().map(|(i, a)| ("addresses", true, i, a));
    let waiting =
        subset.not_ready_addresses.iter().flatten().enumerate().map(|(i, a)| ("notReadyAddresses", false, i, a));
    let endpoints = ready.chain(waiting).filter_map(|(field, ready, i, listed)| {
        let address = address(id, path.field(field).index(i).field("ip"), &listed.ip, problems)?;
        let pod =
            listed.target_ref.as_ref().filter(|t| t.kind.as_deref() == Some("Pod")).and_then(|t| t.name.as_deref());
        Some(SliceEndpoint {
            address,
            ready: Some(ready),
            serving: None,
            terminating: Some(false),
            pod: pod.map(Arc::from),
            node: text(listed.node_name.as_ref()),
            hostname: text(listed.hostname.as_ref()),
        })
    });
    SliceGroup { endpoints: endpoints.collect(), ports }
}

fn port(id: &ObjectRef, path: FieldPath, number: i32, problems: &mut Vec<Problem>) -> Option<u16> {
    let port = u16::try_from(number).ok().filter(|n| *n > 0);
    if port.is_none() {
        problems.push(Problem::error(id, path, format!("{number} is not a port; write a number from 1 to 65535")));
    }
    port
}

fn address(id: &ObjectRef, path: FieldPath, address: &str, problems: &mut Vec<Problem>) -> Option<IpAddr> {
    let ip = address.parse().ok();
    if ip.is_none() {
        problems.push(Problem::error(id, path, format!("{address} is not an IP address")));
    }
    ip
}
