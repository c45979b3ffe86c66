//! A pod and the world outside, each a network namespace, with somebody who answers at every address.

use crate::harness::{MARK, may_make_namespaces, program, run};
use rustix::thread::{Gid, LinkNameSpaceType, Uid, move_into_link_name_space, set_thread_gid, set_thread_uid};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    fs::File,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

/// The pod's addresses, and those of the world on the same wires.
pub(super) const POD: &str = "10.9.0.2";
pub(super) const POD_V6: &str = "fd09::2";
/// Where a service is.
pub(super) const SERVICE: &str = "10.96.0.1";
pub(super) const SERVICE_V6: &str = "fd96::1";
/// The user that the workload runs as, and that of the proxy.
pub(super) const WORKLOAD: (u32, u32) = (1000, 1000);
pub(super) const PROXY: (u32, u32) = (1337, 1337);
/// What a pod with users of its own calls 0.
pub(super) const USERS: u32 = 100_000;

/// What every back end is asked for by.
pub(super) const BACKENDS: [&[&str]; 3] =
    [&["--force-iptables-binary=legacy"], &["--force-iptables-binary=nft"], &["--native-nftables"]];
/// What injection sets.
pub(super) const ALL: &[&str] = &["-b", "*", "-i", "*", "-d", "15090,15021,15020"];

/// A pod and the world.
pub(super) struct Bench {
    pub(super) pod: String,
    pub(super) world: String,
}

impl Bench {
    /// Without any rule.
    pub(super) fn new() -> Self {
        Self::with("ip netns add $pod")
    }

