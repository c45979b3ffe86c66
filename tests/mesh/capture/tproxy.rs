//! TPROXY: connections arrive with both addresses as they were sent.

use super::bench::{ALL, BACKENDS, Bench, POD, POD_V6, PROXY, SERVICE, WORKLOAD, compare, connect, within};
use std::net::SocketAddr;

#[test]
fn what_comes_in_keeps_its_addresses() {
    let bench = Bench::new();
    for backend in BACKENDS {
        bench.capture(&[ALL, backend, &["-m", "TPROXY", "--dual-stack"]]);
        let cells = [
            (bench.ask_of_world(&format!("{POD}:80")), "in 10.9.0.2:80 of 10.9.0.1".to_owned()),
            (bench.ask_of_world(&format!("{POD}:9999")), "in 10.9.0.2:9999 of 10.9.0.1".to_owned()),
            (bench.ask_of_world(&format!("[{POD_V6}]:80")), "in [fd09::2]:80 of fd09::1".to_owned()),
            (bench.ask_of_world(&format!("{POD}:15021")), "app".to_owned()),
            (bench.ask(WORKLOAD, &format!("{SERVICE}:80")), format!("out {SERVICE}:80")),
            (bench.ask(PROXY, &format!("{SERVICE}:80")), "world".to_owned()),
            (bench.ask(WORKLOAD, "127.0.0.1:80"), "app".to_owned()),
            (bench.ask(WORKLOAD, &format!("{POD}:80")), "app".to_owned()),
            (bench.ask_from(PROXY, Some("127.0.0.6"), &format!("{POD}:80")), "app".to_owned()),
        ];
        compare(&format!("{backend:?}"), &cells);
    }
}

#[test]
fn the_workloads_answers_to_a_client_of_the_world_come_back_to_the_proxy() {
    let bench = Bench::new();
    for backend in BACKENDS {
        bench.capture(&[ALL, backend, &["-m", "TPROXY"]]);
        // As Envoy connects to the workload for a client: with the client's address and the mark.
        let client: SocketAddr = "10.9.0.1:0".parse().expect("an address");
        let workload: SocketAddr = format!("{POD}:80").parse().expect("an address");
        let is = within(&bench.pod, (0, 0), move || connect(Some(client), workload, Some(1337)));
        compare(&format!("{backend:?}"), &[(is, "app".to_owned())]);
    }
}

#[test]
fn ports_that_are_listed_are_captured_alone() {
    let bench = Bench::new();
    for backend in BACKENDS {
        bench.capture(&[backend, &["-m", "TPROXY", "-b", "80", "-t", "0x10", "-r", "300"]]);
        let cells = [
            (bench.ask_of_world(&format!("{POD}:80")), "in 10.9.0.2:80 of 10.9.0.1".to_owned()),
            (bench.ask_of_world(&format!("{POD}:81")), "app".to_owned()),
        ];
        compare(&format!("{backend:?}"), &cells);
        bench.capture(&[backend, &["--cleanup-only", "-t", "0x10", "-r", "300"]]);
        assert!(bench.rules().is_empty(), "{:?}", bench.rules());
    }
}
