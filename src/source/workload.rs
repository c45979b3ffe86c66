//! Stand-in pods: a workload without Pods beside it stands for the pods that Kubernetes would make of it, so
//! that people's manifests work as they are.
//!
//! Pure: the same workloads and pods give the same stand-ins, with the same addresses.

use crate::{
    id::{Kind, Namespace, ObjectRef, fingerprint_bytes},
    model::Labels,
    parse,
    problem::{FieldPath, Problem},
};
use serde_json::{Map, Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

/// Where stand-ins get their addresses: 198.18.0.0/15, which RFC 2544 reserves for benchmarks.
const FIRST_ADDRESS: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const ADDRESSES: u32 = 1 << 17;
/// More replicas of one workload than this say nothing more about a mesh.
const MAX_REPLICAS: u64 = 1000;

/// A Pod that stands for one of a workload.
#[derive(Clone, Debug)]
pub(super) struct StandIn {
    /// The workload.
    pub(super) workload: ObjectRef,
    /// The Pod, as Kubernetes would show it.
    pub(super) pod: Value,
}

/// Whether objects of this kind stand for pods.
pub(super) fn is_workload(raw: &Value) -> bool {
    let group = raw["apiVersion"].as_str().and_then(|v| v.split_once('/')).map_or("", |(group, _)| group);
    let kinds = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"];
    matches!(group, "apps" | "extensions") && raw["kind"].as_str().is_some_and(|k| kinds.contains(&k))
}

/// Whether stand-ins depend on objects of this kind.
pub(super) fn shapes_pods(raw: &Value) -> bool {
    is_workload(raw) || matches!(raw["kind"].as_str(), Some("Pod" | "Node"))
}

/// What is wrong with a workload, as far as its stand-ins depend on it.
pub(super) fn check(raw: &Value) -> Vec<Problem> {
    let id = parse::meta(raw).object;
    let spec = FieldPath::new("spec");
    let mut problems = Vec::new();
    match &raw["spec"]["replicas"] {
        Value::Null => {}
        n if n.as_u64().is_none() => {
            let message = format!("must be a whole number of at least 0, not {n}; it is taken as 1");
            problems.push(Problem::error(&id, spec.field("replicas"), message));
        }
        n if n.as_u64() > Some(MAX_REPLICAS) => {
            let message = format!("{n} is a lot; only {MAX_REPLICAS} pods stand for it");
            problems.push(Problem::warning(&id, spec.field("replicas"), message));
        }
        _ => {}
    }
    if !raw["spec"]["template"].is_object() {
        problems.push(Problem::error(&id, spec.field("template"), "is missing; the pods are made from it"));
    }
    problems
}

/// The pods that the workloads among `objects` stand for. A workload whose pods are there stands for none.
pub(super) fn stand_ins<'a>(objects: impl Iterator<Item = &'a Value> + Clone) -> Vec<StandIn> {
    let of = |kind: &'static str| objects.clone().filter(move |o| o["apiVersion"] == "v1" && o["kind"] == kind);
    let mut pods: BTreeMap<Namespace, Vec<Known>> = BTreeMap::new();
    for pod in of("Pod").map(Known::new) {
        pods.entry(pod.id.namespace.clone()).or_default().push(pod);
    }
    let nodes: BTreeSet<&str> = of("Node").filter_map(|n| n["metadata"]["name"].as_str()).collect();
    let workloads: BTreeMap<ObjectRef, &Value> =
        objects.filter(|o| is_workload(o)).map(|o| (parse::meta(o).object, o)).collect();
    let mut found = BTreeMap::new();
    for (id, raw) in &workloads {
        let owned = owners(raw)
            .any(|(kind, name)| workloads.contains_key(&ObjectRef::new(Kind::named(kind), id.namespace.clone(), name)));
        let beside = pods.get(&id.namespace).map_or(&[][..], Vec::as_slice);
        if owned || beside.iter().any(|pod| pod.belongs_to(id, raw)) {
            continue;
        }
        for (index, pod) in replicas(id, raw, &nodes).into_iter().enumerate() {
            let name = format!("{}-{index}", id.name);
            if !beside.iter().any(|p| *p.id.name == *name) {
                found.entry((id.namespace.clone(), name)).or_insert(StandIn { workload: id.clone(), pod });
            }
        }
    }
    let taken = pods.into_values().flatten().flat_map(|p| p.addresses).collect();
    address(found.into_values().collect(), taken)
}

