//! Kubernetes' strategic merge, for pods: maps are merged, and lists whose entries have names are merged entry by entry
//! (reference: `strategicpatch` of apimachinery, and the tags of `core/v1`).

use serde_json::{Map, Value};

/// Lists that are merged, with what tells their entries apart.
const LISTS: [(&str, &str); 15] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("ephemeralContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("imagePullSecrets", "name"),
    ("resourceClaims", "name"),
    ("schedulingGates", "name"),
    ("ports", "containerPort"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("hostAliases", "ip"),
    ("topologySpreadConstraints", "topologyKey"),
    ("ownerReferences", "uid"),
    ("conditions", "type"),
];

/// Merges a patch into an object.
///
/// # Errors
///
/// When an entry of a list lacks what tells it apart.
pub(super) fn merge(original: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), String> {
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *original = plain(patch);
            return Ok(());
        }
        Some("delete") => {
            original.clear();
            return Ok(());
        }
        _ => {}
    }
    if let Some(Value::Array(kept)) = patch.get("$retainKeys") {
        original.retain(|key, _| kept.iter().any(|k| k == key));
    }
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(from)), Value::Array(gone)) = (original.get_mut(list), value) {
                from.retain(|entry| !gone.contains(entry));
            }
            continue;
        }
        if key.starts_with('$') {
            continue;
        }
        match (original.get_mut(key), value) {
            (_, Value::Null) => drop(original.remove(key)),
            (Some(Value::Object(held)), Value::Object(more)) => merge(held, more)?,
            (Some(Value::Array(held)), Value::Array(more)) if of_list(key).is_some() => {
                *held = lists(held, more, key)?;
            }
            (held, Value::Array(more)) if of_list(key).is_some() => {
                let made = lists(&[], more, key)?;
                match held {
                    Some(held) => *held = Value::Array(made),
                    None => drop(original.insert(key.clone(), Value::Array(made))),
                }
            }
            (_, value) => drop(original.insert(key.clone(), without_nulls(value))),
        }
    }
    Ok(())
}

fn of_list(key: &str) -> Option<&'static str> {
    LISTS.iter().find(|(name, _)| *name == key).map(|(_, by)| *by)
}

/// What is new is taken without what would take something away.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(all) => Value::Object(plain(all)),
        Value::Array(all) => all.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

fn plain(all: &Map<String, Value>) -> Map<String, Value> {
    let kept = all.iter().filter(|(key, value)| !value.is_null() && !key.starts_with('$'));
    kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect()
}

/// Merges two lists: entries of the patch in its order, those of the original alone where they were, and what is new before
/// what was there.
fn lists(original: &[Value], patch: &[Value], name: &str) -> Result<Vec<Value>, String> {
    let by = of_list(name).unwrap_or("name");
    let nameless = || format!("an entry of {name} has no {by}");
    let mut held = original.to_vec();
    let directive = |entry: &Value| entry.get("$patch").and_then(Value::as_str).map(str::to_owned);
    if patch.iter().any(|entry| directive(entry).as_deref() == Some("replace")) {
        held.clear();
    }
    let mut wanted = Vec::new();
    for entry in patch {
        match directive(entry).as_deref() {
            Some("replace") => {}
            Some("delete") => {
                let key = entry.get(by).ok_or_else(nameless)?;
                held.retain(|other| other.get(by) != Some(key));
            }
            _ => {
                entry.get(by).ok_or_else(nameless)?;
                wanted.push(entry);
            }
        }
    }
    // Where each entry was; what was not there has no place.
    let place = |key: &Value| original.iter().position(|entry| entry.get(by) == Some(key));
    let mut ours: Vec<Value> = Vec::new();
    for entry in wanted {
        let key = entry.get(by).ok_or_else(nameless)?;
        let more = entry.as_object().ok_or_else(nameless)?;
        // An entry that is there several times in the patch is merged several times.
        let mut all: Vec<Value> = Vec::new();
        if let Some(at) = ours.iter().position(|other| other.get(by) == Some(key)) {
            all.push(ours[at].clone());
            merge_into(&mut all[0], more)?;
            ours[at] = all.swap_remove(0);
            continue;
        }
        held.retain(|other| {
            let same = other.get(by) == Some(key);
            all.extend(same.then(|| other.clone()));
            !same
        });
        match all.first_mut() {
            Some(first) => merge_into(first, more)?,
            None => all.push(Value::Object(plain(more))),
        }
        ours.extend(all);
    }
    let mut made = Vec::with_capacity(held.len() + ours.len());
    let mut theirs = held.into_iter().peekable();
    for entry in ours {
        let at = entry.get(by).and_then(&place);
        while let Some(other) = theirs.next_if(|other| {
            let before = other.get(by).and_then(&place);
            matches!((before, at), (Some(before), Some(at)) if before < at)
        }) {
            made.push(other);
        }
        made.push(entry);
    }
    made.extend(theirs);
    Ok(made)
}

