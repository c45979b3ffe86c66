//! The sockets on which names are asked for, UDP and TCP.

use super::{
    Resolvers, Table,
    answer::{self, Transport, Verdict},
    upstream,
};
use crate::agent::metrics::Metrics;
use anyhow::{Context as _, Result};
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Semaphore, watch},
    time,
};

/// How many questions may wait for resolvers at once.
const WAITING: usize = 1024;
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// Takes UDP and TCP of an address; `localhost` is what the resolvers' families say.
pub(in crate::agent) async fn bind(address: &str, resolvers: &Resolvers) -> Result<Vec<(UdpSocket, TcpListener)>> {
    let (host, port) = crate::agent::host_and_port(address)?;
    let hosts: Vec<&str> = match &*host {
        "localhost" => {
            let (v4, v6) = (resolvers.any(SocketAddr::is_ipv4), resolvers.any(SocketAddr::is_ipv6));
            [("127.0.0.1", v4 || !v6), ("::1", v6)].iter().filter(|(_, is)| *is).map(|(host, _)| *host).collect()
        }
        host => vec![host],
    };
    let mut sockets = Vec::new();
    for host in hosts {
        let shown = || format!("{host}:{port}");
        let udp = UdpSocket::bind((host, port)).await.with_context(shown)?;
        let at = udp.local_addr()?;
        sockets.push((udp, TcpListener::bind(at).await.with_context(shown)?));
    }
    Ok(sockets)
}

/// Answers questions.
#[derive(Debug)]
pub(in crate::agent) struct Server {
    table: watch::Receiver<Option<Arc<Table>>>,
    resolvers: Resolvers,
    metrics: Arc<Metrics>,
    turn: AtomicUsize,
    waiting: Semaphore,
}

impl Server {
    /// One that knows the newest table.
    pub(in crate::agent) fn new(
        table: watch::Receiver<Option<Arc<Table>>>,
        resolvers: Resolvers,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let (turn, waiting) = (AtomicUsize::new(0), Semaphore::new(WAITING));
        Arc::new(Self { table, resolvers, metrics, turn, waiting })
    }

    /// Answers on these sockets.
    pub(in crate::agent) async fn serve(self: Arc<Self>, udp: UdpSocket, tcp: TcpListener) -> Result<()> {
        let (datagrams, connections) = (self.clone().datagrams(Arc::new(udp)), self.connections(tcp));
        tokio::try_join!(datagrams, connections)?;
        Ok(())
    }

    async fn datagrams(self: Arc<Self>, socket: Arc<UdpSocket>) -> Result<()> {
        let mut buffer = vec![0; 8192];
        loop {
            let (length, from) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                // What a client did not take, the system tells with the next one.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error.into()),
            };
            let question = &buffer[..length];
            let turn = self.turn();
            if let Some(answer) = self.own(question, Transport::Udp, turn) {
                let _ = socket.send_to(&answer, from).await;
                continue;
            }
            let (server, socket, question) = (self.clone(), socket.clone(), question.to_vec());
            tokio::spawn(async move {
                if let Some(answer) = server.others(&question, Transport::Udp, turn).await {
                    let _ = socket.send_to(&answer, from).await;
                }
            });
        }
    }

    async fn connections(self: Arc<Self>, listener: TcpListener) -> Result<()> {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Most likely there are no more file descriptors; there will be.
                time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let server = self.clone();
            tokio::spawn(async move { server.connection(stream).await });
        }
    }

    async fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        let silence = |_| io::Error::from(io::ErrorKind::TimedOut);
        while let Some(question) = time::timeout(SILENCE, upstream::receive(&mut stream)).await.map_err(silence)?? {
            let turn = self.turn();
            let answer = match self.own(&question, Transport::Tcp, turn) {
                Some(answer) => Some(answer),
                None => self.others(&question, Transport::Tcp, turn).await,
            };
            let Some(answer) = answer else { return Ok(()) };
            upstream::send(&mut stream, &answer).await?;
        }
        Ok(())
    }

    fn turn(&self) -> usize {
        self.metrics.dns_requests.add(1);
        self.turn.fetch_add(1, Relaxed)
    }

    /// The answer to a question about a name of the mesh.
    fn own(&self, question: &[u8], transport: Transport, turn: usize) -> Option<Vec<u8>> {
        let table = self.table.borrow().clone();
        match answer::answer(question, table.as_deref(), transport, turn) {
            Verdict::Answer(answer) => Some(answer),
            Verdict::Forward => None,
        }
    }

    /// What the resolvers answer, or that they do not.
    async fn others(&self, question: &[u8], transport: Transport, turn: usize) -> Option<Vec<u8>> {
        self.metrics.dns_upstream.add(1);
        // Where too many wait already, more would only wait longer.
        let asked = match self.waiting.try_acquire() {
            Ok(_turn) => self.resolvers.ask(question, transport, turn).await,
            Err(_) => Err(io::ErrorKind::WouldBlock.into()),
        };
        match asked {
            Ok(answer) => Some(answer::passed_on(question, answer, transport)),
            Err(error) => {
                self.metrics.dns_upstream_failures.add(1);
                tracing::debug!(%error, "no resolver answers");
                answer::failure(question)
            }
        }
    }
}
