//! The workload's certificate as the certificate authority signs it: asked for with a token, and later also with the
//! certificate that there is; and asked for again long before it ends.

use super::{Certified, Metrics, Pod, connect::Target, host_and_port};
use crate::{
    ca::{KeyKind, PrivateKey, Svid, now},
    config::Identity,
    id::Spiffe,
    pb::istio::v1::auth::{
        IstioCertificateRequest, IstioCertificateResponse,
        istio_certificate_service_client::IstioCertificateServiceClient,
    },
};
use anyhow::{Context as _, Result, anyhow, bail};
use std::{
    fs,
    hash::{BuildHasher as _, RandomState},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, task, time};
use tonic::{Request, metadata::MetadataValue};

/// How long the authority may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait after the first failure, and after many.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(30)];

/// How a workload gets its certificate signed.
#[derive(Debug)]
pub(super) struct Signing {
    target: Target,
    token: PathBuf,
    identity: Spiffe,
    kind: KeyKind,
    ttl: Duration,
    /// The part of a certificate's life that is left when it is renewed, and how far from that it may be.
    grace: (f64, f64),
    cluster: String,
}

impl Signing {
    /// As the options and the pod have it, at an address whose certificate has this name.
    pub(super) fn new(options: &Identity, pod: &Pod, address: String, server_name: String) -> Result<Self> {
        let (host, port) = host_and_port(&address).with_context(|| format!("--ca-address {address}"))?;
        let kind = match (pod.variable("ECC_SIGNATURE_ALGORITHM"), pod.variable("ECC_CURVE")) {
            (Some("ECDSA"), Some("P384")) => KeyKind::P384,
            (Some("ECDSA"), _) => KeyKind::P256,
            _ => options.key.parse().map_err(|e| anyhow!("--key: {e}"))?,
        };
        let identity = Spiffe::new(&options.trust_domain, &pod.namespace, &pod.account);
        let whose = "POD_NAMESPACE, SERVICE_ACCOUNT and TRUST_DOMAIN must say whose certificate to ask for";
        Ok(Self {
            target: Target { host, port, server_name, roots: options.root_cert.clone() },
            token: options.token_file.clone(),
            identity: identity.context(whose)?,
            kind,
            ttl: options.secret_ttl,
            grace: (options.grace_ratio, options.grace_jitter),
            cluster: pod.cluster().to_owned(),
        })
    }

    /// Keeps the newest certificate there, as long as somebody looks.
    pub(super) async fn keep(self, sender: watch::Sender<Option<Arc<Certified>>>, metrics: Arc<Metrics>) -> Result<()> {
        let mut failures = 0;
        loop {
            let held = sender.borrow().clone();
            metrics.requests.add(1);
            let wait = match self.obtain(held.as_deref()).await {
                Ok(certified) => {
                    failures = 0;
                    let left = certified.expires.saturating_sub(now());
                    tracing::info!(identity = %self.identity, seconds = left, "a certificate is there");
                    metrics.expires.store(certified.expires);
                    sender.send_replace(Some(Arc::new(certified)));
                    self.until_renewal(Duration::from_secs(left), part())
                }
                Err(error) => {
                    failures += 1;
                    metrics.failures.add(1);
                    let left = held.map(|held| held.expires.saturating_sub(now()));
                    tracing::warn!(error = format!("{error:#}"), left, "no certificate is signed");
                    back_off(failures, left.map(Duration::from_secs), part())
                }
            };
            tokio::select! {
                () = sender.closed() => return Ok(()),
                () = time::sleep(wait) => {}
            }
        }
    }

    /// How long until a certificate is renewed of whose life this is left.
    fn until_renewal(&self, left: Duration, part: f64) -> Duration {
        let (ratio, jitter) = self.grace;
        left.mul_f64((1.0 - ratio + jitter * (2.0 * part - 1.0)).clamp(0.0, 0.95)).max(BACK_OFF[0])
    }

