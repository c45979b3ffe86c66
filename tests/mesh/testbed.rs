//! The testbed itself: what the other tests take for granted about the network and the workloads.

use crate::harness::{Client, Network, Request, run};

#[test]
fn requests_of_a_pod_go_to_the_port_that_sidecars_listen_on() {
    let (_, prefix) = run().part();
    let mut network = Network::new(prefix);
    let pod = network.add_pod("a", "10.244.1.1", true);
    let begin = std::time::Instant::now();
    let mut client = Client::new(&pod);
    // Nothing listens on 15001, so the connection is refused; without the rules it would have no answer.
    let reply = client.one(&Request::get("http://10.96.0.1:80/"));
    assert!(reply.error.as_deref().is_some_and(|e| e.contains("refused")), "{reply:?}");
    assert!(begin.elapsed().as_secs() < 5);
}
