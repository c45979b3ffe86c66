//! What an agent costs beside its Envoy, in memory and at its start: `cargo bench --bench agent`.
//!
//! Of two sidecars with the same configuration one is started by its agent, and one by itself while its agent runs
//! already. What the former takes longer is the agent's. `MAINSHEET` names another program than the one that was built.

#[path = "../tests/mesh/harness/harness.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use the rest")]
mod harness;

use harness::{Pod, Workload, World};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};

const ROUNDS: usize = 9;

/// Whether an Envoy says that it serves.
fn serves(admin: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(admin)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    ask().is_ok_and(|text| text.starts_with("HTTP/1.1 200"))
}

/// How long a sidecar takes from the start of its process until it serves, in milliseconds: the middle of all rounds.
fn start(workload: &Workload) -> f64 {
    let mut envoy = workload.envoy();
    let admin = envoy.admin_address();
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            envoy.kill();
            while TcpStream::connect(admin).is_ok() {
                sleep(Duration::from_millis(5));
            }
            let begin = Instant::now();
            envoy.restart();
            while !serves(admin) {
                sleep(Duration::from_millis(1));
            }
            begin.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

fn main() {
    let pod = |name: &str, ip: &str| {
        let mut pod = Pod::new(name, "shop", name, "v1");
        pod.ip = ip.to_owned();
        pod.uncaptured()
    };
    let pods = vec![pod("with", "127.0.0.7").with_agent(), pod("apart", "127.0.0.8").with_agent_apart()];
    let objects = pods.iter().flat_map(Pod::objects).map(|object| format!("---\n{object}\n")).collect();
    let world = World::on_loopback(pods, vec![("pods.yaml".to_owned(), objects)]);
    let (with, apart) = (start(world.workload("with")), start(world.workload("apart")));
    println!(
        "an Envoy serves after {apart:.0} ms, one that its agent starts after {with:.0} ms: {:.0} ms more",
        with - apart
    );
    let (all, own) = world.workload("apart").agent().1.memory();
    let mebibytes = |kibibytes: u64| kibibytes as f64 / 1024.0;
    println!(
        "an agent has {:.1} MiB resident, {:.1} of its own; the rest are pages of its program, which all agents share",
        mebibytes(all),
        mebibytes(own)
    );
}