    async fn obtain(&self, held: Option<&Certified>) -> Result<Certified> {
        let kind = self.kind;
        let key = task::spawn_blocking(move || PrivateKey::generate(kind)).await??;
        let held = held.filter(|held| held.expires > now());
        let token = match fs::read_to_string(&self.token) {
            Ok(token) => Some(token.trim().to_owned()).filter(|token| !token.is_empty()),
            // A certificate is a proof as well.
            Err(_) if held.is_some() => None,
            Err(error) => return Err(error).with_context(|| format!("--token-file {}", self.token.display())),
        };
        let mut request = Request::new(IstioCertificateRequest {
            csr: key.request(&self.identity)?,
            validity_duration: i64::try_from(self.ttl.as_secs())?,
            metadata: None,
        });
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", MetadataValue::try_from(format!("Bearer {token}"))?);
        }
        request.metadata_mut().insert("clusterid", MetadataValue::try_from(&self.cluster)?);
        let mut client = IstioCertificateServiceClient::new(self.target.channel(held).await?);
        let response = time::timeout(PATIENCE, client.create_certificate(request)).await;
        let response = response.context("the certificate authority does not answer")?;
        let response = response.map_err(|status| anyhow!("{:?}: {}", status.code(), status.message()))?;
        certified(&key, response.into_inner())
    }
}

/// What is answered, if it is what was asked for: the certificate of the key, those that lead to the roots, the roots.
fn certified(key: &PrivateKey, response: IstioCertificateResponse) -> Result<Certified> {
    let [chain @ .., roots] = &response.cert_chain[..] else { bail!("the answer holds no certificate") };
    let Some(own) = chain.first() else { bail!("the answer holds no certificate") };
    let validity = key.validity("the answer", own)?;
    if validity.end <= now() {
        bail!("the answer is a certificate that has ended");
    }
    let lines = |pem: &str| if pem.ends_with('\n') { pem.to_owned() } else { format!("{pem}\n") };
    let chain = chain.iter().map(|pem| lines(pem)).collect();
    let (key, roots) = (key.pem().to_owned(), lines(roots));
    Ok(Certified { svid: Svid { chain, key, roots, crls: String::new() }, expires: validity.end })
}

/// How long to wait after so many failures with so much left; `part` spreads it.
fn back_off(failures: u32, left: Option<Duration>, part: f64) -> Duration {
    let [first, most] = BACK_OFF;
    // What lives short is in a hurry.
    let most = left.map_or(most, |left| (left / 10).clamp(first, most));
    first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(most).mul_f64(0.9 + 0.2 * part)
}

/// A number from 0 to 1.
fn part() -> f64 {
    (RandomState::new().hash_one(0u8) % 10_000) as f64 / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_followed_by_longer_and_longer_pauses_that_a_short_life_bounds() {
        let at = |failures, left: Option<u64>| back_off(failures, left.map(Duration::from_secs), 0.5).as_millis();
        assert_eq!([1, 2, 3, 12].map(|n| at(n, None)), [100, 200, 400, 30_000]);
        assert_eq!([1, 2, 9, 40].map(|n| at(n, Some(20))), [100, 200, 2000, 2000]);
        assert_eq!(at(9, Some(0)), 100);
        assert!(back_off(3, None, 0.0) < back_off(3, None, 1.0));
    }

    #[test]
    fn a_certificate_is_renewed_around_the_middle_of_what_is_left() {
        let signing = |grace| Signing {
            target: Target { host: String::new(), port: 0, server_name: String::new(), roots: PathBuf::new() },
            token: PathBuf::new(),
            identity: Spiffe::new("cluster.local", "shop", "a").expect("an identity"),
            kind: KeyKind::P256,
            ttl: Duration::ZERO,
            grace,
            cluster: String::new(),
        };
        let hour = Duration::from_secs(3600);
        let at = |grace, part| signing(grace).until_renewal(hour, part).as_secs();
        assert_eq!([0.0, 0.5, 1.0].map(|part| at((0.5, 0.01), part)), [1764, 1800, 1836]);
        assert_eq!((at((1.0, 0.0), 0.5), at((0.0, 1.0), 1.0)), (0, 3420));
    }

    #[test]
    fn an_answer_must_be_a_certificate_of_the_key_and_the_roots() {
        let key = PrivateKey::generate(KeyKind::P256).expect("a key");
        let of = |cert_chain: &[&str]| {
            let cert_chain = cert_chain.iter().map(|s| (*s).to_owned()).collect();
            certified(&key, IstioCertificateResponse { cert_chain }).map_err(|e| e.to_string())
        };
        let other = crate::ca::self_signed("mesh", KeyKind::P256, now(), 3600).expect("an authority");
        assert!(of(&[]).expect_err("nothing").contains("no certificate"));
        assert!(of(&["x"]).expect_err("roots alone").contains("no certificate"));
        assert!(of(&["x", "x"]).expect_err("rubbish").contains("no certificate in PEM"));
        assert!(of(&[&other["ca-cert.pem"], "x"]).expect_err("another's").contains("private key beside it"));
    }
}
