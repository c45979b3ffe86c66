//! Delta.

use super::peer::{CDS, ECDS, EDS, LDS, NOTHING, Peer, RDS};
use crate::xds::stream::{Names, Request};
use std::collections::BTreeMap;

#[test]
fn a_first_request_without_names_means_every_cluster_and_listener() {
    let mut peer = Peer::delta("cds:a=1 cds:b=1 lds:l=1");
    assert_eq!(peer.ask(CDS, &[]), ["cds a=1 b=1"]);
    peer.ack(CDS);
    assert_eq!(peer.ask(LDS, &[]), ["lds l=1"]);
}

#[test]
fn a_later_request_without_names_changes_nothing() {
    let mut peer = Peer::delta("cds:a=1 cds:b=1");
    assert_eq!(peer.ask(CDS, &["a"]), ["cds a=1"]);
    assert_eq!(peer.ack(CDS), NOTHING);
    assert_eq!(peer.ask(CDS, &[]), NOTHING);
}

#[test]
fn a_first_request_without_names_means_nothing_for_other_types() {
    let mut peer = Peer::delta("eds:a=1 rds:80=1");
    assert_eq!(peer.ask(EDS, &[]), NOTHING);
    assert_eq!(peer.ask(RDS, &[]), NOTHING);
    assert_eq!(peer.ask(RDS, &["*"]), ["rds 80=1"]);
}

#[test]
fn a_star_that_is_added_and_taken_away_at_once_means_nothing() {
    let mut peer = Peer::delta("cds:a=1");
    assert_eq!(peer.ask_with(CDS, &["*"], &["*"], &[]), NOTHING);
    assert_eq!(peer.becomes("cds:a=2"), NOTHING);
    assert_eq!(peer.ask(CDS, &["a"]), ["cds a=2"]);
}

#[test]
fn the_first_answer_to_a_wildcard_comes_even_if_there_is_nothing() {
    let mut peer = Peer::delta("");
    assert_eq!(peer.ask(LDS, &[]), ["lds"]);
    assert_eq!(peer.ack(LDS), NOTHING);
}

#[test]
fn only_what_differs_is_sent() {
    let mut peer = Peer::delta("cds:a=1 cds:b=1 cds:c=1");
    peer.ask(CDS, &[]);
    peer.ack(CDS);
    assert_eq!(peer.becomes("cds:a=1 cds:b=2 cds:d=1"), ["cds b=2 d=1 -c"]);
    peer.ack(CDS);
    assert_eq!(peer.held(CDS), "a=1 b=2 d=1");
}

#[test]
fn a_world_that_is_the_same_says_nothing() {
    let mut peer = Peer::delta("cds:a=1 eds:a=1");
    peer.ask(CDS, &[]);
    peer.ack(CDS);
    assert_eq!(peer.becomes("cds:a=1 eds:a=1"), NOTHING);
    assert_eq!(peer.becomes("cds:a=1 eds:a=2"), NOTHING, "nobody asked for endpoints");
}

#[test]
fn a_subscribed_name_that_does_not_exist_is_said_to_be_gone_and_comes_when_it_exists() {
    let mut peer = Peer::delta("eds:a=1");
    assert_eq!(peer.ask(EDS, &["a", "b"]), ["eds a=1 -b"]);
    peer.ack(EDS);
    assert_eq!(peer.becomes("eds:a=1 eds:b=1"), ["eds b=1"]);
    peer.ack(EDS);
    assert_eq!(peer.becomes("eds:a=1"), ["eds -b"]);
}

#[test]
fn a_name_that_is_subscribed_again_is_sent_again() {
    let mut peer = Peer::delta("eds:a=1 eds:b=1");
    peer.ask(EDS, &["a", "b"]);
    peer.ack(EDS);
    assert_eq!(peer.ask(EDS, &["a"]), ["eds a=1"]);
    peer.ack(EDS);
    assert_eq!(peer.ask(EDS, &["nobody"]), ["eds -nobody"]);
    peer.ack(EDS);
    assert_eq!(peer.ask(EDS, &["nobody"]), ["eds -nobody"]);
}

