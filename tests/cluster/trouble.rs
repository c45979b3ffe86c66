//! What the source does when the API server, or the way to it, does not do what it should: no proxy loses anything by it,
//! and nobody ever sees half a world.

use crate::harness::{Link, Objects, Server, Watching, documents, eventually, with_own, with_own_of, with_shared};
use mainsheet::{
    model::{Mesh, Role},
    parse::{self, Context},
    plan::Proxy,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle, time};

const WORLD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop}
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: shop}
spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: 80}]}
"#;

const RULE: &str = r#"
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: server, namespace: shop}
spec: {host: server, trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}}}
"#;

fn client() -> Proxy {
    Proxy::Pod { name: "client.shop".into(), role: Role::Sidecar }
}

fn service(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{number}"), "namespace": "many"},
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]},
    })
}

/// How many services of the namespace `many` each world had that was published, until it is stopped.
struct Counts {
    seen: Arc<Mutex<BTreeSet<usize>>>,
    snapshots: watch::Receiver<Arc<mainsheet::snapshot::Snapshot>>,
    task: JoinHandle<()>,
}

impl Counts {
    fn of(watching: &Watching) -> Self {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let (mut snapshots, noted) = (watching.reader.snapshots.clone(), seen.clone());
        let task = tokio::spawn(async move {
            loop {
                let count = many(&snapshots.borrow_and_update().clone());
                noted.lock().expect("a lock").insert(count);
                if snapshots.changed().await.is_err() {
                    return;
                }
            }
        });
        Self { seen, snapshots: watching.reader.snapshots.clone(), task }
    }

    fn stop(self) -> BTreeSet<usize> {
        self.task.abort();
        // The last world may not have been noted yet.
        let last = many(&self.snapshots.borrow());
        self.seen.lock().expect("a lock").insert(last);
        self.seen.lock().expect("a lock").clone()
    }
}

fn many(world: &mainsheet::snapshot::Snapshot) -> usize {
    world.services().filter(|s| s.host.ends_with(".many.svc.cluster.local")).count()
}

async fn until_many(watching: &Watching, wanted: usize) {
    eventually("services are known", async || match many(&watching.world()) {
        count if count == wanted => Ok(()),
        count => Err(format!("{count} instead of {wanted}")),
    })
    .await;
}

async fn until_lost(watching: &Watching, lost: bool) {
    eventually("it is noted", async || match watching.health.lost() {
        found if found.is_some() == lost => Ok(()),
        found => Err(format!("{found:?}")),
    })
    .await;
}

#[test]
fn a_kind_whose_definition_is_removed_is_emptied_and_is_there_again_with_it() {
    with_shared(async |server| {
        let objects = server.objects();
        objects.put_yaml(WORLD).await;
        let watching = Watching::start(server.client()).await;
        let before = watching.agrees(&objects, &client()).await;
        objects.put_yaml(RULE).await;
        let with_rule = watching.agrees(&objects, &client()).await;
        assert!(with_rule != before);
        objects.undefine("DestinationRule").await;
        assert!(watching.agrees(&objects, &client()).await == before, "its objects are gone");
        objects.define("DestinationRule").await;
        objects.put_yaml(RULE).await;
        let again = watching.agrees(&objects, &client()).await;
        assert!(again != before, "it is read again");
    });
}

#[test]
fn a_kind_that_is_not_there_is_waited_for_and_holds_up_nobody() {
    with_shared(async |server| {
        let objects = server.objects();
        objects.put_yaml(WORLD).await;
        for kind in ["DestinationRule", "Sidecar", "VirtualService"] {
            objects.undefine(kind).await;
        }
        let watching = Watching::start(server.client()).await;
        let before = watching.agrees(&objects, &client()).await;
        assert!(!before.is_empty());
        objects.define("DestinationRule").await;
        objects.put_yaml(RULE).await;
        assert!(watching.agrees(&objects, &client()).await != before, "it is picked up when it comes");
    });
}

#[test]
fn a_kind_that_is_left_out_is_as_if_it_were_not_there() {
    with_shared(async |server| {
        let objects = server.objects();
        objects.put_yaml(WORLD).await;
        let without = Watching::start(server.client()).await.agrees(&objects, &client()).await;
        objects.put_yaml(RULE).await;
        let leaving_out = async |included: &str| {
            let mut mesh = Mesh::default();
            let switches = [("PILOT_IGNORE_RESOURCES", "*.networking.istio.io"), ("PILOT_INCLUDE_RESOURCES", included)];
            assert_eq!(parse::environment(&mut mesh, switches), [""; 0]);
            Watching::of(server.client(), Context { mesh: Arc::new(mesh), ..Context::default() }).await
        };
        let watching = leaving_out("sidecars.networking.istio.io").await;
        assert!(mainsheet_serves(&watching) == without, "the rule is not read");
        let watching = leaving_out("destinationrules.networking.istio.io").await;
        assert!(mainsheet_serves(&watching) != without, "the rule is read");
    });
}

