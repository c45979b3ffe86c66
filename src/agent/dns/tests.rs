//! Questions over sockets: the mesh's names, and those of others.

use super::{Place, Resolvers, Server, Table, bind, upstream};
use crate::{
    agent::metrics::Metrics,
    pb::istio::networking::nds::v1::{NameTable, name_table::NameInfo},
};
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE,
    rdata::{A, RData},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
};

const FOREIGN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

/// Two sockets of one port: what is free for the first may be taken for the second.
async fn both(bind: impl AsyncFn() -> anyhow::Result<(UdpSocket, TcpListener)>) -> (UdpSocket, TcpListener) {
    let mut tries = 0;
    loop {
        match bind().await {
            Ok(sockets) => return sockets,
            Err(_) if tries < 20 => tries += 1,
            Err(error) => panic!("no port: {error}"),
        }
    }
}

/// A resolver that knows `known.org` alone, which has so many addresses.
async fn resolver(count: u8) -> SocketAddr {
    let sockets = async || {
        let tcp = TcpListener::bind("127.0.0.1:0").await?;
        Ok((UdpSocket::bind(tcp.local_addr()?).await?, tcp))
    };
    let (udp, tcp) = both(sockets).await;
    let at = tcp.local_addr().expect("an address");
    let answer = move |question: &[u8]| {
        let question = Packet::parse(question).expect("a question");
        let name = question.questions[0].qname.clone();
        let mut reply = Packet::new_reply(question.id());
        reply.questions = question.questions.clone();
        match name.to_string().as_str() {
            "known.org" => {
                let record = |_| ResourceRecord::new(name.clone(), CLASS::IN, 60, RData::A(A::from(FOREIGN)));
                reply.answers = (0..count).map(record).collect();
            }
            _ => *reply.rcode_mut() = RCODE::NameError,
        }
        reply.build_bytes_vec().expect("a reply")
    };
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        loop {
            tokio::select! {
                Ok((length, from)) = udp.recv_from(&mut buffer) => {
                    udp.send_to(&answer(&buffer[..length]), from).await.expect("sent");
                }
                Ok((mut stream, _)) = tcp.accept() => {
                    let question = upstream::receive(&mut stream).await.expect("a question").expect("a question");
                    upstream::send(&mut stream, &answer(&question)).await.expect("sent");
                }
            }
        }
    });
    at
}

/// An agent's server with these resolvers, which knows `mesh.com`.
async fn server(resolvers: Vec<SocketAddr>, parallel: bool) -> SocketAddr {
    let info = NameInfo { ips: vec!["10.0.0.1".into()], registry: "External".into(), ..Default::default() };
    let table = NameTable { table: [("mesh.com".to_owned(), info)].into() };
    let table = Table::new(table, &Place::new("shop", "shop.svc.cluster.local", &[]));
    let (sender, table) = watch::channel(Some(Arc::new(table)));
    let resolvers = Resolvers::of(resolvers, Duration::from_millis(300), parallel);
    let (udp, tcp) = both(async || bind("127.0.0.1:0", &resolvers).await.map(|mut all| all.remove(0))).await;
    let at = udp.local_addr().expect("an address");
    let serving = Server::new(table, resolvers, Arc::<Metrics>::default()).serve(udp, tcp);
    tokio::spawn(async move {
        let _table = sender;
        serving.await
    });
    at
}

fn question(name: &str) -> Vec<u8> {
    let mut packet = Packet::new_query(77);
    let name = Name::new(name).expect("a name");
    packet.questions.push(Question::new(name, QTYPE::TYPE(TYPE::A), QCLASS::CLASS(CLASS::IN), false));
    packet.build_bytes_vec().expect("a question")
}

/// The code, whether it was cut, and the addresses of an answer.
fn read(answer: &[u8]) -> (RCODE, bool, Vec<Ipv4Addr>) {
    let packet = Packet::parse(answer).expect("an answer");
    let ip = |record: &ResourceRecord<'_>| match &record.rdata {
        RData::A(a) => Some(a.address.into()),
        _ => None,
    };
    (packet.rcode(), packet.has_flags(PacketFlag::TRUNCATION), packet.answers.iter().filter_map(ip).collect())
}

async fn over_udp(to: SocketAddr, name: &str) -> (RCODE, bool, Vec<Ipv4Addr>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.send_to(&question(name), to).await.expect("sent");
    let mut buffer = [0; 4096];
    let received = tokio::time::timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await.expect("in time");
    read(&buffer[..received.expect("an answer")])
}

async fn over_tcp(to: SocketAddr, names: &[&str]) -> Vec<(RCODE, bool, Vec<Ipv4Addr>)> {
    let mut stream = TcpStream::connect(to).await.expect("a connection");
    let mut answers = Vec::new();
    for name in names {
        upstream::send(&mut stream, &question(name)).await.expect("sent");
        answers.push(read(&upstream::receive(&mut stream).await.expect("an answer").expect("an answer")));
    }
    answers
}

#[tokio::test]
async fn the_mesh_s_names_are_answered_and_others_are_passed_on() {
    let at = server(vec![resolver(1).await], false).await;
    let own = (RCODE::NoError, false, vec![Ipv4Addr::new(10, 0, 0, 1)]);
    let foreign = (RCODE::NoError, false, vec![FOREIGN]);
    let unknown = (RCODE::NameError, false, vec![]);
    assert_eq!(over_udp(at, "mesh.com").await, own);
    assert_eq!(over_udp(at, "known.org").await, foreign);
    assert_eq!(over_udp(at, "unknown.org").await, unknown);
    assert_eq!(over_tcp(at, &["mesh.com", "known.org", "unknown.org"]).await, [own, foreign, unknown]);
}

#[tokio::test]
async fn an_answer_that_is_too_large_comes_whole_over_tcp() {
    let at = server(vec![resolver(100).await], false).await;
    let (code, cut, ips) = over_udp(at, "known.org").await;
    assert_eq!((code, cut), (RCODE::NoError, true));
    assert!(!ips.is_empty() && ips.len() < 100, "{}", ips.len());
    let whole = &over_tcp(at, &["known.org"]).await[0];
    assert_eq!((whole.1, whole.2.len()), (false, 100));
}

#[tokio::test]
async fn a_resolver_that_is_silent_leaves_it_to_the_next_and_none_is_a_failure() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let nobody = silent.local_addr().expect("an address");
    for parallel in [false, true] {
        let at = server(vec![nobody, resolver(1).await], parallel).await;
        for _ in 0..2 {
            assert_eq!(over_udp(at, "known.org").await.2, [FOREIGN]);
        }
    }
    let at = server(vec![nobody], false).await;
    assert_eq!(over_udp(at, "known.org").await.0, RCODE::ServerFailure);
    assert_eq!(over_udp(server(vec![], false).await, "known.org").await.0, RCODE::ServerFailure);
}
