//! What is refused: each way to be somebody whom one is not, against each mode of mutual TLS and each kind of port, from
//! clients that come to a real Envoy and from servers that a real Envoy goes to.

use super::{assert_cells, service};
use crate::harness::{Asked, Client, Pod, Reply, Request, Shown, Signer, World, eventually};
use std::{path::PathBuf, sync::OnceLock};

const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";
const TARGET: &str = "spiffe://cluster.local/ns/shop/sa/target";
/// What a client of the mesh offers, for requests and for bytes.
const MESH: [&[&str]; 2] = [&["istio-http/1.1", "istio", "http/1.1"], &["istio"]];
/// What others offer.
const OTHERS: &[&str] = &["http/1.1"];
const MODES: [&str; 3] = ["STRICT", "PERMISSIVE", "DISABLE"];
/// Ports of the server: one of each mode, for each of these protocols.
const PORTS: [(&str, [u16; 3]); 3] =
    [("http", [8080, 8081, 8082]), ("any", [8083, 8084, 8085]), ("tcp", [9000, 9001, 9002])];
/// A port that takes mutual TLS alone, and identities of one namespace alone.
const GUARDED: u16 = 8086;

/// A world of which the root was replaced, and the authority that it had before.
struct Rotated {
    world: World,
    gone: Signer,
}

fn world() -> &'static Rotated {
    static WORLD: OnceLock<Rotated> = OnceLock::new();
    WORLD.get_or_init(|| {
        let mut server = Pod::new("server", "shop", "server", "v1").with_identity();
        server.http = PORTS[0].1.into_iter().chain(PORTS[1].1).chain([GUARDED]).collect();
        server.tcp = PORTS[2].1.to_vec();
        let target = Pod::new("target", "shop", "target", "v1").bare().idle();
        let target = target.label("security.istio.io/tlsMode", "istio");
        let client = Pod::new("client", "shop", "client", "v1").with_identity();
        let world = World::with(vec![server, target, client], &[("server.yaml", &server_objects())]);
        let gone = Signer::of(&world.authority());
        for _ in 0..3 {
            world.rotate("0s").expect("a step");
        }
        Rotated { world, gone }
    })
}

/// The services of the server's ports, and a policy with the mode of each.
fn server_objects() -> String {
    let ports = PORTS.iter().flat_map(|(name, ports)| ports.map(|port| format!("{name}-{port} {port} {port}")));
    let ports: Vec<String> = ports.chain([format!("http-{GUARDED} {GUARDED} {GUARDED}")]).collect();
    let modes = |ports: &[u16; 3]| -> String {
        ports.iter().zip(MODES).map(|(port, mode)| format!("    \"{port}\": {{mode: {mode}}}\n")).collect()
    };
    let modes: String = PORTS.iter().map(|(_, ports)| modes(ports)).collect();
    format!(
        "{}---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: server, namespace: shop}}\n\
         spec:\n  selector: {{matchLabels: {{app: server}}}}\n  mtls: {{mode: STRICT}}\n  portLevelMtls:\n{modes}---\n\
         apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: server, namespace: shop}}\nspec:\n  \
         selector: {{matchLabels: {{app: server}}}}\n  action: DENY\n  rules:\n  \
         - {{from: [{{source: {{notNamespaces: [shop]}}}}], to: [{{operation: {{ports: [\"{GUARDED}\"]}}}}]}}\n",
        service("server", "server", "10.96.8.1", &ports)
    )
}

/// What a client shows, and whether it may.
struct Evidence {
    name: &'static str,
    /// Nothing where it speaks no TLS; then the certificate, if any.
    tls: Option<Option<Shown>>,
    /// Whether it speaks as proxies of the mesh do.
    mesh: bool,
    /// Whom it proves to be.
    proves: Option<&'static str>,
}

const INTERMEDIATE: &str = "spiffe://cluster.local/ns/shop/sa/elsewhere";

