//! The watch over the primary, once for the process: is it there, and is it still the same server?
//!
//! Requests don't find out one by one. When another server has become primary, every
//! connection to the old one is closed at once, also those in which a query hangs; requests
//! that wait go on the moment the new one answers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use diesel::data_types::PgLsn;
use diesel::deserialize::QueryableByName;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel_async::RunQueryDsl;
use tokio::sync::watch;

use super::answers::is_refusal;
use super::connect::{Conn, Connector, Target};
use super::position::Position;
use super::validity::reaches_past;
use crate::config::Database;
use crate::metrics::Metrics;

/// The pause between two looks at a primary that seems well.
const INTERVAL: Duration = Duration::from_secs(1);
/// The pause between two attempts while there is no primary.
const RETRY: Duration = Duration::from_millis(100);
/// The time that the answer to one look may take.
const ANSWER: Duration = Duration::from_secs(1);
/// The age of the position that a standby must have replayed: so far it may be behind where the reader has written
/// nothing, at least and at most. The looks are a second apart and each may take another.
const RECENT: std::ops::RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(5);

/// A server, told apart from others and from itself after a restart.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Server {
    /// The server's own address, or `local`.
    #[diesel(sql_type = Text)]
    pub address: String,
    /// The moment of its start.
    #[diesel(sql_type = Text)]
    pub started: String,
    /// The timeline, which grows with every promotion.
    #[diesel(sql_type = Integer)]
    pub timeline: i32,
    /// The version of PostgreSQL, for people.
    #[diesel(sql_type = Text)]
    pub version: String,
}

/// The state of the primary, as far as it is known.
#[derive(Debug, Clone)]
pub struct PrimaryState {
    /// Whether it answers.
    pub up: bool,
    /// The moment since which it has been up or down.
    pub since: Instant,
    /// The server that answered last.
    pub server: Option<Server>,
    /// The reason why it is down.
    pub reason: Option<String>,
    /// Whether the schema is at least the one this program needs.
    pub schema: bool,
}

/// The watch, which all threads share.
pub struct Watch {
    view: watch::Sender<PrimaryState>,
    valid_from: watch::Sender<Instant>,
    /// When something looked wrong for the last time.
    doubt: watch::Sender<Instant>,
    /// The primary's positions at the last looks, the newest last.
    positions: Mutex<VecDeque<(Instant, Position)>>,
    metrics: Arc<Metrics>,
}

impl Watch {
    /// Makes a watch that knows nothing yet.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        let view = PrimaryState { up: false, since: Instant::now(), server: None, reason: None, schema: false };
        Arc::new(Self {
            view: watch::Sender::new(view),
            valid_from: watch::Sender::new(Instant::now()),
            doubt: watch::Sender::new(Instant::now()),
            positions: Mutex::default(),
            metrics,
        })
    }

    /// The state of the primary now.
    pub fn view(&self) -> PrimaryState {
        self.view.borrow().clone()
    }

    /// Tells whether the primary answers.
    pub fn is_up(&self) -> bool {
        self.view.borrow().up
    }

    /// The position that the primary had a few seconds ago, with which a standby shows what is recent enough; `None` where
    /// that is not known, as after the start.
    pub fn recent_position(&self) -> Option<Position> {
        let positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = positions.iter().rev().find(|(at, _)| at.elapsed() >= *RECENT.start());
        recent.filter(|(at, _)| at.elapsed() <= *RECENT.end()).map(|(_, position)| *position)
    }

    fn note(&self, at: Instant, position: Position) {
        let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
        positions.retain(|(at, _)| at.elapsed() <= *RECENT.end());
        positions.push_back((at, position));
    }

    /// Tells whether the database was reached once and has the schema this program needs.
    pub fn has_schema(&self) -> bool {
        self.view.borrow().schema
    }

    /// The moment before which a connection must have been begun to lead to a server that is primary no more.
    pub fn valid_from(&self) -> watch::Receiver<Instant> {
        self.valid_from.subscribe()
    }

    /// Tells the watcher that something looks wrong: it looks at once.
    pub fn doubt(&self) {
        self.doubt.send_replace(Instant::now());
    }

    /// Waits until the primary is up, or for as long as `at_most`.
    pub async fn up(&self, at_most: Duration) {
        let mut view = self.view.subscribe();
        // Both outcomes are the caller's cue to try.
        let _ = tokio::time::timeout(at_most, view.wait_for(|v| v.up)).await;
    }

    /// Watches until the process ends.
    pub async fn run(self: Arc<Self>, database: Database, schema: String) {
        let expiry = Arc::clone(&self.metrics.certificate_expiry);
        let connector = Connector::new(database, Target::Primary, self.valid_from(), expiry);
        let mut refused = None;
        loop {
            let reason = match self.follow(&connector, &schema, &mut refused).await {
                Ok(never) => match never {},
                Err(e) => format!("{e:#}"),
            };
            self.set_down(reason);
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Follows one primary for as long as it stays the one. Ends with the reason. `refused` is when nobody listened for the
    /// last time: what was begun later does not lead to the server that was primary before.
    async fn follow(
        &self,
        connector: &Arc<Connector>,
        schema: &str,
        refused: &mut Option<Instant>,
    ) -> Result<std::convert::Infallible> {
        let mut doubt = self.doubt.subscribe();
        let mut conn = connect(connector, refused).await?;
        loop {
            let asked = Instant::now();
            let Look { server, flushed } = look(&mut conn).await?;
            if !self.has_schema() {
                let found = schema_version(&mut conn).await?;
                if found.as_deref() < Some(schema) {
                    bail!("the schema is older than this program: run `user-app migrate`");
                }
            }
            self.note(asked, Position::new(server.timeline, flushed.0));
            self.set_up(server, refused.take().unwrap_or_else(|| conn.begun()));
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = conn.closed() => bail!("the connection ended"),
                // A fresh connection goes where the Service points now; this one, to where
                // it pointed then. It has answered what was doubted before.
                () = reaches_past(&mut doubt, conn.begun()) => {
                    // Not again and again: writes that wait for a standby doubt twice a second, each of them.
                    tokio::select! {
                        () = tokio::time::sleep_until((conn.begun() + INTERVAL).into()) => {}
                        () = conn.closed() => bail!("the connection ended"),
                    }
                    conn = connect(connector, refused).await?;
                }
            }
        }
    }

    /// Notes that this server is primary; a connection to another one was begun before `valid_from`.
    fn set_up(&self, server: Server, valid_from: Instant) {
        let before = self.view();
        if let Some(old) = before.server.as_ref().filter(|old| **old != server) {
            if old.address != server.address || old.timeline != server.timeline {
                self.metrics.failovers.inc();
            }
            tracing::warn!(address = server.address, timeline = server.timeline, "another primary");
            self.valid_from.send_replace(valid_from);
        }
        if !before.up {
            tracing::info!(
                address = server.address,
                after_ms = before.since.elapsed().as_millis(),
                "the primary answers"
            );
        }
        self.metrics.primary_up.set(1);
        self.view.send_if_modified(|view| {
            let changed = !view.up || view.server.as_ref() != Some(&server);
            if changed {
                let since = if view.up { view.since } else { Instant::now() };
                *view = PrimaryState { up: true, since, server: Some(server), reason: None, schema: true };
            }
            changed
        });
    }

    fn set_down(&self, reason: String) {
        self.metrics.primary_up.set(0);
        self.view.send_modify(|view| {
            if view.up || view.reason.is_none() {
                tracing::warn!(reason, "no primary");
                view.since = Instant::now();
            }
            view.up = false;
            view.reason = Some(reason);
        });
    }
}

