//! Running again, running otherwise, and leaving nothing behind.

use super::bench::{ALL, BACKENDS, Bench, POD, SERVICE, WORKLOAD, compare, same, shell};
use crate::harness::program;

const EVERYTHING: &[&str] =
    &["--dual-stack", "--redirect-dns", "--capture-all-dns", "--drop-invalid", "-c", "net1", "-k", "vm0", "-o", "99"];

#[test]
fn nothing_is_left_after_cleanup_by_either_name_and_rules_of_others_stay() {
    let bench = Bench::new();
    let other = "iptables-legacy -t nat -A OUTPUT -p tcp --dport 9 -j ACCEPT; iptables-nft -t nat -A OUTPUT -p tcp --dport 9 -j ACCEPT";
    shell(&format!("nsenter --net=/run/netns/{} sh -c '{other}'", bench.pod));
    let before = bench.state();
    for backend in BACKENDS {
        for mode in ["REDIRECT", "TPROXY"] {
            for name in ["--cleanup-only", "--cleanup"] {
                bench.capture(&[ALL, EVERYTHING, backend, &["-m", mode]]);
                assert!(bench.rules().len() > 10, "{:?}", bench.rules());
                // It is not told how the rules were set.
                bench.capture(&[&[name]]);
                same(&bench.state(), &before, &format!("{backend:?} {mode} {name}"));
            }
        }
    }
    bench.capture(&[ALL]);
    let command = format!("nsenter --net=/run/netns/{} {} clean-iptables", bench.pod, program().display());
    shell(&command);
    same(&bench.state(), &before, "before");
    // Where there is nothing, cleanup is content.
    shell(&command);
    compare("cleaned", &[(bench.ask(WORKLOAD, &format!("{SERVICE}:80")), "world".to_owned())]);
}

#[test]
fn a_second_run_changes_nothing_and_one_with_other_options_is_as_if_it_were_the_first() {
    let bench = Bench::new();
    for backend in BACKENDS {
        let once: &[&[&str]] = &[ALL, backend];
        let other: &[&[&str]] = &[ALL, EVERYTHING, backend, &["-m", "TPROXY"]];
        bench.capture(&[&["--cleanup-only"]]);
        bench.capture(once);
        let first = bench.state();
        bench.capture(once);
        same(&bench.state(), &first, &format!("{backend:?} again"));
        bench.capture(other);
        let second = bench.state();
        bench.capture(other);
        same(&bench.state(), &second, &format!("{backend:?} otherwise"));
        bench.capture(&[&["--cleanup-only"]]);
        bench.capture(other);
        same(&bench.state(), &second, &format!("{backend:?} otherwise"));
        bench.capture(once);
        assert_eq!(sorted(&bench.state()), sorted(&first), "{backend:?}");
    }
}

/// The loopback device keeps ::6 and its route, which harm nothing without IPv6 rules.
fn sorted(state: &str) -> Vec<&str> {
    state.lines().filter(|l| !l.contains("::6")).collect()
}

#[test]
fn another_back_end_takes_over_from_the_one_before() {
    let bench = Bench::new();
    let mut alone = Vec::new();
    for backend in BACKENDS {
        bench.capture(&[&["--cleanup-only"]]);
        bench.capture(&[ALL, backend]);
        alone.push(bench.state());
    }
    for (from, _) in BACKENDS.iter().zip(&alone) {
        for (to, should) in BACKENDS.iter().zip(&alone) {
            bench.capture(&[&["--cleanup-only"]]);
            bench.capture(&[ALL, from]);
            bench.capture(&[ALL, to]);
            same(&bench.state(), should, &format!("{from:?} {to:?}"));
            compare(&format!("{from:?} {to:?}"), &[(bench.ask_of_world(&format!("{POD}:80")), format!("in {POD}:80"))]);
        }
    }
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let bench = Bench::new();
    let before = bench.state();
    let words = [ALL, EVERYTHING, &["-m", "TPROXY", "-n"]].concat();
    let output = bench.iptables(&words);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for part in
        ["# iptables-restore", "# ip6tables-restore", "ISTIO_OUTPUT_DNS", "# ip -6 rule add fwmark 1337 lookup 133"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let output = bench.iptables(&[&words[..], &["--native-nftables"]].concat());
    assert!(String::from_utf8_lossy(&output.stdout).contains("table inet istio-proxy-nat {"), "{output:?}");
    same(&bench.state(), &before, "before");
}

#[test]
fn the_tools_own_choice_is_the_back_end_that_has_rules_already() {
    let bench = Bench::new();
    bench.capture(&[ALL]);
    assert!(shell(&format!("nsenter --net=/run/netns/{} iptables-nft-save", bench.pod)).contains("ISTIO_REDIRECT"));
    bench.capture(&[&["--cleanup-only"]]);
    let other = "iptables-legacy -t nat -A OUTPUT -p tcp --dport 9 -j ACCEPT";
    shell(&format!("nsenter --net=/run/netns/{} {other}", bench.pod));
    bench.capture(&[ALL]);
    assert!(shell(&format!("nsenter --net=/run/netns/{} iptables-legacy-save", bench.pod)).contains("ISTIO_REDIRECT"));
}