fn evidence() -> Vec<Evidence> {
    let Rotated { world, gone } = world();
    let dir = world.dir();
    let file = |name: &str| dir.join(format!("client-{}", name.replace(' ', "-")));
    let mesh = Signer::of(&world.authority());
    let good = mesh.sign(&Asked::of(CLIENT), file("good"));
    let shows = |name, by: &Signer, asked: Asked| Evidence {
        name,
        tls: Some(Some(by.sign(&asked, file(name)))),
        mesh: true,
        proves: None,
    };
    let is = |name, shown: &Shown, proves| Evidence { name, tls: Some(Some(shown.clone())), mesh: true, proves };
    let unknown = Signer::unknown("cluster.local");
    let other = intermediate(world, file("intermediate-authority"));
    let elsewhere = other.sign(&Asked::of(INTERMEDIATE), file("intermediate"));
    vec![
        is("a certificate of the mesh", &good, Some(CLIENT)),
        is("a certificate of the mesh's authority in another cluster", &elsewhere, Some(INTERMEDIATE)),
        Evidence { mesh: false, ..is("a certificate of the mesh, from no proxy of it", &good, Some(CLIENT)) },
        Evidence { name: "plaintext", tls: None, mesh: false, proves: None },
        Evidence { name: "no certificate", tls: Some(None), mesh: true, proves: None },
        is("a certificate without its key", &good.without_its_key(), None),
        shows("one of an unknown authority of the same name", &unknown, Asked::of(CLIENT)),
        shows("one of an authority that was removed", gone, Asked::of(CLIENT)),
        shows("one that has expired", &mesh, Asked::of(CLIENT).expired()),
        shows("one that is not valid yet", &mesh, Asked::of(CLIENT).early()),
        shows("one that is for servers alone", &mesh, Asked::of(CLIENT).for_servers()),
        shows("one of a server's name", &mesh, Asked::dns("client.shop.svc.cluster.local")),
        shows("one of nobody", &mesh, Asked::nobody()),
        shows("one of another trust domain", &mesh, Asked::of("spiffe://other.example/ns/shop/sa/client")),
        shows("one of a longer trust domain", &mesh, Asked::of("spiffe://cluster.local.evil/ns/shop/sa/client")),
        shows("one signed by a workload", &mesh.workload(CLIENT), Asked::of(CLIENT)),
        is("the authority's own", &mesh.own(file("own")), None),
    ]
}

/// The authority of another cluster, below that of the world.
fn intermediate(world: &World, dir: PathBuf) -> Signer {
    let mut command = std::process::Command::new(crate::harness::program());
    command.args(["ca", "new-intermediate", "--ca-dir"]).arg(world.authority()).arg("--out").arg(&dir);
    let output = command.output().expect("mainsheet");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Signer::of(&dir)
}

/// What is to come of it: `None` where it is refused, else who the workload is told it is.
fn right(evidence: &Evidence, mode: &str, protocol: &str) -> Option<&'static str> {
    // Who sends bytes is told to nobody, nor who speaks TLS and is taken for sending bytes.
    let told = |who| if protocol == "tcp" || (protocol == "any" && !evidence.mesh) { "" } else { who };
    match (mode, &evidence.tls) {
        ("STRICT", None) | ("DISABLE", Some(_)) => None,
        (_, None) => Some(""),
        // Where both are taken, TLS of others is the application's business, which has none.
        ("PERMISSIVE", Some(_)) if !evidence.mesh => None,
        _ => evidence.proves.map(told),
    }
}

