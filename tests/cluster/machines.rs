//! Machines outside the cluster connect, and have WorkloadEntries in it as long as they are there.

use crate::{
    harness::{
        Plane, Proxy, Server, directory, eventually,
        server::{free_port, spawn},
        with_own,
    },
    identity::token,
};
use axum::{Router, http::StatusCode, routing::get};
use serde_json::{Value, json};
use std::{
    fs,
    path::PathBuf,
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tokio::net::TcpListener;
use tonic::{Code, Status};

const ENTRY: &str = "/apis/networking.istio.io/v1/namespaces/shop/workloadentries/vm-10.9.0.1";
const GROUP: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: istio-system}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: vm, namespace: shop}
spec:
  metadata: {labels: {app: vm}, annotations: {note: of the group}}
  template: {serviceAccount: seller, ports: {http: 8080}, network: far}
  probe: {httpGet: {port: 8080}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: machines, namespace: shop}
spec:
  hosts: [machines.example]
  addresses: [10.97.0.1]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: vm}}
"#;

/// A replica that is ready, and the roots by which it is known.
async fn start(server: &Server, name: &str) -> (Plane, String) {
    let plane = Plane::replica(server, name, &["--machine-grace-period", "3s"]);
    plane.ready().await;
    let roots = eventually("the roots are there", async || {
        let path = "/api/v1/namespaces/shop/configmaps/istio-ca-root-cert";
        let found = server.objects().send("GET", path, &Value::Null).await?;
        found["data"]["root-cert.pem"].as_str().map(str::to_owned).ok_or("no roots".to_owned())
    });
    (plane, roots.await)
}

async fn connect(
    server: &Server,
    (plane, roots): &(Plane, String),
    account: &str,
    group: &str,
) -> Result<Proxy, Status> {
    let token = token(&server.objects(), account, "istio-ca").await;
    let metadata = [("AUTO_REGISTER_GROUP", group), ("NAMESPACE", "shop"), ("SERVICE_ACCOUNT", account)];
    let id = "sidecar~10.9.0.1~vm-1.shop~shop.svc.cluster.local";
    let mut proxy = Proxy::open_as(plane.secure_with(roots).await, Some(&token), id, &metadata).await?;
    proxy.next().await?;
    Ok(proxy)
}

/// Waits until the entry is as it should be, and gives it.
async fn entry(server: &Server, is: impl Fn(&Value) -> bool) -> Value {
    eventually("the entry says so", async || {
        let found = server.objects().send("GET", ENTRY, &Value::Null).await?;
        if is(&found) { Ok(found) } else { Err(found.to_string()) }
    })
    .await
}

