//! Backups: the store, its Secrets, and what it holds.

pub mod base;
pub mod catalog;
pub mod cause;
pub mod restored;
pub mod secrets;
pub mod store;
pub mod target;

pub use catalog::{BaseBackup, Catalog, Server};
pub use cause::Cause;
pub use store::Store;
pub use target::RecoveryTarget;

use jiff::Timestamp;

pub use crate::kube::operator::{PLUGIN, PLUGIN_DEPLOYMENT, SIDECAR_IMAGE};

/// The container in each instance that archives and takes base backups: its name in the plugin's `pkg/metadata`.
pub const SIDECAR: &str = "plugin-barman-cloud";
/// The ObjectStore's name.
pub const OBJECT_STORE: &str = "user-db";
/// What everything of the store in the cluster is called: its Service, StatefulSet, volume and Secret.
pub const STORE: &str = "backup-store";
/// The key of a store's Secret with the user's name.
pub const KEY_ID: &str = "ACCESS_KEY_ID";
/// The key of a store's Secret with the password.
pub const SECRET_KEY: &str = "SECRET_ACCESS_KEY";
/// The key of a private authority's Secret with its certificate, as cert-manager has it.
pub const CA_KEY: &str = "ca.crt";
/// The variable with the region that barman's programs, and ours in their place, sign requests for.
pub const REGION: &str = "AWS_DEFAULT_REGION";

/// The annotation of the ObjectStore with the Secret by which Jobs that ask the store may pull their image.
pub const PULL_SECRET: &str = "stackctl/pull-secret";

/// Selects what stackctl made.
pub const OURS: &str = "app.kubernetes.io/managed-by=stackctl";

/// The moment in UTC as the end of a name, to the second.
pub fn stamp() -> String {
    Timestamp::now().strftime("%Y%m%d%H%M%S").to_string()
}
