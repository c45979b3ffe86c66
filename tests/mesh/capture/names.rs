//! DNS: the workload's queries reach the agent and seem answered by the server, the agent's own reach the server.

use super::bench::{ALL, BACKENDS, Bench, PROXY, WORKLOAD, compare, shell};
use crate::harness::{program, run};
use std::fs;

#[test]
fn queries_to_any_server_reach_the_agent_but_for_its_own() {
    let bench = Bench::new();
    for backend in BACKENDS {
        bench.capture(&[ALL, backend, &["--redirect-dns", "--capture-all-dns", "--dual-stack"]]);
        let cells = [
            (bench.ask_name(WORKLOAD, "10.96.0.10"), "agent from 10.96.0.10:53"),
            (bench.ask_name(WORKLOAD, "10.1.1.1"), "agent from 10.1.1.1:53"),
            (bench.ask_name(WORKLOAD, "fd96::a"), "agent from [fd96::a]:53"),
            (bench.ask_name(PROXY, "10.96.0.10"), "world from 10.96.0.10:53"),
            (bench.ask_name(PROXY, "fd96::a"), "world from [fd96::a]:53"),
            (bench.ask(WORKLOAD, "10.96.0.10:53"), "agent 10.96.0.10:53"),
            (bench.ask(WORKLOAD, "[fd96::a]:53"), "agent [fd96::a]:53"),
            (bench.ask(PROXY, "10.96.0.10:53"), "world"),
            (bench.ask(WORKLOAD, "10.96.0.10:80"), "out 10.96.0.10:80"),
            // A server on this machine is as any other.
            (bench.ask_name(WORKLOAD, "127.0.0.53"), "agent from 127.0.0.53:53"),
        ];
        compare(&format!("{backend:?}"), &cells.map(|(is, should)| (is, should.to_owned())));
    }
}

#[test]
fn queries_to_the_servers_of_the_pod_reach_the_agent_and_no_others() {
    let bench = Bench::new();
    let file = run().part().0.join("resolv.conf");
    fs::write(&file, "nameserver 10.96.0.10\nnameserver fd96::a\n").expect("a file");
    for backend in BACKENDS {
        // Sees the file in a mount namespace of its own.
        shell(&format!(
            "unshare --mount sh -c 'mount --bind {} /etc/resolv.conf && exec nsenter --net=/run/netns/{} {} iptables -b \\* \
             -i \\* --dual-stack {}'",
            file.display(),
            bench.pod,
            program().display(),
            [backend, &["--redirect-dns=true"]].concat().join(" ")
        ));
        let cells = [
            (bench.ask_name(WORKLOAD, "10.96.0.10"), "agent from 10.96.0.10:53"),
            (bench.ask_name(WORKLOAD, "fd96::a"), "agent from [fd96::a]:53"),
            (bench.ask_name(WORKLOAD, "10.96.0.11"), "world from 10.96.0.11:53"),
            (bench.ask_name(WORKLOAD, "fd96::b"), "world from [fd96::b]:53"),
            (bench.ask_name(PROXY, "10.96.0.10"), "world from 10.96.0.10:53"),
            (bench.ask(WORKLOAD, "10.96.0.10:53"), "agent 10.96.0.10:53"),
            (bench.ask(WORKLOAD, "10.96.0.11:53"), "out 10.96.0.11:53"),
        ];
        compare(&format!("{backend:?}"), &cells.map(|(is, should)| (is, should.to_owned())));
    }
}
