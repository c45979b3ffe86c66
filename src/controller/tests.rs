//! What each duty plans for what it sees, without a cluster.

use super::{
    addresses::Addresses,
    duty::{Duty, Key},
    roots::Roots,
    status::{Statuses, wanted},
};
use crate::{
    api::kind::SERVED,
    id::{Kind, ObjectRef},
    parse::Context,
    problem::{FieldPath, Problem},
};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::watch;

const NOW: &str = "2026-01-02T03:04:05Z";

/// What a duty plans for an object: the method, the path, and the body.
fn plan(duty: &mut dyn Duty, key: &Key) -> Option<(String, String, Value)> {
    let request = duty.request(key)?;
    let body = serde_json::from_slice(request.body()).unwrap();
    Some((request.method().to_string(), request.uri().to_string(), body))
}

fn key(kind: usize, namespace: &str, name: &str) -> Key {
    (kind, namespace.into(), name.into())
}

mod roots {
    use super::*;

    fn duty(text: &str) -> (watch::Sender<String>, Roots) {
        let (sender, receiver) = watch::channel(text.to_owned());
        (sender, Roots::new("istio-ca-root-cert".into(), receiver, None))
    }

    fn there(data: &Value, labels: &Value) -> Value {
        json!({ "metadata": { "name": "istio-ca-root-cert", "namespace": "shop", "resourceVersion": "7", "labels": labels,
                "annotations": { "of": "others" }, "managedFields": [] }, "data": data })
    }

    #[test]
    fn a_namespace_without_the_roots_gets_them() {
        let (_sender, mut roots) = duty("R");
        let keys = roots.seen(&key(0, "", "shop"), &json!({ "metadata": { "name": "shop" } }));
        let (method, path, body) = plan(&mut roots, &keys[0]).unwrap();
        assert_eq!((method.as_str(), path.as_str()), ("POST", "/api/v1/namespaces/shop/configmaps"));
        assert_eq!(body["data"], json!({ "root-cert.pem": "R" }));
        assert_eq!(body["metadata"], json!({ "name": "istio-ca-root-cert", "labels": { "istio.io/config": "true" } }));
    }

    #[test]
    fn what_others_changed_is_repaired_and_names_the_version_it_replaces() {
        let (_sender, mut roots) = duty("R");
        let at = key(1, "shop", "istio-ca-root-cert");
        roots.seen(&key(0, "", "shop"), &json!({ "metadata": { "name": "shop" } }));
        let labelled = json!({ "istio.io/config": "true" });
        for (data, labels, right) in [
            (json!({ "root-cert.pem": "R" }), labelled.clone(), true),
            (json!({ "root-cert.pem": "other" }), labelled.clone(), false),
            (json!({ "root-cert.pem": "R", "more": "x" }), labelled.clone(), false),
            (json!({ "root-cert.pem": "R" }), json!({}), false),
            (Value::Null, Value::Null, false),
        ] {
            roots.seen(&at, &there(&data, &labels));
            let planned = plan(&mut roots, &at);
            assert_eq!(planned.is_none(), right, "{data} {labels}");
            if let Some((method, path, body)) = planned {
                assert_eq!(
                    (method.as_str(), path.as_str()),
                    ("PUT", "/api/v1/namespaces/shop/configmaps/istio-ca-root-cert")
                );
                assert_eq!(body["metadata"]["resourceVersion"], "7");
                assert_eq!(body["metadata"]["annotations"], json!({ "of": "others" }), "what is of others stays");
                assert_eq!(body["data"], json!({ "root-cert.pem": "R" }));
            }
        }
    }

    #[test]
    fn new_roots_are_for_every_namespace() {
        let (sender, mut roots) = duty("R");
        for name in ["shop", "bank", "kube-system"] {
            roots.seen(&key(0, "", name), &json!({ "metadata": { "name": name } }));
        }
        roots.seen(
            &key(1, "shop", "istio-ca-root-cert"),
            &there(&json!({ "root-cert.pem": "R" }), &json!({ "istio.io/config": "true" })),
        );
        sender.send_replace("R2".into());
        let keys = roots.changed();
        assert_eq!(keys.iter().map(|(_, namespace, _)| namespace.as_str()).collect::<Vec<_>>(), ["bank", "shop"]);
        assert!(keys.iter().all(|key| plan(&mut roots, key).unwrap().2["data"]["root-cert.pem"] == "R2"));
    }

    #[test]
    fn a_namespace_that_ends_gets_nothing() {
        let (_sender, mut roots) = duty("R");
        let ending = json!({ "metadata": { "name": "shop", "deletionTimestamp": NOW } });
        let keys = roots.seen(&key(0, "", "shop"), &ending);
        assert!(plan(&mut roots, &keys[0]).is_none());
        roots.seen(&key(0, "", "shop"), &json!({ "metadata": { "name": "shop" } }));
        roots.gone(&key(0, "", "shop"));
        assert!(plan(&mut roots, &keys[0]).is_none());
    }
}

