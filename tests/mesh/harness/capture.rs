//! The rules that bring a pod's traffic to its sidecar, as the init container of a pod sets them.

use super::network::try_feed;
use std::process::Command;

/// Outbound connections go to 15001 and inbound ones to 15006, except those of Envoy itself (user 1337), those
/// to the loopback device, and those that Envoy hands on to the workload, which come from 127.0.0.6.
const RULES: &str = "\
*nat
:ISTIO_INBOUND -
:ISTIO_REDIRECT -
:ISTIO_IN_REDIRECT -
:ISTIO_OUTPUT -
-A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15021 -j RETURN
-A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -o lo -s 127.0.0.6/32 -j RETURN
-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
-A ISTIO_OUTPUT -p tcp -j ISTIO_REDIRECT
COMMIT
";

/// Sets the rules in a namespace.
pub(super) fn install(namespace: &str) {
    let mut errors = Vec::new();
    // A kernel has one of the two backends or both; what a machine calls `iptables` need not be the one it has.
    for program in ["iptables-restore", "iptables-legacy-restore", "iptables-nft-restore"] {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{namespace}")).arg(program);
        match try_feed(&mut command, RULES) {
            Ok(()) => return,
            Err(error) => errors.push(format!("{program}: {error}")),
        }
    }
    panic!("the traffic of {namespace} cannot be captured (`make tools` installs iptables): {}", errors.join("; "));
}
