//! How the workload of a machine outside the cluster is: the agent asks it as the proxy's settings say (`readinessProbe`,
//! which come from the `probe` of a WorkloadGroup), and tells the control plane, which notes it in the machine's
//! WorkloadEntry (reference: `pkg/istio-agent/health` of Istio).

use super::{
    Newest,
    connect::{self, Target},
    probe::{Application, Prober},
    ready::Ready,
};
use crate::{
    id::ResourceType,
    pb::{
        envoy::service::discovery::v3::{
            DeltaDiscoveryRequest, aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
        google::rpc::Status as StatusPb,
    },
};
use anyhow::{Context as _, Result, anyhow, bail};
use axum::http::{
    HeaderMap, HeaderValue,
    header::{HOST, USER_AGENT},
};
use serde::Deserialize;
use serde_json::Value;
use std::{net::IpAddr, process::Stdio, sync::Arc, time::Duration};
use tokio::{
    net::lookup_host,
    process,
    sync::{mpsc, watch},
    time::{self, MissedTickBehavior},
};
use tokio_stream::wrappers::ReceiverStream;

/// By which the control plane knows what is told.
const HEALTH: &str = "type.googleapis.com/istio.v1.HealthInformation";
/// A cluster that nobody has. A control plane listens to nobody who subscribes to nothing.
const NOTHING: &str = "outbound|80||nothing.invalid";
/// How long to wait before the stream is opened again, first and at most.
const PAUSE: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(10)];

/// That a workload is well, or what ails it; nothing until that is known.
type Said = Option<Result<(), String>>;

/// The settings of a probe.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Settings {
    #[serde(flatten)]
    prober: Prober,
    exec: Option<Exec>,
    initial_delay_seconds: u64,
    period_seconds: u64,
    success_threshold: u32,
    failure_threshold: u32,
}

/// A program that ends well where the workload is.
#[derive(Clone, Debug, Deserialize)]
struct Exec {
    command: Vec<String>,
}

/// Asks a workload how it is.
#[derive(Debug)]
pub(super) struct Check {
    settings: Settings,
    /// The address of the workload.
    to: IpAddr,
    /// The Envoy beside it, which has to be ready too.
    envoy: Option<Arc<Ready>>,
}

/// By whom, and to whom, it is told how a workload is.
#[derive(Debug)]
pub(super) struct Telling {
    /// Where the control plane is.
    pub(super) target: Target,
    /// By what the agent proves who it is.
    pub(super) newest: Newest,
    /// Who it is.
    pub(super) node: Value,
}

impl Check {
    /// The check of a workload at this address, as the settings say.
    ///
    /// # Errors
    ///
    /// When they are broken.
    pub(super) fn new(settings: Value, to: IpAddr, envoy: Option<Arc<Ready>>) -> Result<Self> {
        let settings: Settings = serde_json::from_value(settings).context("readinessProbe")?;
        let asks = settings.exec.as_ref().is_some_and(|exec| !exec.command.is_empty()) || settings.prober.asks();
        if !asks {
            bail!("readinessProbe asks nothing; write httpGet, tcpSocket, grpc or exec");
        }
        Ok(Self { settings, to, envoy })
    }

    /// Asks again and again, and tells what follows.
    pub(super) async fn keep(self, telling: Telling) -> Result<()> {
        let (sender, said) = watch::channel(None);
        tokio::select! {
            () = self.watch(sender) => Ok(()),
            ended = telling.keep(said) => ended,
        }
    }

    async fn watch(self, sender: watch::Sender<Said>) {
        let Settings { initial_delay_seconds, period_seconds, success_threshold, failure_threshold, .. } =
            self.settings;
        time::sleep(Duration::from_secs(initial_delay_seconds)).await;
        let period = if period_seconds == 0 { 10 } else { period_seconds };
        let mut ticks = time::interval(Duration::from_secs(period));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut verdict = Verdict::new(success_threshold, failure_threshold);
        loop {
            ticks.tick().await;
            let found = self.find().await.map_err(|error| format!("{error:#}"));
            if let Some(news) = verdict.take(found) {
                match &news {
                    Ok(()) => tracing::info!("the workload is well"),
                    Err(why) => tracing::warn!(why, "the workload is not well"),
                }
                sender.send_replace(Some(news));
            }
        }
    }