/// What comes of it.
fn outcome(client: &mut Client, evidence: &Evidence, protocol: &str, port: u16) -> Result<String, String> {
    let to = format!("{}:{port}", world().world.workload("server").pod.ip);
    let alpn = match (evidence.mesh, protocol) {
        (true, "tcp") => MESH[1],
        (true, _) => MESH[0],
        (false, _) => OTHERS,
    };
    let reply = match (protocol, &evidence.tls) {
        ("tcp", None) => client.tcp(&to, "hello"),
        ("tcp", Some(shown)) => client.tcp_tls(&to, "hello", shown.as_ref(), alpn),
        (_, tls) => {
            let request = Request::get(&format!("http://{to}/")).fresh();
            client.one(&tls.iter().fold(request, |request, shown| request.tls(shown.as_ref(), alpn)))
        }
    };
    match reply.error {
        None if protocol == "tcp" && reply.body == "server v1 heard hello" => Ok(String::new()),
        None if protocol != "tcp" && reply.status == 200 => Ok(identity(&reply)),
        _ => Err(reply.brief()),
    }
}

/// Whom the workload was told its client is.
fn identity(reply: &Reply) -> String {
    let told = reply.sent_header("x-forwarded-client-cert").unwrap_or_default();
    told.split(';').find_map(|part| part.strip_prefix("URI=")).unwrap_or_default().to_owned()
}

#[test]
fn nobody_comes_in_as_somebody_else() {
    let Rotated { world, .. } = world();
    let evidence = evidence();
    let mut client = Client::new(&world.node());
    eventually("the new root is in force", || outcome(&mut client, &evidence[0], "http", 8080));
    let mut wrong = Vec::new();
    let mut cells = 0;
    for (protocol, ports) in PORTS {
        for (mode, port) in MODES.into_iter().zip(ports) {
            for shown in &evidence {
                cells += 1;
                let got = outcome(&mut client, shown, protocol, port);
                if got.as_deref().ok() != right(shown, mode, protocol) {
                    wrong.push(format!("{} at a port of {protocol} with {mode}: {got:?}", shown.name));
                }
            }
        }
    }
    assert_cells(world, cells, &wrong);
}

#[test]
fn a_certificate_of_another_namespace_is_for_what_that_may_do_and_no_more() {
    let Rotated { world, .. } = world();
    let mesh = Signer::of(&world.authority());
    let file = |name: &str| world.dir().join(format!("namespace-{name}"));
    let mut client = Client::new(&world.node());
    let mut status = |identity: &str, name: &str| {
        let shown = mesh.sign(&Asked::of(identity), file(name));
        let url = format!("http://{}:{GUARDED}/", world.workload("server").pod.ip);
        client.one(&Request::get(&url).fresh().tls(Some(&shown), MESH[0])).status
    };
    eventually("the new root is in force", || match status(CLIENT, "own") {
        200 => Ok(()),
        other => Err(other.to_string()),
    });
    for stolen in ["spiffe://cluster.local/ns/web/sa/client", "spiffe://cluster.local/ns/shop-2/sa/client"] {
        assert_eq!(status(stolen, "stolen"), 403, "{stolen}");
    }
}

/// What a server shows at a port, and whether a client of the mesh may talk to it.
fn servers() -> Vec<(&'static str, Option<Shown>, bool)> {
    let Rotated { world, gone } = world();
    let file = |name: &str| world.dir().join(format!("server-{}", name.replace(' ', "-")));
    let mesh = Signer::of(&world.authority());
    let unknown = Signer::unknown("cluster.local");
    let good = mesh.sign(&Asked::of(TARGET), file("good"));
    let shows = |name, by: &Signer, asked: Asked| (name, Some(by.sign(&asked, file(name))), false);
    vec![
        ("its certificate", Some(good.clone()), true),
        ("plaintext", None, false),
        ("its certificate without the key", Some(good.without_its_key()), false),
        shows("one of an unknown authority of the same name", &unknown, Asked::of(TARGET)),
        shows("one of an authority that was removed", gone, Asked::of(TARGET)),
        shows("one that has expired", &mesh, Asked::of(TARGET).expired()),
        shows("one that is not valid yet", &mesh, Asked::of(TARGET).early()),
        shows("one that is for clients alone", &mesh, Asked::of(TARGET).for_clients()),
        shows("one of its DNS name", &mesh, Asked::dns("target-auto.shop.svc.cluster.local")),
        shows("one of nobody", &mesh, Asked::nobody()),
        shows("one of another account", &mesh, Asked::of("spiffe://cluster.local/ns/shop/sa/client")),
        shows("one of the account in another namespace", &mesh, Asked::of("spiffe://cluster.local/ns/web/sa/target")),
        shows("one of another trust domain", &mesh, Asked::of("spiffe://other.example/ns/shop/sa/target")),
        shows("one of a longer account", &mesh, Asked::of("spiffe://cluster.local/ns/shop/sa/target-2")),
        shows("one signed by a workload", &mesh.workload(TARGET), Asked::of(TARGET)),
        ("the authority's own", Some(mesh.own(file("own"))), false),
    ]
}

