//! Everything is killed, stopped and changed at random, over and over, and all the while: no proxy is ever without what
//! was there all along; after each quiet all have the truth within seconds; nothing is written that was said before; and
//! nothing grows.
//!
//! `SOAK_MINUTES` says for how long (1), `SOAK_SEED` which chance (1). `make soak` runs it for ten minutes.

mod chance;
mod change;
mod proxy;

use crate::harness::{Plane, Server, directory, watching, with_own};
use chance::Chance;
use mainsheet::{id::ResourceType, pb};
use proxy::{Has, Proxy, wanted};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    env, fs,
    path::PathBuf,
    str::FromStr,
    time::{Duration, Instant},
};
use tokio::time;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases/istio-leader";
const PROXIES: u64 = 6;
/// How long all is thrown about before there is quiet.
const WILD: Duration = Duration::from_secs(10);
/// How long after quiet all have the truth.
const SETTLED: Duration = Duration::from_secs(5);
/// How long it may take until all parts are up again: the API server's own start, and the pauses between tries.
const UP: Duration = Duration::from_secs(60);
/// How long nothing may be written after that.
const STILL: Duration = Duration::from_secs(3);

fn told<T: FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What a process takes.
#[derive(Clone, Copy, Debug)]
struct Size {
    mebibytes: u64,
    files: usize,
    tasks: f64,
}

impl Size {
    fn of(plane: &Plane) -> Self {
        Self { mebibytes: plane.cost().0, files: plane.open_files(), tasks: plane.metric("mainsheet_tasks") }
    }

    /// Whether it is more than it was, beyond what proxies that move from one replica to the other explain.
    fn has_grown(self, first: Self) -> bool {
        self.mebibytes > first.mebibytes * 3 / 2 + 40
            || self.files > first.files + 40
            || self.tasks > first.tasks + 80.0
    }
}

/// What is thrown about.
struct Soak {
    server: Server,
    /// The second is never killed, so that what grows is seen.
    planes: [Plane; 2],
    proxies: Vec<Proxy>,
    chance: Chance,
    done: BTreeMap<&'static str, usize>,
    first: Option<Size>,
}

#[test]
fn soak_whatever_fails_no_proxy_loses_what_was_there_all_along_and_all_come_to_the_truth() {
    let (minutes, seed) = (told("SOAK_MINUTES", 1.0_f64), told("SOAK_SEED", 1_u64));
    with_own(async |server: Server| {
        let mut soak = Soak::start(server, seed).await;
        let started = Instant::now();
        let mut rounds = 0;
        while started.elapsed().as_secs_f64() < minutes * 60.0 {
            soak.throw_about().await;
            soak.calm(rounds).await;
            rounds += 1;
        }
        let connections: usize = soak.proxies.iter().map(Proxy::connections).sum();
        println!("seed {seed}: {rounds} rounds, {connections} connections, done: {:?}", soak.done);
    });
}

impl Soak {
    async fn start(server: Server, seed: u64) -> Self {
        server.objects().put_yaml(change::ALWAYS).await;
        let planes = ["first", "second"].map(|name| Plane::replica(&server, name, &[]));
        for plane in &planes {
            plane.ready().await;
        }
        let addresses: Vec<String> = planes.iter().map(Plane::address).collect();
        let proxies = (0..PROXIES).map(|n| Proxy::start(addresses.clone(), seed * 100 + n)).collect();
        Self { server, planes, proxies, chance: Chance::new(seed), done: BTreeMap::new(), first: None }
    }

