//! The order of containers.

use super::inject::{INIT, PROXY, VALIDATION};
use serde_json::Value;

const CORE_DUMP: &str = "enable-core-dump";

/// Puts containers where they belong: people's own first for `kubectl exec`, unless they are to wait for the proxy; and
/// traffic is captured only after all that runs before, unless the proxy runs by then.
pub(super) fn containers(pod: &mut Value, hold: bool) {
    if let Some(all) = pod["spec"].get_mut("containers").and_then(Value::as_array_mut) {
        if hold { first(all, PROXY) } else { last(all, PROXY) }
    }
    let Some(all) = pod["spec"].get_mut("initContainers").and_then(Value::as_array_mut) else { return };
    if all.iter().any(|container| container["name"] == PROXY) {
        for name in [CORE_DUMP, PROXY, VALIDATION, INIT] {
            first(all, name);
        }
    } else {
        first(all, VALIDATION);
        last(all, INIT);
        last(all, CORE_DUMP);
    }
}

fn take(all: &mut Vec<Value>, name: &str) -> Option<Value> {
    let at = all.iter().position(|container| container["name"] == name)?;
    Some(all.remove(at))
}

fn first(all: &mut Vec<Value>, name: &str) {
    if let Some(container) = take(all, name) {
        all.insert(0, container);
    }
}

fn last(all: &mut Vec<Value>, name: &str) {
    if let Some(container) = take(all, name) {
        all.push(container);
    }
}
