//! Make before break.

use super::peer::{CDS, EDS, LDS, NOTHING, Peer, RDS};

/// A client that has everything of this world.
fn settled(mut peer: Peer) -> Peer {
    peer.ask(CDS, &[]);
    peer.ack(CDS);
    peer.ask(EDS, &["a", "b"]);
    peer.ack(EDS);
    peer.ask(LDS, &[]);
    peer.ack(LDS);
    peer.ask(RDS, &["80"]);
    peer.ack(RDS);
    peer
}

#[test]
fn listeners_and_routes_wait_until_clusters_are_taken() {
    for peer in [Peer::delta, Peer::sotw] {
        let mut peer = settled(peer("cds:a=1 eds:a=1 eds:b=1 lds:l=1 rds:80=1"));
        let said = peer.becomes("cds:a=1 cds:b=1 eds:a=1 eds:b=1 lds:l=2 rds:80=2");
        assert_eq!(said.len(), 2, "clusters, and the endpoints of the new one as they are subscribed: {said:?}");
        assert!(said[0].starts_with("cds") && said[1] == "eds b=1", "{said:?}");
        assert_eq!(peer.ack(EDS), NOTHING);
        assert_eq!(peer.ack(CDS), ["lds l=2", "rds 80=2"]);
    }
}

#[test]
fn without_a_change_of_clusters_nothing_waits() {
    let mut peer = settled(Peer::delta("cds:a=1 lds:l=1 rds:80=1"));
    assert_eq!(peer.becomes("cds:a=1 lds:l=2 rds:80=2"), ["lds l=2", "rds 80=2"]);
}

#[test]
fn listeners_do_not_wait_longer_than_the_caller_does() {
    let mut peer = settled(Peer::delta("cds:a=1 lds:l=1 rds:80=1"));
    assert_eq!(peer.becomes("cds:a=2 lds:l=2 rds:80=1"), ["cds a=2"]);
    assert!(peer.stream.is_waiting());
    assert_eq!(peer.overdue(), ["lds l=2"]);
    assert!(!peer.stream.is_waiting());
    assert_eq!(peer.ack(CDS), NOTHING, "it comes late and changes nothing");
    assert_eq!(peer.becomes("cds:a=3 lds:l=2 rds:80=1"), ["cds a=3"]);
}

#[test]
fn clusters_that_are_never_taken_do_not_hold_up_later_ones() {
    let mut peer = settled(Peer::delta("cds:a=1"));
    peer.becomes("cds:a=2");
    assert_eq!(peer.becomes("cds:a=2 cds:c=1"), NOTHING);
    assert_eq!(peer.overdue(), ["cds c=1"]);
}

#[test]
fn nothing_waits_where_nothing_is_due() {
    let mut peer = settled(Peer::delta("cds:a=1"));
    peer.becomes("cds:a=2");
    assert!(!peer.stream.is_waiting());
}

#[test]
fn a_cluster_goes_after_the_listeners_and_routes_that_used_it() {
    for peer in [Peer::delta, Peer::sotw] {
        let mut peer = settled(peer("cds:a=1 cds:b=1 eds:a=1 eds:b=1 lds:l=1 rds:80=1"));
        assert_eq!(peer.becomes("cds:a=1 eds:a=1 lds:l=2 rds:80=2"), ["lds l=2", "rds 80=2"]);
        assert_eq!(peer.held(CDS), "a=1 b=1");
        assert_eq!(peer.ack(LDS), NOTHING);
        let said = peer.ack(RDS);
        assert!(said == ["cds -b"] || said == ["cds a=1"], "{said:?}");
    }
}

#[test]
fn endpoints_go_after_their_cluster() {
    let mut peer = settled(Peer::delta("cds:a=1 cds:b=1 eds:a=1 eds:b=1 lds:l=1"));
    assert_eq!(peer.becomes("cds:a=1 eds:a=1 lds:l=2"), ["lds l=2"]);
    assert_eq!(peer.ack(LDS), ["cds -b"]);
    assert_eq!(peer.ack(CDS), ["eds -b"]);
}

