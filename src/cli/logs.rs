//! What `stackctl logs` may be asked for.

use clap::ValueEnum;

/// The parts that have logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogPart {
    /// The user app.
    Web,
    /// The PostgreSQL instances.
    Database,
    /// The CloudNativePG operator.
    Operator,
    /// The failover helper.
    FailoverHelper,
    /// The metrics-server.
    Autoscaling,
    /// Prometheus.
    Prometheus,
    /// Grafana.
    Grafana,
    /// kube-state-metrics.
    KubeStateMetrics,
}