    /// The same, where the pod has users of its own (`hostUsers: false`): its user 0 is USERS, its user 1 the next.
    pub(super) fn with_users() -> Self {
        Self::with(&format!(
            "unshare --user --net sleep 60 & own=$!
             until [ \"$(readlink /proc/$own/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do sleep 0.1; done
             for ids in uid gid; do echo '0 {USERS} 65536' >/proc/$own/${{ids}}_map; done
             touch /run/netns/$pod; mount --bind /proc/$own/ns/net /run/netns/$pod; kill $own"
        ))
    }

    fn with(namespace: &str) -> Self {
        assert!(
            may_make_namespaces(),
            "network namespaces need root and `ip` (iproute2): run as root after `make tools`"
        );
        for tool in ["iptables-legacy-restore", "iptables-nft-restore", "nft", "nsenter", "unshare"] {
            let found =
                ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().any(|d| std::path::Path::new(d).join(tool).exists());
            assert!(found, "there is no {tool}: `make tools` installs it");
        }
        let (_, prefix) = run().part();
        let bench = Self { pod: format!("{prefix}pod"), world: format!("{prefix}world") };
        let (pod, world) = (&bench.pod, &bench.world);
        shell(&format!("pod={pod}; ip netns add {world}; {namespace}"));
        for (device, v4, v6) in [("eth0", "10.9.0", "fd09::"), ("net1", "10.8.0", "fd08::")] {
            shell(&format!(
                "ip -n {world} link add {device} type veth peer name {device} netns {pod}
                 ip -n {world} addr add {v4}.1/24 dev {device}; ip -n {world} addr add {v6}1/64 dev {device} nodad
                 ip -n {pod} addr add {v4}.2/24 dev {device}; ip -n {pod} addr add {v6}2/64 dev {device} nodad
                 ip -n {world} link set {device} up; ip -n {pod} link set {device} up"
            ));
        }
        shell(&format!(
            "ip -n {world} link set lo up; ip -n {pod} link set lo up
             ip -n {pod} route add default via 10.9.0.1; ip -n {pod} route add default via fd09::1
             ip -n {pod} route add 10.77.0.0/16 via 10.8.0.1
             for range in 10.96.0.0/16 10.1.0.0/16 10.77.0.0/16 172.16.0.0/12 fd96::/16 fd01::/16; do
                 ip -n {world} route add local $range dev lo
             done
             nsenter --net=/run/netns/{pod} sh -c 'echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start
                 echo 1 >/proc/sys/net/ipv4/ip_forward'
             nsenter --net=/run/netns/{world} sh -c 'echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind
                 echo 1 >/proc/sys/net/ipv6/ip_nonlocal_bind'"
        ));
        for port in [53, 80, 81, 443, 5432, 6379] {
            listen(world, "world", port, false);
        }
        for port in [80, 81, 9090, 15021] {
            listen(pod, "app", port, false);
        }
        for (name, port) in [("out", 15001), ("in", 15006), ("tunnel", 15008), ("agent", 15053)] {
            listen(pod, name, port, name == "in");
        }
        for address in ["127.0.0.1:15053", "[::1]:15053"] {
            answer_datagrams(pod, "agent", address);
        }
        for address in ["10.96.0.10", "10.96.0.11", "10.1.1.1", "[fd96::a]", "[fd96::b]"] {
            answer_datagrams(world, "world", &format!("{address}:53"));
        }
        bench
    }

    /// Runs `mainsheet iptables` in the pod.
    pub(super) fn iptables(&self, words: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.pod)).arg(program()).arg("iptables").args(words);
        command.env(MARK, run().dir()).output().expect("nsenter")
    }

    /// The same, which is to go well.
    pub(super) fn capture(&self, words: &[&[&str]]) {
        let words: Vec<&str> = words.concat();
        let output = self.iptables(&words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Who answers a connection of the pod, and what it was meant for: `out 10.96.0.1:80`.
    pub(super) fn ask(&self, who: (u32, u32), to: &str) -> String {
        self.ask_from(who, None, to)
    }

    /// The same from an address of the pod's own.
    pub(super) fn ask_from(&self, who: (u32, u32), from: Option<&str>, to: &str) -> String {
        let (to, from) = (address(to), from.map(|f| SocketAddr::new(f.parse().expect("an address"), 0)));
        within(&self.pod, who, move || connect(from, to, None))
    }

    /// Who answers a connection of the world.
    pub(super) fn ask_of_world(&self, to: &str) -> String {
        let to = address(to);
        within(&self.world, (0, 0), move || connect(None, to, None))
    }

    /// Who answers a datagram to a server of DNS, and from which address.
    pub(super) fn ask_name(&self, who: (u32, u32), server: &str) -> String {
        let server: IpAddr = server.parse().expect("an address");
        within(&self.pod, who, move || datagram(SocketAddr::new(server, 53)))
    }

    /// All that can be seen of rules, routes and addresses.
    pub(super) fn state(&self) -> String {
        let text = shell(&format!(
            "for c in iptables-legacy-save ip6tables-legacy-save iptables-nft-save ip6tables-nft-save 'nft list tables inet' \
             'ip rule' 'ip -6 rule' 'ip route show table all' 'ip addr show dev lo'; do
                 echo \"== $c\"; nsenter --net=/run/netns/{0} $c 2>/dev/null
             done
             for t in raw mangle nat; do
                 nsenter --net=/run/netns/{0} nft -s list table inet istio-proxy-$t 2>/dev/null
             done; true",
            self.pod
        ));
        // Link-local addresses come by themselves, and a table that once had a rule stays, empty.
        let begins =
            ["#", "*", ":", "table ip", "}", "chain P", "chain O", "type ", "fe80:", "multicast", "local fe80:"];
        let noise = |l: &str| {
            l.is_empty() || l == "COMMIT" || l.contains("valid_lft") || begins.iter().any(|b| l.starts_with(b))
        };
        let lines = text.lines().filter(|l| !noise(l.trim())).map(str::to_owned);
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What of the state is a rule of ours.
    pub(super) fn rules(&self) -> Vec<String> {
        let ours = |l: &&str| l.contains("ISTIO") || l.contains("istio") || l.contains("fwmark") || l.contains("::6");
        self.state().lines().filter(ours).map(str::to_owned).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for namespace in [&self.pod, &self.world] {
            // What is left of it goes with the run.
            let _ = Command::new("ip").args(["netns", "del", namespace]).stderr(Stdio::null()).status();
        }
    }
}

/// Fails with all that came out otherwise.
pub(super) fn compare(what: &str, cells: &[(String, String)]) {
    let wrong: Vec<String> =
        cells.iter().filter(|(is, should)| is != should).map(|(is, should)| format!("{is}, not {should}")).collect();
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
}

/// Fails with the lines in which two states differ.
pub(super) fn same(is: &str, should: &str, what: &str) {
    let missing = should.lines().filter(|l| !is.lines().any(|i| i == *l)).map(|l| format!("- {l}"));
    let more = is.lines().filter(|l| !should.lines().any(|s| s == *l)).map(|l| format!("+ {l}"));
    assert!(is == should, "{what}:\n{}", missing.chain(more).collect::<Vec<_>>().join("\n"));
}

/// Runs lines of shell, and answers what they write.
pub(super) fn shell(script: &str) -> String {
    let output = Command::new("sh").args(["-c", script]).env(MARK, run().dir()).output().expect("a shell");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Does something in a namespace as somebody, on a thread that is nothing else's.
pub(super) fn within<T: Send + 'static>(
    namespace: &str,
    (uid, gid): (u32, u32),
    what: impl FnOnce() -> T + Send + 'static,
) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).expect("a namespace");
    let body = move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root");
        if (uid, gid) != (0, 0) {
            set_thread_gid(Gid::from_raw(gid)).expect("root");
            set_thread_uid(Uid::from_raw(uid)).expect("root");
        }
        what()
    };
    thread::spawn(body).join().expect("a thread that ends well")
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text}"))
}

