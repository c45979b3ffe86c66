//! Formats of logs: texts with Envoy's commands (`%COMMAND(ARGUMENTS):LENGTH%`), and JSON whose values are such texts.
//! A proxy refuses all that it is sent beside a command that it does not know, so that they are checked here.

use crate::model::{LogFields, LogFormat, LogValue};
use serde_json::Value;

/// The commands that Envoy knows by itself.
const COMMANDS: &str = "
    ACCESS_LOG_TYPE BYTES_RECEIVED BYTES_RETRANSMITTED BYTES_SENT CLUSTER_METADATA
    CONNECTION_ID CONNECTION_TERMINATION_DETAILS CUSTOM_FLAGS DOWNSTREAM_DETECTED_CLOSE_TYPE
    DOWNSTREAM_DIRECT_LOCAL_ADDRESS DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT DOWNSTREAM_DIRECT_LOCAL_PORT
    DOWNSTREAM_DIRECT_REMOTE_ADDRESS DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT DOWNSTREAM_DIRECT_REMOTE_PORT
    DOWNSTREAM_HANDSHAKE_DURATION DOWNSTREAM_HEADER_BYTES_RECEIVED DOWNSTREAM_HEADER_BYTES_SENT
    DOWNSTREAM_LOCAL_ADDRESS DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT DOWNSTREAM_LOCAL_DNS_SAN
    DOWNSTREAM_LOCAL_EMAIL_SAN DOWNSTREAM_LOCAL_IP_SAN DOWNSTREAM_LOCAL_OTHERNAME_SAN DOWNSTREAM_LOCAL_PORT
    DOWNSTREAM_LOCAL_SUBJECT DOWNSTREAM_LOCAL_URI_SAN DOWNSTREAM_PEER_CERT DOWNSTREAM_PEER_CERT_V_END
    DOWNSTREAM_PEER_CERT_V_START DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1 DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256
    DOWNSTREAM_PEER_CHAIN_SERIALS DOWNSTREAM_PEER_DNS_SAN DOWNSTREAM_PEER_EMAIL_SAN DOWNSTREAM_PEER_FINGERPRINT_1
    DOWNSTREAM_PEER_FINGERPRINT_256 DOWNSTREAM_PEER_IP_SAN DOWNSTREAM_PEER_ISSUER DOWNSTREAM_PEER_OTHERNAME_SAN
    DOWNSTREAM_PEER_SERIAL DOWNSTREAM_PEER_SUBJECT DOWNSTREAM_PEER_URI_SAN DOWNSTREAM_REMOTE_ADDRESS
    DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT DOWNSTREAM_REMOTE_PORT DOWNSTREAM_TLS_CIPHER DOWNSTREAM_TLS_SESSION_ID
    DOWNSTREAM_TLS_VERSION DOWNSTREAM_TRANSPORT_FAILURE_REASON DOWNSTREAM_WIRE_BYTES_RECEIVED
    DOWNSTREAM_WIRE_BYTES_SENT DURATION DYNAMIC_METADATA EMIT_TIME ENVIRONMENT FILTER_CHAIN_NAME FILTER_STATE
    GRPC_STATUS GRPC_STATUS_NUMBER HOSTNAME LOCAL_REPLY_BODY METADATA PACKETS_RETRANSMITTED PATH PROTOCOL
    QUERY_PARAM QUERY_PARAMS REQ REQUESTED_SERVER_NAME REQUEST_DURATION REQUEST_HEADERS_BYTES REQUEST_TX_DURATION
    RESP RESPONSE_CODE RESPONSE_CODE_DETAILS RESPONSE_DURATION RESPONSE_FLAGS
    RESPONSE_FLAGS_LONG RESPONSE_HEADERS_BYTES RESPONSE_TRAILERS_BYTES RESPONSE_TX_DURATION
    ROUNDTRIP_DURATION ROUTE_NAME SPAN_ID START_TIME START_TIME_LOCAL STREAM_ID TLS_JA3_FINGERPRINT TLS_JA4_FINGERPRINT
    TRACE_ID TRAILER UNIQUE_ID UPSTREAM_CLUSTER UPSTREAM_CLUSTER_RAW UPSTREAM_CONNECTION_ID
    UPSTREAM_CONNECTION_POOL_READY_DURATION UPSTREAM_DETECTED_CLOSE_TYPE UPSTREAM_FILTER_STATE
    UPSTREAM_HEADER_BYTES_RECEIVED UPSTREAM_HEADER_BYTES_SENT UPSTREAM_HOST UPSTREAM_HOSTS_ATTEMPTED
    UPSTREAM_HOST_NAME UPSTREAM_HOST_NAME_WITHOUT_PORT UPSTREAM_LOCAL_ADDRESS
    UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT UPSTREAM_LOCAL_DNS_SAN UPSTREAM_LOCAL_IP_SAN UPSTREAM_LOCAL_PORT
    UPSTREAM_LOCAL_URI_SAN UPSTREAM_METADATA UPSTREAM_PEER_CERT UPSTREAM_PEER_CERT_V_END
    UPSTREAM_PEER_CERT_V_START UPSTREAM_PEER_DNS_SAN UPSTREAM_PEER_IP_SAN UPSTREAM_PEER_ISSUER
    UPSTREAM_PEER_SUBJECT UPSTREAM_PEER_URI_SAN UPSTREAM_PROTOCOL UPSTREAM_REMOTE_ADDRESS
    UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT UPSTREAM_REMOTE_PORT UPSTREAM_REQUEST_ATTEMPT_COUNT UPSTREAM_TLS_CIPHER
    UPSTREAM_TLS_SESSION_ID UPSTREAM_TLS_VERSION UPSTREAM_TRANSPORT_FAILURE_REASON
    UPSTREAM_WIRE_BYTES_RECEIVED UPSTREAM_WIRE_BYTES_SENT VIRTUAL_CLUSTER_NAME
