//! The functions of Istio's injection, which go before those of sprig with the same names.

use super::{Made, Table, Value, at, data, print, string};
use crate::template::Kind;
use std::collections::BTreeMap;

pub(super) const TABLE: Table = &[
    ("annotation", |a| {
        let annotations = at(a, 0)?.field("annotations")?;
        match annotations.field(&string(a, 1)?)? {
            Value::Nil => Ok(string(a, 2)?.into()),
            own => Ok(own),
        }
    }),
    ("isset", |a| match at(a, 0)? {
        Value::Map(_, all) => Ok(all.borrow().contains_key(&string(a, 1)?).into()),
        _ => Ok(false.into()),
    }),
    ("valueOrDefault", |a| match at(a, 0)? {
        Value::Nil => Ok(at(a, 1)?.clone()),
        Value::Text(s) if s.is_empty() => Ok(at(a, 1)?.clone()),
        own => Ok(own.clone()),
    }),
    ("excludeInboundPort", |a| Ok(exclude_port(string(a, 0)?.trim(), string(a, 1)?).into())),
    ("includeInboundPorts", |a| ports(at(a, 0)?, |_| true)),
    ("applicationPorts", |a| ports(at(a, 0)?, |name| name != "istio-proxy")),
    ("kubevirtInterfaces", |a| Ok(at(a, 0)?.clone())),
    ("excludeInterfaces", |a| Ok(at(a, 0)?.clone())),
    ("formatDuration", |a| Ok(at(a, 0)?.clone())),
    ("toJSON", |a| json(at(a, 0)?)),
    ("structToJSON", |a| json(at(a, 0)?)),
    ("protoToJSON", |a| {
        // What a proxy does anyway need not be in every pod.
        let (mut message, usual) = (at(a, 0)?.to_json(), proxy_defaults());
        if let Some(fields) = message.as_object_mut() {
            let empty = serde_json::json!({});
            fields.retain(|name, value| {
                let says_nothing = value.is_null() || name == "runtimeValues" && *value == empty;
                !says_nothing && usual.get(name) != Some(value)
            });
        }
        Ok(if message.is_null() { "{}".into() } else { message.to_string().into() })
    }),
    ("toJsonMap", |a| Ok(merged(a).to_json().to_string().into())),
    ("fromJSON", |a| data::from_json(&string(a, 0)?)),
    ("mergeMaps", |a| Ok(merged(a))),
    ("toYaml", |a| data::yaml(at(a, 0)?)),
    // Unlike sprig's it leaves the first line where it is.
    ("indent", |a| {
        let space = " ".repeat(super::count(a, 0)?.min(1000));
        Ok(string(a, 1)?.replace('\n', &format!("\n{space}")).into())
    }),
    ("directory", |a| {
        let path = string(a, 0)?;
        Ok(path[..path.rfind('/').map_or(0, |i| i + 1)].into())
    }),
    ("toLower", |a| Ok(string(a, 0)?.to_lowercase().into())),
    ("appendMultusNetwork", |a| Ok(multus(&string(a, 0)?, &string(a, 1)?).into())),
    // The environment of the control plane is not for templates to see.
    ("env", |a| Ok(string(a, 1)?.into())),
    ("strdict", |a| {
        let pairs = a.chunks(2).map(|pair| (print::text(&pair[0]), pair.get(1).map(print::text).unwrap_or_default()));
        Ok(Value::map(Kind::Map, pairs.map(|(k, v)| (k, v.into()))))
    }),
    ("omitNil", |a| Ok(without_nil(at(a, 0)?))),
    ("otelResourceAttributes", otel),
];

/// The settings of a proxy where nobody says anything.
pub(in crate::template) fn proxy_defaults() -> serde_json::Value {
    serde_json::json!({
        "configPath": "./etc/istio/proxy",
        "binaryPath": "/usr/local/bin/envoy",
        "serviceCluster": "istio-proxy",
        "drainDuration": "45s",
        "terminationDrainDuration": "5s",
        "proxyAdminPort": 15000,
        "controlPlaneAuthPolicy": "MUTUAL_TLS",
        "discoveryAddress": "istiod.istio-system.svc:15012",
        "statNameLength": 189,
        "statusPort": 15020,
        "interceptionMode": "REDIRECT",
        "proxyMetadata": {},
    })
}

fn json(value: &Value) -> Made {
    Ok(match value {
        Value::Nil => "{}".into(),
        other => other.to_json().to_string().into(),
    })
}

/// The port among those that are excluded.
fn exclude_port(port: &str, excluded: String) -> String {
    if matches!(port, "" | "0") || excluded.split(',').any(|p| p == port) {
        return excluded;
    }
    let mut all: Vec<&str> = excluded.split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
    all.push(port);
    all.join(",")
}