    /// Whether the workload is well now.
    async fn find(&self) -> Result<()> {
        if let Some(envoy) = &self.envoy {
            envoy.check().await.map_err(|why| anyhow!(why))?;
        }
        let asked = async {
            match &self.settings.exec {
                Some(exec) => exec.run().await,
                None => self.ask().await,
            }
        };
        time::timeout(self.settings.prober.timeout(), asked)
            .await
            .unwrap_or_else(|_| Err(anyhow!("there is no answer in time")))
    }

    async fn ask(&self) -> Result<()> {
        let prober = &self.settings.prober;
        let (to, name) = match prober.host() {
            Some((host, port)) => (resolve(host, port).await?, Some(host.to_owned())),
            None => (self.to, None),
        };
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static("istio-probe/1.0"));
        if let Some((host, port)) = prober.host() {
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            headers.insert(HOST, HeaderValue::try_from(format!("{host}:{port}"))?);
        }
        let (status, _) = prober.find(&Application { to, name, own_port: None }, &headers).await?;
        match status.as_u16() {
            200..400 => Ok(()),
            code => bail!("the answer is {code}"),
        }
    }
}

async fn resolve(host: &str, port: u16) -> Result<IpAddr> {
    let mut found = lookup_host((host, port)).await.with_context(|| format!("resolving {host}"))?;
    Ok(found.next().with_context(|| format!("{host} has no address"))?.ip())
}

impl Exec {
    async fn run(&self) -> Result<()> {
        let (program, words) = self.command.split_first().context("there is no command")?;
        let mut command = process::Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let status = command.status().await.with_context(|| format!("starting {program}"))?;
        if status.success() { Ok(()) } else { bail!("{program}: {status}") }
    }
}

/// What follows from one finding after another: a workload is well, or not, after so many findings alike.
#[derive(Debug)]
struct Verdict {
    well: u32,
    ill: u32,
    /// The last finding, and how often it was so in a row.
    row: (bool, u32),
    said: Option<bool>,
}

impl Verdict {
    fn new(well: u32, ill: u32) -> Self {
        Self { well: well.max(1), ill: ill.max(1), row: (false, 0), said: None }
    }

    /// What is to be said after this finding, if that is anything.
    fn take(&mut self, found: Result<(), String>) -> Said {
        let (is_well, before) = (found.is_ok(), self.row);
        self.row = (is_well, if before.0 == is_well { before.1.saturating_add(1) } else { 1 });
        let enough = self.row.1 >= if is_well { self.well } else { self.ill };
        let news = enough && self.said.replace(is_well).is_none_or(|said| said != is_well);
        news.then_some(found)
    }
}

impl Telling {
    /// Tells what is said, again on each new connection, as long as somebody says something.
    async fn keep(mut self, mut said: watch::Receiver<Said>) -> Result<()> {
        if said.wait_for(Option::is_some).await.is_err() {
            return Ok(());
        }
        let [first, most] = PAUSE;
        let mut pause = first;
        loop {
            let opened = time::Instant::now();
            match self.stream(&mut said).await {
                Ok(()) => tracing::debug!("the stream of the workload's health ends"),
                Err(error) => tracing::warn!(error = format!("{error:#}"), "the workload's health is not told"),
            }
            pause = if opened.elapsed() > most { first } else { (pause * 2).min(most) };
            time::sleep(pause).await;
        }
    }

    async fn stream(&mut self, said: &mut watch::Receiver<Said>) -> Result<()> {
        // Nobody is listened to who cannot prove who it is.
        let certified = self.newest.wait_for(Option::is_some).await?.clone();
        let channel = self.target.channel(certified.as_deref()).await?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let (requests, stream) = mpsc::channel(2);
        let subscription = DeltaDiscoveryRequest {
            node: Some(connect::node(&self.node)),
            type_url: ResourceType::Endpoints.type_url().to_owned(),
            resource_names_subscribe: vec![NOTHING.to_owned()],
            ..Default::default()
        };
        requests.send(subscription).await?;
        let asked = client.delta_aggregated_resources(ReceiverStream::new(stream)).await;
        let mut responses = asked.map_err(|status| anyhow!("{:?}: {}", status.code(), status.message()))?.into_inner();
        said.mark_changed();
        loop {
            let request = tokio::select! {
                response = responses.message() => match response? {
                    Some(response) => DeltaDiscoveryRequest {
                        type_url: response.type_url,
                        response_nonce: response.nonce,
                        ..Default::default()
                    },
                    None => return Ok(()),
                },
                changed = said.changed() => {
                    changed?;
                    let Some(health) = said.borrow_and_update().clone() else { continue };
                    report(health)
                }
            };
            requests.send(request).await?;
        }
    }
}

