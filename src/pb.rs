//! Protobuf: the generated messages of Envoy's API, and protobuf ⇄ JSON by descriptor.
//!
//! Map fields are ordered and byte fields are shared (see `proto/build.rs`). Nothing here knows what a
//! message means.

/// Tags of spans: the package's own name is that of a crate which pure rooms may not use.
pub use mainsheet_proto::envoy::r#type::tracing::v3 as span;
pub use mainsheet_proto::{envoy, google, grpc, istio, xds};

use bytes::{BufMut, Bytes, BytesMut};
use google::protobuf::{
    Any, BoolValue, DoubleValue, Duration, ListValue, Struct, UInt32Value, UInt64Value, Value, value,
};
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use std::sync::LazyLock;

/// The descriptors of the types that there is code for, with all that they name. Making a pool of them costs a tenth of
/// making one of all.
static SERVED: LazyLock<DescriptorPool> = LazyLock::new(|| decoded(mainsheet_proto::SERVED));

/// The descriptors of every type of Envoy's API.
static ALL: LazyLock<DescriptorPool> = LazyLock::new(|| decoded(mainsheet_proto::ALL));

fn decoded(descriptors: &[u8]) -> DescriptorPool {
    DescriptorPool::decode(descriptors).expect("the descriptors were decoded when they were built in")
}

/// Does with the descriptors of a type what may need those of others, too: with as few as will do.
fn described<T>(name: &str, work: impl Fn(MessageDescriptor) -> Result<T, String>) -> Result<T, String> {
    if let Some(Ok(done)) = SERVED.get_message_by_name(name).map(&work) {
        return Ok(done);
    }
    work(ALL.get_message_by_name(name).ok_or_else(|| format!("{name} is not a type of Envoy's API"))?)
}

/// Packs a message into an `Any`.
pub fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec().into() }
}

