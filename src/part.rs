//! The parts of the stack.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use crate::{names::FAILOVER_HELPER, ui::PhaseId};

/// A part of the stack: a folder of `assets/`, and a section of the inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The namespace that app and database share, and that holds stackctl's own records.
    Base,
    /// The CloudNativePG operator; its manifest is upstream's own.
    Operator,
    /// The plugin that takes backups, and the store that they go to.
    Backup,
    /// The PostgreSQL cluster.
    Database,
    /// What spares a failover the waits that are not needed.
    #[serde(rename = "failover-helper")]
    FailoverHelper,
    /// metrics-server.
    Autoscaling,
    /// The user app.
    Web,
    /// Prometheus, kube-state-metrics and Grafana.
    Monitoring,
    /// Databases that were restored beside the one that the app uses. They have no manifests: each is made from a
    /// backup, and stays until it is discarded.
    Restored,
}

/// What an object is of, and so who may apply it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// The whole cluster, other namespaces included: its administrators.
    Cluster,
    /// The stack's namespace: whoever administers that.
    Namespace,
}

impl Part {
    /// In the order in which they are applied; removed in the opposite one.
    pub const ALL: [Part; 9] = [
        Part::Base,
        Part::Operator,
        Part::Backup,
        Part::Database,
        Part::FailoverHelper,
        Part::Autoscaling,
        Part::Web,
        Part::Monitoring,
        Part::Restored,
    ];

    /// The folder's and the inventory section's name.
    pub const fn name(self) -> &'static str {
        match self {
            Part::Base => "base",
            Part::Operator => "operator",
            Part::Backup => "backup",
            Part::Database => "database",
            Part::FailoverHelper => FAILOVER_HELPER,
            Part::Autoscaling => "autoscaling",
            Part::Web => "web",
            Part::Monitoring => "monitoring",
            Part::Restored => "restored",
        }
    }
}

impl From<Part> for PhaseId {
    fn from(part: Part) -> PhaseId {
        match part {
            Part::Base => PhaseId::Base,
            Part::Operator => PhaseId::Operator,
            Part::Backup => PhaseId::Backup,
            Part::Database => PhaseId::Database,
            Part::FailoverHelper => PhaseId::FailoverHelper,
            Part::Autoscaling => PhaseId::Autoscaling,
            Part::Web => PhaseId::Web,
            Part::Monitoring => PhaseId::Monitoring,
            Part::Restored => PhaseId::Restored,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