fn merge_into(held: &mut Value, more: &Map<String, Value>) -> Result<(), String> {
    match held.as_object_mut() {
        Some(held) => merge(held, more),
        None => Err("an entry of a list is no map".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(original: Value, patch: Value) -> Value {
        let mut original = original;
        let map = original.as_object_mut().expect("a map");
        match merge(map, patch.as_object().expect("a map")) {
            Ok(()) => original,
            Err(why) => why.into(),
        }
    }

    #[test]
    fn entries_are_merged_by_name_and_new_ones_come_first() {
        let original = json!({ "containers": [{ "name": "a", "image": "1" }, { "name": "b", "args": ["x"] }] });
        let patch = json!({ "containers": [{ "name": "p" }, { "name": "b", "args": ["y"], "image": "2" }] });
        assert_eq!(
            merged(original, patch),
            json!({ "containers": [{ "name": "p" }, { "name": "a", "image": "1" }, { "name": "b", "args": ["y"], "image": "2" }] })
        );
    }

    #[test]
    fn directives_and_nulls_take_away() {
        for (original, patch, comes_to) in [
            (
                json!({ "a": 1, "b": { "c": 1, "d": 2 } }),
                json!({ "a": null, "b": { "c": null } }),
                json!({ "b": { "d": 2 } }),
            ),
            (json!({ "b": { "c": 1 } }), json!({ "b": { "$patch": "replace", "e": 1 } }), json!({ "b": { "e": 1 } })),
            (
                json!({ "env": [{ "name": "a" }, { "name": "b" }] }),
                json!({ "env": [{ "$patch": "delete", "name": "a" }] }),
                json!({ "env": [{ "name": "b" }] }),
            ),
            (
                json!({ "env": [{ "name": "a" }] }),
                json!({ "env": [{ "$patch": "replace" }, { "name": "b" }] }),
                json!({ "env": [{ "name": "b" }] }),
            ),
            (
                json!({ "args": ["a", "b"] }),
                json!({ "$deleteFromPrimitiveList/args": ["a"] }),
                json!({ "args": ["b"] }),
            ),
            (
                json!({ "v": { "name": "v", "emptyDir": {} } }),
                json!({ "v": { "$retainKeys": ["name", "secret"], "secret": {} } }),
                json!({ "v": { "name": "v", "secret": {} } }),
            ),
            (
                json!({}),
                json!({ "volumes": [{ "name": "v", "emptyDir": null }] }),
                json!({ "volumes": [{ "name": "v" }] }),
            ),
            (json!({ "command": ["a"] }), json!({ "command": ["b"] }), json!({ "command": ["b"] })),
            (json!({}), json!({ "env": [{ "value": "a" }] }), json!("an entry of env has no name")),
        ] {
            assert_eq!(merged(original, patch.clone()), comes_to, "{patch}");
        }
    }
}
