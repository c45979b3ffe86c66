//! Answers to questions about names of the mesh, as messages of DNS.

use super::table::{Found, Table};
use simple_dns::{
    CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, RCODE, ResourceRecord, TYPE,
    rdata::{A, AAAA, CNAME, OPT, RData},
};
use std::net::IpAddr;

/// For how long an answer is good, in seconds: the table may change at any time.
const TTL: u32 = 30;
/// What goes over UDP where the client says nothing else, in bytes.
const SMALLEST: usize = 512;
/// What we take over UDP ourselves, and the most that we send, in bytes: larger datagrams come in pieces.
const LARGEST: usize = 4096;

/// What is to be done with a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is answered.
    Answer(Vec<u8>),
    /// It is for the pod's resolvers.
    Forward,
}

/// How a question came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// What becomes of a question. `turn` says which address comes first.
pub(super) fn answer(question: &[u8], table: Option<&Table>, transport: Transport, turn: usize) -> Verdict {
    // What is not understood here may be understood elsewhere.
    let Ok(packet) = Packet::parse(question) else { return Verdict::Forward };
    if packet.has_flags(PacketFlag::RESPONSE) || packet.opcode() != OPCODE::StandardQuery {
        return Verdict::Forward;
    }
    let [asked] = &packet.questions[..] else { return refused(&packet, RCODE::FormatError) };
    // As long as the names are not known, nobody can say which are the mesh's.
    let Some(table) = table else { return refused(&packet, RCODE::ServerFailure) };
    let internet = matches!(asked.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY);
    let addresses: Option<fn(&IpAddr) -> bool> = match asked.qtype {
        QTYPE::TYPE(TYPE::A) => Some(IpAddr::is_ipv4),
        QTYPE::TYPE(TYPE::AAAA) => Some(IpAddr::is_ipv6),
        _ => None,
    };
    let name = asked.qname.to_string().trim_end_matches('.').to_lowercase();
    let (Some(of_family), true) = (addresses, internet) else { return Verdict::Forward };
    let Some(found) = table.find(&name) else { return Verdict::Forward };
    let mut reply = reply(&packet, RCODE::NoError);
    // Nobody else knows better.
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    reply.answers = records(&asked.qname, &found, of_family, turn);
    fitting(reply, limit(&packet, transport)).map_or(Verdict::Forward, Verdict::Answer)
}

/// The answer that there is none.
pub(super) fn failure(question: &[u8]) -> Option<Vec<u8>> {
    let packet = Packet::parse(question).ok()?;
    match refused(&packet, RCODE::ServerFailure) {
        Verdict::Answer(bytes) => Some(bytes),
        Verdict::Forward => None,
    }
}

/// An answer of others, cut where it is larger than the client takes.
pub(super) fn passed_on(question: &[u8], answer: Vec<u8>, transport: Transport) -> Vec<u8> {
    let limit = Packet::parse(question).map_or(SMALLEST, |packet| limit(&packet, transport));
    if answer.len() <= limit {
        return answer;
    }
    let cut = Packet::parse(&answer).ok().and_then(|packet| fitting(packet, limit));
    cut.or_else(|| failure(question)).unwrap_or_default()
}

/// How large an answer may be.
fn limit(question: &Packet<'_>, transport: Transport) -> usize {
    match (transport, question.opt()) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => SMALLEST,
        (Transport::Udp, Some(opt)) => usize::from(opt.udp_packet_size).clamp(SMALLEST, LARGEST),
    }
}

fn reply<'a>(question: &Packet<'a>, code: RCODE) -> Packet<'a> {
    let mut reply = Packet::new_reply(question.id());
    reply.questions.clone_from(&question.questions);
    *reply.rcode_mut() = code;
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    if question.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    if question.opt().is_some() {
        let udp_packet_size = u16::try_from(LARGEST).expect("a small number");
        *reply.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size, version: 0 });
    }
    reply
}

