//! The way to an API server, which a test may cut.

use super::Server;
use kube::Client;
use mainsheet::source::kubernetes;
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// No end to what may pass.
const ALL: i64 = i64::MAX;

/// A way that every byte to and from an API server goes.
pub(crate) struct Link {
    client: Client,
    open: watch::Sender<bool>,
    /// How many more bytes pass on the way back before the connection they are on is cut.
    left: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl Link {
    /// A way that is open, for somebody with all rights.
    pub(crate) async fn new(server: &Server) -> Self {
        Self::of(server, "admin").await
    }

    /// A way that is open, for the bearer of a token.
    pub(crate) async fn of(server: &Server, token: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let here = listener.local_addr().expect("an address");
        let text = fs::read_to_string(server.kubeconfig()).expect("a file");
        let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let address = config["clusters"][0]["cluster"]["server"].as_str().expect("an address").to_owned();
        let there = address.trim_start_matches("https://").to_owned();
        config["clusters"][0]["cluster"]["server"] = format!("https://{here}").into();
        config["users"][0]["user"]["token"] = token.into();
        let file = super::directory().join("kubeconfig");
        fs::write(&file, config.to_string()).expect("a file");
        let client = kubernetes::connect(Some(&file)).await.expect("a client");
        let (open, is_open) = watch::channel(true);
        let left = Arc::new(AtomicI64::new(ALL));
        let task = tokio::spawn(listen(listener, there, is_open, left.clone()));
        Self { client, open, left, task }
    }

    /// A client that goes this way.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Ends every connection, and lets none begin until it is mended.
    pub(crate) fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Lets connections begin.
    pub(crate) fn mend(&self) {
        self.left.store(ALL, Ordering::SeqCst);
        self.open.send_replace(true);
    }

    /// Ends the connection on which the answers of all reach this many bytes from now.
    pub(crate) fn cut_after(&self, bytes: i64) {
        self.left.store(bytes, Ordering::SeqCst);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(listener: TcpListener, there: String, open: watch::Receiver<bool>, left: Arc<AtomicI64>) {
    loop {
        let Ok((near, _)) = listener.accept().await else { return };
        let (there, mut open, left) = (there.clone(), open.clone(), left.clone());
        tokio::spawn(async move {
            if !*open.borrow() {
                return;
            }
            let Ok(far) = TcpStream::connect(there).await else { return };
            tokio::select! {
                () = pass(near, far, left) => {}
                _ = open.wait_for(|open| !open) => {}
            }
        });
    }
}

async fn pass(near: TcpStream, far: TcpStream, left: Arc<AtomicI64>) {
    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.into_split(), far.into_split());
    let there = async { tokio::io::copy(&mut from_near, &mut to_far).await.map(drop) };
    let back = async {
        let mut buffer = vec![0; 4096];
        loop {
            let count = from_far.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            let before = left.fetch_sub(i64::try_from(count).expect("a length"), Ordering::SeqCst);
            let some = usize::try_from(before.max(0)).expect("a length").min(count);
            to_near.write_all(&buffer[..some]).await?;
            if some < count {
                // One connection is cut; the others go on.
                left.store(ALL, Ordering::SeqCst);
                return std::io::Result::Ok(());
            }
        }
    };
    tokio::select! {
        _ = there => {}
        _ = back => {}
    }
}