    fn count(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    /// Does things at random for a while.
    async fn throw_about(&mut self) {
        let started = Instant::now();
        while started.elapsed() < WILD {
            let pause = Duration::from_millis(50 + self.chance.below(400) as u64);
            match self.chance.below(20) {
                0 => {
                    self.count("mainsheet killed");
                    self.planes[0].restart();
                }
                1 => {
                    self.count("mainsheet stopped");
                    self.planes[1].signal("-STOP");
                    // Sometimes for longer than a lease.
                    time::sleep(pause * 15).await;
                    self.planes[1].signal("-CONT");
                }
                2 => {
                    self.count("API server killed");
                    self.server.kill();
                    time::sleep(pause * 5).await;
                    self.server.start_again();
                    if self.chance.below(2) == 0 {
                        self.server.wait_ready().await;
                    }
                }
                3 => {
                    self.count("API server stopped");
                    self.server.freeze(true);
                    time::sleep(pause * 5).await;
                    self.server.freeze(false);
                }
                4 => {
                    self.count("etcd killed");
                    self.server.restart_etcd(pause * 2).await;
                }
                5 => {
                    self.count("history forgotten");
                    // In vain where etcd is not up.
                    drop(self.server.try_compact());
                }
                6 | 7 => {
                    self.count("proxy gone");
                    let forgets = self.chance.below(2) == 0;
                    self.proxies[self.chance.below(PROXIES as usize)].leave(forgets);
                }
                _ => {
                    self.count("change");
                    let change = change::any(&mut self.chance);
                    let _ = time::timeout(Duration::from_secs(2), change.send(&self.server.objects())).await;
                }
            }
            time::sleep(pause).await;
            self.no_losses();
        }
    }

    fn no_losses(&self) {
        for (number, proxy) in self.proxies.iter().enumerate() {
            let losses = proxy.losses();
            assert!(losses.is_empty(), "proxy {number} was without {losses:?}; done: {:?}", self.done);
        }
    }

    /// Waits until all is up, and holds what must be so then.
    async fn calm(&mut self, round: usize) {
        let started = Instant::now();
        self.server.wait_ready().await;
        let mut why = String::new();
        while let Err(not) = self.is_up().await {
            assert!(started.elapsed() < UP, "not up again: {not}");
            why = not;
            time::sleep(Duration::from_millis(100)).await;
        }
        let up = started.elapsed();
        let quiet = Instant::now();
        let mut differs = vec!["nothing was compared".to_owned()];
        while !differs.is_empty() {
            if quiet.elapsed() >= SETTLED {
                let kept = self.keep_evidence().await.display().to_string();
                panic!("proxies differ from the truth: {differs:#?}; waited before for {why}; more is in {kept}");
            }
            differs = self.differences().await;
        }
        let settled = quiet.elapsed();
        self.is_still().await;
        self.no_losses();
        let size = Size::of(&self.planes[1]);
        println!("round {round}: up after {up:?} (last {why:?}), all settled after {settled:?}; {size:?}");
        let first = *self.first.get_or_insert(size);
        assert!(!size.has_grown(first), "{first:?} grew to {size:?}");
    }

    /// Whether every part is there and does its work, or what does not.
    async fn is_up(&self) -> Result<(), String> {
        for (number, plane) in self.planes.iter().enumerate() {
            let (status, text) = plane.get(false, "/ready");
            if status != "200" || !text.is_empty() {
                return Err(format!("replica {number}: {status} {text}"));
            }
        }
        let renewed = async || self.server.objects().send("GET", LEASE, &Value::Null).await;
        let before = renewed().await?;
        let term = Instant::now();
        while renewed().await?["spec"]["renewTime"] == before["spec"]["renewTime"] {
            if term.elapsed() > Duration::from_secs(2) {
                return Err(format!("nobody holds the lease: {}", before["spec"]));
            }
            time::sleep(Duration::from_millis(100)).await;
        }
        let objects = self.server.objects();
        match objects.versions_told().await == objects.versions().await {
            true => Ok(()),
            false => Err("the API server has not told all it has".to_owned()),
        }
    }

    /// What proxies have that is not what the objects come to.
    async fn differences(&self) -> Vec<String> {
        let world = watching::world_of(&self.server.objects()).await;
        let node = mainsheet::parse::node(&json!({"id": proxy::ID})).expect("a node");
        let truth: BTreeMap<(ResourceType, String), Vec<u8>> =
            watching::bytes(&world, &node).into_iter().map(|(kind, name, body)| ((kind, name), body)).collect();
        let of = |(number, proxy): (usize, &Proxy)| difference(&proxy.has(), &truth).map(|d| format!("{number}: {d}"));
        self.proxies.iter().enumerate().filter_map(of).collect()
    }

    /// Writes down what there is, what it comes to, and what each has made of it.
    async fn keep_evidence(&self) -> PathBuf {
        let dir = directory();
        let write = |name: String, text: String| fs::write(dir.join(name), text).expect("a file");
        let shown = |kind: ResourceType, name: &str, body: &[u8]| {
            let json = pb::to_json(kind.type_url(), body).unwrap_or_else(Value::from);
            format!("{} {name}\n{json:#}\n", kind.short())
        };
        let objects = self.server.objects();
        write("objects.json".into(), format!("{:#}", Value::from(objects.all().await)));
        let world = watching::world_of(&objects).await;
        let node = mainsheet::parse::node(&json!({"id": proxy::ID})).expect("a node");
        let truth = watching::bytes(&world, &node);
        write("truth".into(), truth.iter().map(|(kind, name, body)| shown(*kind, name, body)).collect());
        for (number, proxy) in self.proxies.iter().enumerate() {
            let has = proxy.has();
            let all = has.iter().map(|((kind, name), (_, body))| shown(*kind, name, body));
            write(format!("proxy-{number}"), all.collect());
        }
        for (number, plane) in self.planes.iter().enumerate() {
            for page in ["configz", "registryz", "endpointz", "problems", "syncz"] {
                write(format!("replica-{number}-{page}"), plane.get(true, &format!("/debug/{page}?pretty")).1);
            }
        }
        dir
    }

    /// Nobody writes what was said before, and no world is published that is the one before.
    async fn is_still(&self) {
        let versions = async || self.server.objects().versions().await;
        let worlds = || self.planes.each_ref().map(|p| p.metric("mainsheet_snapshot_generation"));
        // What follows from the last change may still be written.
        time::sleep(Duration::from_secs(1)).await;
        let before = (versions().await, worlds());
        time::sleep(STILL).await;
        let after = (versions().await, worlds());
        let changed: Vec<_> = after.0.iter().filter(|(name, v)| before.0.get(*name) != Some(v)).collect();
        assert!(changed.is_empty(), "written in all quiet: {changed:#?}");
        assert_eq!(before.1, after.1, "worlds published in all quiet");
    }
}

/// How what a proxy has differs from what it is to have.
fn difference(has: &Has, truth: &BTreeMap<(ResourceType, String), Vec<u8>>) -> Option<String> {
    let named = |kind, name: &String| match kind {
        ResourceType::Cluster | ResourceType::Listener => true,
        ResourceType::Endpoints | ResourceType::Route => wanted(has, kind).contains(name),
        _ => false,
    };
    let more: Vec<_> = has.iter().filter(|(key, (_, body))| truth.get(key) != Some(body)).map(|(key, _)| key).collect();
    let less: Vec<_> = truth.keys().filter(|(k, n)| named(*k, n) && !has.contains_key(&(*k, n.clone()))).collect();
    (!more.is_empty() || !less.is_empty()).then(|| format!("old or too much: {more:?}; missing: {less:?}"))
}