fn refused(question: &Packet<'_>, code: RCODE) -> Verdict {
    reply(question, code).build_bytes_vec_compressed().map_or(Verdict::Forward, Verdict::Answer)
}

fn records<'a>(
    name: &Name<'a>,
    found: &Found<'_>,
    of_family: fn(&IpAddr) -> bool,
    turn: usize,
) -> Vec<ResourceRecord<'a>> {
    let record = |name: &Name<'a>, data| ResourceRecord::new(name.clone(), CLASS::IN, TTL, data);
    let mut ips: Vec<IpAddr> = found.ips.iter().copied().filter(of_family).collect();
    if !ips.is_empty() {
        let by = turn % ips.len();
        ips.rotate_left(by);
    }
    let alias = found.alias_of.as_deref().and_then(|alias| Some(Name::new(alias).ok()?.into_owned()));
    let named = alias.as_ref().unwrap_or(name);
    let addresses = ips.into_iter().map(|ip| match ip {
        IpAddr::V4(ip) => record(named, RData::A(A::from(ip))),
        IpAddr::V6(ip) => record(named, RData::AAAA(AAAA::from(ip))),
    });
    let alias = alias.as_ref().map(|alias| record(name, RData::CNAME(CNAME(alias.clone()))));
    alias.into_iter().chain(addresses).collect()
}

