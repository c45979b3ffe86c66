//! Each inclusion and each exclusion.

use super::bench::{ALL, BACKENDS, Bench, POD, SERVICE, SERVICE_V6, WORKLOAD, compare, shell};

/// What comes out with some words of the command line and of the environment, for every back end.
fn each(bench: &Bench, words: &[&str], cells: &[(&dyn Fn() -> String, &str)]) {
    for backend in BACKENDS {
        bench.capture(&[words, backend]);
        let cells: Vec<_> = cells.iter().map(|(ask, should)| (ask(), (*should).to_owned())).collect();
        compare(&format!("{words:?} {backend:?}"), &cells);
    }
}

#[test]
fn ranges_and_ports_of_what_goes_out() {
    let bench = Bench::new();
    let ask = |to: &'static str| -> Box<dyn Fn() -> String> { Box::new(|| bench.ask(WORKLOAD, to)) };
    let (service, other, database, v6) =
        (ask("10.96.0.1:80"), ask("10.1.2.3:80"), ask("10.1.2.3:5432"), ask("[fd96::1]:80"));
    let other_v6 = ask("[fd01::1]:80");
    each(&bench, &["-i", "*", "-x", "10.1.0.0/16"], &[(&service, "out 10.96.0.1:80"), (&other, "world")]);
    each(&bench, &["-i", "10.96.0.0/12"], &[(&service, "out 10.96.0.1:80"), (&other, "world")]);
    each(
        &bench,
        &["-i", "10.0.0.0/8,fd00::/8", "-x", "10.1.0.0/16,fd01::/16", "--dual-stack"],
        &[(&service, "out 10.96.0.1:80"), (&other, "world"), (&v6, "out [fd96::1]:80"), (&other_v6, "world")],
    );
    each(&bench, &["-i", ""], &[(&service, "world"), (&other, "world")]);
    each(&bench, &["-i", "", "-q", "5432,6379"], &[(&database, "out 10.1.2.3:5432"), (&other, "world")]);
    each(&bench, &["-i", "*", "-o", "5432"], &[(&database, "world"), (&other, "out 10.1.2.3:80")]);
    each(&bench, &["-i", "*", "-o", "5000:6000"], &[(&database, "world"), (&other, "out 10.1.2.3:80")]);
    // What is left out by its range is left out whatever its port.
    each(&bench, &["-i", "", "-q", "5432", "-x", "10.1.0.0/16"], &[(&database, "world")]);
}

#[test]
fn loopback_ranges_of_what_goes_out() {
    let bench = Bench::new();
    each(
        &bench,
        &["-i", "127.1.2.3/32"],
        &[
            (&|| bench.ask(WORKLOAD, "127.1.2.3:80"), "out 127.1.2.3:80"),
            (&|| bench.ask(WORKLOAD, "127.0.0.1:80"), "app"),
            (&|| bench.ask(WORKLOAD, "10.96.0.1:80"), "world"),
        ],
    );
}

#[test]
fn ports_of_what_comes_in() {
    let bench = Bench::new();
    let http = || bench.ask_of_world("10.9.0.2:80");
    let other = || bench.ask_of_world("10.9.0.2:81");
    let high = || bench.ask_of_world("10.9.0.2:9090");
    each(&bench, &["-b", "*", "-d", "81"], &[(&http, "in 10.9.0.2:80"), (&other, "app")]);
    each(&bench, &["-b", "80,9000:9100"], &[(&http, "in 10.9.0.2:80"), (&other, "app"), (&high, "in 10.9.0.2:9090")]);
    each(&bench, &["-b", ""], &[(&http, "app"), (&other, "app")]);
    each(&bench, &[], &[(&http, "app")]);
}

#[test]
fn interfaces_that_are_left_out() {
    let bench = Bench::new();
    for words in [&["-c", "net1"][..], &["-c", "net+"], &["-c", "net1", "-m", "TPROXY"]] {
        let words = [ALL, words].concat();
        let eth0 = if words.contains(&"TPROXY") { "in 10.9.0.2:80 of 10.9.0.1" } else { "in 10.9.0.2:80" };
        each(
            &bench,
            &words,
            &[
                (&|| bench.ask_of_world("10.9.0.2:80"), eth0),
                (&|| bench.ask_of_world("10.8.0.2:80"), "app"),
                (&|| bench.ask(WORKLOAD, "10.96.0.1:80"), "out 10.96.0.1:80"),
                (&|| bench.ask(WORKLOAD, "10.77.0.1:80"), "world"),
                (&|| bench.ask(WORKLOAD, "10.8.0.1:80"), "world"),
            ],
        );
    }
}

#[test]
fn what_comes_from_a_virtual_machine_is_outbound() {
    let bench = Bench::new();
    // The world stands for the machine: what it sends by net1 to elsewhere passes the pod.
    let world = &bench.world;
    shell(&format!("ip -n {world} route del local 172.16.0.0/12; ip -n {world} route add 172.16.0.0/12 via 10.8.0.2"));
    each(
        &bench,
        &[ALL, &["-k", "net1"]].concat(),
        &[
            (&|| bench.ask_of_world("172.16.0.1:80"), "out 172.16.0.1:80"),
            (&|| bench.ask_of_world("10.9.0.2:80"), "in 10.9.0.2:80"),
            (&|| bench.ask(WORKLOAD, "10.96.0.1:80"), "out 10.96.0.1:80"),
        ],
    );
    each(
        &bench,
        &["-b", "*", "-i", "172.16.0.0/16", "-k", "net1"],
        &[
            (&|| bench.ask_of_world("172.16.0.1:80"), "out 172.16.0.1:80"),
            (&|| bench.ask_of_world("10.8.0.2:80"), "app"),
            (&|| bench.ask_of_world("10.9.0.2:80"), "in 10.9.0.2:80"),
        ],
    );
}

#[test]
fn groups_of_what_goes_out() {
    let bench = Bench::new();
    let service = format!("{SERVICE}:80");
    let with = |variable: &str, value: &str, group: u32, should: &str| {
        for backend in BACKENDS {
            let script = format!(
                "{variable}={value} nsenter --net=/run/netns/{} {} iptables -i '*' {}",
                bench.pod,
                crate::harness::program().display(),
                backend.join(" ")
            );
            shell(&script);
            let is = bench.ask((1000, group), &service);
            compare(&format!("{variable}={value} {backend:?} {group}"), &[(is, should.to_owned())]);
        }
    };
    let captured = format!("out {service}");
    with("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "888,889", 889, "world");
    with("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", "888,889", 890, &captured);
    with("ISTIO_OUTBOUND_OWNER_GROUPS", "888,889", 889, &captured);
    with("ISTIO_OUTBOUND_OWNER_GROUPS", "888,889", 890, "world");
    with("ISTIO_OUTBOUND_OWNER_GROUPS", "", 889, "world");
    with("ISTIO_OUTBOUND_OWNER_GROUPS", "root", 0, &captured);
}

#[test]
fn packets_of_no_connection_are_dropped_where_that_is_asked_for() {
    let bench = Bench::new();
    each(
        &bench,
        &[ALL, &["--drop-invalid"]].concat(),
        &[
            (&|| bench.ask_of_world(&format!("{POD}:80")), "in 10.9.0.2:80"),
            (&|| bench.ask(WORKLOAD, &format!("[{SERVICE_V6}]:80")), "world"),
        ],
    );
    assert!(bench.rules().iter().any(|l| l.contains("istio-drop")), "{:?}", bench.rules());
}
