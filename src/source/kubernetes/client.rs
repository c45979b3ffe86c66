//! The connection to an API server: by a kubeconfig, or by what every pod is given.

use kube::{
    Client, Config,
    config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use std::{path::Path, time::Duration};

/// How long an API server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no API server to speak to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig that was named cannot be used.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// There is neither a kubeconfig in the usual places nor the service account of a pod.
    #[error("neither a kubeconfig nor a pod's service account is there")]
    Nothing(#[source] Box<InferConfigError>),
    /// Its certificates or keys cannot be used.
    #[error("the certificates or keys cannot be used")]
    Unfit(#[source] Box<kube::Error>),
}

/// A client for the API server of this kubeconfig; without one for that of `KUBECONFIG`, of `~/.kube/config`, or of the
/// pod that this process runs in. The API server is not asked anything yet.
///
/// # Errors
///
/// When no such file can be read, or what it names cannot be used.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ConnectError> {
    let mut config = match kubeconfig {
        Some(path) => {
            Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await?
        }
        None => Config::infer().await.map_err(|e| ConnectError::Nothing(Box::new(e)))?,
    };
    config.connect_timeout = Some(CONNECT);
    // Those who ask know better when to ask again.
    config.default_retry = false;
    Client::try_from(config).map_err(|e| ConnectError::Unfit(Box::new(e)))
}