";
/// Those of them that are nothing without arguments.
const WITH_ARGUMENTS: &str = "
    CLUSTER_METADATA DYNAMIC_METADATA ENVIRONMENT FILTER_STATE METADATA QUERY_PARAM REQ
    RESP TRAILER UPSTREAM_FILTER_STATE UPSTREAM_METADATA
";
/// Those that may have arguments: how a time is written, and the like.
const WITH_FORMAT: &str = "
    DOWNSTREAM_PEER_CERT_V_END DOWNSTREAM_PEER_CERT_V_START EMIT_TIME START_TIME START_TIME_LOCAL
    UPSTREAM_PEER_CERT_V_END UPSTREAM_PEER_CERT_V_START
";
/// Those without arguments that may be cut to a length.
const WITH_LENGTH: &str = "PATH QUERY_PARAMS";
/// What `METADATA` may be asked for.
const METADATA_OF: &[&str] =
    &["CLUSTER", "DYNAMIC", "LISTENER", "LISTENER_FILTER_CHAIN", "ROUTE", "UPSTREAM_HOST", "VIRTUAL_HOST"];

/// Reads a text.
pub(super) fn text(text: &str) -> Result<LogFormat, String> {
    check(text).map(|()| LogFormat::Text(text.into()))
}

/// Reads a JSON object in a text.
pub(super) fn json(text: &str) -> Result<LogFormat, String> {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(fields)) => object(&fields).map(LogFormat::Json),
        Ok(_) => Err("is not a JSON object; write fields as {\"status\": \"%RESPONSE_CODE%\"}".to_owned()),
        Err(e) => Err(format!("is not JSON: {e}")),
    }
}

fn object(fields: &serde_json::Map<String, Value>) -> Result<LogFields, String> {
    fields.iter().map(|(name, value)| Ok((name.as_str().into(), of_json(value)?))).collect()
}