mod status {
    use super::*;

    fn problems() -> Vec<Problem> {
        let object = ObjectRef::new(Kind::VIRTUAL_SERVICE, "shop", "reviews");
        vec![
            Problem::error(&object, FieldPath::new("spec.http"), "is wrong"),
            Problem::warning(&object, FieldPath::new("spec.tls"), "is strange"),
        ]
    }

    fn object(generation: i64, status: &Value) -> Value {
        json!({ "metadata": { "generation": generation }, "status": status })
    }

    #[test]
    fn it_says_what_is_wrong_and_then_no_more() {
        let status = wanted(&object(3, &Value::Null), &problems(), NOW).unwrap();
        assert_eq!(
            status,
            json!({
                "observedGeneration": 3,
                "conditions": [{
                    "type": "Reconciled", "status": "False", "reason": "Refused",
                    "message": "spec.http: is wrong; spec.tls: is strange", "lastTransitionTime": NOW,
                }],
                "validationMessages": [
                    { "level": "ERROR", "type": { "name": "spec.http: is wrong" } },
                    { "level": "WARNING", "type": { "name": "spec.tls: is strange" } },
                ],
            })
        );
        assert_eq!(wanted(&object(3, &status), &problems(), "later"), None, "what was written is what should be");
    }

    #[test]
    fn numbers_may_come_back_as_texts_and_fields_may_be_left_out() {
        let mut status = wanted(&object(3, &Value::Null), &problems(), NOW).unwrap();
        status["observedGeneration"] = "3".into();
        status["conditions"][0].as_object_mut().unwrap().remove("lastTransitionTime");
        assert_eq!(wanted(&object(3, &status), &problems(), "later"), None);
    }

    #[test]
    fn a_new_generation_is_observed_and_the_time_is_that_of_the_last_change() {
        let status = wanted(&object(3, &Value::Null), &problems(), NOW).unwrap();
        let next = wanted(&object(4, &status), &problems(), "later").unwrap();
        assert_eq!(
            (&next["observedGeneration"], &next["conditions"][0]["lastTransitionTime"]),
            (&json!(4), &json!(NOW))
        );
        let healed = wanted(&object(5, &next), &[], "later").unwrap();
        assert_eq!(healed["conditions"][0]["status"], "True");
        assert_eq!(healed["conditions"][0]["lastTransitionTime"], "later");
        assert_eq!(healed["validationMessages"], Value::Null, "which takes the old ones out");
    }

    #[test]
    fn what_others_say_stays() {
        let others = json!({ "conditions": [{ "type": "Healthy", "status": "True" }], "addresses": [] });
        let status = wanted(&object(1, &others), &[], NOW).unwrap();
        let types: Vec<_> = status["conditions"].as_array().unwrap().iter().map(|c| c["type"].clone()).collect();
        assert_eq!(types, ["Healthy", "Reconciled"]);
        assert_eq!(status.get("addresses"), None, "what is not named is not touched");
    }

    #[test]
    fn an_object_of_another_revision_is_left_to_that() {
        let mut duty = Statuses::new(Arc::new(Context::default()), None);
        let at = SERVED.iter().position(|k| k.name == "VirtualService").unwrap();
        let mut raw = json!({
            "apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
            "metadata": { "name": "reviews", "namespace": "shop", "generation": 1, "resourceVersion": "9" },
            "spec": { "hosts": ["reviews"], "http": [{ "route": [{ "destination": { "host": "reviews" } }] }] },
        });
        let at = key(at, "shop", "reviews");
        assert_eq!(duty.seen(&at, &raw), std::slice::from_ref(&at));
        let (method, path, body) = plan(&mut duty, &at).unwrap();
        assert_eq!(method, "PATCH");
        assert_eq!(path, "/apis/networking.istio.io/v1beta1/namespaces/shop/virtualservices/reviews/status");
        assert_eq!(body["metadata"], json!({ "resourceVersion": "9" }));
        assert_eq!(body["status"]["conditions"][0]["reason"], "Accepted");
        raw["metadata"]["labels"]["istio.io/rev"] = "canary".into();
        assert_eq!(duty.seen(&at, &raw), []);
        assert!(plan(&mut duty, &at).is_none());
    }
}

mod addresses {
    use super::*;

    fn duty() -> Addresses {
        Addresses::new(&["240.240.0.0/29".parse().unwrap(), "2001:2::/48".parse().unwrap()])
    }

