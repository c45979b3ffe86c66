//! What is captured by default, and what is left alone, in both versions of IP and by every back end.

use super::bench::{ALL, BACKENDS, Bench, POD, POD_V6, PROXY, SERVICE, SERVICE_V6, WORKLOAD, compare};

fn cell(is: String, should: &str) -> (String, String) {
    (is, should.to_owned())
}

#[test]
fn without_rules_everything_arrives_where_it_was_sent() {
    let bench = Bench::new();
    let cells = [
        cell(bench.ask(WORKLOAD, &format!("{SERVICE}:80")), "world"),
        cell(bench.ask(WORKLOAD, &format!("[{SERVICE_V6}]:80")), "world"),
        cell(bench.ask_of_world(&format!("{POD}:80")), "app"),
        cell(bench.ask_of_world(&format!("[{POD_V6}]:80")), "app"),
        cell(bench.ask_name(WORKLOAD, "10.96.0.10"), "world from 10.96.0.10:53"),
    ];
    compare("nothing is captured", &cells);
}

#[test]
fn all_that_comes_in_and_goes_out_is_captured_but_for_the_proxys_own() {
    let bench = Bench::new();
    for backend in BACKENDS {
        bench.capture(&[ALL, backend]);
        let cells = [
            cell(bench.ask(WORKLOAD, &format!("{SERVICE}:80")), &format!("out {SERVICE}:80")),
            cell(bench.ask((0, 0), "10.9.0.1:443"), "out 10.9.0.1:443"),
            cell(bench.ask(PROXY, &format!("{SERVICE}:80")), "world"),
            cell(bench.ask((2000, 1337), &format!("{SERVICE}:80")), "world"),
            cell(bench.ask_of_world(&format!("{POD}:80")), &format!("in {POD}:80")),
            cell(bench.ask_of_world("10.8.0.2:9090"), "in 10.8.0.2:9090"),
            cell(bench.ask_of_world(&format!("{POD}:15021")), "app"),
            cell(bench.ask_of_world(&format!("{POD}:15008")), "tunnel"),
            // The workload talks to itself; the proxy calls it as others do, unless by the loopback address.
            cell(bench.ask(WORKLOAD, "127.0.0.1:80"), "app"),
            cell(bench.ask(WORKLOAD, &format!("{POD}:80")), "app"),
            cell(bench.ask(PROXY, &format!("{POD}:80")), &format!("in {POD}:80")),
            cell(bench.ask(PROXY, "127.0.0.1:80"), "app"),
            cell(bench.ask_from(PROXY, Some("127.0.0.6"), &format!("{POD}:80")), "app"),
            cell(bench.ask_name(WORKLOAD, "10.96.0.10"), "world from 10.96.0.10:53"),
            // IPv6 is not asked for, and the proxy does not listen on it.
            cell(bench.ask(WORKLOAD, &format!("[{SERVICE_V6}]:80")), "world"),
            cell(bench.ask_of_world(&format!("[{POD_V6}]:80")), "app"),
        ];
        compare(&format!("{backend:?}"), &cells);
    }
}

#[test]
fn both_versions_of_ip_are_captured_where_both_are_asked_for() {
    let bench = Bench::new();
    for backend in BACKENDS {
        bench.capture(&[ALL, backend, &["--dual-stack"]]);
        let cells = [
            cell(bench.ask(WORKLOAD, &format!("[{SERVICE_V6}]:80")), &format!("out [{SERVICE_V6}]:80")),
            cell(bench.ask(PROXY, &format!("[{SERVICE_V6}]:80")), "world"),
            cell(bench.ask_of_world(&format!("[{POD_V6}]:80")), &format!("in [{POD_V6}]:80")),
            cell(bench.ask_of_world(&format!("[{POD_V6}]:15021")), "app"),
            cell(bench.ask(WORKLOAD, "[::1]:80"), "app"),
            cell(bench.ask(WORKLOAD, &format!("[{POD_V6}]:80")), "app"),
            cell(bench.ask(PROXY, &format!("[{POD_V6}]:80")), &format!("in [{POD_V6}]:80")),
            cell(bench.ask_from(PROXY, Some("::6"), &format!("[{POD_V6}]:80")), "app"),
            cell(bench.ask(WORKLOAD, &format!("{SERVICE}:80")), &format!("out {SERVICE}:80")),
            cell(bench.ask_of_world(&format!("{POD}:80")), &format!("in {POD}:80")),
        ];
        compare(&format!("{backend:?}"), &cells);
    }
}

#[test]
fn a_pod_of_ipv6_alone_is_captured_unasked() {
    let bench = Bench::new();
    let pod = &bench.pod;
    super::bench::shell(&format!("ip -n {pod} -4 addr flush dev eth0; ip -n {pod} -4 addr flush dev net1"));
    for backend in BACKENDS {
        bench.capture(&[ALL, backend]);
        let cells = [
            cell(bench.ask(WORKLOAD, &format!("[{SERVICE_V6}]:80")), &format!("out [{SERVICE_V6}]:80")),
            cell(bench.ask_of_world(&format!("[{POD_V6}]:80")), &format!("in [{POD_V6}]:80")),
        ];
        compare(&format!("{backend:?}"), &cells);
    }
}

#[test]
fn other_ports_and_another_user_of_the_proxy_count() {
    let bench = Bench::new();
    for backend in BACKENDS {
        let words = ["-p", "15006", "-z", "15001", "-u", "2000", "-g", "2001", "-e", "80"];
        bench.capture(&[ALL, &words, backend]);
        let cells = [
            cell(bench.ask(WORKLOAD, &format!("{SERVICE}:80")), &format!("in {SERVICE}:80")),
            cell(bench.ask(PROXY, &format!("{SERVICE}:80")), &format!("in {SERVICE}:80")),
            cell(bench.ask((2000, 5), &format!("{SERVICE}:80")), "world"),
            cell(bench.ask((5, 2001), &format!("{SERVICE}:80")), "world"),
            cell(bench.ask_of_world(&format!("{POD}:81")), &format!("out {POD}:81")),
            cell(bench.ask_of_world(&format!("{POD}:80")), "app"),
        ];
        compare(&format!("{backend:?}"), &cells);
    }
}
