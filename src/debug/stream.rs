//! Who is connected, and where each stands (Istio: `pilot/pkg/xds/debug.go`, AdsClient and SyncStatus).

use crate::{
    id::ResourceType,
    xds::{
        Connection,
        stream::{Rejection, Standing},
    },
};
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::SystemTime};

/// `/debug/adsz`.
pub(super) fn adsz(connections: &[Arc<Connection>]) -> Value {
    let client = |c: &Connection| {
        let mut client = short(c);
        client["labels"] =
            c.node.labels.iter().map(|(k, v)| ((**k).to_owned(), Value::from(&**v))).collect::<Map<_, _>>().into();
        client["metadata"] = c.metadata.clone();
        client["locality"] = json!({
            "region": &*c.node.locality.region,
            "zone": &*c.node.locality.zone,
            "sub_zone": &*c.node.locality.subzone,
        });
        client["watches"] = watches(&c.standing());
        client
    };
    list(connections, client)
}

/// `/debug/connections`.
pub(super) fn connections(connections: &[Arc<Connection>]) -> Value {
    list(connections, short)
}

fn list(connections: &[Arc<Connection>], client: impl Fn(&Connection) -> Value) -> Value {
    let mut sorted: Vec<&Arc<Connection>> = connections.iter().collect();
    sorted
        .sort_by(|a, b| (&a.node.cluster, &a.node.namespace, &a.id).cmp(&(&b.node.cluster, &b.node.namespace, &b.id)));
    json!({"totalClients": sorted.len(), "clients": sorted.into_iter().map(|c| client(c)).collect::<Value>()})
}

fn short(connection: &Connection) -> Value {
    json!({
        "connectionId": connection.id,
        "connectedAt": time(connection.connected_at),
        "address": connection.peer.map(|p| p.to_string()).unwrap_or_default(),
    })
}

/// The names that are subscribed, by type; a wildcard is `*`.
fn watches(standing: &[Standing]) -> Value {
    let names = |s: &Standing| {
        let wildcard = s.wildcard.then_some("*").into_iter();
        wildcard.chain(s.names.iter().map(|n| &**n)).map(Value::from).collect::<Vec<_>>()
    };
    standing.iter().map(|s| (s.kind.type_url().to_owned(), names(s).into())).collect::<Map<_, _>>().into()
}

/// `/debug/syncz`: what each proxy was sent and has taken, as nonces.
pub(super) fn syncz(connections: &[Arc<Connection>], namespace: Option<&str>) -> Value {
    let wanted = connections.iter().filter(|c| namespace.is_none_or(|n| *c.node.namespace == *n));
    wanted.map(|c| sync_status(c)).collect()
}

fn sync_status(connection: &Connection) -> Value {
    let node = &connection.node;
    let mut status = json!({
        "cluster_id": &*node.cluster,
        "proxy": &*node.name,
        "proxy_type": node.id.split('~').next().unwrap_or_default(),
        "istio_version": &*node.version,
    });
    let mut resources = Map::new();
    for standing in connection.standing() {
        if let Some(field) = field(standing.kind) {
            status[format!("{field}_sent")] = standing.nonce_sent.as_str().into();
            status[format!("{field}_acked")] = standing.nonce_acked.as_str().into();
        }
        let mut resource = json!({"sent": standing.nonce_sent, "acked": standing.nonce_acked});
        if let Some(at) = connection.sent_at(standing.kind) {
            resource["sentTime"] = time(at);
        }
        if let Some(error) = &standing.error {
            resource["lastError"] = (*error.message).into();
        }
        resources.insert(standing.kind.type_url().to_owned(), resource);
    }
    status["resources"] = resources.into();
    status
}

fn field(kind: ResourceType) -> Option<&'static str> {
    match kind {
        ResourceType::Cluster => Some("cluster"),
        ResourceType::Endpoints => Some("endpoint"),
        ResourceType::Listener => Some("listener"),
        ResourceType::Route => Some("route"),
        ResourceType::Extension => Some("extensionconfig"),
        ResourceType::VirtualHost | ResourceType::Secret | ResourceType::Names => None,
    }
}

/// What a proxy has refused and still does without, with the objects at fault.
pub(super) fn rejections(connection: &Arc<Connection>) -> Vec<Value> {
    let refused = connection.standing().into_iter().filter_map(|s| Some((s.kind, s.error?)));
    let value = |(kind, error): (ResourceType, Rejection)| {
        json!({
            "proxy": connection.id,
            "type": kind.short(),
            "message": &*error.message,
            "resources": error.resources.iter().map(|r| &**r).collect::<Vec<_>>(),
            "objects": error.objects.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    };
    refused.map(value).collect()
}

/// A time as RFC 3339.
pub(super) fn time(at: SystemTime) -> Value {
    jiff::Timestamp::try_from(at).map(|t| t.to_string()).unwrap_or_default().into()
}