fn ports(containers: &Value, of: fn(&str) -> bool) -> Made {
    let mut found = Vec::new();
    let Value::List(containers) = containers else { return Ok("".into()) };
    for container in containers.iter().filter(|c| c.field("name").is_ok_and(|name| of(&print::text(&name)))) {
        let Value::List(ports) = container.field("ports")? else { continue };
        for port in ports.iter() {
            if !matches!(print::text(&port.field("protocol")?).as_str(), "UDP" | "SCTP") {
                found.push(print::text(&port.field("containerPort")?));
            }
        }
    }
    Ok(found.join(",").into())
}

/// The networks of Multus with one more; as it stands where that is there already, or the text cannot be understood.
fn multus(existing: &str, network: &str) -> String {
    let Some(end) = existing.rfind(']') else {
        let there = existing.split(',').any(|n| n.trim() == network);
        return match existing {
            "" => network.to_owned(),
            existing if there => existing.to_owned(),
            existing => format!("{existing}, {network}"),
        };
    };
    let Ok(serde_json::Value::Array(networks)) = serde_json::from_str(existing) else { return existing.to_owned() };
    let (namespace, name) = network.split_once('/').unwrap_or(("", network));
    let same = |n: &serde_json::Value| n["name"] == name && n["namespace"].as_str().unwrap_or_default() == namespace;
    if networks.iter().any(same) {
        return existing.to_owned();
    }
    let own = match namespace {
        "" => format!(r#", {{"name": "{name}"}}"#),
        _ => format!(r#", {{"name": "{name}", "namespace": "{namespace}"}}"#),
    };
    format!("{}{own}{}", &existing[..end], &existing[end..])
}

/// Maps as one, the later before the earlier.
fn merged(maps: &[Value]) -> Value {
    let mut all = BTreeMap::new();
    for map in maps {
        if let Value::Map(_, entries) = map {
            all.extend(entries.borrow().clone());
        }
    }
    Value::map(Kind::Map, all)
}

fn without_nil(value: &Value) -> Value {
    let is_nil = |v: &Value| matches!(v, Value::Nil);
    match value {
        Value::List(all) => Value::list(all.iter().filter(|v| !is_nil(v)).map(without_nil).collect()),
        Value::Map(kind, all) => {
            let all = all.borrow();
            let kept = all.iter().filter(|(_, v)| !is_nil(v));
            Value::map(*kind, kept.map(|(k, v)| (k.clone(), without_nil(v))))
        }
        other => other.clone(),
    }
}

/// What OpenTelemetry is told of a workload, where a provider of the mesh wants that.
fn otel(arguments: &[Value]) -> Made {
    let wants = |provider: &Value| {
        let enrichment = provider.field("opentelemetry").and_then(|o| o.field("serviceAttributeEnrichment"));
        enrichment.is_ok_and(|e| e.same(&"OTEL_SEMANTIC_CONVENTIONS".into()))
    };
    match at(arguments, 0)?.field("extensionProviders")? {
        Value::List(all) if all.iter().any(wants) => {}
        _ => return Ok("".into()),
    }
    let (annotations, labels, namespace) = (at(arguments, 1)?, at(arguments, 2)?, string(arguments, 3)?);
    let containers = super::list(arguments, 4)?;
    let own = |name: &str| -> Result<String, String> {
        Ok(print::text(&annotations.field(&format!("resource.opentelemetry.io/service.{name}"))?))
    };
    let mut attributes = Vec::new();
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            attributes.push(format!("service.{name}={value}"));
        }
    };
    add("namespace", Some(own("namespace")?).filter(|s| !s.is_empty()).unwrap_or_else(|| namespace.clone()));
    let mut version = own("version")?;
    if version.is_empty() {
        version = print::text(&labels.field("app.kubernetes.io/version")?);
    }
    if let (true, [only]) = (version.is_empty(), &containers[..]) {
        version = of_image(&print::text(&only.field("image")?));
    }
    add("version", version);
    let mut instance = own("instance.id")?;
    if let (true, Some(first)) = (instance.is_empty(), containers.first()) {
        instance = format!("{namespace}.$(POD_NAME).{}", print::text(&first.field("name")?));
    }
    add("instance.id", instance);
    Ok(attributes.join(",").into())
}

/// The version that an image's name ends with: its tag, its digest, or both.
fn of_image(image: &str) -> String {
    let (name, digest) = image.split_once('@').unwrap_or((image, ""));
    let tag = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or("", |(_, tag)| tag);
    match (tag, digest) {
        (tag, "") => tag.to_owned(),
        ("", digest) => digest.to_owned(),
        (tag, digest) => format!("{tag}@{digest}"),
    }
}
