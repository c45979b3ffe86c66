//! Callers prove who they are by tokens that the cluster has signed: it is asked about each, or its keys are.

use crate::harness::{Objects, Plane, Proxy, Server, eventually, with_own};
use mainsheet::{
    id::Spiffe,
    peer::{Access, Caller, Proof},
};
use serde_json::{Value, json};
use tonic::Code;

/// A token for an account of the namespace `shop`.
pub(crate) async fn token(objects: &Objects, account: &str, audience: &str) -> String {
    let made =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": "shop"}});
    let _ = objects.offer(std::slice::from_ref(&made)).await;
    let path = format!("/api/v1/namespaces/shop/serviceaccounts/{account}/token");
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                         "spec": {"audiences": [audience], "expirationSeconds": 600}});
    let answer: Value = objects.send("POST", &path, &request).await.expect("a token");
    answer["status"]["token"].as_str().expect("a token").to_owned()
}

/// What becomes of a stream with this token.
async fn admitted(plane: &Plane, token: Option<&str>) -> Result<(), Code> {
    let mut proxy = Proxy::open(plane.secure().await, token).await.map_err(|s| s.code())?;
    proxy.next().await.map(drop).map_err(|s| s.code())
}

#[test]
fn the_cluster_is_asked_once_about_a_good_token_and_each_time_about_a_bad_one() {
    with_own(async |server: Server| {
        let plane = Plane::with_authority(&server, &[]);
        plane.ready().await;
        let objects = server.objects();
        let good = token(&objects, "seller", "istio-ca").await;
        let asked = || (plane.metric("mainsheet_tokens_reviewed"), plane.metric("mainsheet_tokens_known"));
        assert_eq!(admitted(&plane, Some(&good)).await, Ok(()));
        assert_eq!(asked(), (1.0, 0.0));
        assert_eq!(admitted(&plane, Some(&good)).await, Ok(()));
        assert_eq!(asked(), (1.0, 1.0));
        let other = token(&objects, "seller", "vault").await;
        let mut forged = good.clone();
        let last = if forged.pop() == Some('A') { 'B' } else { 'A' };
        forged.push(last);
        // The last character may hold bits that nobody reads; the one before it has none.
        let at = forged.len() - 10;
        let swapped = if &forged[at..=at] == "x" { "y" } else { "x" };
        forged.replace_range(at..=at, swapped);
        for bad in [&other, &forged] {
            let (before, _) = asked();
            for _ in 0..2 {
                assert_eq!(admitted(&plane, Some(bad)).await, Err(Code::Unauthenticated));
            }
            assert_eq!(asked().0, before + 2.0, "that a token is bad is not kept");
        }
        for nothing in [None, Some(""), Some("a.b.c"), Some("admin")] {
            assert_eq!(admitted(&plane, nothing).await, Err(Code::Unauthenticated), "{nothing:?}");
        }
    });
}

#[test]
fn while_the_api_server_is_dead_a_token_that_is_known_is_good_and_another_comes_again() {
    with_own(async |mut server: Server| {
        let plane = Plane::with_authority(&server, &[]);
        plane.ready().await;
        let objects = server.objects();
        let known = token(&objects, "seller", "istio-ca").await;
        let unknown = token(&objects, "buyer", "istio-ca").await;
        assert_eq!(admitted(&plane, Some(&known)).await, Ok(()));
        server.kill();
        assert_eq!(admitted(&plane, Some(&known)).await, Ok(()));
        assert_eq!(admitted(&plane, Some(&unknown)).await, Err(Code::Unavailable), "it is not said to be bad");
        server.restart().await;
        assert_eq!(admitted(&plane, Some(&unknown)).await, Ok(()));
    });
}

#[test]
fn with_the_clusters_keys_nobody_is_asked() {
    with_own(async |mut server: Server| {
        let plane = Plane::with_authority(&server, &["--verify-tokens-offline"]);
        plane.ready().await;
        let objects = server.objects();
        let good = token(&objects, "seller", "istio-ca").await;
        let other = token(&objects, "seller", "vault").await;
        server.kill();
        assert_eq!(admitted(&plane, Some(&good)).await, Ok(()));
        assert_eq!(admitted(&plane, Some(&other)).await, Err(Code::Unauthenticated));
    });
}

#[test]
fn the_cluster_says_which_pages_callers_may_get() {
    with_own(async |server: Server| {
        let objects = server.objects();
        for (path, object) in [
            (
                "clusterroles",
                json!({"kind": "ClusterRole", "metadata": {"name": "watcher"},
              "rules": [{"nonResourceURLs": ["/debug/syncz"], "verbs": ["get"]}]}),
            ),
            (
                "clusterrolebindings",
                json!({"kind": "ClusterRoleBinding", "metadata": {"name": "watcher"},
              "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "watcher"},
              "subjects": [{"kind": "ServiceAccount", "name": "seller", "namespace": "shop"}]}),
            ),
        ] {
            let path = format!("/apis/rbac.authorization.k8s.io/v1/{path}");
            objects.send("POST", &path, &object).await.expect("an object");
        }
        let access = Access::new(server.client());
        let caller = |account: &str| Caller {
            identity: Spiffe { trust_domain: "mesh".into(), namespace: "shop".into(), account: account.into() },
            proof: Proof::Token,
            expires: None,
            pod: None,
            subject: None,
        };
        // The API server learns of its own objects by a watch, and answers kept are those of one `Access`.
        eventually("a right that was given", async || {
            let may = Access::new(server.client()).may_get(&caller("seller"), "/debug/syncz").await;
            may.then_some(()).ok_or("not yet")
        })
        .await;
        for (account, page, may) in [
            ("seller", "/debug/syncz", true),
            ("seller", "/debug/configz", false),
            ("buyer", "/debug/syncz", false),
            ("seller", "/debug/syncz", true),
        ] {
            assert_eq!(access.may_get(&caller(account), page).await, may, "{account} {page}");
        }
    });
}
