//! Writes straight to the database, on connections that are kept as an application keeps them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use stackctl_protocol::probe::{Outcome, Place};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use crate::config::Database;
use crate::db::connect::{self, RawConn};

/// The connections at most.
const CONNECTIONS: usize = 32;
/// The time that a write waits for a connection.
const QUEUE: Duration = Duration::from_secs(5);
/// The attempts to connect at once. A pool of an application is no stampede: each attempt is a process on the
/// server and a handshake, and a crowd of them would prolong the outage that is measured.
const ATTEMPTS: usize = 4;
/// The time that an address may take to answer at all. Short: the next attempt follows at once, and may find another
/// server there.
const ANSWER: Duration = Duration::from_millis(500);
/// The time that the rest of connecting may take: a busy server is slow, and to begin anew would make it slower.
const CONNECT: Duration = Duration::from_secs(5);
/// The pause between an attempt that failed and the next one in its place: this is how exact an outage's end is known,
/// divided by [`ATTEMPTS`].
const PAUSE: Duration = Duration::from_millis(100);

/// The statement that writes a row, and returns in the same round trip where it was written and whether its commit
/// waits for a standby.
const INSERT: &str = "INSERT INTO stackctl_drill.writes (run, key) VALUES ($1, $2) \
     RETURNING pg_walfile_name(pg_current_wal_insert_lsn()), pg_current_wal_insert_lsn()::text, \
     coalesce(host(inet_server_addr()), 'local'), current_setting('synchronous_commit')";

/// The pool of connections to the primary.
pub struct Pool {
    database: Database,
    /// A Service's address stays; the name service may be down together with the primary.
    address: SocketAddr,
    idle: Mutex<Vec<RawConn>>,
    /// A connection has become idle.
    returned: Notify,
    permits: Semaphore,
    attempts: Arc<Semaphore>,
}

impl Pool {
    /// Looks the database's address up, and connects when there is something to write.
    pub async fn new(database: &Database) -> Result<Arc<Self>> {
        let name = (database.host.as_str(), database.port);
        let address = super::address_of(name).await.with_context(|| format!("looking up {}", database.host))?;
        Ok(Arc::new(Self {
            database: database.clone(),
            address,
            idle: Mutex::default(),
            returned: Notify::new(),
            permits: Semaphore::new(CONNECTIONS),
            attempts: Arc::new(Semaphore::new(ATTEMPTS)),
        }))
    }

    /// Writes one row, once.
    pub async fn write(self: &Arc<Self>, run: &str, key: u64) -> Outcome {
        let lent = async {
            let permit = self.permits.acquire().await.map_err(|closed| closed.to_string())?;
            Ok((self.connection().await?, permit))
        };
        let (conn, _permit) = match tokio::time::timeout(QUEUE, lent).await {
            Ok(Ok(lent)) => lent,
            Ok(Err(why)) => return Outcome::Refused { why },
            Err(_) => return Outcome::Refused { why: format!("no connection was free for {} s", QUEUE.as_secs()) },
        };
        let key = i64::try_from(key).unwrap_or(i64::MAX);
        match conn.client.query_typed_one(INSERT, &[(&run, Type::TEXT), (&key, Type::INT8)]).await {
            // A commit whose wait for a standby was cut short is reported as done, with a warning beside it.
            Ok(_) if conn.take_warning() => {
                Outcome::Unknown { why: "the commit came with a warning: no standby has confirmed it".into() }
            }
            Ok(row) => {
                let outcome = acknowledged(&row);
                self.put(conn);
                outcome
            }
            Err(error) => failed(&error),
        }
    }

    /// Takes a connection that is idle by now, or a new one when it is this write's turn to make one. What was begun is
    /// brought to its end and kept for the next write where this one could not wait: a server that has just become
    /// primary would have the handshake once more.
    async fn connection(self: &Arc<Self>) -> Result<RawConn, String> {
        loop {
            if let Some(conn) = self.idle() {
                return Ok(conn);
            }
            tokio::select! {
                () = self.returned.notified() => {}
                turn = Arc::clone(&self.attempts).acquire_owned() => {
                    let turn = turn.map_err(|closed| closed.to_string())?;
                    if let Some(conn) = self.idle() {
                        return Ok(conn);
                    }
                    let (asked, made) = oneshot::channel();
                    let pool = Arc::clone(self);
                    tokio::spawn(async move {
                        let _turn = turn;
                        let connected = pool.connect().await;
                        if connected.is_err() {
                            tokio::time::sleep(PAUSE).await;
                        }
                        if let Err(Ok(unclaimed)) = asked.send(connected) {
                            pool.put(unclaimed);
                        }
                    });
                    return made.await.map_err(|_| "the attempt to connect has panicked".to_owned())?;
                }
            }
        }
    }

