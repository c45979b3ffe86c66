//! What leads from one value to another, as a JSON patch (RFC 6902).

use serde_json::{Value, json};

/// The operations that make `to` of `from`, in the order in which they are done.
pub fn patch(from: &Value, to: &Value) -> Vec<Value> {
    let mut operations = Vec::new();
    values(from, to, &mut String::new(), &mut operations);
    operations
}

fn values(from: &Value, to: &Value, path: &mut String, operations: &mut Vec<Value>) {
    match (from, to) {
        (a, b) if a == b => {}
        (Value::Object(from), Value::Object(to)) => {
            for key in from.keys().filter(|key| !to.contains_key(*key)) {
                below(path, key, |path| operations.push(json!({ "op": "remove", "path": path })));
            }
            for (key, value) in to {
                below(path, key, |path| match from.get(key) {
                    Some(held) => values(held, value, path, operations),
                    None => operations.push(json!({ "op": "add", "path": path, "value": value })),
                });
            }
        }
        (Value::Array(from), Value::Array(to)) => lists(from, to, path, operations),
        (_, to) => operations.push(json!({ "op": "replace", "path": path, "value": to })),
    }
}

/// What is the same at the beginning and at the end stays, and what is between becomes something else one by one.
fn lists(from: &[Value], to: &[Value], path: &mut String, operations: &mut Vec<Value>) {
    let start = from.iter().zip(to).take_while(|(a, b)| a == b).count();
    let (from, to) = (&from[start..], &to[start..]);
    let end = from.iter().rev().zip(to.iter().rev()).take_while(|(a, b)| a == b).count();
    let (from, to) = (&from[..from.len() - end], &to[..to.len() - end]);
    let both = from.len().min(to.len());
    for i in 0..both {
        below(path, &(start + i).to_string(), |path| values(&from[i], &to[i], path, operations));
    }
    for i in (both..from.len()).rev() {
        below(path, &(start + i).to_string(), |path| operations.push(json!({ "op": "remove", "path": path })));
    }
    for (i, value) in to.iter().enumerate().skip(both) {
        below(path, &(start + i).to_string(), |path| {
            operations.push(json!({ "op": "add", "path": path, "value": value }));
        });
    }
}

fn below(path: &mut String, key: &str, then: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push('/');
    path.push_str(&key.replace('~', "~0").replace('/', "~1"));
    then(path);
    path.truncate(length);
}
