//! The definitions of Istio's kinds as Kubernetes takes them (CustomResourceDefinitions), made from the types of this
//! room: fields, their types and what is said of them. What a type cannot say stands in [`rules`].

mod kinds;
mod rules;
#[cfg(test)]
mod tests;

use kinds::{Definition, OPEN, SERVED};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// The definitions of all kinds, in the order of their names.
pub fn definitions() -> Vec<Value> {
    let mut all: Vec<Value> = SERVED.iter().chain(OPEN).map(definition).collect();
    all.sort_by_key(|d| d["metadata"]["name"].to_string());
    all
}

fn definition(definition: &Definition) -> Value {
    let kind = definition.of;
    let mut names = json!({
        "categories": ["istio-io", kind.group.replace('.', "-")],
        "kind": kind.name,
        "listKind": format!("{}List", kind.name),
        "plural": kind.plural,
        "singular": kind.name.to_lowercase(),
    });
    if !definition.short.is_empty() {
        names["shortNames"] = json!(definition.short);
    }
    let schema = object(definition);
    let columns: Vec<Value> = definition.columns.iter().map(|column| column.json()).chain([age()]).collect();
    let version = |name: &&str| {
        json!({
            "additionalPrinterColumns": columns,
            "name": name,
            "schema": { "openAPIV3Schema": schema },
            "served": true,
            "storage": *name == definition.stored,
            "subresources": { "status": {} },
        })
    };
    let mut versions = kind.versions.to_vec();
    versions.sort_unstable();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            // What users wrote outlives the release that brought its definition.
            "annotations": { "helm.sh/resource-policy": "keep" },
            "labels": { "app": "istio-pilot" },
            "name": format!("{}.{}", kind.plural, kind.group),
        },
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced",
            "versions": versions.iter().map(version).collect::<Vec<_>>(),
        },
    })
}

fn age() -> Value {
    json!({ "description": "When the object was made.", "jsonPath": ".metadata.creationTimestamp", "name": "Age", "type": "date" })
}

/// The schema of a whole object.
fn object(definition: &Definition) -> Value {
    let mut spec = definition.spec.map_or_else(
        || json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true }),
        |spec| {
            let mut schema = spec();
            structural(&mut schema);
            rules::hold(definition.of.name, &mut schema);
            schema
        },
    );
    spec["description"] = definition.about.into();
    let mut schema = json!({ "type": "object", "properties": { "spec": spec, "status": status(definition.of.name) } });
    if definition.needs_spec {
        schema["required"] = json!(["spec"]);
    }
    schema
}

/// What a control plane says of an object. What others write there is kept.
fn status(kind: &str) -> Value {
    // Numbers of generations are written as texts by what writes protobuf's JSON.
    let generation =
        json!({ "anyOf": [{ "type": "integer" }, { "type": "string" }], "x-kubernetes-int-or-string": true });
    let time = json!({ "format": "date-time", "type": "string" });
    let text = json!({ "type": "string" });
    let list = |fields: Value| json!({ "type": "array", "items": { "type": "object", "properties": fields } });
    let mut fields = json!({
        "conditions": list(json!({
            "lastProbeTime": time,
            "lastTransitionTime": time,
            "message": text,
            "observedGeneration": generation,
            "reason": text,
            "status": text,
            "type": text,
        })),
        "observedGeneration": generation,
        "validationMessages": list(json!({
            "documentationUrl": text,
            "level": { "type": "string", "enum": ["UNKNOWN", "ERROR", "WARNING", "INFO"] },
            "type": { "type": "object", "properties": { "code": text, "name": text } },
        })),
    });
    if kind == "ServiceEntry" {
        fields["addresses"] = list(json!({ "host": text, "value": text }));
    }
    json!({ "type": "object", "properties": fields, "x-kubernetes-preserve-unknown-fields": true })
}

/// The schema of a type, with those of its fields in place.
fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|s| s.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Brings a schema into the form that Kubernetes takes.
fn structural(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    // A default would be written into every object, and an object without a field is not one with an empty field.
    for word in ["$schema", "title", "default", "components"] {
        fields.remove(word);
    }
    texts(fields);
    null(fields);
    numbers(fields);
    for inner in fields.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        structural(inner);
    }
    for word in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(word) {
            structural(inner);
        }
    }
}

/// An enumeration whose values have descriptions of their own, as a list of its values.
fn texts(fields: &mut Map<String, Value>) {
    let mut all = Vec::new();
    for word in ["oneOf", "anyOf"] {
        fields.remove(word).iter().for_each(|alternatives| choices(alternatives, &mut all));
    }
    if let Some(listed) = fields.remove("enum") {
        choices(&json!([{ "enum": listed }]), &mut all);
    }
    if !all.is_empty() {
        fields.insert("type".into(), "string".into());
        fields.insert("enum".into(), all.into());
    }
}

/// The texts among alternatives.
fn choices(alternatives: &Value, all: &mut Vec<Value>) {
    for one in alternatives.as_array().into_iter().flatten() {
        all.extend(one.get("const").filter(|text| text.is_string()).cloned());
        all.extend(one["enum"].as_array().into_iter().flatten().filter(|text| text.is_string()).cloned());
        choices(&one["oneOf"], all);
        choices(&one["anyOf"], all);
    }
}

/// What may be left out may be null only where that is common: numbers and truths.
fn null(fields: &mut Map<String, Value>) {
    let scalar = fields.get("type").is_some_and(|t| ["integer", "number", "boolean"].iter().any(|s| t == s));
    if !scalar {
        fields.remove("nullable");
    }
    if fields.get("nullable").is_some_and(|n| n == false) {
        fields.remove("nullable");
    }
}

/// Numbers without a sign have a range; formats that Kubernetes does not know are left out.
fn numbers(fields: &mut Map<String, Value>) {
    let format = fields.get("format").and_then(Value::as_str).unwrap_or_default().to_owned();
    match format.as_str() {
        "uint32" => {
            fields.insert("maximum".into(), u32::MAX.into());
        }
        "uint64" | "double" | "int64" => {}
        _ => return,
    }
    fields.remove("format");
}
