//! Changes of headers.

use crate::{
    model::HeaderOperations,
    pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption, header_value_option::HeaderAppendAction},
};

/// The headers that are set, then those that are added.
pub(super) fn added(operations: &HeaderOperations) -> impl Iterator<Item = HeaderValueOption> {
    let set = operations.set.iter().map(|pair| (pair, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = operations.add.iter().map(|pair| (pair, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add).map(|((key, value), action)| HeaderValueOption {
        header: Some(HeaderValue { key: key.to_string(), value: value.to_string(), ..Default::default() }),
        append_action: action.into(),
        ..Default::default()
    })
}

/// The headers that are taken away.
pub(super) fn removed(operations: &HeaderOperations) -> impl Iterator<Item = String> {
    operations.remove.iter().map(ToString::to_string)
}

/// Tells clients that the same is served over QUIC on this port.
pub(super) fn alternative(port: u16) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: "alt-svc".into(),
            value: format!("h3=\":{port}\"; ma=86400"),
            ..Default::default()
        }),
        append_action: HeaderAppendAction::AppendIfExistsOrAdd.into(),
        ..Default::default()
    }
}