#[test]
fn a_kind_that_is_served_in_an_older_version_alone_is_read_in_it() {
    with_shared(async |server| {
        let objects = server.objects();
        objects.put_yaml(WORLD).await;
        objects.put_yaml(RULE).await;
        let watching = Watching::start(server.client()).await;
        let before = watching.agrees(&objects, &client()).await;
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/destinationrules.networking.istio.io";
        let mut definition = objects.send("GET", path, &Value::Null).await.expect("a definition");
        definition["spec"]["versions"][0]["served"] = false.into();
        objects.send("PUT", path, &definition).await.expect("a definition that is taken");
        let old = "/apis/networking.istio.io/v1beta1/namespaces/shop/destinationrules/server";
        let change = json!({"spec": {"trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 9}}}}});
        time::sleep(Duration::from_millis(500)).await;
        objects.send("PATCH", old, &change).await.expect("an object of the older version");
        let differs = async || match mainsheet_serves(&watching) != before {
            true => Ok(()),
            false => Err("nothing has changed"),
        };
        eventually("a change in the older version is seen", differs).await;
        objects.undefine("DestinationRule").await;
        objects.define("DestinationRule").await;
    });
}

fn mainsheet_serves(watching: &Watching) -> Vec<crate::harness::Served> {
    crate::harness::served(&watching.world(), &client())
}

#[test]
fn while_the_api_server_is_dead_the_last_world_is_served_and_after_it_what_has_changed() {
    with_own(async |mut server: Server| {
        let objects = server.objects();
        objects.put_yaml(WORLD).await;
        let watching = Watching::start(server.client()).await;
        let before = watching.agrees(&objects, &client()).await;
        server.kill();
        until_lost(&watching, true).await;
        let (_, kinds, why) = watching.health.lost().expect("a loss");
        println!("lost: {kinds:?}: {why}");
        time::sleep(Duration::from_secs(3)).await;
        assert!(mainsheet_serves(&watching) == before, "nothing has changed for proxies");
        server.restart().await;
        objects.put_yaml(RULE).await;
        assert!(watching.agrees(&objects, &client()).await != before);
        until_lost(&watching, false).await;
        let lists: u64 = watching.health.kinds().values().map(|s| s.failures).sum();
        println!("{lists} failures were noted");
    });
}

#[test]
fn an_api_server_that_stands_still_for_a_while_is_followed_on_when_it_goes_on() {
    with_own(async |server: Server| {
        let objects = server.objects();
        objects.put_yaml(WORLD).await;
        let watching = Watching::start(server.client()).await;
        watching.agrees(&objects, &client()).await;
        server.freeze(true);
        time::sleep(Duration::from_secs(3)).await;
        server.freeze(false);
        objects.put_yaml(RULE).await;
        watching.agrees(&objects, &client()).await;
    });
}

#[test]
fn what_vanished_unseen_is_removed_in_one_change() {
    with_own(async |mut server: Server| {
        let objects = server.objects();
        objects.put(&(0..60).map(service).collect::<Vec<_>>()).await;
        let link = Link::new(&server).await;
        let watching = Watching::start(link.client()).await;
        assert_eq!(many(&watching.world()), 60);
        let counts = Counts::of(&watching);
        link.cut();
        until_lost(&watching, true).await;
        for number in 0..30 {
            objects.delete(&service(number)).await;
        }
        objects.put(&[service(100)]).await;
        // An API server that starts knows nothing of what was before, and history is gone: all has to be read again.
        server.compact();
        server.kill();
        server.restart().await;
        let before = watching.health.kinds()["Service"].lists;
        link.mend();
        until_many(&watching, 31).await;
        assert!(watching.health.kinds()["Service"].lists > before, "all was read again");
        assert_eq!(counts.stop(), BTreeSet::from([31, 60]));
        until_lost(&watching, false).await;
    });
}

#[test]
fn connections_that_are_cut_in_the_middle_of_an_event_lose_nothing() {
    with_shared(async |server| {
        let objects = server.objects();
        objects.put_yaml(WORLD).await;
        let link = Link::new(server).await;
        let watching = Watching::start(link.client()).await;
        for round in 0..40 {
            // Somewhere in the next events.
            link.cut_after(100 + round * 97);
            objects.put(&[service(usize::try_from(round).expect("a number"))]).await;
        }
        for number in 0..20 {
            link.cut_after(50 + i64::try_from(number).expect("a number") * 61);
            objects.delete(&service(number)).await;
        }
        until_many(&watching, 20).await;
        watching.agrees(&objects, &client()).await;
    });
}

#[test]
fn a_first_list_that_is_cut_off_is_not_published() {
    with_shared(async |server| {
        let objects = server.objects();
        objects.put_yaml(WORLD).await;
        objects.put(&(0..600).map(service).collect::<Vec<_>>()).await;
        for bytes in [60_000, 200_000] {
            let link = Link::new(server).await;
            link.cut_after(bytes);
            let watching = Watching::begin(link.client(), Context::default());
            let counts = Counts::of(&watching);
            until_many(&watching, 600).await;
            assert_eq!(counts.stop(), BTreeSet::from([0, 600]), "after {bytes} bytes");
        }
    });
}

#[test]
fn without_an_api_server_the_start_waits_and_says_for_what() {
    with_own(async |mut server: Server| {
        server.objects().put_yaml(WORLD).await;
        server.kill();
        let mut watching = Watching::begin(server.client(), Context::default());
        let named = |kinds: &Option<Vec<String>>| {
            kinds.as_ref().is_some_and(|all| all.iter().any(|k| k.starts_with("Pod (") && k.contains("refused")))
        };
        time::timeout(Duration::from_secs(20), watching.waiting.wait_for(named))
            .await
            .expect("in time")
            .expect("a source");
        server.restart().await;
        let all = watching.waiting.wait_for(Option::is_none);
        time::timeout(Duration::from_secs(60), all).await.expect("in time").expect("a source");
        watching.agrees(&server.objects(), &client()).await;
    });
}

#[test]
fn history_that_is_compacted_while_all_is_well_is_not_missed() {
    with_own(async |server: Server| {
        let objects = server.objects();
        objects.put_yaml(WORLD).await;
        let watching = Watching::start(server.client()).await;
        for number in 0..20 {
            objects.put(&[service(number)]).await;
            if number % 5 == 0 {
                server.compact();
            }
        }
        until_many(&watching, 20).await;
        watching.agrees(&objects, &client()).await;
    });
}

#[test]
fn the_same_objects_read_again_change_nothing() {
    with_own(async |mut server: Server| {
        let objects = server.objects();
        objects.put_yaml(WORLD).await;
        objects.put(&(0..50).map(service).collect::<Vec<_>>()).await;
        let watching = Watching::start(server.client()).await;
        let before = watching.agrees(&objects, &client()).await;
        let generation = watching.world().generation;
        server.kill();
        until_lost(&watching, true).await;
        server.restart().await;
        until_lost(&watching, false).await;
        assert!(watching.agrees(&objects, &client()).await == before);
        let after = watching.world().generation;
        assert!(
            after <= generation + 2,
            "{generation} became {after}: what is read again and is the same is no change"
        );
    });
}

#[test]
fn refused_objects_keep_what_was_good_before() {
    with_shared(async |server| {
        let objects: Objects = server.objects();
        objects.put_yaml(WORLD).await;
        objects.put_yaml(RULE).await;
        let watching = Watching::start(server.client()).await;
        let before = watching.agrees(&objects, &client()).await;
        let rule = &documents(RULE)[0];
        objects
            .patch(rule, &json!({"spec": {"trafficPolicy": {"outlierDetection": {"maxEjectionPercent": 110}}}}))
            .await;
        let told = async || match watching.world().problems.keys().any(|o| &*o.name == "server") {
            true => Ok(()),
            false => Err("no problem is told"),
        };
        eventually("what is wrong is told", told).await;
        assert!(mainsheet_serves(&watching) == before, "the last good version stays");
        objects.delete(rule).await;
        assert!(watching.agrees(&objects, &client()).await != before, "until it is deleted");
    });
}

#[test]
fn a_server_that_does_not_stream_lists_is_read_in_pages() {
    with_own_of(&["--feature-gates=WatchList=false"], async |server: Server| {
        let objects = server.objects();
        objects.put_yaml(WORLD).await;
        objects.put(&(0..1100).map(service).collect::<Vec<_>>()).await;
        let watching = Watching::begin(server.client(), Context::default());
        let counts = Counts::of(&watching);
        until_many(&watching, 1100).await;
        assert_eq!(counts.stop(), BTreeSet::from([0, 1100]), "three pages are one change");
        objects.put_yaml(RULE).await;
        watching.agrees(&objects, &client()).await;
        assert!(watching.health.lost().is_none());
    });
}

/// An API server that answers one question at a time, and turns away who asks meanwhile.
const BUSY: &[&str] = &[
    "--enable-priority-and-fairness=false",
    "--max-requests-inflight=1",
    "--max-mutating-requests-inflight=1",
    "--feature-gates=WatchList=false",
];

#[test]
fn an_api_server_that_turns_questions_away_is_asked_again_until_all_is_read() {
    with_own_of(BUSY, async |server: Server| {
        let objects = server.objects();
        let rights = json!({
            "metadata": {"name": "reader"},
            "subjects": [{"kind": "User", "name": "reader", "apiGroup": "rbac.authorization.k8s.io"}],
            "roleRef": {"kind": "ClusterRole", "name": "cluster-admin", "apiGroup": "rbac.authorization.k8s.io"},
        });
        objects.send("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &rights).await.expect("rights");
        objects.put_yaml(WORLD).await;
        objects.put(&(0..600).map(service).collect::<Vec<_>>()).await;
        // Whoever has all rights is never turned away; this one is.
        let link = Link::of(&server, "reader").await;
        let mut watching = Watching::begin(link.client(), Context::default());
        let turned_away =
            |kinds: &Option<Vec<String>>| kinds.as_ref().is_some_and(|all| all.iter().any(|k| k.contains("(429)")));
        let told = watching.waiting.wait_for(turned_away);
        time::timeout(Duration::from_secs(20), told).await.expect("in time").expect("a source");
        until_many(&watching, 600).await;
        watching.agrees(&objects, &client()).await;
        until_lost(&watching, false).await;
        let failures: u64 = watching.health.kinds().values().map(|s| s.failures).sum();
        println!("{failures} questions were turned away");
    });
}

#[test]
fn an_object_that_is_too_deep_to_be_read_harms_only_itself() {
    with_own(async |server: Server| {
        let objects = server.objects();
        objects.put_yaml(WORLD).await;
        objects.put_yaml(RULE).await;
        let watching = Watching::start(server.client()).await;
        let before = watching.agrees(&objects, &client()).await;
        // No definition of the mesh's takes such a thing; one that somebody has loosened may.
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/destinationrules.networking.istio.io";
        let mut definition = objects.send("GET", path, &Value::Null).await.expect("a definition");
        for version in definition["spec"]["versions"].as_array_mut().expect("versions") {
            version["schema"] =
                json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        }
        objects.send("PUT", path, &definition).await.expect("a definition that is taken");
        let deep = (0..150).fold(json!(1), |inner, _| json!([inner]));
        let rule = &documents(RULE)[0];
        let path = "/apis/networking.istio.io/v1/namespaces/shop/destinationrules/server";
        let written = async || match objects.send("PATCH", path, &json!({"spec": {"deep": deep}})).await {
            // What comes back cannot be read here either.
            Err(why) if why.contains("recursion limit") => Ok(()),
            done => Err(format!("{done:?}")),
        };
        eventually("the definition is in force", written).await;
        let told = async || {
            let problems = &watching.world().problems;
            match problems.iter().any(|(o, p)| &*o.name == "server" && p[0].message.starts_with("cannot be read")) {
                true => Ok(()),
                false => Err("no problem is told"),
            }
        };
        eventually("it is told", told).await;
        assert!(mainsheet_serves(&watching) == before, "the last good version stays");
        let other =
            RULE.replace("name: server, namespace", "name: other, namespace").replace("host: server", "host: x");
        objects.put_yaml(&other).await;
        let there = async || match watching.world().destination_rules.keys().any(|k| &*k.name == "other") {
            true => Ok(()),
            false => Err("not yet"),
        };
        eventually("others are read", there).await;
        objects.delete(rule).await;
        until_gone(&watching, "server").await;
    });
}

async fn until_gone(watching: &Watching, name: &str) {
    let gone = async || match watching.world().destination_rules.keys().any(|k| &*k.name == name) {
        true => Err("it is there"),
        false => Ok(()),
    };
    eventually("it is gone", gone).await;
}