/// A whole number of milliseconds as a protobuf duration.
pub fn millis(millis: u64) -> Duration {
    let seconds = i64::try_from(millis / 1000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(millis % 1000 * 1_000_000).expect("less than a second");
    Duration { seconds, nanos }
}

/// A boolean whose absence means something else than false.
pub fn boolean(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

/// A number whose absence means something else than zero.
pub fn uint32(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

/// A number whose absence means something else than zero.
pub fn uint64(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

/// A number whose absence means something else than zero.
pub fn double(value: f64) -> Option<DoubleValue> {
    Some(DoubleValue { value })
}

/// A text as a protobuf value.
pub fn string(text: impl Into<String>) -> Value {
    Value { kind: Some(value::Kind::StringValue(text.into())) }
}

/// A list as a protobuf value.
pub fn list(values: impl IntoIterator<Item = Value>) -> Value {
    Value { kind: Some(value::Kind::ListValue(ListValue { values: values.into_iter().collect() })) }
}

/// Fields as a protobuf value.
pub fn object<'a>(from: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value { kind: Some(value::Kind::StructValue(fields(from))) }
}

/// Fields as a protobuf struct.
pub fn fields<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Struct {
    Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
}

/// JSON as a protobuf struct.
pub fn struct_from_json(from: &serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct { fields: from.iter().map(|(key, value)| (key.clone(), value_from_json(value))).collect() }
}

fn value_from_json(from: &serde_json::Value) -> Value {
    let kind = match from {
        serde_json::Value::Null => value::Kind::NullValue(0),
        serde_json::Value::Bool(v) => value::Kind::BoolValue(*v),
        serde_json::Value::Number(v) => value::Kind::NumberValue(v.as_f64().unwrap_or_default()),
        serde_json::Value::String(v) => value::Kind::StringValue(v.clone()),
        serde_json::Value::Array(v) => return list(v.iter().map(value_from_json)),
        serde_json::Value::Object(v) => value::Kind::StructValue(struct_from_json(v)),
    };
    Value { kind: Some(kind) }
}

/// A protobuf struct as JSON.
pub fn struct_to_json(from: &Struct) -> serde_json::Value {
    serde_json::Value::Object(from.fields.iter().map(|(key, value)| (key.clone(), value_to_json(value))).collect())
}

fn value_to_json(from: &Value) -> serde_json::Value {
    match &from.kind {
        None | Some(value::Kind::NullValue(_)) => serde_json::Value::Null,
        Some(value::Kind::BoolValue(v)) => (*v).into(),
        Some(value::Kind::NumberValue(v)) if v.fract() == 0.0 && v.abs() < 9.0e15 => (*v as i64).into(),
        Some(value::Kind::NumberValue(v)) => (*v).into(),
        Some(value::Kind::StringValue(v)) => v.clone().into(),
        Some(value::Kind::StructValue(v)) => struct_to_json(v),
        Some(value::Kind::ListValue(v)) => v.values.iter().map(value_to_json).collect(),
    }
}

/// Appends already encoded messages to an encoded message as entries of its repeated field `number`.
/// Protobuf lets a field stand anywhere, so a large message is put together from parts without decoding them.
pub fn splice<'a>(message: &impl Message, number: u32, parts: impl Iterator<Item = &'a Bytes> + Clone) -> Bytes {
    let size: usize = parts.clone().map(|p| p.len() + 10).sum();
    let mut out = BytesMut::with_capacity(message.encoded_len() + size);
    message.encode(&mut out).expect("the buffer grows");
    for part in parts {
        prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut out);
        prost::encoding::encode_varint(part.len() as u64, &mut out);
        out.put_slice(part);
    }
    out.freeze()
}

/// An encoded message as JSON, in protobuf's JSON mapping with `@type` for every `Any`.
///
/// # Errors
///
/// When the type is not one of Envoy's API, or the bytes are not of that type; the text says which.
pub fn to_json(type_url: &str, body: &[u8]) -> Result<serde_json::Value, String> {
    let name = type_url.rsplit('/').next().unwrap_or(type_url);
    let mut json = described(name, |descriptor| {
        let message = DynamicMessage::decode(descriptor, body).map_err(|e| format!("{type_url}: {e}"))?;
        let json = message.serialize_with_options(serde_json::value::Serializer, &SerializeOptions::new());
        json.map_err(|e| format!("{type_url}: {e}"))
    })?;
    whole_numbers(&mut json);
    Ok(json)
}

/// Writes whole numbers without a fraction, as other implementations of the mapping do.
fn whole_numbers(json: &mut serde_json::Value) {
    match json {
        serde_json::Value::Number(n) => {
            if let Some(whole) = n.as_f64().filter(|f| n.is_f64() && f.fract() == 0.0 && f.abs() < 9.0e15) {
                *n = (whole as i64).into();
            }
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(whole_numbers),
        serde_json::Value::Object(map) => map.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

/// JSON in protobuf's mapping as a message of type `M`. Unknown fields are refused.
///
/// # Errors
///
/// When the JSON does not fit the message; the text says where.
pub fn from_json<M: Message + Name + Default>(json: serde_json::Value) -> Result<M, String> {
    described(&M::full_name(), |descriptor| {
        let message = DynamicMessage::deserialize(descriptor, &json).map_err(|e| e.to_string())?;
        message.transcode_to().map_err(|e| e.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy::config::route::v3::{RouteConfiguration, VirtualHost};

    #[test]
    fn a_message_put_together_from_parts_equals_the_whole() {
        let host = |name: &str| VirtualHost { name: name.into(), domains: vec!["*".into()], ..Default::default() };
        let parts: Vec<Bytes> = ["a", "b"].map(|n| Bytes::from(host(n).encode_to_vec())).into();
        let shell = RouteConfiguration { name: "80".into(), ..Default::default() };
        let whole = RouteConfiguration { virtual_hosts: vec![host("a"), host("b")], ..shell.clone() };
        assert_eq!(RouteConfiguration::decode(splice(&shell, 2, parts.iter())), Ok(whole));
    }

    #[test]
    fn json_names_the_type_of_every_any() {
        let listener = envoy::config::listener::v3::Listener {
            name: "l".into(),
            listener_filters: vec![envoy::config::listener::v3::ListenerFilter {
                name: "f".into(),
                config_type: Some(envoy::config::listener::v3::listener_filter::ConfigType::TypedConfig(any(
                    &envoy::extensions::filters::listener::original_dst::v3::OriginalDst {},
                ))),
                ..Default::default()
            }],
            ..Default::default()
        };
        let json =
            to_json(&envoy::config::listener::v3::Listener::type_url(), &listener.encode_to_vec()).expect("valid");
        assert_eq!(
            json["listenerFilters"][0]["typedConfig"]["@type"],
            "type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst"
        );
        assert_eq!(from_json::<envoy::config::listener::v3::Listener>(json), Ok(listener));
    }

    #[test]
    fn a_type_that_is_never_served_is_known_too() {
        let lua = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua";
        let filter = serde_json::json!({"name": "lua", "typedConfig": {"@type": lua, "inlineCode": "-- nothing"}});
        let message: envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter =
            from_json(filter.clone()).expect("valid");
        let url = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter";
        assert_eq!(to_json(url, &message.encode_to_vec()), Ok(filter));
        assert!(to_json("x/no.such.Type", &[]).unwrap_err().contains("no.such.Type is not a type of Envoy's API"));
    }
}