fn of_json(from: &Value) -> Result<LogValue, String> {
    match from {
        Value::String(text) => check(text).map(|()| LogValue::Text(text.as_str().into())),
        Value::Number(number) => Ok(LogValue::Text(number.to_string().into())),
        Value::Bool(truth) => Ok(LogValue::Truth(*truth)),
        Value::Array(values) => values.iter().map(of_json).collect::<Result<_, _>>().map(LogValue::List),
        Value::Object(fields) => object(fields).map(LogValue::Object),
        Value::Null => Err("has a field that is null; write a text there, or leave it out".to_owned()),
    }
}

/// Whether Envoy knows what a text asks for.
fn check(text: &str) -> Result<(), String> {
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        rest = &rest[start + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            rest = after;
            continue;
        }
        let name =
            rest.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_').unwrap_or(rest.len());
        let (command, after) = rest.split_at(name);
        if !COMMANDS.split_whitespace().any(|known| known == command) {
            let known = "write one of Envoy's, such as %RESPONSE_CODE%, or %% for the character itself";
            return Err(format!("`%{command}` is not a command that Envoy knows; {known}"));
        }
        let is = |list: &str| list.split_whitespace().any(|known| known == command);
        let after = match after.strip_prefix('(') {
            Some(_) if !is(WITH_ARGUMENTS) && !is(WITH_FORMAT) => {
                return Err(format!("`%{command}` has no arguments; write %{command}%"));
            }
            Some(arguments) => match arguments.split_once(')') {
                Some((of, _))
                    if command == "METADATA" && !METADATA_OF.contains(&of.split(':').next().unwrap_or(of)) =>
                {
                    return Err(format!("`%METADATA({of})` is of nothing; write one of {}", METADATA_OF.join(", ")));
                }
                Some((_, after)) => after,
                None => return Err(format!("the arguments of `%{command}` do not end; write `)` and `%`")),
            },
            None if is(WITH_ARGUMENTS) => {
                return Err(format!("`%{command}` needs arguments; write them as %{command}(NAME)%"));
            }
            None => after,
        };
        let after = match after.strip_prefix(':') {
            Some(_) if !is(WITH_ARGUMENTS) && !is(WITH_LENGTH) => {
                return Err(format!("`%{command}` cannot be cut; write %{command}%"));
            }
            Some(length) => length.trim_start_matches(|c: char| c.is_ascii_digit()),
            None => after,
        };
        rest = after.strip_prefix('%').ok_or_else(|| format!("`%{command}` does not end; write `%` behind it"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_envoy_knows_is_taken_and_all_else_told() {
        for good in ["", "100%%", "%START_TIME(%Y/%m/%dT%H:%M:%S%z)% %REQ(X-A?:PATH):20% %PROTOCOL%\n"] {
            assert_eq!(text(good), Ok(LogFormat::Text(good.into())));
        }
        for (bad, why) in [
            ("%FOO%", "`%FOO` is not a command"),
            ("50%", "`%` is not a command"),
            ("%REQ(:METHOD", "do not end"),
            ("%REQ%", "needs arguments"),
            ("%PROTOCOL", "does not end"),
            ("%PROTOCOL:5%", "cannot be cut"),
            ("%PROTOCOL(A)%", "has no arguments"),
            ("%METADATA(POD:a)%", "is of nothing"),
        ] {
            let said = text(bad).expect_err("broken");
            assert!(said.contains(why), "{bad}: {said}");
        }
    }

    #[test]
    fn json_may_have_fields_in_fields() {
        let nested = [("x".into(), LogValue::Text("%DURATION%".into()))].into();
        let fields = [("d".into(), LogValue::Object(nested)), ("s".into(), LogValue::Text("7".into()))].into();
        assert_eq!(json(r#"{"s": 7, "d": {"x": "%DURATION%"}}"#), Ok(LogFormat::Json(fields)));
        assert!(json("[]").expect_err("a list").contains("not a JSON object"));
        assert!(json(r#"{"a": "%FOO%"}"#).expect_err("unknown").contains("%FOO"));
        assert!(json(r#"{"a": null}"#).expect_err("null").contains("null"));
    }
}
