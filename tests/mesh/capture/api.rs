//! What stands for an API server: it answers with the objects that it was given, by their paths.

use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// An API server without rights, versions, or anything to write.
#[derive(Clone, Default)]
pub(super) struct Api {
    address: String,
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    asked: Arc<Mutex<usize>>,
}

impl Api {
    /// One that answers already.
    pub(super) fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let api = Self { address, ..Self::default() };
        let answering = api.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let api = answering.clone();
                thread::spawn(move || api.answer(&stream));
            }
        });
        api
    }

    /// A file by which it is spoken to.
    pub(super) fn kubeconfig(&self) -> String {
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": self.address}}],
            "users": [{"name": "c", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        });
        kubeconfig.to_string()
    }

    pub(super) fn put(&self, path: &str, object: Value) {
        self.objects.lock().expect("the objects").insert(path.to_owned(), object);
    }

    /// A pod of the namespace `shop`.
    pub(super) fn put_pod(&self, name: &str, pod: Value) {
        self.put(&format!("/api/v1/namespaces/shop/pods/{name}"), pod);
    }

    /// How often it was asked.
    pub(super) fn requests(&self) -> usize {
        *self.asked.lock().expect("the count")
    }

    fn answer(&self, mut stream: &TcpStream) {
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        let request = lines.next().unwrap_or_default();
        lines.take_while(|l| !l.is_empty()).for_each(drop);
        *self.asked.lock().expect("the count") += 1;
        let target = request.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if query.contains("watch=") {
            // Nothing ever changes.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n");
            return thread::sleep(Duration::from_secs(600));
        }
        let missing =
            json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": path});
        let (status, body) = match self.objects.lock().expect("the objects").get(path) {
            Some(object) => ("200 OK", object.to_string()),
            None => ("404 Not Found", missing.to_string()),
        };
        let head = format!("content-type: application/json\r\ncontent-length: {}\r\nconnection: close", body.len());
        // Who asked may be gone already.
        let _ = write!(stream, "HTTP/1.1 {status}\r\n{head}\r\n\r\n{body}");
    }
}
