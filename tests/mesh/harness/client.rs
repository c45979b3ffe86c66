//! Requests from a place: a small program runs there and sends what it is told to.

use super::{certificate::Shown, network::Place, process};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
    time::SystemTime,
};

/// A running client.
#[derive(Debug)]
pub(crate) struct Client {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Client {
    /// A client in this place.
    pub(crate) fn new(place: &Place) -> Self {
        let mut command = process::command(place, echo(), process::User::Own);
        command.arg("send").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("a client");
        let orders = child.stdin.take().expect("a pipe");
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, orders, answers }
    }

    fn order(&mut self, order: &Value) -> Vec<Reply> {
        writeln!(self.orders, "{order}").expect("a client that listens");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a client that answers");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{order}: {line}: {e}"))
    }

    /// Sends a request as often as it says, and tells what came back.
    pub(crate) fn send(&mut self, request: &Request) -> Vec<Reply> {
        self.order(&request.order("http"))
    }

    /// Sends a request once.
    pub(crate) fn one(&mut self, request: &Request) -> Reply {
        self.send(request).pop().expect("a reply to each request")
    }

    /// A GET of this URL.
    pub(crate) fn get(&mut self, url: &str) -> Reply {
        self.one(&Request::get(url))
    }

    /// Begins to send, until `stop`.
    pub(crate) fn start(&mut self, request: &Request) {
        self.order(&request.order("start"));
    }

    /// Ends what `start` began, and tells what came back.
    pub(crate) fn stop(&mut self) -> Vec<Reply> {
        self.order(&json!({ "op": "stop" }))
    }

    /// Asks for the addresses of a name, of either family; the answer is the body of the reply.
    pub(crate) fn resolve(&mut self, server: &str, name: &str, v6: bool) -> Reply {
        self.order(&json!({ "op": "dns", "to": server, "name": name, "v6": v6 })).pop().expect("a reply")
    }

    /// Sends a line over TCP; the answer is the body of the reply.
    pub(crate) fn tcp(&mut self, to: &str, line: &str) -> Reply {
        self.order(&json!({ "op": "tcp", "to": to, "line": line })).pop().expect("a reply")
    }

    /// The same over TLS of the client's own.
    pub(crate) fn tcp_tls(&mut self, to: &str, line: &str, shown: Option<&Shown>, alpn: &[&str]) -> Reply {
        self.order(&json!({ "op": "tcp", "to": to, "line": line, "tls": tls(shown, alpn) })).pop().expect("a reply")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request, and how it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    fields: Value,
    headers: Vec<(String, String)>,
}

impl Request {
    /// A GET of a URL whose host is an address.
    pub(crate) fn get(url: &str) -> Self {
        Self { fields: json!({ "url": url }), headers: Vec::new() }
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.fields[key] = value.into();
        self
    }

    /// With this method.
    pub(crate) fn method(self, method: &str) -> Self {
        self.with("method", method)
    }
    /// With this body.
    pub(crate) fn body(self, body: &str) -> Self {
        self.with("body", body)
    }
    /// As often as this.
    pub(crate) fn count(self, count: u64) -> Self {
        self.with("count", count)
    }
    /// So many at a time.
    pub(crate) fn workers(self, workers: u64) -> Self {
        self.with("workers", workers)
    }
    /// With a pause after each.
    pub(crate) fn pause_ms(self, pause: u64) -> Self {
        self.with("pause_ms", pause)
    }
    /// As HTTP/2 without TLS.
    pub(crate) fn http2(self) -> Self {
        self.with("http2", true)
    }
    /// Each over a new connection.
    pub(crate) fn fresh(self) -> Self {
        self.with("fresh", true)
    }
    /// Of what is answered with 200 nothing else is told.
    pub(crate) fn brief(self) -> Self {
        self.with("brief", true)
    }
    /// With TLS of the client's own, in which it shows this and offers these protocols.
    pub(crate) fn tls(self, shown: Option<&Shown>, alpn: &[&str]) -> Self {
        self.with("tls", tls(shown, alpn))
    }
    /// With a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
    /// To this host, whatever the address is.
    pub(crate) fn host(self, host: &str) -> Self {
        self.header("host", host)
    }

    fn order(&self, op: &str) -> Value {
        let mut order = self.fields.clone();
        order["op"] = op.into();
        order["headers"] = json!(self.headers);
        order
    }
}

fn tls(shown: Option<&Shown>, alpn: &[&str]) -> Value {
    json!({ "chain": shown.map(Shown::chain), "key": shown.map(Shown::key), "alpn": alpn })
}

/// What came back.
#[derive(Clone, Debug, serde::Deserialize)]
pub(crate) struct Reply {
    /// The status; 0 where there was none.
    pub(crate) status: u16,
    /// The headers, with lower-case names.
    pub(crate) headers: BTreeMap<String, String>,
    /// The body.
    pub(crate) body: String,
    /// Why there was no answer.
    pub(crate) error: Option<String>,
    /// How long it took.
    pub(crate) ms: u64,
}

impl Reply {
    /// What the workload said that answered.
    pub(crate) fn echo(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }

    /// A header, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// A header as it reached the workload.
    pub(crate) fn sent_header(&self, name: &str) -> Option<String> {
        self.echo()["headers"][name].as_str().map(str::to_owned)
    }

    /// Which workload answered: `name-version`.
    pub(crate) fn served_by(&self) -> &str {
        self.header("x-served-by")
    }

    /// In a few words, for messages.
    pub(crate) fn brief(&self) -> String {
        match &self.error {
            Some(error) => error.clone(),
            None => format!("{} {} {} ms", self.status, self.served_by(), self.ms),
        }
    }
}

/// The program of the workloads, built where it is not there or older than its source.
pub(crate) fn echo() -> &'static PathBuf {
    static ECHO: OnceLock<PathBuf> = OnceLock::new();
    ECHO.get_or_init(|| {
        let own = std::env::current_exe().expect("the path of this program");
        let profile = own.ancestors().find(|d| d.join("examples").is_dir()).expect("the directory of examples");
        let echo = profile.join("examples/echo");
        let modified = |path: PathBuf| path.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/echo");
        let files = source.read_dir().into_iter().flatten().flatten().map(|e| modified(e.path()));
        if files.max().is_some_and(|newest| newest > modified(echo.clone())) {
            let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
            let built = Command::new(cargo)
                .args(["build", "--example", "echo", "--manifest-path"])
                .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
                .arg("--target-dir")
                .args(profile.parent())
                .status();
            assert!(built.is_ok_and(|s| s.success()), "the workloads' program could not be built");
        }
        echo
    })
}
