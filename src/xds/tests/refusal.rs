//! Responses that a client refuses.

use super::peer::{CDS, EDS, LDS, NOTHING, Peer, RDS};

#[test]
fn what_is_refused_is_not_sent_again_until_it_changes() {
    for peer in [Peer::delta, Peer::sotw] {
        let mut peer = peer("rds:80=1");
        peer.ask(RDS, &["80"]);
        peer.ack(RDS);
        assert_eq!(peer.becomes("rds:80=2"), ["rds 80=2"]);
        assert_eq!(peer.nack(RDS, "route 80 is bad"), NOTHING);
        assert_eq!(peer.held(RDS), "80=1", "the client keeps the last good one");
        assert_eq!(peer.becomes("rds:80=2 lds:l=1"), NOTHING);
        assert_eq!(peer.becomes("rds:80=3"), ["rds 80=3"]);
    }
}

#[test]
fn what_is_refused_and_then_goes_back_to_what_the_client_has_is_not_sent() {
    let mut peer = Peer::delta("rds:80=1");
    peer.ask(RDS, &["80"]);
    peer.ack(RDS);
    peer.becomes("rds:80=2");
    peer.nack(RDS, "no");
    assert_eq!(peer.becomes("rds:80=1"), NOTHING);
    assert_eq!(peer.becomes("rds:80=2"), ["rds 80=2"], "it is tried anew");
}

#[test]
fn the_good_rest_of_a_refused_response_is_sent_again() {
    let mut peer = Peer::delta("cds:a=1 cds:b=1 cds:c=1");
    peer.ask(CDS, &[]);
    assert_eq!(peer.nack(CDS, "Error adding/updating cluster(s) b: no such thing"), ["cds a=1 c=1"]);
    peer.ack(CDS);
    assert_eq!(peer.held(CDS), "a=1 c=1");
    assert_eq!(peer.becomes("cds:a=1 cds:b=2 cds:c=1"), ["cds b=2"]);
}

#[test]
fn a_whole_list_has_the_last_good_version_of_what_was_refused() {
    let mut peer = Peer::sotw("cds:a=1 cds:b=1");
    peer.ask(CDS, &[]);
    peer.ack(CDS);
    assert_eq!(peer.becomes("cds:a=2 cds:b=2"), ["cds a=2 b=2"]);
    assert_eq!(peer.nack(CDS, "cluster b: bad"), ["cds a=2 b=1"]);
    peer.ack(CDS);
    assert_eq!(peer.becomes("cds:a=3 cds:b=2"), ["cds a=3 b=1"]);
}

#[test]
fn a_new_resource_that_is_refused_is_left_out_of_a_whole_list() {
    let mut peer = Peer::sotw("cds:a=1");
    peer.ask(CDS, &[]);
    peer.ack(CDS);
    peer.becomes("cds:a=1 cds:b=1 cds:c=1");
    assert_eq!(peer.nack(CDS, "cluster b: bad"), ["cds a=1 c=1"]);
}

#[test]
fn a_removal_in_a_refused_response_is_said_again() {
    let mut peer = Peer::delta("lds:a=1 lds:b=1");
    peer.ask(LDS, &[]);
    peer.ack(LDS);
    assert_eq!(peer.becomes("lds:b=2 lds:c=1"), ["lds b=2 c=1 -a"]);
    assert_eq!(peer.nack(LDS, "listener b: bad"), ["lds c=1 -a"]);
}

#[test]
fn a_culprit_without_a_name_is_found_by_sending_less() {
    let mut peer = Peer::delta("rds:a=1 rds:b=1 rds:c=1 rds:d=1");
    assert_eq!(peer.ask(RDS, &["*"]), ["rds a=1 b=1 c=1 d=1"]);
    assert_eq!(peer.nack(RDS, "something is bad"), ["rds a=1 b=1"]);
    assert_eq!(peer.ack(RDS), ["rds c=1 d=1"]);
    assert_eq!(peer.nack(RDS, "something is bad"), ["rds c=1"]);
    assert_eq!(peer.nack(RDS, "something is bad"), ["rds d=1"]);
    assert_eq!(peer.ack(RDS), NOTHING);
    assert_eq!(peer.held(RDS), "a=1 b=1 d=1");
}

