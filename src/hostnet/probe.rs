//! Whether a connection is captured: one that can only succeed if it is.

use crate::capture::Options;
use anyhow::{Result, bail};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::mpsc::{self, Sender},
    thread,
    time::{Duration, Instant},
};

/// How long after a connection that failed the next is tried.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens where Envoy would, connects to where nobody listens, and waits for that connection to arrive.
///
/// # Errors
///
/// Where it does not arrive in time, or nothing can listen.
pub fn probe(options: &Options, ipv6: bool) -> Result<()> {
    // What goes to 127.0.0.6 can only come to 127.0.0.1 by a rule.
    let (own, other): (IpAddr, IpAddr) = match ipv6 {
        true => (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6).into()),
        false => (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(127, 0, 0, 6).into()),
    };
    let (arrived, arrivals) = mpsc::channel();
    let mut refused = Vec::new();
    for port in [options.proxy_port, options.inbound_port] {
        match TcpListener::bind(SocketAddr::new(own, port)) {
            Ok(listener) => {
                let arrived = arrived.clone();
                thread::spawn(move || accept(&listener, &arrived));
            }
            Err(error) => refused.push(format!("{own} port {port}: {error}")),
        }
    }
    if refused.len() == 2 {
        bail!("nothing can listen where the proxy would: {}", refused.join("; "));
    }
    let target = SocketAddr::new(other, options.probe_port);
    let begin = Instant::now();
    while begin.elapsed() < options.probe_timeout {
        // It is refused where no rule captures it.
        let _connection = from(SocketAddr::new(own, 0), target);
        if arrivals.recv_timeout(PAUSE).is_ok_and(|port| port == options.probe_port) {
            return Ok(());
        }
    }
    bail!("a connection to {target} was not captured within {:?}", options.probe_timeout)
}

fn from(own: SocketAddr, target: SocketAddr) -> rustix::io::Result<rustix::fd::OwnedFd> {
    let family = if own.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &own)?;
    connect(&socket, &target)?;
    Ok(socket)
}

/// Tells the port that each connection was meant for.
fn accept(listener: &TcpListener, arrived: &Sender<u16>) {
    for connection in listener.incoming().flatten() {
        let v4 = sockopt::ip_original_dst(&connection).map(|a| a.port());
        let port = v4.or_else(|_| sockopt::ipv6_original_dst(&connection).map(|a| a.port()));
        if port.is_ok_and(|port| arrived.send(port).is_err()) {
            return;
        }
    }
}
