//! The debug pages over xDS, as `istioctl` asks for them (Istio: `pilot/pkg/xds/{debuggen,statusgen}.go`).

use super::Debug;
use crate::{
    id::ResourceType,
    pb::{
        self,
        envoy::{
            config::core::v3::Node,
            service::status::v3::{ClientConfig, ConfigStatus, client_config::GenericXdsConfig},
        },
        google::protobuf::{Any, Timestamp},
    },
    xds::{Answer, Connection, stream::Standing},
};
use std::time::{SystemTime, UNIX_EPOCH};

const PAGE: &str = "istio.io/debug";
const SYNC: &str = "istio.io/debug/syncz";

impl Debug {
    /// Answers a request of a debug type.
    ///
    /// # Errors
    ///
    /// When the type or the page is not known, or not exactly one page is asked for; the text says so.
    pub fn answer(&self, type_url: &str, names: &[String]) -> Result<Answer, String> {
        let (resources, control_plane) = match type_url {
            PAGE => (vec![self.page_resource(names)?], None),
            SYNC => (self.registry.connections().iter().map(|c| pb::any(&client(c))).collect(), Some(identity())),
            _ => return Err(format!("{type_url} is not served; ask for {PAGE} or {SYNC}")),
        };
        Ok(Answer { type_url: type_url.to_owned(), resources, control_plane })
    }

    fn page_resource(&self, names: &[String]) -> Result<Any, String> {
        let [name] = names else {
            return Err(format!("{PAGE} takes exactly one page, as syncz or config_dump?proxyID=NAME"));
        };
        let body = self.fetch(name)?.text();
        Ok(Any { type_url: PAGE.to_owned(), value: body.into() })
    }
}

/// Who answers.
fn identity() -> String {
    serde_json::json!({"Component": "mainsheet", "Info": {"version": env!("CARGO_PKG_VERSION")}}).to_string()
}

/// What one proxy was sent and has taken.
fn client(connection: &Connection) -> ClientConfig {
    let node = &connection.node;
    let texts =
        [("CLUSTER_ID", &*node.cluster), ("NAMESPACE", node.namespace.as_str()), ("ISTIO_VERSION", &*node.version)];
    ClientConfig {
        node: Some(Node {
            id: node.id.to_string(),
            metadata: Some(pb::fields(texts.map(|(key, text)| (key, pb::string(text))))),
            ..Default::default()
        }),
        generic_xds_configs: connection.standing().iter().map(|s| config(s, connection.sent_at(s.kind))).collect(),
        ..Default::default()
    }
}

fn config(standing: &Standing, at: Option<SystemTime>) -> GenericXdsConfig {
    let status = match (&standing.error, standing.nonce_sent.is_empty(), standing.nonce_sent == standing.nonce_acked) {
        (Some(_), ..) => ConfigStatus::Error,
        (None, true, _) => ConfigStatus::NotSent,
        (None, false, true) => ConfigStatus::Synced,
        (None, false, false) => ConfigStatus::Stale,
    };
    let error = standing
        .error
        .as_ref()
        .map(|e| pb::envoy::admin::v3::UpdateFailureState { details: e.message.to_string(), ..Default::default() });
    GenericXdsConfig {
        type_url: ResourceType::type_url(standing.kind).to_owned(),
        config_status: status.into(),
        last_updated: at.and_then(timestamp),
        error_state: error,
        ..Default::default()
    }
}

fn timestamp(at: SystemTime) -> Option<Timestamp> {
    let since = at.duration_since(UNIX_EPOCH).ok()?;
    let nanos = i32::try_from(since.subsec_nanos()).ok()?;
    Some(Timestamp { seconds: i64::try_from(since.as_secs()).ok()?, nanos })
}
