//! Access logs: where requests and connections are written down.

use crate::pb::{
    self,
    envoy::{
        config::{
            accesslog::v3::{
                AccessLog as AccessLogPb, AccessLogFilter, ResponseFlagFilter, access_log::ConfigType,
                access_log_filter::FilterSpecifier,
            },
            core::v3::{
                DataSource, SubstitutionFormatString, data_source::Specifier, substitution_format_string::Format,
            },
        },
        extensions::access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat},
    },
};
use std::sync::Arc;

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

/// A file that is written to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct AccessLog(pub(super) Arc<str>);

impl AccessLog {
    /// The log in this file; none where the name is empty.
    pub(super) fn to(file: &Arc<str>) -> Option<Self> {
        (!file.is_empty()).then(|| Self(file.clone()))
    }

    /// The log as Envoy takes it.
    pub(super) fn render(&self) -> AccessLogPb {
        let text = DataSource { specifier: Some(Specifier::InlineString(TEXT.into())), ..Default::default() };
        let format = SubstitutionFormatString { format: Some(Format::TextFormatSource(text)), ..Default::default() };
        let file =
            FileAccessLog { path: self.0.to_string(), access_log_format: Some(AccessLogFormat::LogFormat(format)) };
        AccessLogPb {
            name: "envoy.access_loggers.file".into(),
            filter: None,
            config_type: Some(ConfigType::TypedConfig(pb::any(&file))),
        }
    }

    /// The log of a listener: only connections that no filter chain takes.
    pub(super) fn of_listener(&self) -> AccessLogPb {
        let flag = FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter { flags: vec!["NR".into()] });
        AccessLogPb { filter: Some(AccessLogFilter { filter_specifier: Some(flag) }), ..self.render() }
    }
}