#[test]
fn nobody_is_taken_for_a_server_that_he_is_not() {
    const FIRST: u16 = 7100;
    let Rotated { world, .. } = world();
    let servers = servers();
    let ports: Vec<u16> = (FIRST..).take(servers.len()).collect();
    let listen = |(port, (_, shown, _)): (&u16, &(&str, Option<Shown>, bool))| match shown {
        Some(shown) => format!("--tls=0.0.0.0:{port}={}", shown.base.display()),
        None => format!("--http=0.0.0.0:{port}"),
    };
    let words: Vec<String> = ports.iter().zip(&servers).map(listen).collect();
    let words: Vec<&str> = ["serve", "--name", "target"].into_iter().chain(words.iter().map(String::as_str)).collect();
    let _target = world.run_echo(&world.workload("target").place, "target", &words);
    let of_service: Vec<String> = ports.iter().map(|port| format!("http-{port} {port} {port}")).collect();
    // What the client's author says of TLS, and what becomes of it: whether there is mutual TLS, and with whom.
    let rules = [
        ("auto", "10.96.8.2", "", Some(true)),
        ("mutual", "10.96.8.3", "{mode: ISTIO_MUTUAL}", Some(true)),
        (
            "others",
            "10.96.8.4",
            "{mode: ISTIO_MUTUAL, subjectAltNames: ['spiffe://cluster.local/ns/shop/sa/nobody']}",
            Some(false),
        ),
        ("off", "10.96.8.5", "{mode: DISABLE}", None),
    ];
    let mut objects = String::new();
    for (rule, address, tls, _) in rules {
        let name = format!("target-{rule}");
        objects += &service(&name, "target", address, &of_service);
        if !tls.is_empty() {
            objects += &format!(
                "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: shop}}\n\
                 spec: {{host: {name}, trafficPolicy: {{tls: {tls}}}}}\n"
            );
        }
    }
    world.apply("targets.yaml", &objects);
    let last = ports[ports.len() - 1];
    world.wait_config("client", &format!("outbound|{last}||target-off.shop.svc.cluster.local"));
    let mut client = world.client("client");
    let mut status = |rule: &str, address: &str, port: u16| {
        client
            .one(&Request::get(&format!("http://{address}:{port}/")).host(&format!("target-{rule}:{port}")).fresh())
            .status
    };
    eventually("the new root is in force", || match status("auto", rules[0].1, FIRST) {
        200 => Ok(()),
        other => Err(other.to_string()),
    });
    let (mut cells, mut wrong) = (0, Vec::new());
    for (rule, address, _, names) in rules {
        for (port, (shown, how, good)) in ports.iter().zip(&servers) {
            cells += 1;
            let right = match names {
                Some(names) => *good && names,
                None => how.is_none(),
            };
            let got = status(rule, address, *port);
            if (got == 200) != right {
                wrong.push(format!("{shown}, to a client with the rule `{rule}`: {got}"));
            }
        }
    }
    assert_cells(world, cells, &wrong);
}