#[test]
fn a_culprit_without_a_name_is_found_among_whole_lists_too() {
    let mut peer = Peer::sotw("cds:a=1 cds:b=1");
    peer.ask(CDS, &[]);
    peer.ack(CDS);
    assert_eq!(peer.becomes("cds:a=2 cds:b=2"), ["cds a=2 b=2"]);
    let said = peer.nack(CDS, "something is bad");
    assert_eq!(said, ["cds a=2 b=1"]);
    let said = peer.nack(CDS, "something is bad");
    assert_eq!(said, ["cds b=2 a=1"]);
    assert_eq!(peer.ack(CDS), NOTHING);
    assert_eq!(peer.held(CDS), "a=1 b=2");
}

#[test]
fn a_refusal_says_which_objects_are_at_fault_and_is_counted() {
    let mut peer = Peer::delta("cds:a=1 cds:b=1");
    peer.ask(CDS, &[]);
    peer.nack(CDS, "cluster b: bad");
    let standing = &peer.stream.standing()[0];
    let error = standing.error.as_ref().expect("a refusal");
    assert_eq!(error.objects.iter().map(ToString::to_string).collect::<Vec<_>>(), ["Service a/of-b"]);
    assert_eq!((&*error.message, error.resources.len()), ("cluster b: bad", 1));
    assert_eq!(peer.metrics.nacks(CDS), 1);
}

#[test]
fn a_refusal_is_shown_until_what_was_refused_has_changed_and_was_taken() {
    let mut peer = Peer::delta("cds:a=1 cds:b=1");
    peer.ask(CDS, &[]);
    peer.nack(CDS, "cluster b: bad");
    peer.ack(CDS);
    assert!(peer.stream.standing()[0].error.is_some(), "b is still kept from the client");
    peer.becomes("cds:a=1 cds:b=2");
    peer.ack(CDS);
    assert_eq!(peer.stream.standing()[0].error, None);
}

#[test]
fn a_refusal_is_no_longer_shown_once_the_refused_resource_is_gone() {
    let mut peer = Peer::delta("rds:a=1");
    peer.ask(RDS, &["a"]);
    peer.nack(RDS, "bad");
    peer.becomes("");
    assert_eq!(peer.stream.standing()[0].error, None);
}

#[test]
fn a_refused_response_that_only_removes_is_not_said_without_end() {
    let mut peer = Peer::delta("lds:a=1");
    peer.ask(LDS, &[]);
    peer.ack(LDS);
    assert_eq!(peer.becomes(""), ["lds -a"]);
    assert_eq!(peer.nack(LDS, "cannot"), NOTHING);
}

#[test]
fn a_resource_that_is_subscribed_anew_is_tried_anew() {
    let mut peer = Peer::delta("eds:a=1");
    peer.ask(EDS, &["a"]);
    peer.nack(EDS, "bad");
    assert_eq!(peer.ask(EDS, &["a"]), ["eds a=1"]);
}

#[test]
fn the_endpoints_of_a_cluster_that_was_sent_again_follow_again() {
    let mut peer = Peer::delta("cds:a=1 cds:b=1 eds:a=1 eds:b=1");
    peer.ask(CDS, &[]);
    peer.ack(CDS);
    peer.ask(EDS, &["a", "b"]);
    peer.ack(EDS);
    assert_eq!(peer.becomes("cds:a=2 cds:b=2 eds:a=1 eds:b=1"), ["cds a=2 b=2", "eds a=1 b=1"]);
    peer.ack(EDS);
    assert_eq!(peer.nack(CDS, "cluster b: bad"), ["cds a=2", "eds a=1"]);
}

#[test]
fn a_refusal_that_comes_late_is_heeded_where_it_names_what_is_bad() {
    let mut peer = Peer::delta("cds:a=1 cds:b=1");
    peer.ask(CDS, &[]);
    let late = peer.nonce(CDS);
    peer.becomes("cds:a=1 cds:b=1 cds:c=1");
    assert_eq!(peer.overdue(), ["cds c=1"]);
    assert_eq!(peer.answer(CDS, &late, Some("cluster b: bad")), NOTHING, "c is under way");
    assert_eq!(peer.ack(CDS), ["cds a=1"]);
    assert_eq!(peer.metrics.nacks(CDS), 1);
}

#[test]
fn a_refusal_of_one_type_keeps_nothing_of_another() {
    let mut peer = Peer::delta("lds:l=1 rds:80=1");
    peer.ask(LDS, &[]);
    peer.ask(RDS, &["80"]);
    peer.nack(LDS, "l is bad");
    peer.ack(RDS);
    assert_eq!(peer.becomes("lds:l=1 rds:80=2"), ["rds 80=2"]);
}
