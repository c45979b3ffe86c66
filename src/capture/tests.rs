//! Rules as golden files, and what is said of bad settings.

use super::*;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

/// A case of `testdata/capture`: what is set, and where.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    ipv6: bool,
    #[serde(default)]
    nameservers: Vec<IpAddr>,
}

fn names() -> Names {
    Names::read("root:x:0:0::/:/bin/sh\nistio-proxy:x:1338:1338::/:/bin/sh\n", "root:x:0:\nbuilders:x:77:a,b\n")
}

fn options(set: &[(&str, &str)]) -> Result<Options, Vec<String>> {
    let mut settings = Settings::default();
    for (name, value) in set {
        assert!(FLAGS.iter().any(|f| f.name == *name), "{name}");
        settings.set(name, *value, format!("--{name}"));
    }
    Options::read(&settings, &Names::default())
}

fn cases() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/capture");
    let mut cases: Vec<PathBuf> = fs::read_dir(dir).expect("cases").map(|e| e.expect("a case").path()).collect();
    cases.sort();
    cases
}

/// `BLESS=1` rewrites the files.
#[test]
fn every_case_has_the_rules_that_are_written_beside_it() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut different = Vec::new();
    for dir in cases() {
        let case: Case = serde_norway::from_str(&fs::read_to_string(dir.join("in.yaml")).expect("in.yaml"))
            .unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let set: Vec<_> = case.set.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let options = options(&set).unwrap_or_else(|wrong| panic!("{}: {wrong:?}", dir.display()));
        let rules = RuleSet::of(&options, &Network { ipv6: case.ipv6, nameservers: case.nameservers });
        let mut files = vec![
            ("iptables", iptables::restore(&rules, Family::V4, &BTreeMap::new())),
            ("nft", nftables::replace(&rules)),
        ];
        if case.ipv6 {
            files.push(("ip6tables", iptables::restore(&rules, Family::V6, &BTreeMap::new())));
        }
        for (name, text) in files {
            let file = dir.join(name);
            if bless {
                fs::write(&file, &text).expect("a file");
            }
            if fs::read_to_string(&file).unwrap_or_default() != text {
                different.push(file.display().to_string());
            }
        }
    }
    assert!(different.is_empty(), "{}\nBLESS=1 rewrites them", different.join("\n"));
}

#[test]
fn each_bad_value_is_named_with_what_to_write() {
    let wrong = |set: &[(&str, &str)]| options(set).expect_err("bad settings").join("\n");
    let all = wrong(&[
        ("envoy-port", "http"),
        ("istio-inbound-ports", "80,*"),
        ("istio-local-exclude-ports", "0"),
        ("istio-outbound-ports", "90000"),
        ("istio-service-cidr", "10.0.0.1,*"),
        ("istio-service-exclude-cidr", "*"),
        ("istio-inbound-interception-mode", "NONE"),
        ("istio-inbound-tproxy-mark", "1338"),
        ("istio-inbound-tproxy-route-table", "254"),
        ("istio-exclude-interfaces", "a-name-that-is-too-long"),
        ("kube-virt-interfaces", "eth0;reboot"),
        ("proxy-uid", "nobody-of-here"),
        ("redirect-dns", "perhaps"),
        ("reconcile", "yes"),
        ("probe-timeout", "5"),
        ("force-iptables-binary", "xtables"),
        ("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", "10.0.0.0/8"),
    ]);
    let expected = [
        "--proxy-uid: there is no \"nobody-of-here\" here; write its number",
        "--envoy-port: \"http\" is no value for it; write a port from 1 to 65535",
        "--istio-inbound-interception-mode: \"NONE\" is no value for it; write REDIRECT or TPROXY",
        "--istio-inbound-tproxy-mark: \"1338\" is no value for it; write a number above 0, such as 1337; 1338 is in use",
        "--istio-inbound-tproxy-route-table: \"254\" is no value for it; write a number above 0 that is not 253, 254 \
         or 255, such as 133",
        "--istio-local-exclude-ports: \"0\" is no value for it; write ports from 1 to 65535 with commas between them, \
         such as 80,443",
        "--istio-inbound-ports: \"80,*\" is no value for it; write ports from 1 to 65535 with commas between them, \
         such as 80,443, or * alone",
        "--istio-outbound-ports: \"90000\" is no value for it; write ports from 1 to 65535 with commas between them, \
         such as 80,443",
        "--istio-service-cidr: \"10.0.0.1\" is no address range; write 10.0.0.1/32, with the length of the range",
        "--istio-service-cidr: \"*\" is no address range; write * alone, or ranges without *",
        "--istio-service-exclude-cidr: \"*\" is no address range; write ranges; all ranges are left out by an empty \
         --istio-service-cidr",
        "--kube-virt-interfaces: \"eth0;reboot\" is no value for it; write names of network interfaces with commas \
         between them, such as eth1,net+",
        "--istio-exclude-interfaces: \"a-name-that-is-too-long\" is no value for it; write names of network \
         interfaces with commas between them, such as eth1,net+",
        "--ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR: \"10.0.0.0/8\" is no value for it; write a range within 127.0.0.0/8, \
         such as 127.0.0.1/32",
        "--redirect-dns: \"perhaps\" is no value for it; write true or false",
        "--force-iptables-binary: \"xtables\" is no value for it; write legacy or nft",
        "--probe-timeout: \"5\" is no value for it; write a time such as 5s, 500ms or 1m30s",
        "--reconcile: \"yes\" is no value for it; write true or false",
    ];
    assert_eq!(all, expected.join("\n"));
}