fn health(entry: &Value) -> (String, String) {
    let all = entry["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = all.into_iter().find(|c| c["type"] == "Healthy").unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&found["status"]), text(&found["message"]))
}

#[test]
fn a_machine_that_connects_has_an_entry_that_says_how_it_is_and_goes_after_it() {
    with_own(async |server: Server| {
        server.objects().put_yaml(GROUP).await;
        let first = start(&server, "first").await;
        let machine = connect(&server, &first, "seller", "vm").await.expect("a machine");
        let made = entry(&server, |_| true).await;
        let metadata = &made["metadata"];
        assert_eq!(made["spec"]["address"], "10.9.0.1");
        assert_eq!(made["spec"]["ports"], json!({"http": 8080}));
        assert_eq!((&made["spec"]["network"], &made["spec"]["serviceAccount"]), (&json!("far"), &json!("seller")));
        assert_eq!(made["spec"]["labels"]["app"], "vm");
        assert_eq!(metadata["annotations"]["note"], "of the group");
        assert_eq!(metadata["annotations"]["istio.io/autoRegistrationGroup"], "vm");
        assert_eq!(metadata["annotations"]["istio.io/workloadController"], "first");
        assert_eq!(metadata["annotations"]["proxy.istio.io/health-checks-enabled"], "true");
        assert!(metadata["annotations"]["istio.io/connectedAt"].is_string());
        let owner = &metadata["ownerReferences"][0];
        assert_eq!(
            (&owner["kind"], &owner["name"], &owner["controller"]),
            (&json!("WorkloadGroup"), &json!("vm"), &json!(true))
        );
        machine.says(Ok(())).await;
        entry(&server, |e| health(e).0 == "True").await;
        machine.says(Err("no answer on 8080")).await;
        entry(&server, |e| health(e) == ("False".to_owned(), "no answer on 8080".to_owned())).await;
        // One that comes back in time keeps its entry, whichever replica it comes to.
        drop(machine);
        entry(&server, |e| e["metadata"]["annotations"]["istio.io/disconnectedAt"].is_string()).await;
        let second = start(&server, "second").await;
        let machine = connect(&server, &second, "seller", "vm").await.expect("a machine");
        let back = entry(&server, |e| e["metadata"]["annotations"]["istio.io/workloadController"] == "second").await;
        assert_eq!(back["metadata"]["uid"], metadata["uid"]);
        assert!(back["metadata"]["annotations"]["istio.io/disconnectedAt"].is_null());
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        entry(&server, |_| true).await;
        drop(machine);
        let gone = async || match server.objects().send("GET", ENTRY, &Value::Null).await {
            Err(why) if why.starts_with("404") => Ok(()),
            other => Err(format!("{other:?}")),
        };
        eventually("the entry goes", gone).await;
        let count = |plane: &Plane, name: &str| plane.metric(&format!("auto_registration_{name}_total"));
        let counts = |plane: &Plane| ["success", "updates", "unregister", "errors"].map(|name| count(plane, name));
        assert_eq!(counts(&first.0), [1.0, 0.0, 1.0, 0.0]);
        assert_eq!(counts(&second.0), [0.0, 1.0, 1.0, 0.0]);
        assert_eq!(count(&first.0, "deletes") + count(&second.0, "deletes"), 1.0, "by the one that writes");
    });
}

#[test]
fn an_entry_that_was_not_made_for_its_machine_stays_without_a_word_of_its_health() {
    with_own(async |server: Server| {
        let objects = server.objects();
        objects.put_yaml(GROUP).await;
        let own = r#"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-10.9.0.1, namespace: shop, annotations: {proxy.istio.io/health-checks-enabled: "true"}}
spec: {address: 10.9.0.1, serviceAccount: seller}
"#;
        objects.put_yaml(own).await;
        let (plane, roots) = start(&server, "first").await;
        let token = token(&objects, "seller", "istio-ca").await;
        let metadata = [("WORKLOAD_ENTRY", "vm-10.9.0.1"), ("NAMESPACE", "shop"), ("SERVICE_ACCOUNT", "seller")];
        let id = "sidecar~10.9.0.1~vm-1.shop~shop.svc.cluster.local";
        let channel = plane.secure_with(&roots).await;
        let mut machine = Proxy::open_as(channel, Some(&token), id, &metadata).await.expect("a stream");
        machine.next().await.expect("clusters");
        machine.says(Ok(())).await;
        entry(&server, |e| health(e).0 == "True").await;
        drop(machine);
        let left = entry(&server, |e| health(e).0.is_empty()).await;
        assert!(left["metadata"]["annotations"]["istio.io/disconnectedAt"].is_string());
        let counts = ["success", "updates", "unregister", "deletes", "errors"];
        let counts = counts.map(|name| plane.metric(&format!("auto_registration_{name}_total")));
        assert_eq!(counts, [0.0; 5], "nothing was registered");
    });
}

#[test]
fn a_machine_without_a_group_or_of_another_account_is_not_served() {
    with_own(async |server: Server| {
        server.objects().put_yaml(GROUP).await;
        let plane = start(&server, "first").await;
        let refused = async |account: &str, group: &str| {
            connect(&server, &plane, account, group).await.err().map(|status| status.code())
        };
        assert_eq!(refused("seller", "nobody").await, Some(Code::FailedPrecondition));
        assert_eq!(refused("buyer", "vm").await, Some(Code::PermissionDenied));
        let metadata = [("AUTO_REGISTER_GROUP", "vm"), ("NAMESPACE", "shop")];
        let id = "sidecar~10.9.0.1~vm-1.shop~shop.svc.cluster.local";
        let channel = tonic::transport::Endpoint::try_from(plane.0.address()).expect("an address").connect_lazy();
        let mut unproven = Proxy::open_as(channel, None, id, &metadata).await.expect("a stream");
        assert_eq!(unproven.next().await.err().map(|status| status.code()), Some(Code::PermissionDenied));
        assert_eq!(plane.0.metric("auto_registration_errors_total"), 1.0, "the group that is not there");
        let found = server.objects().send("GET", ENTRY, &Value::Null).await;
        assert!(found.is_err_and(|why| why.starts_with("404")));
    });
}

/// A real agent on a machine, without an Envoy.
struct Agent {
    dir: PathBuf,
    process: Child,
}

impl Agent {
    /// Starts one whose workload is asked as these settings say.
    async fn start(server: &Server, (plane, roots): &(Plane, String), probe: &Value) -> Self {
        let dir = directory();
        let token = token(&server.objects(), "seller", "istio-ca").await;
        fs::write(dir.join("token"), token).expect("a file");
        fs::write(dir.join("roots"), roots).expect("a file");
        let settings = json!({"readinessProbe": probe, "statusPort": free_port()});
        let mut command = Command::new("env");
        command.args(["POD_NAME=vm-1", "POD_NAMESPACE=shop", "SERVICE_ACCOUNT=seller", "INSTANCE_IP=127.0.0.5"]);
        command.args(["ISTIO_META_AUTO_REGISTER_GROUP=vm", "DISABLE_ENVOY=true", &format!("PROXY_CONFIG={settings}")]);
        command.args([env!("CARGO_BIN_EXE_mainsheet"), "agent", "--server-name", "istiod.istio-system.svc"]);
        command.args(["--discovery-address", &format!("127.0.0.1:{}", plane.secure_port())]);
        for (flag, file) in
            [("token-file", "token"), ("root-cert", "roots"), ("config-path", "envoy"), ("sds-socket", "sds")]
        {
            command.arg(format!("--{flag}")).arg(dir.join(file));
        }
        let process = spawn(command, &dir.join("log"));
        Self { dir, process }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn an_agent_asks_its_workload_how_it_is_and_the_entry_says_so() {
    with_own(async |server: Server| {
        server.objects().put_yaml(GROUP).await;
        let well = Arc::new(AtomicBool::new(true));
        let listener = TcpListener::bind("127.0.0.5:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let answers = well.clone();
        let answer = async move || if answers.load(Relaxed) { StatusCode::OK } else { StatusCode::IM_A_TEAPOT };
        tokio::spawn(axum::serve(listener, Router::new().route("/well", get(answer))).into_future());
        let mut first = start(&server, "first").await;
        let probe = json!({"httpGet": {"path": "/well", "port": port}, "periodSeconds": 1, "failureThreshold": 2});
        let agent = Agent::start(&server, &first, &probe).await;
        let path = "/apis/networking.istio.io/v1/namespaces/shop/workloadentries/vm-127.0.0.5";
        let says = async |status: &str, message: &str| {
            eventually("the entry says how the workload is", async || {
                let found = server.objects().send("GET", path, &Value::Null).await?;
                match health(&found) == (status.to_owned(), message.to_owned()) {
                    true => Ok(()),
                    false => Err(format!("{found}\n{}", fs::read_to_string(agent.dir.join("log")).unwrap_or_default())),
                }
            })
            .await;
        };
        says("True", "").await;
        well.store(false, Relaxed);
        says("False", "the answer is 418").await;
        // A control plane that has lost it is told again.
        first.0.restart();
        first.0.ready().await;
        let nothing = json!({"status": {"conditions": []}});
        server.objects().send("PATCH", &format!("{path}/status"), &nothing).await.expect("a status");
        says("False", "the answer is 418").await;
        well.store(true, Relaxed);
        says("True", "").await;
    });
}
