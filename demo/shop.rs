//! The shop: what is in `demo/mesh`, run.

use crate::harness::{Pod, World};
use serde::Deserialize as _;
use serde_json::Value;
use std::{fs, path::Path};

/// The port of all services of the shop.
pub(crate) const PORT: u16 = 9080;

/// What a pod's labels say whose connections may be secured.
const TLS: &str = "    security.istio.io/tlsMode: istio\n";

/// Starts everything that the files describe.
pub(crate) fn start(captured: bool) -> World {
    let mut files = files();
    if !captured {
        // Addresses of a cluster are no addresses of this machine; those of its loopback device are.
        // Nobody but productpage has an Envoy there, so nobody could end mutual TLS.
        let plain = |text: &str| text.replace("10.244.1.", "127.0.91.").replace(TLS, "");
        files.iter_mut().for_each(|(_, text)| *text = plain(text));
    }
    let pods = files.iter().flat_map(|(_, text)| pods(text, captured)).collect();
    match captured {
        true => World::of_files(pods, files),
        false => World::on_loopback(pods, files),
    }
}

/// The address that a workload reaches a service of the shop by.
pub(crate) fn address(service: &str, captured: bool) -> String {
    let number = match service {
        _ if !captured => return format!("127.0.0.1:{PORT}"),
        "details" => 20,
        "reviews" => 30,
        "ratings" => 40,
        _ => 10,
    };
    format!("10.96.7.{number}:{PORT}")
}

fn files() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/mesh");
    let paths = fs::read_dir(dir).expect("the files of the shop").map(|e| e.expect("an entry").path());
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    paths.map(|path| (name(&path), fs::read_to_string(&path).expect("a file of the shop"))).collect()
}

/// The pods that a file describes.
fn pods(text: &str, captured: bool) -> Vec<Pod> {
    let objects = serde_norway::Deserializer::from_str(text).map(|d| Value::deserialize(d).expect("YAML"));
    objects.filter(|object| object["kind"] == "Pod").map(|object| pod(&object, captured)).collect()
}

fn pod(object: &Value, captured: bool) -> Pod {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (name, namespace) = (text(&object["metadata"]["name"]), text(&object["metadata"]["namespace"]));
    let label = |key| text(&object["metadata"]["labels"][key]);
    let mut pod = Pod::new(&name, &namespace, &label("app"), &label("version"));
    let call = |service: &str| format!("{service}={}/{service}/0", address(service, captured));
    pod.calls = match (&*label("app"), &*label("version")) {
        ("productpage", _) => vec![call("details"), call("reviews")],
        // Without a sidecar of its own, reviews has nobody who would find ratings for it.
        ("reviews", "v2" | "v3") if captured => vec![call("ratings")],
        _ => Vec::new(),
    };
    if captured {
        pod = pod.with_agent();
    }
    pod.account = text(&object["spec"]["serviceAccountName"]);
    pod.ip = text(&object["status"]["podIP"]);
    pod.sidecar = captured || label("app") == "productpage";
    (pod.http, pod.tcp) = (vec![PORT], Vec::new());
    pod
}
