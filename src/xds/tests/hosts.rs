//! Virtual hosts by themselves: a client can use them only behind the routes that they are of, and loses them with those.

use super::peer::{CDS, NOTHING, Peer, RDS, VHDS};

#[test]
fn hosts_come_behind_their_routes_and_one_that_changes_comes_alone() {
    let mut peer = Peer::delta("rds:80=1 vhds:80/a=1 vhds:80/b=1 vhds:90/c=1");
    peer.ask(RDS, &["80"]);
    assert_eq!(peer.ask(VHDS, &[]), ["vhds 80/a=1 80/b=1"]);
    peer.ack(RDS);
    peer.ack(VHDS);
    assert_eq!(peer.becomes("rds:80=1 vhds:80/a=2 vhds:80/b=1 vhds:90/c=2"), ["vhds 80/a=2"]);
}

#[test]
fn hosts_that_came_behind_routes_that_were_refused_come_again_behind_better_ones() {
    let mut peer = Peer::delta("rds:80=1 vhds:80/a=1");
    peer.ask(RDS, &["80"]);
    assert_eq!(peer.ask(VHDS, &[]), ["vhds 80/a=1"]);
    assert_eq!(peer.becomes("rds:80=2 vhds:80/a=1"), NOTHING, "the first routes are under way");
    assert_eq!(peer.nack(RDS, "no"), ["rds 80=2"]);
    assert_eq!(peer.ack(VHDS), ["vhds 80/a=1"]);
}

#[test]
fn hosts_of_routes_that_are_asked_for_anew_come_again_also_while_clusters_are_under_way() {
    let mut peer = Peer::delta("cds:c=1 rds:80=1 vhds:80/a=1");
    peer.ask(CDS, &[]);
    peer.ack(CDS);
    peer.ask(RDS, &["80"]);
    peer.ack(RDS);
    peer.ask(VHDS, &[]);
    peer.ack(VHDS);
    assert_eq!(peer.becomes("cds:c=2 rds:80=1 vhds:80/a=1"), ["cds c=2"]);
    assert_eq!(peer.unsubscribe(RDS, &["80"]), NOTHING);
    assert_eq!(peer.ask(RDS, &["80"]), NOTHING, "routes wait for clusters");
    assert_eq!(peer.ack(CDS), ["rds 80=1", "vhds 80/a=1"]);
}

#[test]
fn routes_whose_hosts_go_before_the_client_was_told_of_any_are_said_to_have_none() {
    let mut peer = Peer::delta("cds:c=1 rds:80=1 vhds:80/a=1");
    peer.ask(CDS, &[]);
    peer.ack(CDS);
    peer.ask(RDS, &["80"]);
    assert_eq!(peer.becomes("cds:c=2 rds:80=1 vhds:80/a=1"), ["cds c=2"]);
    assert_eq!(peer.ask(VHDS, &[]), NOTHING, "virtual hosts wait for clusters");
    assert_eq!(peer.ack(RDS), NOTHING);
    assert_eq!(peer.becomes("cds:c=2 rds:80=1"), NOTHING);
    assert_eq!(peer.ack(CDS), ["vhds -80/none"]);
}