#[test]
fn a_name_that_is_unsubscribed_is_no_longer_sent_and_counts_as_new_afterwards() {
    let mut peer = Peer::delta("eds:a=1 eds:b=1");
    peer.ask(EDS, &["a", "b"]);
    peer.ack(EDS);
    assert_eq!(peer.unsubscribe(EDS, &["a", "never-had"]), NOTHING);
    assert_eq!(peer.becomes("eds:a=2 eds:b=1"), NOTHING);
    assert_eq!(peer.ask(EDS, &["a"]), ["eds a=2"]);
}

#[test]
fn a_name_that_is_unsubscribed_under_a_wildcard_is_told_what_it_is_now() {
    let mut peer = Peer::delta("cds:a=1 cds:b=1");
    assert_eq!(peer.ask(CDS, &["*", "a", "x"]), ["cds a=1 b=1 -x"]);
    peer.ack(CDS);
    assert_eq!(peer.unsubscribe(CDS, &["a"]), ["cds a=1"]);
    peer.ack(CDS);
    assert_eq!(peer.unsubscribe(CDS, &["x"]), ["cds -x"]);
    peer.ack(CDS);
    assert_eq!(peer.unsubscribe(CDS, &["b"]), NOTHING, "it was never subscribed by name");
}

#[test]
fn names_stay_subscribed_when_the_wildcard_is_taken_away() {
    let mut peer = Peer::delta("cds:a=1 cds:b=1");
    peer.ask(CDS, &["*", "a"]);
    peer.ack(CDS);
    assert_eq!(peer.unsubscribe(CDS, &["*"]), NOTHING);
    assert_eq!(peer.becomes("cds:a=2 cds:b=2"), ["cds a=2"]);
    peer.ack(CDS);
    assert_eq!(peer.ask(CDS, &["*"]), ["cds b=2"]);
}

#[test]
fn a_client_that_comes_back_is_sent_what_differs() {
    let mut peer = Peer::delta("eds:a=1 eds:b=2 eds:d=1");
    let has = [("a", "1"), ("b", "1"), ("c", "1")];
    assert_eq!(peer.ask_with(EDS, &["a", "b", "c", "d"], &[], &has), ["eds b=2 d=1 -c"]);
    assert_eq!(peer.ack(EDS), NOTHING);
    assert_eq!(peer.held(EDS), "a=1 b=2 d=1");
}

#[test]
fn a_client_that_comes_back_with_a_wildcard_is_told_what_is_gone() {
    let mut peer = Peer::delta("lds:a=1 lds:b=2");
    assert_eq!(peer.ask_with(LDS, &[], &[], &[("a", "1"), ("b", "1"), ("c", "1")]), ["lds b=2 -c"]);
}

#[test]
fn a_client_that_comes_back_with_all_there_is_is_sent_nothing() {
    let mut peer = Peer::delta("lds:a=1 eds:b=1");
    assert_eq!(peer.ask_with(LDS, &["*"], &[], &[("a", "1")]), NOTHING);
    assert_eq!(peer.ask_with(EDS, &["b"], &[], &[("b", "1")]), NOTHING);
    assert_eq!(peer.becomes("lds:a=2 eds:b=2"), ["eds b=2", "lds a=2"]);
}

#[test]
fn the_version_that_a_client_comes_back_with_counts_like_one_sent() {
    let mut one = Peer::delta("lds:a=1 lds:b=1");
    one.ask(LDS, &[]);
    let mut other = Peer::delta("lds:a=1 lds:b=1");
    other.ask_with(LDS, &[], &[], &[("a", "1")]);
    assert_eq!(one.last[&LDS].version, other.last[&LDS].version);
}

#[test]
fn at_most_one_response_of_a_type_is_under_way_and_the_newest_state_wins() {
    let mut peer = Peer::delta("eds:a=1 eds:b=1");
    peer.ask(EDS, &["a", "b"]);
    assert_eq!(peer.becomes("eds:a=2 eds:b=1"), NOTHING);
    assert_eq!(peer.becomes("eds:a=3 eds:b=1"), NOTHING);
    assert_eq!(peer.ack(EDS), ["eds a=3"]);
}