/// What one look at the primary finds.
#[derive(QueryableByName)]
struct Look {
    #[diesel(embed)]
    server: Server,
    /// The end of its WAL on its disk: a standby may have that much.
    #[diesel(sql_type = diesel::pg::sql_types::PgLsn)]
    flushed: PgLsn,
}

/// Connects, and notes when nobody listened.
async fn connect(connector: &Connector, refused: &mut Option<Instant>) -> Result<Conn> {
    let made = connector.connect_for_watcher().await;
    if made.as_ref().is_err_and(is_refusal) {
        *refused = Some(Instant::now());
    }
    made
}

async fn look(conn: &mut Conn) -> Result<Look> {
    let query = diesel::sql_query(
        "SELECT coalesce(host(inet_server_addr()), 'local') AS address, \
                pg_postmaster_start_time()::text AS started, \
                ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int AS timeline, \
                current_setting('server_version') AS version, pg_current_wal_flush_lsn() AS flushed",
    );
    let answer = tokio::time::timeout(ANSWER, query.load::<Look>(&mut conn.pg)).await.context("no answer in 1 s")??;
    answer.into_iter().next().context("an empty answer")
}

#[derive(QueryableByName)]
struct Newest {
    #[diesel(sql_type = Nullable<Text>)]
    version: Option<String>,
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

async fn schema_version(conn: &mut Conn) -> Result<Option<String>> {
    let there = diesel::sql_query("SELECT count(*) AS n FROM pg_tables WHERE tablename = '__diesel_schema_migrations'")
        .load::<Count>(&mut conn.pg)
        .await?;
    if there.iter().all(|count| count.n == 0) {
        return Ok(None);
    }
    let newest = diesel::sql_query("SELECT max(version)::text AS version FROM __diesel_schema_migrations")
        .load::<Newest>(&mut conn.pg)
        .await?;
    Ok(newest.into_iter().find_map(|n| n.version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_must_have_what_the_primary_had_some_seconds_ago() {
        let watch = Watch::new(Arc::default());
        let seen = |ago: u64, lsn| {
            watch.note(Instant::now() - Duration::from_secs(ago), Position::new(1, lsn));
            watch.recent_position()
        };
        let position = |lsn| Some(Position::new(1, lsn));
        assert_eq!(watch.recent_position(), None, "nothing is known yet");
        assert_eq!(seen(6, 10), None, "what was long ago may be far behind");
        assert_eq!(seen(4, 20), position(20));
        assert_eq!(seen(3, 30), position(30));
        assert_eq!(seen(1, 40), position(30), "it has not had the time to replay this");
    }
}
