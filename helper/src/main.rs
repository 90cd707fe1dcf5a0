//! `failover-helper CLUSTER`: helps the failovers of one Cluster, in a pod of the Cluster's namespace.

use std::net::{Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result};
use failover_helper::{
    probe::{self, Heartbeat},
    run::Helper,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// Where probes are answered.
const PROBES: u16 = 8081;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::INFO).init();
    let cluster = std::env::args().nth(1).context("usage: failover-helper CLUSTER")?;
    let heartbeat = Heartbeat::default();
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PROBES));
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        // A node without IPv6.
        Err(_) => TcpListener::bind(("0.0.0.0", PROBES)).await.context("cannot listen for probes")?,
    };
    let helper = Helper::in_cluster(cluster)?;
    let mut ended = signal(SignalKind::terminate()).context("cannot listen for the signal to end")?;
    tokio::select! {
        outcome = helper.run(heartbeat.clone()) => outcome,
        () = probe::serve(listener, heartbeat) => Ok(()),
        _ = ended.recv() => Ok(()),
    }
}