#[test]
fn a_change_that_is_undone_while_a_response_is_under_way_is_not_sent() {
    let mut peer = Peer::delta("eds:a=1");
    peer.ask(EDS, &["a"]);
    peer.becomes("eds:a=2");
    peer.becomes("eds:a=1");
    assert_eq!(peer.ack(EDS), NOTHING);
}

#[test]
fn other_types_do_not_wait_for_endpoints() {
    let mut peer = Peer::delta("eds:a=1 lds:l=1");
    peer.ask(EDS, &["a"]);
    assert_eq!(peer.ask(LDS, &[]), ["lds l=1"]);
    assert_eq!(peer.becomes("eds:a=2 lds:l=1"), NOTHING);
}

#[test]
fn subscriptions_count_also_beside_a_stale_nonce() {
    let mut peer = Peer::delta("eds:a=1 eds:b=1");
    peer.ask(EDS, &["a"]);
    peer.ack(EDS);
    let names = Names::Changes { subscribe: vec!["b".into()], unsubscribe: vec![], versions: BTreeMap::new() };
    let request = Request { type_url: EDS.type_url().into(), nonce: "old".into(), error: None, names };
    assert_eq!(peer.stream.on_request(request).len(), 1);
    assert_eq!(peer.held(EDS), "a=1 b=1");
}

#[test]
fn a_name_unsubscribed_while_it_is_under_way_stays_unsubscribed_also_when_it_is_refused() {
    let mut peer = Peer::delta("eds:a=1 eds:b=1");
    peer.ask(EDS, &["a", "b"]);
    peer.unsubscribe(EDS, &["a"]);
    assert_eq!(peer.nack(EDS, "b is bad"), NOTHING);
    assert_eq!(peer.held(EDS), "");
    assert_eq!(peer.becomes("eds:a=2 eds:b=2"), ["eds b=2"]);
}

#[test]
fn extensions_are_never_taken_away() {
    let mut peer = Peer::delta("ecds:f=1");
    peer.ask(ECDS, &["f"]);
    peer.ack(ECDS);
    assert_eq!(peer.becomes(""), NOTHING);
    assert_eq!(peer.held(ECDS), "f=1");
    assert_eq!(peer.becomes("ecds:f=2"), ["ecds f=2"]);
}

#[test]
fn a_type_that_is_not_served_is_said_to_have_nothing() {
    let mut peer = Peer::delta("");
    let names = Names::Changes { subscribe: vec!["x".into()], unsubscribe: vec![], versions: BTreeMap::new() };
    let request = Request { type_url: "acme.Thing".into(), names, ..Request::default() };
    let answer = peer.stream.on_request(request);
    assert_eq!((answer.len(), &*answer[0].removed[0]), (1, "x"));
}

#[test]
fn a_forced_push_sends_everything_again() {
    let mut peer = Peer::delta("eds:a=1 lds:l=1");
    peer.ask(EDS, &["a", "b"]);
    peer.ask(LDS, &[]);
    peer.ack(EDS);
    peer.ack(LDS);
    assert_eq!(peer.push_all(), ["eds a=1 -b", "lds l=1"]);
}

#[test]
fn a_stream_says_where_each_type_stands() {
    let mut peer = Peer::delta("eds:a=1 lds:l=1");
    peer.ask(EDS, &["b", "a"]);
    peer.ask(LDS, &[]);
    peer.ack(LDS);
    let [endpoints, listeners] = &peer.stream.standing()[..] else { panic!("two types") };
    assert_eq!((endpoints.kind, endpoints.in_flight, endpoints.wildcard), (EDS, true, false));
    assert_eq!(endpoints.names.iter().map(|n| &**n).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((listeners.kind, listeners.in_flight, listeners.wildcard), (LDS, false, true));
    assert_eq!((listeners.nonce_acked.as_str(), endpoints.nonce_acked.as_str()), (&*listeners.nonce_sent, ""));
}
