//! Restoring a database from its backups into a new Cluster, and having the app use another database.

mod end_of_wal;
pub mod promotion;
pub mod recovery;

use end_of_wal::verify_end_of_wal;

use crate::names::WEB;

/// The label that the pods of the database get which the app uses; `assets/database/cluster.yaml` has it, too.
const SERVES: (&str, &str) = ("stackctl/serves", WEB);
