//! What the demo shows: requests, what came of them, and whether that is as it should be.

use crate::{
    harness::{Client, Reply, Request, World},
    shop::{PORT, address},
};
use serde_json::Value;
use std::{collections::BTreeMap, thread::sleep, time::Duration};

/// Shows everything, and tells how much did not come out as it should.
pub(crate) fn all(world: &World, captured: bool) -> usize {
    let mut shop = Shop { world, captured, client: world.client("productpage-v1"), failed: 0 };
    shop.page();
    shop.split();
    shop.header_match();
    shop.fault();
    shop.retry();
    shop.edit();
    shop.failed
}

struct Shop<'a> {
    world: &'a World,
    captured: bool,
    client: Client,
    failed: usize,
}

impl Shop<'_> {
    /// A request from productpage to a service.
    fn request(&self, service: &str, path: &str) -> Request {
        let url = format!("http://{}{path}", address(service, self.captured));
        Request::get(&url).host(&format!("{service}:{PORT}"))
    }

    fn check(&mut self, text: &str, right: bool) {
        println!("  {} {text}", if right { "✓" } else { "✗" });
        self.failed += usize::from(!right);
    }

    fn page(&mut self) {
        println!("\nOne page: productpage asks details and reviews");
        let own = &self.world.workload("productpage-v1").pod.ip;
        let host = if self.captured { "127.0.0.1" } else { own };
        let url = format!("http://{host}:{PORT}/productpage");
        let page = self.client.get(&url).echo();
        for service in ["details", "reviews"] {
            let asked = &page["asked"][service];
            let answer = &asked["answer"];
            let word = |key: &str| answer[key].as_str().unwrap_or("nobody");
            let text = format!("{service} answered {}: {}-{}", asked["status"], word("name"), word("version"));
            self.check(&text, asked["status"] == 200);
        }
        if self.captured {
            // Jason's reviews have ratings.
            let page = self.client.one(&Request::get(&url).header("end-user", "jason")).echo();
            self.identities(&page);
        }
    }

    /// Who the servers were told their client is: what its certificate says, which they checked.
    fn identities(&mut self, page: &Value) {
        println!("\nIdentities: all of that was mutual TLS, with certificates that the agents got");
        let answers = |of: &Value, service: &str| of["asked"][service]["answer"].clone();
        let reviews = answers(page, "reviews");
        for (client, server, answer) in [
            ("productpage", "details", answers(page, "details")),
            ("reviews", "ratings", answers(&reviews, "ratings")),
            ("productpage", "reviews", reviews),
        ] {
            let told = answer["headers"]["x-forwarded-client-cert"].as_str().unwrap_or_default();
            let uri = told.split(';').find_map(|part| part.strip_prefix("URI=")).unwrap_or("nobody");
            let right = uri == format!("spiffe://cluster.local/ns/shop/sa/{client}");
            self.check(&format!("{server} saw {uri}"), right);
        }
    }

    fn split(&mut self) {
        println!("\nA split: 90 % of the requests to reviews go to v1, 10 % to v3");
        let replies = self.client.send(&self.request("reviews", "/reviews/0").count(500).workers(4));
        let right = is_share(&replies, "reviews-v3", 0.10);
        self.check(&format!("500 requests: {}", summary(&replies)), right);
    }

    fn header_match(&mut self) {
        println!("\nA match: whoever sends `end-user: jason` gets v2");
        let replies = self.client.send(&self.request("reviews", "/reviews/0").header("end-user", "jason").count(50));
        self.check(
            &format!("50 requests: {}", summary(&replies)),
            replies.iter().all(|r| r.served_by() == "reviews-v2"),
        );
    }

    fn fault(&mut self) {
        println!("\nA fault: `end-user: tester` waits 300 ms for ratings and gets 503; nobody else does");
        let tester = self.client.one(&self.request("ratings", "/ratings/0").header("end-user", "tester"));
        // Envoy's timers end within some milliseconds of their time, on either side.
        let right = tester.status == 503 && tester.ms >= 290;
        self.check(&format!("tester: {} after {} ms, {:?}", tester.status, tester.ms, tester.body), right);
        let other = self.client.one(&self.request("ratings", "/ratings/0"));
        self.check(&format!("somebody else: {} after {} ms", other.status, other.ms), other.status == 200);
    }

    fn retry(&mut self) {
        println!("\nA retry: details fails twice, and answers the third time");
        let reply = self.client.one(&self.request("details", "/details/0?key=demo&fail=2&status=503"));
        let seen = reply.echo()["seen"].as_u64().unwrap_or(0);
        let right = reply.status == 200 && seen == 3;
        self.check(&format!("one request: {}; details saw {seen}", reply.status), right);
    }

    fn edit(&mut self) {
        println!("\nAn edit: the weights in routes.yaml become 10 and 90 while requests are sent");
        let before = self.world.file("routes.yaml");
        let after = before.replace("weight: 90", "weight: ninety").replace("weight: 10", "weight: 90");
        let after = after.replace("weight: ninety", "weight: 10");
        self.client.start(&self.request("reviews", "/reviews/0").workers(2).pause_ms(2));
        sleep(Duration::from_millis(1500));
        self.world.apply("routes.yaml", &after);
        sleep(Duration::from_millis(3000));
        let replies = self.client.stop();
        let lost = replies.iter().filter(|r| r.status != 200).count();
        self.check(&format!("{} requests while it was edited, {lost} failed", replies.len()), lost == 0);
        let replies = self.client.send(&self.request("reviews", "/reviews/0").count(500).workers(4));
        let right = is_share(&replies, "reviews-v3", 0.90);
        self.check(&format!("500 requests after it: {}", summary(&replies)), right);
        self.world.apply("routes.yaml", &before);
    }
}

/// Whether a workload answered so large a part of the requests. Off by more than five standard deviations is
/// never chance.
fn is_share(replies: &[Reply], workload: &str, share: f64) -> bool {
    let all = replies.len() as f64;
    let got = replies.iter().filter(|r| r.served_by() == workload).count() as f64;
    (got - all * share).abs() < 5.0 * (all * share * (1.0 - share)).sqrt() && replies.iter().all(|r| r.status == 200)
}

/// Who answered how often.
fn summary(replies: &[Reply]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for reply in replies {
        let who = match reply.status {
            200 => reply.served_by().to_owned(),
            _ => reply.brief(),
        };
        *counts.entry(who).or_default() += 1;
    }
    let percent = |n: usize| 100.0 * n as f64 / replies.len() as f64;
    let parts: Vec<String> = counts.iter().map(|(who, n)| format!("{who} {n} ({:.1} %)", percent(*n))).collect();
    parts.join(", ")
}
