//! What the database says of itself: roles, replication and lag, read by SQL on the primary.

mod overview;
mod replication;

pub use overview::{Instance, Overview};
pub use replication::{Replication, Standby};

/// The Cluster's name.
pub const CLUSTER: &str = "user-db";
