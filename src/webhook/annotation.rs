//! What the annotations of a pod may say. One that is wrong refuses the pod, with all that is wrong.

use super::proxy_config;
use serde_json::Value;
use std::net::IpAddr;

/// Checks the value of an annotation; says what to write instead.
type Check = fn(&str) -> Result<(), String>;

const CHECKS: &[(&str, Check)] = &[
    ("sidecar.istio.io/interceptionMode", mode),
    ("status.sidecar.istio.io/port", |v| port(v).map(drop)),
    ("readiness.status.sidecar.istio.io/initialDelaySeconds", whole),
    ("readiness.status.sidecar.istio.io/periodSeconds", whole),
    ("readiness.status.sidecar.istio.io/failureThreshold", whole),
    ("traffic.sidecar.istio.io/includeOutboundIPRanges", |v| if v == "*" { Ok(()) } else { ranges(v) }),
    ("traffic.sidecar.istio.io/excludeOutboundIPRanges", ranges),
    ("traffic.sidecar.istio.io/includeInboundPorts", |v| if v == "*" { Ok(()) } else { ports(v) }),
    ("traffic.sidecar.istio.io/excludeInboundPorts", ports),
    ("traffic.sidecar.istio.io/includeOutboundPorts", |v| if v == "*" { Ok(()) } else { ports(v) }),
    ("traffic.sidecar.istio.io/excludeOutboundPorts", ports),
    ("traffic.sidecar.istio.io/excludeInterfaces", interfaces),
    ("traffic.sidecar.istio.io/kubevirtInterfaces", interfaces),
    ("istio.io/reroute-virtual-interfaces", interfaces),
    ("prometheus.istio.io/merge-metrics", |v| boolean(v).map(drop).ok_or_else(|| "write true or false".into())),
    (proxy_config::ANNOTATION, |v| proxy_config::parse(v).map(drop)),
    ("sidecar.mainsheet.io/agent", |v| {
        matches!(v, "true" | "false").then_some(()).ok_or_else(|| "write true or false".into())
    }),
    ("sidecar.istio.io/proxyCPU", quantity),
    ("sidecar.istio.io/proxyMemory", quantity),
    ("sidecar.istio.io/proxyCPULimit", quantity),
    ("sidecar.istio.io/proxyMemoryLimit", quantity),
    ("sidecar.istio.io/userVolume", volumes),
    ("sidecar.istio.io/userVolumeMount", volumes),
];

/// What is wrong with annotations.
pub fn problems(annotations: &Value) -> Vec<String> {
    let given = CHECKS.iter().filter_map(|(name, check)| Some((name, check, annotations.get(*name)?)));
    let wrong = |(name, check, value): (&&str, &Check, &Value)| {
        let value = value.as_str().unwrap_or_default();
        check(value).err().map(|why| format!("the annotation {name} is {value:?}: {why}"))
    };
    given.filter_map(wrong).collect()
}

/// A truth as Go's programs read it.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn mode(text: &str) -> Result<(), String> {
    match text {
        "REDIRECT" | "TPROXY" | "NONE" => Ok(()),
        _ => Err("write REDIRECT, TPROXY or NONE".into()),
    }
}

fn whole(text: &str) -> Result<(), String> {
    text.parse::<u32>().map(drop).map_err(|_| "write a whole number such as 10".into())
}

fn port(text: &str) -> Result<u16, String> {
    text.trim().parse().map_err(|_| "write a port from 0 to 65535".into())
}

fn ports(text: &str) -> Result<(), String> {
    let all = text.trim();
    let mut each = all.split(',').filter(|_| !all.is_empty());
    each.all(|one| port(one).is_ok())
        .then_some(())
        .ok_or_else(|| "write ports with commas between, as 8080,9090".into())
}

fn ranges(text: &str) -> Result<(), String> {
    let is_range = |range: &str| {
        let (address, length) = range.split_once('/')?;
        let most = match address.parse().ok()? {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        length.parse::<u8>().ok().filter(|length| *length <= most)
    };
    let mut each = text.split(',').filter(|_| !text.is_empty());
    let right = each.all(|range| is_range(range).is_some());
    right.then_some(()).ok_or_else(|| "write ranges with commas between, as 10.0.0.0/8,fd00::/8".into())
}

fn interfaces(text: &str) -> Result<(), String> {
    let is_name = |name: &str| {
        let name = name.trim();
        (1..=15).contains(&name.len())
            && !matches!(name, "." | "..")
            && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':'))
    };
    let mut each = text.split(',').filter(|_| !text.is_empty());
    each.all(is_name)
        .then_some(())
        .ok_or_else(|| "write names of network devices with commas between, as eth1,tun0".into())
}

/// A quantity of Kubernetes: a number with a fraction, and a unit or an exponent.
fn quantity(text: &str) -> Result<(), String> {
    const UNITS: [&str; 15] = ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi"];
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, unit) = unsigned.split_at(end);
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    let is_number = digits > 0 && digits < 40 && number.matches('.').count() <= 1;
    let exponent = || unit.strip_prefix(['e', 'E']).is_some_and(|n| n.parse::<i16>().is_ok());
    let right = is_number && (UNITS.contains(&unit) || unit == "Ei" || exponent());
    right.then_some(()).ok_or_else(|| "write a quantity such as 100m or 128Mi".into())
}

fn volumes(text: &str) -> Result<(), String> {
    let all: Value = serde_json::from_str(text).map_err(|e| format!("it is not JSON: {e}"))?;
    let right = all.as_object().is_some_and(|all| all.values().all(Value::is_object));
    right.then_some(()).ok_or_else(|| r#"write a map of names, as {"data":{"emptyDir":{}}}"#.into())
}