/// A pod that is there.
struct Known {
    id: ObjectRef,
    labels: Labels,
    owners: Vec<(String, String)>,
    addresses: Vec<IpAddr>,
}

impl Known {
    fn new(raw: &Value) -> Self {
        let meta = parse::meta(raw);
        let status = &raw["status"];
        let listed = status["podIPs"].as_array().into_iter().flatten().map(|a| &a["ip"]);
        let addresses = listed.chain([&status["podIP"]]).filter_map(|a| a.as_str()?.parse().ok()).collect();
        let owners = owners(raw).map(|(kind, name)| (kind.to_owned(), name.to_owned())).collect();
        Self { id: meta.object, labels: meta.labels, owners, addresses }
    }

    /// Whether the workload, which is in the pod's namespace, made this pod or would take it for its own.
    fn belongs_to(&self, id: &ObjectRef, workload: &Value) -> bool {
        let makes = |(kind, name): &(String, String)| match (kind.as_str(), id.kind.as_str()) {
            ("ReplicaSet", "Deployment") => {
                name.rsplit_once('-').is_some_and(|(deployment, _)| deployment == &*id.name)
            }
            (kind, wanted) => kind == wanted && name == &*id.name,
        };
        self.owners.iter().any(makes) || selects(workload, &self.labels)
    }
}

