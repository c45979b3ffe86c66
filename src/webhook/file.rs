//! Pods in what people write: the same injection for files as for the API server, in every kind that has a template of pods.

use super::{
    decision,
    inject::{Injector, Request},
    owner::Owner,
    settings::Policy,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// An object with its pods injected, and what is to be said of it. What has no pods is as it was.
///
/// # Errors
///
/// When a pod of it cannot be injected.
pub fn object(injector: &Injector, native: bool, object: &Value) -> Result<(Value, Vec<String>), String> {
    let mut said = Vec::new();
    let mut made = object.clone();
    inject(injector, native, &mut made, &mut said)?;
    Ok((made, said))
}

fn inject(injector: &Injector, native: bool, object: &mut Value, said: &mut Vec<String>) -> Result<(), String> {
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    if let Some(items) = object.get_mut("items").and_then(Value::as_array_mut).filter(|_| kind.ends_with("List")) {
        return items.iter_mut().try_for_each(|item| inject(injector, native, item, said));
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (name, namespace) = (text(&object["metadata"]["name"]), text(&object["metadata"]["namespace"]));
    let owner = match kind.as_str() {
        "Pod" => Owner::of(object),
        _ => Owner { api_version: text(&object["apiVersion"]), kind: kind.clone(), name: name.clone() },
    };
    let path: &[&str] = match kind.as_str() {
        "Pod" => &[],
        "CronJob" => &["spec", "jobTemplate", "spec", "template"],
        "PodTemplate" => &["template"],
        _ => &["spec", "template"],
    };
    let template = path.iter().try_fold(object, |at, key| at.get_mut(*key));
    // Whatever has containers is taken to be a template of pods, also in kinds that nobody here knows.
    let Some(template) = template.filter(|t| t["spec"]["containers"].is_array()) else { return Ok(()) };
    // Who asks for a file to be injected means it.
    if let Some(why) = decision::refusal(Policy::Enabled, &injector.settings, template, &namespace) {
        said.push(format!("{kind} {name}: not injected: {why}"));
        return Ok(());
    }
    let pod = json!({ "metadata": template["metadata"].clone(), "spec": template["spec"].clone() });
    let pod = without_null_metadata(pod);
    let request = Request { pod: &pod, namespace: &namespace, owner, variables: BTreeMap::new(), native };
    let mut made = injector.inject(&request).map_err(|why| format!("{kind} {name}: {why}"))?;
    template["metadata"] = made["metadata"].take();
    template["spec"] = made["spec"].take();
    Ok(())
}

fn without_null_metadata(mut pod: Value) -> Value {
    if pod["metadata"].is_null() {
        pod["metadata"] = json!({});
    }
    pod
}