#[test]
fn endpoints_that_were_unsubscribed_with_their_cluster_are_not_said_to_be_gone() {
    let mut peer = settled(Peer::delta("cds:a=1 cds:b=1 eds:a=1 eds:b=1 lds:l=1"));
    assert_eq!(peer.becomes("cds:a=1 eds:a=1 lds:l=1"), ["cds -b"]);
    assert_eq!(peer.unsubscribe(EDS, &["b"]), NOTHING);
    assert_eq!(peer.ack(CDS), NOTHING);
}

#[test]
fn a_cluster_goes_at_once_where_nothing_on_the_stream_may_use_it() {
    let mut peer = Peer::delta("cds:a=1 cds:b=1");
    peer.ask(CDS, &[]);
    peer.ack(CDS);
    assert_eq!(peer.becomes("cds:a=1"), ["cds -b"]);
}

#[test]
fn a_cluster_stays_while_the_client_refuses_the_listener_that_no_longer_uses_it() {
    let mut peer = settled(Peer::delta("cds:a=1 cds:b=1 eds:a=1 lds:l=1"));
    assert_eq!(peer.becomes("cds:a=1 eds:a=1 lds:l=2"), ["lds l=2"]);
    assert_eq!(peer.nack(LDS, "l is bad"), NOTHING);
    assert_eq!(peer.held(CDS), "a=1 b=1");
    assert_eq!(peer.becomes("cds:a=1 eds:a=1 lds:l=3"), ["lds l=3"]);
    assert_eq!(peer.ack(LDS), ["cds -b"]);
}

#[test]
fn the_endpoints_of_a_changed_cluster_are_sent_after_it() {
    for peer in [Peer::delta, Peer::sotw] {
        let mut peer = settled(peer("cds:a=1 cds:b=1 eds:a=1 eds:b=1"));
        let said = peer.becomes("cds:a=2 cds:b=1 eds:a=1 eds:b=1");
        assert!(said[0].starts_with("cds a=2"), "{said:?}");
        assert_eq!(said[1..], ["eds a=1"]);
    }
}

#[test]
fn endpoints_under_way_when_their_cluster_changes_are_sent_again_after_it() {
    let mut peer = settled(Peer::delta("cds:a=1 eds:a=1 eds:b=1"));
    assert_eq!(peer.becomes("cds:a=1 eds:a=2 eds:b=1"), ["eds a=2"]);
    assert_eq!(peer.becomes("cds:a=2 eds:a=2 eds:b=1"), ["cds a=2"]);
    assert_eq!(peer.ack(EDS), ["eds a=2"]);
}

#[test]
fn a_client_that_comes_back_and_is_sent_a_cluster_gets_its_endpoints_too() {
    let mut peer = Peer::delta("cds:a=2 cds:b=1 eds:a=1 eds:b=1");
    assert_eq!(peer.ask_with(CDS, &[], &[], &[("a", "1"), ("b", "1")]), ["cds a=2"]);
    let has = [("a", "1"), ("b", "1")];
    assert_eq!(peer.ask_with(EDS, &["a", "b"], &[], &has), ["eds a=1"]);
}

#[test]
fn a_client_that_comes_back_keeps_a_cluster_until_its_listeners_no_longer_use_it() {
    let mut peer = Peer::delta("cds:a=1 lds:l=2");
    assert_eq!(peer.ask_with(CDS, &[], &[], &[("a", "1"), ("b", "1")]), NOTHING);
    assert!(peer.stream.is_waiting());
    assert_eq!(peer.ask_with(LDS, &[], &[], &[("l", "1")]), ["lds l=2"]);
    assert_eq!(peer.ack(LDS), ["cds -b"]);
}

#[test]
fn a_client_that_comes_back_for_clusters_alone_is_told_what_is_gone_when_the_wait_is_over() {
    let mut peer = Peer::delta("cds:a=1");
    peer.ask_with(CDS, &[], &[], &[("a", "1"), ("b", "1")]);
    assert_eq!(peer.overdue(), ["cds -b"]);
}

#[test]
fn types_are_sent_in_their_order() {
    let mut peer = settled(Peer::delta("cds:a=1 eds:a=1 eds:b=1 lds:l=1 rds:80=1"));
    let said = peer.becomes("cds:a=1 eds:a=2 eds:b=1 lds:l=2 rds:80=2");
    assert_eq!(said, ["eds a=2", "lds l=2", "rds 80=2"]);
}