/// The kinds and names of those that made an object.
fn owners(raw: &Value) -> impl Iterator<Item = (&str, &str)> {
    let list = raw["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    list.filter_map(|o| Some((o["kind"].as_str()?, o["name"].as_str()?)))
}

/// Whether a workload's selector takes these labels; a workload without one selects by its template's labels.
fn selects(workload: &Value, labels: &Labels) -> bool {
    let selector = &workload["spec"]["selector"];
    let expressions = selector["matchExpressions"].as_array().map_or(&[][..], Vec::as_slice);
    let exact = match (selector["matchLabels"].as_object(), expressions) {
        (None, []) => workload["spec"]["template"]["metadata"]["labels"].as_object(),
        (exact, _) => exact,
    };
    let exact: Vec<_> = exact.into_iter().flatten().collect();
    let asks = !exact.is_empty() || !expressions.is_empty();
    let equal = |(key, value): &(&String, &Value)| labels.get(key.as_str()).map(|v| &**v) == value.as_str();
    asks && exact.iter().all(equal) && expressions.iter().all(|e| meets(e, labels))
}

/// Whether labels meet one of a selector's `matchExpressions`.
fn meets(expression: &Value, labels: &Labels) -> bool {
    let have = expression["key"].as_str().and_then(|key| labels.get(key));
    let listed = have
        .is_some_and(|have| expression["values"].as_array().into_iter().flatten().any(|v| v.as_str() == Some(&**have)));
    match expression["operator"].as_str() {
        Some("In") => listed,
        Some("NotIn") => !listed,
        Some("Exists") => have.is_some(),
        Some("DoesNotExist") => have.is_none(),
        _ => false,
    }
}

/// The pods of one workload, without their addresses.
fn replicas(id: &ObjectRef, raw: &Value, nodes: &BTreeSet<&str>) -> Vec<Value> {
    let pod = |index: usize, node: Option<&str>| pod(id, raw, index, node);
    if id.kind.as_str() == "DaemonSet" {
        return match nodes.is_empty() {
            true => vec![pod(0, None)],
            false => nodes.iter().enumerate().map(|(i, node)| pod(i, Some(node))).collect(),
        };
    }
    let wanted = raw["spec"]["replicas"].as_u64().unwrap_or(1).min(MAX_REPLICAS);
    (0..wanted as usize).map(|index| pod(index, None)).collect()
}

fn pod(id: &ObjectRef, raw: &Value, index: usize, node: Option<&str>) -> Value {
    let template = &raw["spec"]["template"];
    let name = format!("{}-{index}", id.name);
    let mut spec = template["spec"].as_object().cloned().unwrap_or_default();
    let mut labels = template["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    if let Some(node) = node {
        spec.insert("nodeName".into(), node.into());
    }
    if id.kind.as_str() == "StatefulSet" {
        spec.insert("hostname".into(), name.as_str().into());
        if let Some(service) = raw["spec"]["serviceName"].as_str() {
            spec.insert("subdomain".into(), service.into());
        }
        labels.insert("statefulset.kubernetes.io/pod-name".into(), name.as_str().into());
        labels.insert("apps.kubernetes.io/pod-index".into(), index.to_string().into());
    }
    let annotations = template["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": &*id.namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": id.kind.as_str(), "name": &*id.name, "controller": true},
            ],
        },
        "spec": Value::Object(spec),
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// Gives each pod the address that its name hashes to, or the next free one: another pod coming or going moves
/// an address only where the two collide.
fn address(mut found: Vec<StandIn>, mut taken: BTreeSet<IpAddr>) -> Vec<StandIn> {
    found.retain_mut(|stand_in| {
        let metadata = &stand_in.pod["metadata"];
        let name = format!("{}/{}", metadata["namespace"].as_str().unwrap_or_default(), metadata["name"]);
        let start = fingerprint_bytes(name.as_bytes()) % u64::from(ADDRESSES);
        let candidates = (0..ADDRESSES).map(|step| (start as u32 + step) % ADDRESSES);
        let usable = candidates.filter(|at| !matches!(at & 0xff, 0 | 0xff));
        let address = usable.map(|at| IpAddr::V4(Ipv4Addr::from(FIRST_ADDRESS + at))).find(|a| !taken.contains(a));
        let Some(address) = address else { return false };
        taken.insert(address);
        let status: &mut Map<String, Value> = stand_in.pod["status"].as_object_mut().expect("the status made above");
        status.insert("podIP".into(), address.to_string().into());
        status.insert("podIPs".into(), json!([{"ip": address.to_string()}]));
        true
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(kind: &str, name: &str, spec: Value) -> Value {
        let mut spec = spec;
        let labels = json!({"app": name});
        spec["template"]["metadata"]["labels"] = labels.clone();
        spec["selector"]["matchLabels"] = labels;
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
    }

    fn names(objects: &[Value]) -> Vec<String> {
        let text = |p: &StandIn| p.pod["metadata"]["name"].as_str().expect("a name").to_owned();
        stand_ins(objects.iter()).iter().map(text).collect()
    }

    fn addresses(objects: &[Value]) -> BTreeMap<String, String> {
        let pair = |p: &StandIn| (p.pod["metadata"]["name"].to_string(), p.pod["status"]["podIP"].to_string());
        stand_ins(objects.iter()).iter().map(pair).collect()
    }

    #[test]
    fn each_replica_has_a_stand_in_named_after_its_workload() {
        let one = workload("Deployment", "web", json!({}));
        let three = workload("StatefulSet", "db", json!({"replicas": 3, "serviceName": "db"}));
        let none = workload("Deployment", "off", json!({"replicas": 0}));
        assert_eq!(names(&[one, three.clone(), none]), ["db-0", "db-1", "db-2", "web-0"]);
        let pod = &stand_ins([three].iter())[1].pod;
        assert_eq!(pod["spec"]["hostname"], "db-1");
        assert_eq!(pod["spec"]["subdomain"], "db");
        assert_eq!(pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "1");
    }

    #[test]
    fn a_daemon_set_has_a_pod_on_each_node_and_one_where_there_are_no_nodes() {
        let set = workload("DaemonSet", "agent", json!({}));
        let node = |name: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        assert_eq!(names(std::slice::from_ref(&set)), ["agent-0"]);
        let found =
            stand_ins([set, node("b"), node("a")].iter()).into_iter().map(|p| p.pod["spec"]["nodeName"].clone());
        assert_eq!(found.collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn the_template_gives_labels_account_and_ports() {
        let spec = json!({"template": {
            "metadata": {"annotations": {"a": "b"}},
            "spec": {"serviceAccountName": "seller", "containers": [{"ports": [{"name": "http", "containerPort": 80}]}]},
        }});
        let pod = &stand_ins([workload("Deployment", "web", spec)].iter())[0].pod;
        assert_eq!(pod["metadata"]["labels"], json!({"app": "web"}));
        assert_eq!(pod["metadata"]["annotations"], json!({"a": "b"}));
        assert_eq!(pod["spec"]["serviceAccountName"], "seller");
        assert_eq!(pod["spec"]["containers"][0]["ports"][0]["containerPort"], 80);
    }

    #[test]
    fn a_workload_whose_pods_are_there_stands_for_none() {
        let pod = |labels: Value, owners: Value| {
            let metadata = json!({"name": "p", "namespace": "shop", "labels": labels, "ownerReferences": owners});
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata})
        };
        let web = workload("Deployment", "web", json!({}));
        let owner = |kind: &str, name: &str| json!([{"kind": kind, "name": name}]);
        assert!(names(&[web.clone(), pod(json!({"app": "web"}), json!([]))]).is_empty());
        assert!(names(&[web.clone(), pod(json!({}), owner("ReplicaSet", "web-5d4f8"))]).is_empty());
        assert_eq!(names(&[web.clone(), pod(json!({"app": "other"}), json!([]))]), ["web-0"]);
        assert_eq!(names(&[web, pod(json!({}), owner("ReplicaSet", "web-api-5d4f8"))]), ["web-0"]);
    }

    #[test]
    fn a_replica_set_stands_for_pods_unless_its_deployment_is_there() {
        let mut set = workload("ReplicaSet", "web-5d4f8", json!({"replicas": 2}));
        set["metadata"]["ownerReferences"] = json!([{"kind": "Deployment", "name": "web"}]);
        assert_eq!(names(std::slice::from_ref(&set)), ["web-5d4f8-0", "web-5d4f8-1"]);
        assert_eq!(names(&[set, workload("Deployment", "web", json!({}))]), ["web-0"]);
    }

    #[test]
    fn expressions_of_a_selector_count() {
        let labels: Labels = [("tier".into(), "front".into())].into_iter().collect();
        let selects =
            |expressions: Value| selects(&json!({"spec": {"selector": {"matchExpressions": expressions}}}), &labels);
        assert!(selects(json!([{"key": "tier", "operator": "In", "values": ["back", "front"]}])));
        assert!(selects(json!([{"key": "tier", "operator": "Exists"}, {"key": "x", "operator": "DoesNotExist"}])));
        assert!(!selects(json!([{"key": "tier", "operator": "NotIn", "values": ["front"]}])));
        assert!(!selects(json!([])));
    }

    #[test]
    fn addresses_stay_when_others_come_and_keep_clear_of_pods_that_are_there() {
        let web = workload("Deployment", "web", json!({"replicas": 2}));
        let before = addresses(std::slice::from_ref(&web));
        let more = addresses(&[web.clone(), workload("Deployment", "api", json!({"replicas": 200}))]);
        assert!(before.iter().all(|(name, address)| more.get(name) == Some(address)));
        assert_eq!(more.values().collect::<BTreeSet<_>>().len(), 202);
        assert!(more.values().all(|a| a.starts_with("\"198.18.") || a.starts_with("\"198.19.")));
        let used = before["\"web-0\""].trim_matches('"').to_owned();
        let metadata = json!({"name": "p", "namespace": "shop"});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"podIP": used}});
        assert_ne!(addresses(&[web, pod])["\"web-0\""], before["\"web-0\""]);
    }

    #[test]
    fn a_workload_that_cannot_be_read_says_why() {
        let said = |spec: Value| {
            let raw = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": spec});
            check(&raw).into_iter().map(|p| p.path.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(said(json!({"replicas": "two", "template": {}})), ["spec.replicas"]);
        assert_eq!(said(json!({"replicas": 100_000})), ["spec.replicas", "spec.template"]);
        assert!(said(json!({"replicas": 3, "template": {}})).is_empty());
    }
}
