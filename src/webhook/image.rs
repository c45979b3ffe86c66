//! The names of the images that are injected.

use serde_json::Value;

/// Kinds of images that a tag may end with.
const KINDS: [&str; 2] = ["distroless", "debug"];

/// The image `HUB/NAME:TAG`, of the kind that the pod's annotation, its proxy's settings or the values say.
pub(super) fn image(values: &Value, part: &str, proxy_kind: Option<&str>, annotations: &Value) -> String {
    let global = &values["global"];
    let name = global[part]["image"].as_str().filter(|name| !name.is_empty()).unwrap_or("mainsheet-proxy");
    let tag = match &global["tag"] {
        Value::String(tag) => tag.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let own = annotations["sidecar.istio.io/proxyImageType"].as_str();
    let kind = own.or(proxy_kind.filter(|k| !k.is_empty())).or(global["variant"].as_str()).unwrap_or_default();
    // Values may name the whole image.
    if name.contains('/') {
        return name.to_owned();
    }
    format!("{}/{name}:{}", global["hub"].as_str().unwrap_or_default(), of_kind(&tag, kind))
}

fn of_kind(tag: &str, kind: &str) -> String {
    if kind.is_empty() {
        return tag.to_owned();
    }
    let bare = KINDS.iter().find_map(|k| tag.strip_suffix(k)?.strip_suffix('-')).unwrap_or(tag);
    if kind == "default" { bare.to_owned() } else { format!("{bare}-{kind}") }
}
