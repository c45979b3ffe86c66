//! State of the world.

use super::peer::{CDS, EDS, LDS, NOTHING, Peer, RDS};
use crate::{
    pb::envoy::config::endpoint::v3::ClusterLoadAssignment,
    xds::stream::{Names, Request},
};
use prost::Message;

#[test]
fn an_empty_list_of_a_first_request_means_every_cluster() {
    let mut peer = Peer::sotw("cds:a=1 cds:b=1 lds:l=1");
    assert_eq!(peer.ask(CDS, &[]), ["cds a=1 b=1"]);
    assert_eq!(peer.ack(CDS), NOTHING);
}

#[test]
fn a_star_means_everything_of_any_type() {
    let mut peer = Peer::sotw("rds:80=1 rds:90=1");
    assert_eq!(peer.ask(RDS, &["*"]), ["rds 80=1 90=1"]);
}

#[test]
fn an_empty_list_means_nothing_for_types_that_have_no_wildcard() {
    let mut peer = Peer::sotw("eds:a=1");
    assert_eq!(peer.ask(EDS, &[]), NOTHING);
    assert_eq!(peer.becomes("eds:a=2"), NOTHING);
}

#[test]
fn the_first_answer_to_a_wildcard_comes_even_if_there_is_nothing() {
    let mut peer = Peer::sotw("");
    assert_eq!(peer.ask(LDS, &[]), ["lds"]);
    assert_eq!(peer.ack(LDS), NOTHING);
}

#[test]
fn clusters_are_always_listed_whole() {
    let mut peer = Peer::sotw("cds:a=1 cds:b=1");
    peer.ask(CDS, &[]);
    peer.ack(CDS);
    assert_eq!(peer.becomes("cds:a=1 cds:b=2 cds:c=1"), ["cds a=1 b=2 c=1"]);
    peer.ack(CDS);
    assert_eq!(peer.becomes("cds:a=1"), ["cds a=1"]);
}

#[test]
fn of_endpoints_only_the_changed_ones_are_sent() {
    let mut peer = Peer::sotw("eds:a=1 eds:b=1 eds:c=1");
    assert_eq!(peer.ask(EDS, &["a", "b"]), ["eds a=1 b=1"]);
    peer.ack(EDS);
    assert_eq!(peer.becomes("eds:a=1 eds:b=2 eds:c=2"), ["eds b=2"]);
}

#[test]
fn a_change_of_what_is_not_subscribed_says_nothing() {
    let mut peer = Peer::sotw("eds:a=1 eds:b=1");
    peer.ask(EDS, &["a"]);
    peer.ack(EDS);
    assert_eq!(peer.becomes("eds:a=1 eds:b=2"), NOTHING);
}

#[test]
fn a_name_that_is_added_is_answered_alone() {
    let mut peer = Peer::sotw("eds:a=1 eds:b=1");
    peer.ask(EDS, &["a"]);
    assert_eq!(peer.ack_with(EDS, &["a", "b"]), ["eds b=1"]);
    assert_eq!(peer.ack(EDS), NOTHING);
}

#[test]
fn a_name_that_is_left_out_is_no_longer_sent() {
    let mut peer = Peer::sotw("eds:a=1 eds:b=1");
    peer.ask(EDS, &["a", "b"]);
    assert_eq!(peer.ack_with(EDS, &["a"]), NOTHING);
    assert_eq!(peer.becomes("eds:a=1 eds:b=2"), NOTHING);
    assert_eq!(peer.held(EDS), "a=1");
}

#[test]
fn an_empty_list_after_names_means_nothing_even_for_clusters() {
    let mut peer = Peer::sotw("cds:a=1 cds:b=1");
    assert_eq!(peer.ask(CDS, &["a"]), ["cds a=1"]);
    assert_eq!(peer.ack_with(CDS, &[]), NOTHING);
    assert_eq!(peer.becomes("cds:a=2 cds:b=2"), NOTHING);
}

#[test]
fn an_empty_list_remains_a_wildcard_while_nothing_was_named() {
    let mut peer = Peer::sotw("cds:a=1");
    peer.ask(CDS, &[]);
    peer.ack(CDS);
    assert_eq!(peer.becomes("cds:a=2"), ["cds a=2"]);
    peer.ack(CDS);
    assert_eq!(peer.becomes("cds:a=3"), ["cds a=3"]);
}

#[test]
fn a_client_may_go_from_names_to_everything_and_back() {
    let mut peer = Peer::sotw("cds:a=1 cds:b=1");
    peer.ask(CDS, &["a"]);
    assert_eq!(peer.ack_with(CDS, &["*", "a"]), ["cds a=1 b=1"]);
    assert_eq!(peer.ack_with(CDS, &["a"]), NOTHING);
    assert_eq!(peer.becomes("cds:a=1 cds:b=2"), NOTHING);
    assert_eq!(peer.held(CDS), "a=1");
}

