//! TLS that ends at the gateway: whose certificate is shown, and who is let in.

use super::{Authority, site};
use crate::harness::{User, command, eventually};
use std::{thread::sleep, time::Duration};

#[test]
fn each_name_has_its_certificate() {
    let site = site();
    for host in ["one.example", "two.example"] {
        // curl checks the certificate against the name and the authority.
        assert_eq!(site.curl_ok(&format!("https://{host}/"), &[]).served_by(), "a-v1");
        let output = site.s_client(443, host, "", "-brief");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("Verification: OK") && said.contains(&format!("CN = {host}")), "{said}");
    }
    let answer = site.curl("https://nobody.example/", &["--insecure"]);
    assert_eq!(answer.status, 0, "no chain is for this name: {answer:?}");
}

#[test]
fn an_old_version_of_tls_is_refused_where_the_server_says_so() {
    let site = site();
    site.curl_ok("https://two.example/", &[]);
    assert_eq!(site.curl("https://two.example/", &["--tls-max", "1.2"]).status, 0);
    assert_eq!(site.curl("https://one.example/", &["--tls-max", "1.2"]).status, 200);
}

#[test]
fn clients_show_a_certificate_where_they_must_and_may_not_show_a_foreign_one() {
    let site = site();
    let as_words = |(chain, key): (std::path::PathBuf, std::path::PathBuf)| {
        [chain.display().to_string(), key.display().to_string()]
    };
    let own = as_words(site.authority.files(&site.world, "friend.example"));
    let foreign = as_words(Authority::new("others").files(&site.world, "foe.example"));
    let with = |port: u16, pair: Option<&[String; 2]>| {
        let url = format!("https://mutual.example:{port}/");
        match pair {
            Some([chain, key]) => site.curl(&url, &["--cert", chain, "--key", key]),
            None => site.curl(&url, &[]),
        }
    };
    for port in [8443, 8444] {
        let answer = eventually("a certificate is taken", || match with(port, Some(&own)) {
            answer if answer.status == 200 => Ok(answer),
            answer => Err(format!("{answer:?}")),
        });
        let proof = answer.sent_header("x-forwarded-client-cert");
        assert!(proof.contains("friend.example"), "{port}: {proof}");
        assert_eq!(with(port, Some(&foreign)).status, 0, "{port}: a certificate of others");
    }
    assert_eq!(with(8443, None).status, 0, "a certificate is a must");
    assert_eq!(with(8444, None).status, 200, "a certificate is not a must");
}

#[test]
fn a_certificate_is_renewed_without_a_lost_request() {
    let site = site();
    site.curl_ok("https://turning.example/", &[]);
    let shown = || {
        let output = site.s_client(443, "turning.example", "", "| openssl x509 -noout -fingerprint");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let before = shown();
    assert!(before.contains("Fingerprint"), "{before}");
    let script = format!(
        "for i in $(seq 100); do curl -s -o /dev/null --max-time 10 -w '%{{http_code}}\\n' --cacert {} --resolve \
         turning.example:443:{} https://turning.example/; done",
        site.world.dir().join("roots.pem").display(),
        site.edge()
    );
    let mut shell = command(&site.world.node(), "sh".as_ref(), User::Own);
    let requests = shell.args(["-c", &script]).stdout(std::process::Stdio::piped()).spawn().expect("a shell");
    for _ in 0..2 {
        sleep(Duration::from_millis(300));
        let secrets = site.world.file("secrets.yaml");
        let renewed: String = secrets
            .split("---\n")
            .filter(|s| !s.trim().is_empty())
            .map(|s| match s.contains("\"name\":\"turning\"") {
                true => format!("---\n{}\n", site.authority.secret("turning", "turning.example", "")),
                false => format!("---\n{s}"),
            })
            .collect();
        site.world.apply("secrets.yaml", &renewed);
    }
    eventually("the new certificate is shown", || if shown() != before { Ok(()) } else { Err(before.clone()) });
    let output = requests.wait_with_output().expect("the requests");
    let statuses = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(statuses.lines().count() == 100 && statuses.lines().all(|s| s == "200"), "{statuses}");
}
