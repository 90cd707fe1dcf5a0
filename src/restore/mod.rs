//! Restoring a database from its backups into a new Cluster, and having the app use another database.

mod end_of_wal;
pub mod promotion;
pub mod recovery;

use end_of_wal::verify_end_of_wal;
