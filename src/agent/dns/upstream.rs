//! The pod's resolvers, for all names that are not the mesh's: questions and answers go through as they are.

use super::answer::Transport;
use std::{
    fs,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    task::JoinSet,
    time,
};

/// The port of resolvers.
const PORT: u16 = 53;

/// The pod's resolvers.
#[derive(Clone, Debug)]
pub(in crate::agent) struct Resolvers {
    servers: Vec<SocketAddr>,
    /// What resolvers append to names.
    pub(in crate::agent) search: Vec<String>,
    timeout: Duration,
    parallel: bool,
}

impl Resolvers {
    /// Those of a file such as `/etc/resolv.conf`, of which each may take so long.
    pub(in crate::agent) fn read(path: &Path, timeout: Duration, parallel: bool) -> io::Result<Self> {
        let (servers, search) = parse(&fs::read_to_string(path)?);
        Ok(Self { servers, search, timeout, parallel })
    }

    /// Those at these addresses.
    #[cfg(test)]
    pub(super) fn of(servers: Vec<SocketAddr>, timeout: Duration, parallel: bool) -> Self {
        Self { servers, search: Vec::new(), timeout, parallel }
    }

    /// Whether one of them has an address of this kind.
    pub(in crate::agent) fn any(&self, is: impl Fn(&SocketAddr) -> bool) -> bool {
        self.servers.iter().any(is)
    }

    /// What the first one answers that does, beginning with the one whose turn it is.
    pub(super) async fn ask(&self, question: &[u8], transport: Transport, turn: usize) -> io::Result<Vec<u8>> {
        let none = || io::Error::new(ErrorKind::NotFound, "there is no resolver");
        let from = turn % self.servers.len().max(1);
        let (later, first) = self.servers.split_at(from.min(self.servers.len()));
        let mut waiting = JoinSet::new();
        let mut last = none();
        for server in first.iter().chain(later) {
            let (server, question, timeout) = (*server, question.to_vec(), self.timeout);
            waiting.spawn(async move {
                let asked = one(server, &question, transport);
                time::timeout(timeout, asked).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
            });
            if !self.parallel {
                match waiting.join_next().await {
                    Some(Ok(Ok(answer))) => return Ok(answer),
                    Some(Ok(Err(error))) => last = error,
                    _ => {}
                }
            }
        }
        while let Some(answer) = waiting.join_next().await {
            match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = error,
                Err(_) => {}
            }
        }
        Err(last)
    }
}

async fn one(server: SocketAddr, question: &[u8], transport: Transport) -> io::Result<Vec<u8>> {
    match transport {
        Transport::Udp => {
            let any: IpAddr =
                if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            // Each question goes from a port of its own, which nobody can guess.
            let socket = UdpSocket::bind((any, 0)).await?;
            socket.connect(server).await?;
            socket.send(question).await?;
            let mut buffer = vec![0; 8192];
            loop {
                let length = socket.recv(&mut buffer).await?;
                if is_answer(question, &buffer[..length]) {
                    buffer.truncate(length);
                    return Ok(buffer);
                }
            }
        }
        Transport::Tcp => {
            let mut stream = TcpStream::connect(server).await?;
            send(&mut stream, question).await?;
            let answer = receive(&mut stream).await?.ok_or(ErrorKind::UnexpectedEof)?;
            if is_answer(question, &answer) { Ok(answer) } else { Err(ErrorKind::InvalidData.into()) }
        }
    }
}

/// Whether a message has the number of a question, and is an answer.
fn is_answer(question: &[u8], answer: &[u8]) -> bool {
    answer.len() >= 12 && answer[..2] == question[..2.min(question.len())] && answer[2] & 0x80 != 0
}

/// Sends a message over TCP.
pub(super) async fn send(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::Error::from(ErrorKind::InvalidData))?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await
}

/// The next message over TCP; nothing at the end.
pub(super) async fn receive(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let length = match stream.read_u16().await {
        Ok(length) => length,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// The resolvers and the search domains in a text of `resolv.conf`.
fn parse(text: &str) -> (Vec<SocketAddr>, Vec<String>) {
    let (mut servers, mut search) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
        match words.next() {
            Some("nameserver") => {
                // A zone of IPv6 names a device of another network namespace.
                let ip = words.next().and_then(|word| word.split('%').next()?.parse::<IpAddr>().ok());
                servers.extend(ip.map(|ip| SocketAddr::new(ip, PORT)));
            }
            // The last line counts.
            Some("search" | "domain") => search = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    (servers, search)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_and_search_domains_are_read_as_resolvers_read_them() {
        let text = "# none\nnameserver 10.96.0.10 # dns\nnameserver fe80::1%eth0\nnameserver x\ndomain old\n\
                    search shop.svc.cluster.local svc.cluster.local\noptions ndots:5\n";
        let (servers, search) = parse(text);
        assert_eq!(servers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.96.0.10:53", "[fe80::1]:53"]);
        assert_eq!(search, ["shop.svc.cluster.local", "svc.cluster.local"]);
    }

    #[test]
    fn only_an_answer_to_the_question_is_one() {
        let question = [1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let mut answer = question;
        assert!(!is_answer(&question, &answer), "a question");
        answer[2] |= 0x80;
        assert!(is_answer(&question, &answer) && !is_answer(&question, &answer[..11]));
        answer[1] = 3;
        assert!(!is_answer(&question, &answer), "another's");
    }
}
