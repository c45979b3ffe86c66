//! Many hosts in one world of few Envoys: what each object does to the requests of a client.
//!
//! The servers have no sidecars, so all that happens is the client's doing. Every module says which hosts it wants;
//! they are there from the start, and nothing changes but where a test is about changes.

mod bytes;
mod matches;
mod policies;
mod resilience;
mod routes;
mod sidecars;

use crate::harness::{Client, Network, Pod, Process, Reply, Request, User, World, command};
use rcgen::{CertificateParams, DnType, KeyPair};
use std::{collections::BTreeSet, fs, sync::OnceLock};

/// What the modules share: the service `s` of all servers and its subsets, and what has no place in a table.
const OBJECTS: &str = include_str!("field/field.yaml");

/// The address of `s`. Whatever is sent to its port 80 goes where its `Host` says.
const ADDRESS: &str = "10.96.5.1";

/// The world: `client`; `other` in a namespace of its own; `narrow`, whose Sidecar lets little in; `inner`, a server
/// with a Sidecar; three servers `s-v1` to `s-v3`; and `quiet`, which refuses every connection.
fn field() -> &'static World {
    static FIELD: OnceLock<(World, Vec<Process>)> = OnceLock::new();
    let (world, _) = FIELD.get_or_init(|| {
        let server = |version: &str| Pod::new(&format!("s-{version}"), "shop", "s", version).bare();
        let world = World::with(
            vec![
                Pod::new("client", "shop", "client", "v1").label("istio-locality", "r1.z1.s1").idle(),
                Pod::new("other", "far", "other", "v1").idle(),
                Pod::new("narrow", "close", "narrow", "v1").idle(),
                Pod::new("inner", "shop", "inner", "v1"),
                server("v1"),
                server("v2"),
                server("v3"),
                Pod::new("quiet", "shop", "quiet", "v1").bare().idle(),
            ],
            &[
                ("field.yaml", OBJECTS),
                ("matches.yaml", &matches::objects()),
                ("policies.yaml", &policies::objects()),
                ("routes.yaml", &routes::objects()),
            ],
        );
        let mut servers: Vec<Process> = ["v1", "v2"].map(|version| end_tls(&world, version)).into();
        let http = format!("--http={}:7000", Network::OUTSIDE);
        servers.push(world.run_echo(&world.node(), "outside", &["serve", "--name", "outside", &http]));
        for (pod, text) in [("client", "s.shop.svc.cluster.local:80"), ("other", "s.shop.svc.cluster.local:80")] {
            world.wait_config(pod, text);
        }
        (world, servers)
    });
    world
}

/// A server of TLS beside a server, whose certificate is for `server-VERSION`.
fn end_tls(world: &World, version: &str) -> Process {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("server-{version}"));
    let key = KeyPair::generate().expect("a key");
    let chain = params.self_signed(&key).expect("a certificate").pem();
    let pem = world.dir().join(format!("{version}.pem"));
    fs::write(&pem, format!("{chain}{}", key.serialize_pem())).expect("a file");
    let mut openssl = command(&world.workload(&format!("s-{version}")).place, "openssl".as_ref(), User::Own);
    openssl.args(["s_server", "-www", "-quiet", "-accept", "9443", "-cert"]).arg(&pem).arg("-key").arg(&pem);
    Process::start(openssl, world.dir().join(format!("{version}-tls.log")))
}

/// A client in `client`.
fn client() -> Client {
    field().client("client")
}

/// A GET of a path of a host.
fn get(host: &str, path: &str) -> Request {
    Request::get(&format!("http://{ADDRESS}{path}")).host(host)
}

/// The VirtualService of a host that is no service, with this `http` list.
fn virtual_service(name: &str, hosts: &str, http: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  hosts: [{hosts}]\n  http:\n{}",
        super::indented(http)
    )
}

/// How many requests of a key a server has got.
fn seen(server: &str, key: &str) -> u64 {
    let mut client = field().client(server);
    let reply = client.get(&format!("http://127.0.0.1:8080/_count?key={key}"));
    reply.echo()["seen"].as_u64().expect("a server that counts")
}

/// Who answered.
fn servers(replies: &[Reply]) -> BTreeSet<&str> {
    replies.iter().map(Reply::served_by).collect()
}
