//! Writes straight to the database, on connections that are kept as an application keeps them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::Semaphore;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::{Outcome, Place};
use crate::config::Database;
use crate::db::connect::{self, Watched};

/// Connections at most.
const CONNECTIONS: usize = 32;
/// How long a write waits for one of them.
const QUEUE: Duration = Duration::from_secs(5);
/// How long a connection may take to be made. Short: the next write makes the next attempt anyway.
const CONNECT: Duration = Duration::from_secs(1);

/// The row, and in the same round trip where it was written and whether its commit waits for a standby.
const INSERT: &str = "INSERT INTO stackctl_drill.writes (run, key) VALUES ($1, $2) \
     RETURNING pg_walfile_name(pg_current_wal_insert_lsn()), pg_current_wal_insert_lsn()::text, \
     coalesce(host(inet_server_addr()), 'local'), current_setting('synchronous_commit')";

/// The connections.
pub struct Pool {
    database: Database,
    /// A Service's address stays; the name service may be down together with the primary.
    address: SocketAddr,
    idle: Mutex<Vec<Watched>>,
    permits: Semaphore,
}

impl Pool {
    /// Looks the database's address up, and connects when there is something to write.
    pub async fn new(database: &Database) -> Result<Arc<Self>> {
        let name = (database.host.as_str(), database.port);
        let mut found = tokio::net::lookup_host(name).await.with_context(|| format!("looking up {}", database.host))?;
        let address = found.next().with_context(|| format!("{} has no address", database.host))?;
        Ok(Arc::new(Self {
            database: database.clone(),
            address,
            idle: Mutex::default(),
            permits: Semaphore::new(CONNECTIONS),
        }))
    }

    /// Writes one row, once.
    pub async fn write(&self, run: &str, key: u64) -> Outcome {
        let Ok(Ok(_permit)) = tokio::time::timeout(QUEUE, self.permits.acquire()).await else {
            return Outcome::Refused { why: format!("no connection was free for {} s", QUEUE.as_secs()) };
        };
        let conn = match self.connection().await {
            Ok(conn) => conn,
            Err(why) => return Outcome::Refused { why },
        };
        let key = i64::try_from(key).unwrap_or(i64::MAX);
        match conn.client.query_typed_one(INSERT, &[(&run, Type::TEXT), (&key, Type::INT8)]).await {
            // A commit whose wait for a standby was cut short is reported as done, with a warning beside it.
            Ok(_) if conn.take_warning() => {
                Outcome::Unknown { why: "the commit came with a warning: no standby has confirmed it".into() }
            }
            Ok(row) => {
                let outcome = acknowledged(&row);
                self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
                outcome
            }
            Err(error) => failed(&error),
        }
    }

    async fn connection(&self) -> Result<Watched, String> {
        loop {
            let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match kept {
                Some(conn) if conn.client.is_closed() => {}
                Some(conn) => return Ok(conn),
                None => break,
            }
        }
        match tokio::time::timeout(CONNECT, connect::watched(&self.database, self.address)).await {
            Ok(Ok(conn)) => Ok(conn),
            Ok(Err(error)) => Err(format!("cannot connect: {}", root(&error))),
            Err(_) => Err(format!("cannot connect within {} s", CONNECT.as_secs())),
        }
    }
}

fn root(error: &anyhow::Error) -> String {
    error.root_cause().to_string()
}

fn acknowledged(row: &tokio_postgres::Row) -> Outcome {
    let (file, lsn): (String, String) = (row.get(0), row.get(1));
    let (server, durability): (String, String) = (row.get(2), row.get(3));
    if !matches!(durability.as_str(), "on" | "remote_apply") {
        return Outcome::Unknown { why: format!("the session's synchronous_commit is {durability}") };
    }
    let timeline = file.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0);
    Outcome::Acknowledged { place: Some(Place { timeline, lsn, server }) }
}

/// An error that the server sent before the end of the transaction means that it was rolled back, unless it
/// says that the server is going down: that may come after the commit, in place of its confirmation.
fn failed(error: &tokio_postgres::Error) -> Outcome {
    match error.as_db_error() {
        Some(db) if certain(db.code()) => Outcome::Refused { why: db.message().to_owned() },
        Some(db) => Outcome::Unknown { why: db.message().to_owned() },
        None => Outcome::Unknown { why: reason(error) },
    }
}

fn certain(code: &SqlState) -> bool {
    let class = code.code().get(..2).unwrap_or_default();
    // Operator intervention and internal errors can strike anywhere.
    !matches!(class, "57" | "58" | "XX" | "08")
}

/// The innermost cause: the outer ones are the same for all.
fn reason(error: &tokio_postgres::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_that_roll_back_are_a_refusal() {
        for code in [SqlState::READ_ONLY_SQL_TRANSACTION, SqlState::UNDEFINED_TABLE, SqlState::DISK_FULL] {
            assert!(certain(&code), "{}", code.code());
        }
        for code in [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::QUERY_CANCELED,
            SqlState::CONNECTION_FAILURE,
            SqlState::IO_ERROR,
        ] {
            assert!(!certain(&code), "{}", code.code());
        }
    }
}