    fn put(&self, conn: RawConn) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
        self.returned.notify_one();
    }

    fn idle(&self) -> Option<RawConn> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|conn| !conn.client.is_closed());
        idle.pop()
    }

    async fn connect(&self) -> Result<RawConn, String> {
        match tokio::time::timeout(CONNECT, connect::connect_raw(&self.database, self.address, ANSWER)).await {
            Ok(Ok(conn)) => Ok(conn),
            Ok(Err(error)) => Err(format!("cannot connect: {}", root(&error))),
            Err(_) => Err(format!("cannot connect within {} s", CONNECT.as_secs())),
        }
    }
}

/// The innermost cause of an error to connect.
fn root(error: &anyhow::Error) -> String {
    error.root_cause().to_string()
}

/// The outcome of a row that came back: a promise, if its commit waited for a standby.
fn acknowledged(row: &tokio_postgres::Row) -> Outcome {
    let (file, lsn): (String, String) = (row.get(0), row.get(1));
    let (server, durability): (String, String) = (row.get(2), row.get(3));
    if !matches!(durability.as_str(), "on" | "remote_apply") {
        return Outcome::Unknown { why: format!("the session's synchronous_commit is {durability}") };
    }
    let timeline = file.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0);
    Outcome::Acknowledged { place: Some(Place { timeline, lsn, server }) }
}

/// The outcome of an error. One that the server sent before the end of the transaction means that it was rolled back,
/// unless it says that the server is going down: that may come after the commit, in place of its confirmation.
fn failed(error: &tokio_postgres::Error) -> Outcome {
    match error.as_db_error() {
        Some(db) if certain(db.code()) => Outcome::Refused { why: db.message().to_owned() },
        Some(db) => Outcome::Unknown { why: db.message().to_owned() },
        None => Outcome::Unknown { why: reason(error) },
    }
}

/// Tells whether an error of this code means that the transaction was rolled back.
fn certain(code: &SqlState) -> bool {
    let class = code.code().get(..2).unwrap_or_default();
    // Operator intervention and internal errors can strike anywhere.
    !matches!(class, "57" | "58" | "XX" | "08")
}

/// The innermost cause of an error; the outer ones are the same for all.
fn reason(error: &tokio_postgres::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use testbed::{postgres::Postgres, proxy::Proxy};

    use super::*;
    use crate::config::Credentials;

    #[tokio::test]
    async fn a_handshake_is_brought_to_its_end_though_its_write_is_given_up() {
        let postgres = Postgres::start(&["fsync=off"]).unwrap();
        let proxy = Proxy::to(postgres.port).unwrap();
        let credentials = Credentials::Values { user: "app".into(), password: None, dbname: "postgres".into() };
        let database = Database {
            host: "127.0.0.1".into(),
            port: proxy.port,
            read_host: None,
            read_port: 0,
            credentials,
            tls: false,
            pool: 1,
            read_pool: 1,
        };
        let pool = Pool::new(&database).await.unwrap();
        // The write's turn comes late, and the server is slow: the handshake goes on when the write is given up.
        proxy.swallow(true);
        let turns = pool.attempts.acquire_many(u32::try_from(ATTEMPTS).unwrap()).await.unwrap();
        let write = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.write("run", 1).await }
        });
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(turns);
        let outcome = write.await.unwrap();
        assert!(matches!(&outcome, Outcome::Refused { why } if why.contains("for 5 s")), "{outcome:?}");
        assert_eq!(proxy.made(), 1);
        proxy.swallow(false);
        let kept = tokio::time::timeout(Duration::from_secs(2), pool.returned.notified()).await;
        assert!(kept.is_ok() && pool.idle().is_some(), "its connection was not kept");
        assert_eq!(proxy.made(), 1, "it was the same handshake");
    }

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
