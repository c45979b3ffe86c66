//! Access logs: where requests and connections are written down.

use crate::{
    model::{AccessLogging, LogFields, LogFormat, LogValue, Mesh},
    pb::{
        self,
        envoy::{
            config::{
                accesslog::v3::{
                    AccessLog as AccessLogPb, AccessLogFilter, ResponseFlagFilter, access_log::ConfigType,
                    access_log_filter::FilterSpecifier,
                },
                core::v3::{
                    DataSource, JsonFormatOptions, SubstitutionFormatString, data_source::Specifier,
                    substitution_format_string::Format,
                },
            },
            extensions::access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat},
        },
        google::protobuf::{Struct, Value, value},
    },
};

/// Istio's text, so that what reads its logs reads ours (`pilot/pkg/model/telemetry_logging.go`).
const TEXT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
);

/// Istio's fields (the same place).
const FIELDS: [(&str, &str); 24] = [
    ("authority", "%REQ(:AUTHORITY)%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("duration", "%DURATION%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("route_name", "%ROUTE_NAME%"),
    ("start_time", "%START_TIME%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
];

/// A file that is written to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct AccessLog(AccessLogging);

impl AccessLog {
    /// The mesh's log; none where it names no file.
    pub(super) fn of(mesh: &Mesh) -> Option<Self> {
        (!mesh.access_log.file.is_empty()).then(|| Self(mesh.access_log.clone()))
    }

    /// The log as Envoy takes it.
    pub(super) fn render(&self) -> AccessLogPb {
        let file = FileAccessLog {
            path: self.0.file.to_string(),
            access_log_format: Some(AccessLogFormat::LogFormat(self.format())),
        };
        AccessLogPb {
            name: "envoy.access_loggers.file".into(),
            filter: None,
            config_type: Some(ConfigType::TypedConfig(pb::any(&file))),
        }
    }

    fn format(&self) -> SubstitutionFormatString {
        let usual = || pb::fields(FIELDS.map(|(name, command)| (name, pb::string(command))));
        let format = match &self.0.format {
            LogFormat::Usual => text(TEXT.to_owned()),
            LogFormat::Text(own) => text(format!("{own}{}", if own.ends_with('\n') { "" } else { "\n" })),
            LogFormat::UsualJson => Format::JsonFormat(usual()),
            LogFormat::Json(fields) => Format::JsonFormat(object(fields)),
        };
        let options = matches!(format, Format::JsonFormat(_)).then(JsonFormatOptions::default);
        SubstitutionFormatString { format: Some(format), json_format_options: options, ..Default::default() }
    }

    /// The log of a listener: only connections that no filter chain takes.
    pub(super) fn of_listener(&self) -> Option<AccessLogPb> {
        let flag = FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter { flags: vec!["NR".into()] });
        let filter = Some(AccessLogFilter { filter_specifier: Some(flag) });
        (!self.0.not_of_listeners).then(|| AccessLogPb { filter, ..self.render() })
    }
}

fn text(text: String) -> Format {
    Format::TextFormatSource(DataSource { specifier: Some(Specifier::InlineString(text)), ..Default::default() })
}

fn object(fields: &LogFields) -> Struct {
    pb::fields(fields.iter().map(|(name, value)| (&**name, json(value))))
}

fn json(from: &LogValue) -> Value {
    match from {
        LogValue::Text(text) => pb::string(&**text),
        LogValue::Truth(truth) => Value { kind: Some(value::Kind::BoolValue(*truth)) },
        LogValue::List(values) => pb::list(values.iter().map(json)),
        LogValue::Object(fields) => Value { kind: Some(value::Kind::StructValue(object(fields))) },
    }
}