/// A message as bytes, without the records for which there is no place; then it says that it was cut.
fn fitting(mut packet: Packet<'_>, limit: usize) -> Option<Vec<u8>> {
    let bytes = packet.build_bytes_vec_compressed().ok()?;
    if bytes.len() <= limit {
        return Some(bytes);
    }
    packet.set_flags(PacketFlag::TRUNCATION);
    packet.additional_records.clear();
    packet.name_servers.clear();
    loop {
        let bytes = packet.build_bytes_vec_compressed().ok()?;
        if bytes.len() <= limit {
            return Some(bytes);
        }
        let left = packet.answers.len();
        if left == 0 {
            return None;
        }
        // No record is smaller than this, so none too many is left out.
        packet.answers.truncate((left - 1).min(left - (bytes.len() - limit) / 28 / 10));
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::Place;
    use super::*;
    use crate::pb::istio::networking::nds::v1::{NameTable, name_table::NameInfo};
    use simple_dns::Question;

    fn table() -> Table {
        let info = |ips: Vec<String>| NameInfo { ips, registry: "External".into(), ..Default::default() };
        let many = (0..100).map(|n| format!("10.0.1.{n}")).collect();
        let names = [
            ("one.com", info(vec!["10.0.0.1".into()])),
            ("two.com", info(vec!["10.0.0.1".into(), "10.0.0.2".into(), "fd00::1".into()])),
            ("many.com", info(many)),
        ];
        let search = ["shop.svc.cluster.local".to_owned()];
        let place = Place::new("shop", "shop.svc.cluster.local", &search);
        Table::new(NameTable { table: names.map(|(name, info)| (name.to_owned(), info)).into() }, &place)
    }

    fn question(name: &str, kind: TYPE, size: Option<u16>) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let name = Name::new(name).expect("a name");
        packet.questions.push(Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false));
        *packet.opt_mut() = size.map(|udp_packet_size| OPT { opt_codes: Vec::new(), udp_packet_size, version: 0 });
        packet.build_bytes_vec().expect("a packet")
    }

    fn asked(name: &str, kind: TYPE, size: Option<u16>, transport: Transport, turn: usize) -> Option<Vec<u8>> {
        match answer(&question(name, kind, size), Some(&table()), transport, turn) {
            Verdict::Answer(bytes) => Some(bytes),
            Verdict::Forward => None,
        }
    }

    fn ips(bytes: &[u8]) -> Vec<IpAddr> {
        let packet = Packet::parse(bytes).expect("a packet");
        let ip = |record: &ResourceRecord<'_>| match &record.rdata {
            RData::A(a) => Some(IpAddr::V4(a.address.into())),
            RData::AAAA(a) => Some(IpAddr::V6(a.address.into())),
            _ => None,
        };
        packet.answers.iter().filter_map(ip).collect()
    }

    #[test]
    fn addresses_of_the_family_asked_for_take_turns() {
        let of = |kind, turn| ips(&asked("TWO.com", kind, None, Transport::Udp, turn).expect("an answer"));
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(of(TYPE::A, 0), [ip("10.0.0.1"), ip("10.0.0.2")]);
        assert_eq!(of(TYPE::A, 3), [ip("10.0.0.2"), ip("10.0.0.1")]);
        assert_eq!(of(TYPE::AAAA, 9), [ip("fd00::1")]);
    }

    #[test]
    fn a_name_that_has_no_such_address_exists_all_the_same() {
        let bytes = asked("one.com", TYPE::AAAA, None, Transport::Udp, 0).expect("an answer");
        let packet = Packet::parse(&bytes).expect("a packet");
        assert_eq!((packet.rcode(), packet.answers.len(), packet.id()), (RCODE::NoError, 0, 7));
        let flags = PacketFlag::RESPONSE | PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_DESIRED;
        assert!(packet.has_flags(flags));
    }

    #[test]
    fn other_names_and_other_types_are_for_the_resolvers() {
        assert_eq!(asked("nobody.com", TYPE::A, None, Transport::Udp, 0), None);
        assert_eq!(asked("one.com", TYPE::TXT, None, Transport::Udp, 0), None);
        assert_eq!(answer(&[1, 2, 3], Some(&table()), Transport::Udp, 0), Verdict::Forward);
    }

    #[test]
    fn without_a_table_there_is_no_answer_yet() {
        let Verdict::Answer(bytes) = answer(&question("one.com", TYPE::A, None), None, Transport::Udp, 0) else {
            panic!("forwarded")
        };
        assert_eq!(Packet::parse(&bytes).expect("a packet").rcode(), RCODE::ServerFailure);
    }

    #[test]
    fn a_whole_name_with_a_search_domain_is_answered_with_the_name_that_it_is() {
        let bytes = asked("one.com.shop.svc.cluster.local", TYPE::A, None, Transport::Udp, 0).expect("an answer");
        let packet = Packet::parse(&bytes).expect("a packet");
        assert!(matches!(&packet.answers[0].rdata, RData::CNAME(name) if name.0.to_string() == "one.com"));
        assert_eq!(packet.answers[1].name.to_string(), "one.com");
    }

    #[test]
    fn what_does_not_fit_is_cut_and_says_so_unless_there_is_place() {
        let of = |size, transport| asked("many.com", TYPE::A, size, transport, 0).expect("an answer");
        let cut = |bytes: &[u8]| Packet::parse(bytes).expect("a packet").has_flags(PacketFlag::TRUNCATION);
        let small = of(None, Transport::Udp);
        assert!(small.len() <= 512 && cut(&small) && ips(&small).len() > 20, "{}", small.len());
        let medium = of(Some(1232), Transport::Udp);
        assert!(medium.len() <= 1232 && cut(&medium) && ips(&medium).len() > ips(&small).len());
        for whole in [of(Some(4096), Transport::Udp), of(None, Transport::Tcp)] {
            assert_eq!((cut(&whole), ips(&whole).len()), (false, 100));
        }
        assert!(Packet::parse(&medium).expect("a packet").opt().is_some(), "who asks with EDNS is answered with it");
    }

    #[test]
    fn an_answer_of_others_is_cut_for_those_who_take_less() {
        let whole = asked("many.com", TYPE::A, None, Transport::Tcp, 0).expect("an answer");
        let small = passed_on(&question("many.com", TYPE::A, None), whole.clone(), Transport::Udp);
        assert!(small.len() <= 512 && Packet::parse(&small).expect("a packet").has_flags(PacketFlag::TRUNCATION));
        assert_eq!(passed_on(&question("many.com", TYPE::A, None), whole.clone(), Transport::Tcp), whole);
    }
}
