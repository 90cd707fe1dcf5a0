//! What the database says of itself: roles, replication and lag, read by SQL on the primary.

mod overview;
mod replication;
mod sql;

pub use overview::{Instance, Overview};
pub use replication::{Replication, Standby};
pub use sql::{query, query_on, size};

/// The Cluster's name in the manifests; one that was restored and took its place has another.
pub const CLUSTER: &str = "user-db";

/// What the operator makes for the app: its role's credentials, and the authority that the server's certificate
/// comes from. `assets/web/deployment.yaml` mounts them.
pub fn app_secrets(cluster: &str) -> [String; 2] {
    [format!("{cluster}-app"), format!("{cluster}-ca")]
}