#[test]
fn the_environment_counts_less_than_the_command_line_and_the_later_of_two_variables_more() {
    let environment = [
        ("PROXY_UID", "5"),
        ("REDIRECT_DNS", "false"),
        ("ISTIO_META_DNS_CAPTURE", "true"),
        ("DRY_RUN", ""),
        ("ISTIO_INBOUND_PORTS", ""),
        ("ENVOY_PORT", "1"),
        ("ISTIO_OUTBOUND_OWNER_GROUPS", "builders"),
    ];
    let read = |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    let mut settings = Settings::of_environment(read);
    settings.set("proxy-uid", "6,istio-proxy", "--proxy-uid");
    let options = Options::read(&settings, &names()).expect("good settings");
    assert_eq!(options.uids, [6, 1338]);
    assert_eq!(options.gids, [6, 1338], "the groups are the users where nothing is said of them");
    assert!(options.redirect_dns && !options.dry_run);
    assert_eq!(options.proxy_port, 15001, "istio-iptables reads no variable for it");
    assert_eq!(options.groups, Groups::Only(vec![77]));
    settings.set("envoy-port", "x", "the environment variable X");
    let wrong = Options::read(&settings, &names()).expect_err("a bad port");
    assert!(wrong[0].starts_with("the environment variable X: "), "{wrong:?}");
}

#[test]
fn without_settings_the_proxy_is_the_user_of_its_name_and_nothing_comes_in() {
    let options = Options::read(&Settings::default(), &names()).expect("the defaults");
    assert_eq!((options.uids, options.gids), (vec![1338], vec![1338]));
    assert_eq!(options.inbound, Ports::Only(vec![]));
    assert_eq!(options.ranges, Ranges::Only(vec![]));
    assert_eq!(options.groups, Groups::AllBut(vec![]));
    assert_eq!(options.mode, Mode::Redirect);
    assert_eq!((options.mark, options.route_table), (1337, 133));
    assert_eq!(
        (options.proxy_port, options.inbound_port, options.tunnel_port, options.probe_port),
        (15001, 15006, 15008, 15002)
    );
    assert_eq!(options.probe_timeout.as_secs(), 5);
    let nobody = Options::read(&Settings::default(), &Names::default()).expect("the defaults");
    assert_eq!(nobody.uids, [1337]);
}

#[test]
fn more_groups_than_a_rule_holds_are_refused() {
    let groups: Vec<String> = (0..65).map(|n| n.to_string()).collect();
    let wrong = options(&[("ISTIO_OUTBOUND_OWNER_GROUPS", &groups.join(","))]).expect_err("too many");
    assert!(wrong[0].contains("65 groups are more than a rule can hold"), "{wrong:?}");
    options(&[("ISTIO_OUTBOUND_OWNER_GROUPS", &groups[1..].join(","))]).expect("as many as a rule holds");
}

#[test]
fn what_an_earlier_run_has_set_is_replaced_whatever_it_was() {
    let saved = "\
# Generated by iptables-save v1.8.9 (nf_tables)
*mangle
:PREROUTING ACCEPT [0:0]
:ISTIO_DIVERT - [0:0]
-A PREROUTING -p tcp -j ISTIO_DIVERT
-A ISTIO_DIVERT -j MARK --set-xmark 0x539/0xffffffff
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:ISTIO_REDIRECT - [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A PREROUTING -i net1 -d 10.0.0.0/8 -j ISTIO_REDIRECT
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 1
COMMIT
";
    let present = iptables::present(saved);
    let rules = RuleSet::of(&options(&[("proxy-uid", "9")]).expect("good"), &Network::default());
    let text = iptables::restore(&rules, Family::V4, &present);
    let begin = "*mangle\n:ISTIO_DIVERT - [0:0]\n-D PREROUTING -p tcp -j ISTIO_DIVERT\n-X ISTIO_DIVERT\nCOMMIT\n\
        *nat\n:ISTIO_REDIRECT - [0:0]\n:ISTIO_IN_REDIRECT - [0:0]\n:ISTIO_OUTPUT - [0:0]\n\
        -D PREROUTING -i net1 -d 10.0.0.0/8 -j ISTIO_REDIRECT\n-A ISTIO_REDIRECT";
    assert!(text.starts_with(begin), "{text}");
    assert!(!text.contains("KUBE"), "{text}");
    assert_eq!(
        iptables::remove(&present),
        "*mangle\n:ISTIO_DIVERT - [0:0]\n-D PREROUTING -p tcp -j ISTIO_DIVERT\n-X ISTIO_DIVERT\nCOMMIT\n*nat\n\
         :ISTIO_REDIRECT - [0:0]\n-D PREROUTING -i net1 -d 10.0.0.0/8 -j ISTIO_REDIRECT\n-X ISTIO_REDIRECT\nCOMMIT\n"
    );
    assert_eq!(iptables::remove(&iptables::present("*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n")), "");
}

#[test]
fn dns_without_a_server_is_said_and_not_captured() {
    let options = options(&[("redirect-dns", "true")]).expect("good");
    let rules = RuleSet::of(&options, &Network::default());
    assert_eq!(rules.warnings, ["DNS is not captured: /etc/resolv.conf names no server; add --capture-all-dns"]);
    assert!(rules.rules.iter().all(|r| r.table == Table::Nat && r.chain != Chain::OutputDns));
}

#[test]
fn names_of_flags_and_variables_are_istios() {
    let shorts: String = FLAGS.iter().filter_map(|f| f.short).collect();
    assert_eq!(shorts, "pzeugmbdcixqoktrn");
    for flag in FLAGS.iter().filter(|f| f.kind != Kind::Variable && f.name != "envoy-port") {
        assert_eq!(flag.variables.first(), Some(&&*flag.name.to_uppercase().replace('-', "_")));
    }
}
