//! Connecting to a cluster.

use std::path::PathBuf;

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::error::Result;

/// Which cluster: a kubeconfig file and a context in it.
#[derive(Debug, Clone, Default)]
pub struct ClusterRef {
    /// `None`: `$KUBECONFIG`, then `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// `None`: the current context.
    pub context: Option<String>,
}

/// A connection to one cluster; cheap to clone.
#[derive(Clone)]
pub struct Kube {
    client: kube::Client,
}

impl Kube {
    /// Connects.
    ///
    /// # Errors
    /// No kubeconfig, no such context, or a server that refuses.
    pub async fn connect(cluster: &ClusterRef) -> Result<Kube> {
        let file = match &cluster.kubeconfig {
            Some(path) => Kubeconfig::read_from(path)?,
            None => Kubeconfig::read()?,
        };
        let options = KubeConfigOptions { context: cluster.context.clone(), ..KubeConfigOptions::default() };
        let config = kube::Config::from_custom_kubeconfig(file, &options).await?;
        let client = kube::Client::try_from(config)?;
        client.apiserver_version().await.context("the API server does not answer")?;
        Ok(Kube { client })
    }

    /// The client itself.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }
}