    fn entry(name: &str, hosts: &[&str], created: u32) -> Value {
        json!({
            "apiVersion": "networking.istio.io/v1",
            "metadata": { "name": name, "namespace": "shop", "resourceVersion": "1",
                "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z") },
            "spec": { "hosts": hosts, "resolution": "DNS" },
        })
    }

    /// Shows the duty an object, and writes what it plans for whom, as the API server would, until it plans no more.
    fn settle(duty: &mut Addresses, objects: &mut [Value]) -> Vec<Vec<String>> {
        let of = |object: &Value| key(0, "shop", object["metadata"]["name"].as_str().unwrap());
        for round in 0.. {
            assert!(round < 5, "it never ends");
            for object in objects.iter() {
                duty.seen(&of(object), object);
            }
            let mut wrote = false;
            for object in objects.iter_mut() {
                if let Some((_, _, body)) = plan(duty, &of(object)) {
                    object["status"]["addresses"] = body["status"]["addresses"].clone();
                    duty.seen(&of(object), object);
                    wrote = true;
                }
            }
            if !wrote {
                break;
            }
        }
        let said = |o: &Value| o["status"]["addresses"].as_array().into_iter().flatten().cloned().collect::<Vec<_>>();
        let text = |e: Value| format!("{} {}", e["host"].as_str().unwrap(), e["value"].as_str().unwrap());
        objects.iter().map(|o| said(o).into_iter().map(text).collect()).collect()
    }

    #[test]
    fn each_host_gets_one_address_of_each_range() {
        let mut objects = [entry("a", &["a.com", "b.com"], 1), entry("c", &["c.com"], 2)];
        let given = settle(&mut duty(), &mut objects);
        assert_eq!(given[0], ["a.com 240.240.0.1", "a.com 2001:2::1", "b.com 240.240.0.2", "b.com 2001:2::2"]);
        assert_eq!(given[1], ["c.com 240.240.0.3", "c.com 2001:2::3"]);
    }

    #[test]
    fn those_that_want_none_get_none_and_lose_what_they_had() {
        let mut objects = [
            entry("a", &["a.com"], 1),
            entry("b", &["*.b.com"], 2),
            entry("c", &["*.c.com"], 3),
            entry("d", &["d.com"], 4),
        ];
        objects[2]["spec"]["resolution"] = "DYNAMIC_DNS".into();
        objects[3]["metadata"]["labels"] = json!({ "networking.istio.io/enable-autoallocate-ip": "False" });
        objects[3]["status"]["addresses"] = json!([{ "host": "d.com", "value": "240.240.0.1" }]);
        let mut duty = duty();
        let given = settle(&mut duty, &mut objects);
        assert_eq!(given.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0, 2, 0]);
        objects[0]["spec"]["resolution"] = "NONE".into();
        assert_eq!(settle(&mut duty, &mut objects)[0], Vec::<String>::new());
        objects[2]["spec"]["addresses"] = json!(["10.0.0.1"]);
        assert_eq!(settle(&mut duty, &mut objects)[2], Vec::<String>::new());
    }

    #[test]
    fn addresses_stay_when_hosts_come_and_go() {
        let mut duty = duty();
        let mut objects = [entry("a", &["a.com", "b.com"], 1)];
        settle(&mut duty, &mut objects);
        objects[0]["spec"]["hosts"] = json!(["c.com", "b.com"]);
        let given = settle(&mut duty, &mut objects);
        assert_eq!(given[0], ["c.com 240.240.0.3", "c.com 2001:2::3", "b.com 240.240.0.2", "b.com 2001:2::2"]);
    }

    #[test]
    fn of_two_with_one_address_the_older_keeps_it_and_what_a_user_wrote_goes_before_both() {
        let same = json!([{ "host": "a.com", "value": "240.240.0.1" }, { "host": "a.com", "value": "2001:2::1" }]);
        let mut objects = [entry("young", &["a.com"], 9), entry("old", &["a.com"], 1), entry("user", &["u.com"], 10)];
        objects[0]["status"]["addresses"] = same.clone();
        objects[1]["status"]["addresses"] = same;
        objects[2]["spec"]["addresses"] = json!(["2001:2::1"]);
        let given = settle(&mut duty(), &mut objects);
        let on = |list: &[String], wanted: &str| list.iter().any(|entry| entry.ends_with(wanted));
        assert!(on(&given[1], " 240.240.0.1") && !on(&given[0], " 240.240.0.1"), "{given:?}");
        assert!(!on(&given[0], " 2001:2::1") && !on(&given[1], " 2001:2::1"), "{given:?}");
    }

    #[test]
    fn a_range_that_is_used_up_gives_what_it_has_and_what_becomes_free_is_given_again() {
        let mut duty = duty();
        let mut objects: Vec<Value> = (0..9).map(|i| entry(&format!("e{i}"), &["h.com"], i)).collect();
        let given = settle(&mut duty, &mut objects);
        let v4 = |given: &[Vec<String>]| given.iter().filter(|list| list.iter().any(|e| e.contains(" 240."))).count();
        assert_eq!(v4(&given), 7, "the first address is that of the range itself");
        for key in duty.gone(&key(0, "shop", "e0")) {
            plan(&mut duty, &key);
        }
        assert_eq!(v4(&settle(&mut duty, &mut objects[1..])), 7);
    }
}
