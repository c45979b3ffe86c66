//! Questions for addresses of names, as a workload's resolver asks them.

use crate::Failure;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, TYPE, rdata::RData};
use std::{net::IpAddr, time::Duration};
use tokio::{net::UdpSocket, time::timeout};

/// What a server answers for a name: the code, then the addresses of this family.
pub(crate) async fn ask(server: &str, name: &str, v6: bool) -> Result<String, Failure> {
    let kind = if v6 { TYPE::AAAA } else { TYPE::A };
    let mut packet = Packet::new_query(4711);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(Name::new(name)?, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
    let socket = UdpSocket::bind("0.0.0.0:0").await?;
    socket.send_to(&packet.build_bytes_vec()?, server).await?;
    let mut buffer = [0; 4096];
    let length = timeout(Duration::from_secs(5), socket.recv(&mut buffer)).await??;
    let answer = Packet::parse(&buffer[..length])?;
    let mut words = vec![format!("{:?}", answer.rcode())];
    words.extend(answer.answers.iter().filter_map(|record| match &record.rdata {
        RData::A(a) => Some(IpAddr::V4(a.address.into()).to_string()),
        RData::AAAA(a) => Some(IpAddr::V6(a.address.into()).to_string()),
        _ => None,
    }));
    Ok(words.join(" "))
}
