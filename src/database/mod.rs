//! What the database says of itself: roles, replication, lag and timelines, read by SQL on the primary.

mod diverged;
mod overview;
mod quorum;
pub mod reload;
mod replication;
pub mod settings;
mod sql;
pub mod switchover;
mod wal;

pub use diverged::{Diverged, diverged};
pub use overview::{Overview, archives_wal, is_there};
pub use quorum::{CommitRule, Quorum, quorum_is_known, told_rule};
pub use replication::{Replication, Standby};
pub use sql::{primary, query, query_on, size};
pub use wal::{Fork, HISTORY, Lsn, forks};

pub use crate::kube::cnpg::{instances, reference};

/// The Secrets that the operator makes for the app: its role's credentials, and the authority that the server's certificate
/// comes from. `assets/web/deployment.yaml` mounts them.
pub fn app_secrets(cluster: &str) -> [String; 2] {
    [format!("{cluster}-app"), format!("{cluster}-ca")]
}
