//! What the database says of itself: roles, replication, lag and timelines, read by SQL on the primary.

mod log;
mod overview;
mod quorum;
mod replication;
mod sql;

pub use log::{Fork, HISTORY, Lsn, forks};
pub use overview::{Instance, Overview};
pub use quorum::quorum_is_known;
pub use replication::{Replication, Standby};
pub use sql::{primary, query, query_on, size};

use crate::kube::ObjectRef;

/// The Cluster's name in the manifests; one that was restored and took its place has another.
pub const CLUSTER: &str = "user-db";

/// Names a Cluster.
pub fn reference(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::namespaced("postgresql.cnpg.io/v1", "Cluster", namespace, name)
}

/// The labels of the pods of a Cluster's instances, as a selector.
pub fn instances(cluster: &str) -> String {
    format!("cnpg.io/cluster={cluster},cnpg.io/podRole=instance")
}

/// What the operator makes for the app: its role's credentials, and the authority that the server's certificate
/// comes from. `assets/web/deployment.yaml` mounts them.
pub fn app_secrets(cluster: &str) -> [String; 2] {
    [format!("{cluster}-app"), format!("{cluster}-ca")]
}