/// Connects, and answers what is said there. With a mark as Envoy does it that keeps the client's address.
pub(super) fn connect(from: Option<SocketAddr>, to: SocketAddr, mark: Option<u32>) -> String {
    let kind = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(kind, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
    if let Some(mark) = mark {
        socket.set_ip_transparent_v4(true).expect("root");
        socket.set_mark(mark).expect("root");
    }
    if let Some(from) = from {
        socket.bind(&SockAddr::from(from)).expect("an address of the pod");
    }
    if let Err(error) = socket.connect_timeout(&SockAddr::from(to), Duration::from_secs(3)) {
        return error.kind().to_string();
    }
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout");
    let mut text = String::new();
    match stream.read_to_string(&mut text) {
        Ok(_) => text,
        Err(error) => error.kind().to_string(),
    }
}

fn datagram(server: SocketAddr) -> String {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout");
    socket.send_to(b"?", server).expect("a datagram");
    let mut buffer = [0; 64];
    match socket.recv_from(&mut buffer) {
        Ok((length, from)) => format!("{} from {from}", String::from_utf8_lossy(&buffer[..length])),
        Err(error) => error.kind().to_string(),
    }
}

/// Answers every connection with a name, where it was meant to go, and, transparent, who asks.
fn listen(namespace: &str, name: &'static str, port: u16, transparent: bool) {
    let bound = move || {
        // Nobody else than root may take what is addressed to others.
        ["0.0.0.0", "::"].map(|any| {
            let address = SocketAddr::new(any.parse().expect("an address"), port);
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
            if address.is_ipv6() {
                socket.set_only_v6(true).expect("a socket of IPv6");
            }
            if transparent {
                socket.set_ip_transparent_v4(true).expect("root");
            }
            socket.set_reuse_address(true).expect("a socket");
            socket.bind(&SockAddr::from(address)).expect("a port");
            socket.listen(64).expect("a listener");
            TcpListener::from(socket)
        })
    };
    for listener in within(namespace, (0, 0), bound) {
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // Who asks may be gone already.
                let _ = stream.write_all(greeting(&stream, name).as_bytes());
            }
        });
    }
}

fn greeting(stream: &TcpStream, name: &str) -> String {
    let v4 = rustix::net::sockopt::ip_original_dst(stream).map(SocketAddr::V4);
    let meant = v4.or_else(|_| rustix::net::sockopt::ipv6_original_dst(stream).map(SocketAddr::V6));
    match (name, stream.local_addr(), meant) {
        ("out" | "in" | "agent", Ok(local), Ok(meant)) if local != meant => format!("{name} {meant}"),
        ("in", Ok(local), _) => {
            format!("{name} {local} of {}", stream.peer_addr().map(|a| a.ip().to_string()).unwrap_or_default())
        }
        _ => name.to_owned(),
    }
}

/// Answers from the address that was asked, as who answers on any address would not.
fn answer_datagrams(namespace: &str, name: &'static str, own: &str) {
    let who = if name == "agent" { PROXY } else { (0, 0) };
    let own = address(own);
    let socket = within(namespace, who, move || UdpSocket::bind(own).expect("an address and a port"));
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            // Who asked may be gone already.
            let _ = socket.send_to(name.as_bytes(), from);
        }
    });
}