#[test]
fn a_cluster_whose_endpoints_are_unknown_gets_none_instead_of_silence() {
    let mut peer = Peer::sotw("eds:a=1");
    let said = peer.ask(EDS, &["nobody"]);
    assert_eq!(said.len(), 1);
    let body = peer.last[&EDS].resources[0].body.clone();
    let assignment = ClusterLoadAssignment::decode(body).expect("an assignment");
    assert_eq!((assignment.cluster_name.as_str(), assignment.endpoints.len()), ("nobody", 0));
    peer.ack(EDS);
    assert_eq!(peer.becomes("eds:a=1 eds:nobody=1"), ["eds nobody=1"]);
}

#[test]
fn a_route_that_does_not_exist_is_absent_until_it_does() {
    let mut peer = Peer::sotw("rds:80=1");
    assert_eq!(peer.ask(RDS, &["80", "90"]), ["rds 80=1"]);
    peer.ack(RDS);
    assert_eq!(peer.becomes("rds:80=1 rds:90=1"), ["rds 90=1"]);
}

#[test]
fn a_stale_nonce_is_ignored() {
    let mut peer = Peer::sotw("cds:a=1");
    peer.ask(CDS, &[]);
    let old = peer.nonce(CDS);
    peer.ack(CDS);
    assert_eq!(peer.becomes("cds:a=2"), ["cds a=2"]);
    assert_eq!(peer.answer(CDS, &old, None), NOTHING);
    assert_eq!(peer.answer(CDS, &old, Some("no")), NOTHING);
    assert_eq!(peer.becomes("cds:a=3"), NOTHING, "the newest response is still under way");
    assert_eq!((peer.metrics.stale_nonces.get(), peer.metrics.nacks(CDS)), (2, 0));
    assert_eq!(peer.ack(CDS), ["cds a=3"]);
}

#[test]
fn names_added_before_the_first_answer_was_seen_are_not_lost() {
    let mut peer = Peer::sotw("eds:a=1 eds:b=1");
    assert_eq!(peer.ask(EDS, &["a"]), ["eds a=1"]);
    assert_eq!(peer.ask(EDS, &["a", "b"]), NOTHING, "one response is under way");
    assert_eq!(peer.ack(EDS), ["eds b=1"]);
}

#[test]
fn a_client_that_comes_back_with_all_there_is_is_sent_nothing() {
    let mut peer = Peer::sotw("cds:a=1 cds:b=1 eds:a=1 eds:b=1");
    peer.ask(CDS, &[]);
    peer.ask(EDS, &["a"]);
    let (clusters, endpoints) = (peer.last[&CDS].version.clone(), peer.last[&EDS].version.clone());
    let mut back = Peer::sotw("cds:a=1 cds:b=1 eds:a=1 eds:b=1");
    assert_eq!(back.ask_at(CDS, &[], &clusters), NOTHING);
    assert_eq!(back.ask_at(EDS, &["a"], &endpoints), NOTHING);
    assert_eq!(back.becomes("cds:a=1 cds:b=2 eds:a=2"), ["cds a=1 b=2", "eds a=2"]);
}

#[test]
fn a_client_that_comes_back_with_less_is_sent_what_it_asks_for() {
    let mut peer = Peer::sotw("eds:a=1 eds:b=1");
    peer.ask(EDS, &["a"]);
    let version = peer.last[&EDS].version.clone();
    let mut back = Peer::sotw("eds:a=1 eds:b=1");
    assert_eq!(back.ask_at(EDS, &["a", "b"], &version), ["eds a=1 b=1"]);
}

#[test]
fn the_version_depends_on_the_content_and_not_on_the_way_to_it() {
    let mut one = Peer::sotw("eds:a=1 eds:b=1");
    one.ask(EDS, &["a", "b"]);
    one.ack(EDS);
    one.becomes("eds:a=2 eds:b=1");
    let mut other = Peer::sotw("eds:a=2 eds:b=1");
    other.ask(EDS, &["b"]);
    other.ack_with(EDS, &["a", "b"]);
    assert_eq!(one.last[&EDS].version, other.last[&EDS].version);
    one.ack(EDS);
    one.becomes("eds:a=3 eds:b=1");
    assert_ne!(one.last[&EDS].version, other.last[&EDS].version);
}

#[test]
fn a_type_that_is_not_served_is_answered_once_with_nothing() {
    let mut peer = Peer::sotw("cds:a=1");
    let ask = |nonce: &str| Request {
        type_url: "type.googleapis.com/acme.Thing".into(),
        nonce: nonce.into(),
        error: None,
        names: Names::default(),
    };
    let answer = peer.stream.on_request(ask(""));
    assert_eq!((answer.len(), answer[0].resources.len()), (1, 0));
    assert_eq!(peer.stream.on_request(ask(&answer[0].nonce)), []);
    assert_eq!(peer.becomes("cds:a=2"), NOTHING);
}

#[test]
fn names_of_one_request_may_repeat() {
    let mut peer = Peer::sotw("eds:a=1");
    assert_eq!(peer.ask(EDS, &["a", "a"]), ["eds a=1"]);
    assert_eq!(peer.ack(EDS), NOTHING);
}