/// The message that says how a workload is.
fn report(health: Result<(), String>) -> DeltaDiscoveryRequest {
    let detail = |message| StatusPb { code: 500, message, ..Default::default() };
    DeltaDiscoveryRequest { type_url: HEALTH.to_owned(), error_detail: health.err().map(detail), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::net::Ipv4Addr;
    use tokio::net::TcpListener;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn check(settings: Value) -> Check {
        Check::new(settings, HERE, None).expect("settings")
    }

    #[test]
    fn a_workload_is_well_or_ill_after_so_many_findings_alike_and_that_is_said_once() {
        let mut verdict = Verdict::new(2, 3);
        let mut say = |findings: &str| -> String {
            let found = findings.chars().map(|c| if c == '+' { Ok(()) } else { Err("dead".to_owned()) });
            let said = found.map(|found| verdict.take(found));
            said.map(|said| said.map_or('.', |said| if said.is_ok() { '+' } else { '-' })).collect()
        };
        assert_eq!(say("+"), ".");
        assert_eq!(say("-++++"), "..+..");
        assert_eq!(say("--+---+--"), ".....-...");
        assert_eq!(say("--++"), "...+");
    }

    #[test]
    fn settings_that_ask_nothing_are_refused() {
        for settings in
            [json!({}), json!({"periodSeconds": 3}), json!({"exec": {"command": []}}), json!({"httpGet": {}})]
        {
            let error = Check::new(settings.clone(), HERE, None).expect_err("nothing to ask");
            assert!(error.to_string().contains("readinessProbe"), "{settings}: {error}");
        }
        let told = Check::new(json!({"periodSeconds": -1}), HERE, None).expect_err("no time");
        assert!(format!("{told:#}").contains("-1"), "{told:#}");
    }

    #[tokio::test]
    async fn a_program_is_well_when_it_ends_well_and_in_time() {
        let run = async |command: &[&str]| check(json!({"exec": {"command": command}})).find().await;
        run(&["true"]).await.expect("well");
        let why = async |command| run(command).await.expect_err("ill").to_string();
        assert!(why(&["sh", "-c", "exit 3"]).await.contains("exit status: 3"));
        assert!(why(&["/nowhere/at/all"]).await.contains("/nowhere/at/all"));
        assert!(why(&["sleep", "60"]).await.contains("in time"));
    }

    #[tokio::test]
    async fn a_workload_is_not_well_while_its_envoy_is_not_ready() {
        let port = { TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").port() };
        let envoy = Arc::new(Ready::new(port, Arc::default(), Vec::new(), Arc::default()));
        let check = Check::new(json!({"exec": {"command": ["true"]}}), HERE, Some(envoy)).expect("settings");
        let why = check.find().await.expect_err("no Envoy").to_string();
        assert!(why.starts_with("Envoy does not answer"), "{why}");
    }

    #[tokio::test]
    async fn a_port_is_asked_where_the_workload_is_or_at_a_host_of_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let elsewhere = |host: Value| {
            let settings = json!({"tcpSocket": {"port": port, "host": host}});
            Check::new(settings, "127.0.0.2".parse().expect("an address"), None).expect("settings")
        };
        check(json!({"tcpSocket": {"port": port}})).find().await.expect("well");
        elsewhere(json!("127.0.0.1")).find().await.expect("well");
        elsewhere(json!("localhost")).find().await.expect("well");
        assert!(elsewhere(json!("")).find().await.is_err(), "nobody listens where it is");
        drop(listener);
        assert!(check(json!({"tcpSocket": {"port": port}})).find().await.is_err());
    }
}
