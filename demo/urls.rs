//! What can be looked at while the shop is up: ways from this machine into the namespaces.

use crate::{
    harness::{Place, Process, World, free_port},
    shop::PORT,
};
use std::net::TcpListener;

/// Open ways, each with what it leads to.
#[derive(Debug)]
pub(crate) struct Urls {
    lines: Vec<String>,
    _relays: Vec<Process>,
}

impl Urls {
    /// Opens the ways.
    pub(crate) fn open(world: &World) -> Self {
        let ports = world.control_plane().ports().clone();
        let page = world.workload("productpage-v1");
        let admin = page.envoy().admin_address().to_string();
        let node = world.node();
        let ways: [(&Place, String, u16, &[&str]); 4] = [
            (&node, format!("127.0.0.1:{}", ports.http), 18080, &["/debug", "/debug/syncz", "/debug/problems"]),
            (&node, format!("127.0.0.1:{}", ports.monitoring), 15014, &["/metrics"]),
            (&page.place, admin, 15000, &["/config_dump", "/clusters"]),
            (&node, format!("{}:{PORT}", page.pod.ip), PORT, &["/productpage"]),
        ];
        let (mut lines, mut relays) = (Vec::new(), Vec::new());
        for (place, to, wished, paths) in ways {
            let mut at = to.clone();
            if let Place::Namespace(_) = place {
                let port = if TcpListener::bind(("127.0.0.1", wished)).is_ok() { wished } else { free_port() };
                let socket = format!("unix:{}", world.dir().join(format!("{wished}.sock")).display());
                at = format!("127.0.0.1:{port}");
                relays.push(world.run_echo(place, "relay-in", &["relay", &socket, &to]));
                relays.push(world.run_echo(&Place::Here, "relay-out", &["relay", &at, &socket]));
            }
            lines.extend(paths.iter().map(|path| format!("http://{at}{path}")));
        }
        Self { lines, _relays: relays }
    }

    /// Names them.
    pub(crate) fn print(&self, kept: bool) {
        println!("\n{}", if kept { "To look at:" } else { "To look at, with `make demo KEEP=1`:" });
        self.lines.iter().for_each(|line| println!("  {line}"));
    }
}
