//! An authorizer of the tests' own that is asked over HTTP.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

/// What an authorizer was told of a request.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Told {
    /// The method and the path.
    pub(crate) line: String,
    /// The headers, by their names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// A running authorizer, and what it was asked.
pub(crate) struct Asked {
    /// Its port.
    pub(crate) port: u16,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Asked {
    /// One of this port, that notes here what it is asked.
    pub(crate) fn new(port: u16, told: Arc<Mutex<Vec<Told>>>) -> Self {
        Self { port, told }
    }

    /// One over HTTP: `x-word: please` is let through, `slow` after a while, everything else is not.
    pub(crate) fn over_http() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let told = Arc::new(Mutex::new(Vec::new()));
        let notes = told.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let notes = notes.clone();
                thread::spawn(move || while answer(&stream, &notes).is_some() {});
            }
        });
        Self::new(port, told)
    }

    /// What it was asked since the last time.
    pub(crate) fn told(&self) -> Vec<Told> {
        std::mem::take(&mut *self.told.lock().expect("the notes"))
    }

    /// The one thing that it was asked since the last time.
    pub(crate) fn once(&self) -> Told {
        let mut told = self.told();
        assert_eq!(told.len(), 1, "{told:#?}");
        told.remove(0)
    }
}

/// Answers one request; `None` at the end of the connection.
fn answer(mut stream: &TcpStream, notes: &Mutex<Vec<Told>>) -> Option<()> {
    let told = read(stream)?;
    let word = told.headers.get("x-word").map(String::as_str).unwrap_or_default().to_owned();
    notes.lock().expect("the notes").push(told);
    if word == "slow" {
        thread::sleep(Duration::from_secs(2));
    }
    let head = match word.as_str() {
        "please" | "slow" => "200 OK\r\nx-user: alice\r\nx-told: yes\r\nx-private: 1\r\nset-cookie: s=1",
        _ => "402 No\r\nx-why: unpaid\r\nx-private: 1",
    };
    stream.write_all(format!("HTTP/1.1 {head}\r\ncontent-length: 2\r\n\r\nNo").as_bytes()).ok()
}

/// A request as it comes over a connection.
pub(crate) fn read(stream: &TcpStream) -> Option<Told> {
    // No more is sent before the answer, so nothing of it is lost with the buffer.
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        let count = reader.read_line(&mut line).ok()?;
        (count > 0).then(|| line.trim_end().to_owned())
    };
    let mut told = Told { line: line()?, ..Told::default() };
    loop {
        let header = line()?;
        match header.split_once(": ") {
            Some((name, value)) => told.headers.insert(name.to_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let length = told.headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    told.body = vec![0; length];
    reader.read_exact(&mut told.body).ok()?;
    Some(told)
}
