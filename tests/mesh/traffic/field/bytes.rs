//! Connections, and what is spoken on them.

use super::{ADDRESS, client, field, get};
use crate::harness::{Request, User, command};
use std::process::Output;

/// Runs a script in `client`.
fn script(text: &str) -> Output {
    let mut bash = command(&field().workload("client").place, "bash".as_ref(), User::Own);
    bash.args(["-c", text]).output().expect("bash runs")
}

#[test]
fn connections_are_divided_by_weight() {
    let mut client = client();
    let mut first = 0;
    for _ in 0..200 {
        let reply = client.tcp("10.96.5.4:9000", "hello");
        match reply.body.as_str() {
            "s v1 heard hello" => first += 1,
            "s v2 heard hello" => {}
            _ => panic!("{reply:?}"),
        }
    }
    assert!((119..=181).contains(&first), "{first} of 200");
}

#[test]
fn tls_goes_where_the_name_that_the_client_asks_for_leads() {
    for (name, server) in [
        ("one.tls.test", "server-v1"),
        ("two.tls.test", "server-v2"),
        ("any.wild.tls.test", "server-v2"),
        ("deep.any.wild.tls.test", "server-v2"),
    ] {
        let output =
            script(&format!("timeout 5 openssl s_client -connect 10.96.5.5:443 -servername {name} </dev/null"));
        let text = String::from_utf8_lossy(&output.stdout);
        let subject = text.lines().find(|line| line.starts_with("subject=")).unwrap_or_default();
        assert!(subject.contains(server), "{name}: {subject} {output:?}");
    }
}

#[test]
fn a_websocket_is_opened_through_two_sidecars_and_through_one() {
    for (host, server) in [("inner", "inner v1"), ("single.test", "s v2")] {
        let request = format!(
            "GET /ws HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\nhello\\n"
        );
        let open = format!(
            "exec 3<>/dev/tcp/{ADDRESS}/80; printf '{request}' >&3; timeout 5 grep -m2 -a -e ^HTTP -e heard <&3"
        );
        let output = script(&open);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.starts_with("HTTP/1.1 101") && text.contains(&format!("{server} heard hello")), "{output:?}");
    }
}

#[test]
fn http_2_is_taken_where_http_1_is() {
    let mut client = client();
    for (host, server) in [("single.test", "s-v2"), ("inner", "inner-v1")] {
        let reply = client.one(&get(host, "/").http2());
        assert_eq!((reply.status, reply.served_by()), (200, server), "{}", reply.brief());
    }
}

#[test]
fn grpc_goes_on_as_http_2_to_a_workload_with_a_sidecar() {
    let request = Request::get("http://10.96.5.3:82/x").host("inner:82").method("POST").http2().body("hello");
    let replies = client().send(&request.header("content-type", "application/grpc").header("te", "trailers").count(10));
    for reply in replies {
        let echo = reply.echo();
        assert_eq!((reply.status, echo["body"].as_str(), reply.served_by()), (200, Some("hello"), "inner-v1"));
        assert_eq!(echo["headers"]["te"], "trailers");
    }
}

#[test]
fn a_connection_more_than_the_limit_is_closed() {
    let say = |number: u8, word: &str| {
        format!("exec {number}<>/dev/tcp/10.96.5.6/9000; printf '{word}\\n' >&{number}; timeout 5 head -1 <&{number}")
    };
    let output = script(&format!("{}; {}; exec 3>&-; sleep 0.3; {}", say(3, "one"), say(4, "two"), say(5, "three")));
    let text = String::from_utf8_lossy(&output.stdout);
    let heard: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next_back()).collect();
    assert_eq!(heard, ["one", "three"], "{output:?}");
}
