//! Requests and connections from outside through gateways, with real certificates.

mod bytes;
mod egress;
mod requests;
mod secured;

use crate::harness::{Client, Network, Place, Pod, Process, User, World, command, eventually};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, process::Output, sync::OnceLock};

/// The world that these tests share, and its authority.
struct Site {
    world: World,
    authority: Authority,
    _servers: Vec<Process>,
}

/// Everything that the gateways of the world open, and where it leads.
const GATEWAYS: &str = include_str!("gateways/gateways.yaml");

/// Two gateways; two versions of `a` without sidecars; `server`, in a network of its own with the gateway `edge`;
/// `client`; servers that end TLS themselves beside `a`; and one outside of the mesh.
fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        let authority = Authority::new("tests");
        let secrets = [
            authority.secret("one", "one.example", ""),
            authority.secret("two", "two.example", ""),
            authority.secret("mutual", "mutual.example", &authority.pem),
            authority.secret("turning", "turning.example", ""),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "outer", "namespace": "edge"},
                "stringData": {"cacert": authority.pem}}),
        ];
        let secrets: String = secrets.iter().map(|s| format!("---\n{s}\n")).collect();
        let router = |name: &str| Pod::new(name, "edge", name, "v1").router().with_identity().idle();
        let mut edge = router("edge").label("topology.istio.io/network", "n2").label("istio", "ingressgateway");
        edge.ip = "10.244.1.1".to_owned();
        let server = Pod::new("server", "shop", "server", "v1").with_identity();
        let pods = vec![
            edge,
            router("egress"),
            Pod::new("client", "shop", "client", "v1").with_identity(),
            server.label("topology.istio.io/network", "n2"),
            Pod::new("a-v1", "shop", "a", "v1").bare(),
            Pod::new("a-v2", "shop", "a", "v2").bare(),
        ];
        let world = World::with(pods, &[("gateways.yaml", GATEWAYS), ("secrets.yaml", &secrets)]);
        fs::write(world.dir().join("roots.pem"), &authority.pem).expect("a file");
        let serves = |place: &Place, at: &str, host: &str| {
            let (chain, key) = authority.files(&world, host);
            let mut openssl = command(place, "openssl".as_ref(), User::Own);
            openssl.args(["s_server", "-www", "-quiet", "-accept", at, "-cert"]).arg(chain).arg("-key").arg(key);
            Process::start(openssl, world.dir().join(format!("{host}.log")))
        };
        let outside = format!("{}:7443", Network::OUTSIDE);
        let servers = vec![
            serves(&world.workload("a-v1").place, "9443", "left.pass.example"),
            serves(&world.workload("a-v2").place, "9443", "right.pass.example"),
            serves(&world.node(), &outside, "outside.example"),
        ];
        for (pod, text) in [("edge", "0.0.0.0_15443"), ("egress", "0.0.0.0_8443"), ("client", "outside.example:80")] {
            world.wait_config(pod, text);
        }
        Site { world, authority, _servers: servers }
    })
}

/// What curl was answered.
#[derive(Debug)]
struct Answer {
    /// The status; 0 where there was no answer.
    status: u16,
    /// The body, or what went wrong where there was no answer.
    body: String,
}

impl Answer {
    /// The pod that answered.
    fn served_by(&self) -> String {
        let echo: Value = serde_json::from_str(&self.body).unwrap_or_default();
        format!("{}-{}", echo["name"].as_str().unwrap_or_default(), echo["version"].as_str().unwrap_or_default())
    }

    /// A header as the workload got it.
    fn sent_header(&self, name: &str) -> String {
        let echo: Value = serde_json::from_str(&self.body).unwrap_or_default();
        echo["headers"][name].to_string()
    }
}

impl Site {
    fn edge(&self) -> &str {
        &self.world.workload("edge").pod.ip
    }

    /// Asks the gateway as its users outside do; the URL's host is the gateway's.
    fn curl(&self, url: &str, more: &[&str]) -> Answer {
        let authority = url.split('/').nth(2).expect("a URL");
        let port = authority.split_once(':').map_or(if url.starts_with("https") { "443" } else { "80" }, |(_, p)| p);
        let host = authority.split(':').next().expect("a host");
        let output = command(&self.world.node(), "curl".as_ref(), User::Own)
            .args(["-sS", "--max-time", "10", "--resolve", &format!("{host}:{port}:{}", self.edge())])
            .args(["--write-out", "\n%{http_code}", "--cacert"])
            .arg(self.world.dir().join("roots.pem"))
            .args(more)
            .arg(url)
            .output()
            .expect("curl runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or_default();
        match status.parse().unwrap_or(0) {
            0 => Answer { status: 0, body: String::from_utf8_lossy(&output.stderr).into_owned() },
            status => Answer { status, body: body.to_owned() },
        }
    }

    /// The same until it is answered with 200, since a configuration may just be under way.
    fn curl_ok(&self, url: &str, more: &[&str]) -> Answer {
        eventually(url, || match self.curl(url, more) {
            answer if answer.status == 200 => Ok(answer),
            answer => Err(format!("{answer:?}")),
        })
    }

    /// Connects to a port of the gateway by TLS for a name, sends some words and tells what `openssl` says.
    fn s_client(&self, port: u16, name: &str, words: &str, more: &str) -> Output {
        let roots = self.world.dir().join("roots.pem");
        let script = format!(
            "(printf '{words}'; sleep 0.4) | timeout 10 openssl s_client -no_ign_eof -verify_return_error -connect \
             {}:{port} -servername {name} -verify_hostname {name} -CAfile {} {more}",
            self.edge(),
            roots.display()
        );
        command(&self.world.node(), "sh".as_ref(), User::Own).args(["-c", &script]).output().expect("openssl runs")
    }

    fn client(&self) -> Client {
        Client::new(&self.world.node())
    }
}

/// A certificate authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for a host, and its key.
    fn issue(&self, host: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a host");
        params.distinguished_name.push(DnType::CommonName, host);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// The same as files.
    fn files(&self, world: &World, host: &str) -> (PathBuf, PathBuf) {
        let (chain, key) = self.issue(host);
        let file = |what: &str, text: String| {
            let path = world.dir().join(format!("{host}.{what}"));
            fs::write(&path, text).expect("a file");
            path
        };
        (file("crt", chain), file("key", key))
    }

    /// The same as a Secret beside the gateway.
    fn secret(&self, name: &str, host: &str, authorities: &str) -> Value {
        let (chain, key) = self.issue(host);
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "edge"},
            "stringData": {"tls.crt": chain, "tls.key": key, "ca.crt": authorities}})
    }
}
