//! The real Open Policy Agent decides by a Rego file, behind an authorizer that is asked by gRPC: what Envoy tells of a
//! request or connection is its `input`, and what its rules say is what Envoy is answered.

use super::{
    Ask, Rig, Setup, ask_about,
    grpc::{CheckRequest, CheckResponse, header, serve},
    mesh, policy,
};
use crate::harness::{Process, eventually, free_port, run};
use serde_json::{Value, json};
use std::{convert::Infallible, fs, path::PathBuf, process::Command, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::codegen::BoxFuture;

/// Who may do what: everybody may read the catalogue, the service account `front` may order, and whoever has a token of
/// the staff may do all but delete. Connections are for `front` alone.
const REGO: &str = r#"package mesh

default allow := false

front if endswith(input.principal, "/ns/web/sa/front")

staff if {
    [_, payload, _] := io.jwt.decode(substring(input.headers.authorization, count("Bearer "), -1))
    "staff" in payload.groups
}

allow if {
    input.method == "GET"
    startswith(input.path, "/catalogue/")
}

allow if {
    front
    input.method == "POST"
    input.path == "/orders"
    order := json.unmarshal(input.body)
    order.count <= 10
}

allow if {
    staff
    input.method != "DELETE"
}

allow if {
    front
    not input.method
}

user := "front" if front
user := "staff" if {
    staff
    not front
}

why := "only the staff may" if input.method == "PUT"
"#;

/// A running agent.
struct Agent {
    port: u16,
    _process: Process,
}

impl Agent {
    fn start() -> Self {
        let cache = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/mainsheet/opa-1.22.2/opa"));
        let program = std::env::var_os("OPA").map(PathBuf::from).or(cache).expect("a home directory");
        assert!(program.is_file(), "Open Policy Agent is not at {}: `make opa` builds it", program.display());
        let (dir, _) = run().part();
        fs::write(dir.join("mesh.rego"), REGO).expect("a file");
        let port = free_port();
        let mut command = Command::new(program);
        command.args(["run", "--server", "--disable-telemetry", "--log-level", "error", "--addr"]);
        command.arg(format!("127.0.0.1:{port}")).arg(dir.join("mesh.rego")).env(crate::harness::MARK, run().dir());
        let mut process = Process::start(command, dir.join("opa.log"));
        eventually("Open Policy Agent listens", || {
            process.expect_running();
            std::net::TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())
        });
        Self { port, _process: process }
    }
}

/// What the rules say of an input.
async fn asked(port: u16, input: Value) -> std::io::Result<Value> {
    let body = json!({ "input": input }).to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let head = format!("POST /v1/data/mesh HTTP/1.0\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let (_, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    Ok(serde_json::from_str::<Value>(body)?["result"].clone())
}

/// The authorizer before an agent. What the agent cannot say is no.
fn before(port: u16) -> u16 {
    serve(Arc::new(move |request: CheckRequest| -> BoxFuture<CheckResponse, Infallible> {
        let attributes = request.attributes.unwrap_or_default();
        let principal = attributes.source.unwrap_or_default().principal;
        let input = match attributes.request.and_then(|about| about.http) {
            None => json!({ "principal": principal }),
            Some(http) => json!({ "principal": principal, "method": http.method, "path": http.path, "host": http.host,
                "headers": http.headers, "body": http.body }),
        };
        Box::pin(async move {
            let said = asked(port, input).await.unwrap_or_default();
            let text = |name: &str| said[name].as_str().unwrap_or("unknown").to_owned();
            Ok(match said["allow"] == true {
                true => CheckResponse::allowed(vec![header("x-user", &text("user"))]),
                false => CheckResponse::denied(403, &text("why")),
            })
        })
    }))
}

const FRONT: &str = "cluster.local/ns/web/sa/front";
const BACK: &str = "cluster.local/ns/web/sa/back";

fn request(method: &'static str, path: &str, identity: Option<&'static str>) -> Ask {
    Ask { method: Some(method), path: Some(path.to_owned()), identity, ..Ask::default() }
}

#[test]
fn open_policy_agent_decides_beside_what_allows_and_denies() {
    let agent = Agent::start();
    let fields = "timeout: 10s, includeRequestBodyInCheck: {maxRequestBytes: 1024}";
    let world = format!(
        "{}{}{}{}",
        mesh("envoyExtAuthzGrpc", 9000, fields),
        ask_about("ask", "'*'").replace("paths: ['*']", "notPaths: [/health]"),
        policy("deny", "  action: DENY\n  rules: [{to: [{operation: {paths: [/catalogue/secret*]}}]}]\n"),
        policy("allow", "  rules: [{to: [{operation: {notMethods: [PATCH]}}]}]\n"),
    );
    let beside = [(9000, before(agent.port))];
    for gateway in [false, true] {
        let worlds = [world.clone()];
        let rig = Rig::of(&Setup {
            worlds: &worlds,
            identities: &[FRONT, BACK],
            beside: &beside,
            gateway,
            ..Setup::default()
        });
        let status = |ask: &Ask| rig.ask(0, ask).status;
        let order = |identity, body: &str| Ask { body: Some(body.to_owned()), ..request("POST", "/orders", identity) };
        assert_eq!(status(&request("GET", "/health", None)), 200, "nobody is asked");
        assert_eq!(status(&request("GET", "/catalogue/1", None)), 200);
        assert_eq!(status(&request("GET", "/orders", None)), 403, "the agent says no");
        assert_eq!(status(&request("GET", "/catalogue/secret", None)), 403, "the agent says yes, and DENY no");
        let paid = rig.ask(0, &order(Some(FRONT), "{\"count\": 2}"));
        assert_eq!((paid.status, paid.seen.get("x-user").map(String::as_str)), (200, Some("front")));
        assert_eq!(status(&order(Some(FRONT), "{\"count\": 11}")), 403, "it reads what is in the body");
        assert_eq!([status(&order(Some(BACK), "{\"count\": 2}")), status(&order(None, "{\"count\": 2}"))], [403, 403]);
        let by = |method, groups: Value| Ask {
            token: Some(super::super::token::Token::of(json!({ "groups": groups }))),
            ..request(method, "/prices", None)
        };
        assert_eq!(status(&by("PUT", json!(["staff"]))), 200);
        assert_eq!(status(&by("PATCH", json!(["staff"]))), 403, "the agent says yes, and no policy allows it");
        assert_eq!(status(&by("DELETE", json!(["staff"]))), 403);
        let why = rig.ask(0, &by("PUT", json!(["guests"])));
        assert_eq!((why.status, why.headers.get("x-why").map(String::as_str)), (403, Some("only the staff may")));
        let bytes = |identity| Ask { bytes: true, identity, ..Ask::default() };
        // No connection has a method that is not PATCH, so none would be allowed.
        assert_eq!(status(&bytes(Some(FRONT))), 0);
    }
    let by_grpc = format!(
        "{}{}",
        mesh("envoyExtAuthzGrpc", 9000, "timeout: 10s"),
        policy("ask", "  action: CUSTOM\n  provider: {name: ask}\n  rules: [{}]\n")
    );
    let rig = Rig::of(&Setup { worlds: &[by_grpc], identities: &[FRONT, BACK], beside: &beside, ..Setup::default() });
    let bytes = |identity| rig.ask(0, &Ask { bytes: true, identity, ..Ask::default() }).status;
    assert_eq!([bytes(Some(FRONT)), bytes(Some(BACK)), bytes(None)], [200, 0, 0], "connections are for one alone");
    drop(agent);
    assert_eq!(rig.ask(0, &request("GET", "/catalogue/1", None)).status, 403, "without the agent nobody gets through");
}
