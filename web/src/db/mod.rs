//! Reads and writes that ride through a failover.
//!
//! A request has a deadline. Until it ends, reads are tried again without limit, and writes
//! too, because each carries an idempotency key that is stored in the transaction of its
//! effect: tried again after it took place, it finds its key and changes nothing.
//! While there is no primary, reads are answered by a standby and marked as possibly stale. While there is one, a standby
//! that has replayed enough answers lists and searches ([`standby`]), and a reader finds what he has written.
//!
//! # Why diesel-async with a pool per worker, and not diesel with r2d2 in `web::block`
//!
//! Both were measured (2026-11-24): the same program, once as it is and once with every operation on a blocking
//! connection from one r2d2 pool of the same size, with the same retries and the same watcher. Release builds, two
//! workers, 8 connections, two cores that others used too, alternated rounds, medians. The failovers happened to
//! 200 registrations a second on a pair with synchronous replication, three times each: the first as in
//! `cargo xtask bench web`; in the last the old primary lived on while new connections went to the promoted one.
//!
//! | | diesel-async | r2d2 |
//! |---|---|---|
//! | list page of 100 rows, requests/s | 8 380 | 6 350 |
//! | create, requests/s (bound by fsync) | 1 420 | 1 400 |
//! | memory under load, MiB | 7.8 | 11.9 |
//! | primary killed, another after 8 s: errors, slowest answer | 0, 9.2 s | 0, 8.9 s |
//! | the same with r2d2's default `connection_timeout` of 30 s | | 0, 12.7 s |
//! | superseded primary that hangs but answers: errors, slowest answer | 0, 1.2 s | 40, 15.0 s |
//!
//! The last line decides. A blocking call can't be left: a commit that waits on the old primary for a standby that
//! has gone holds its thread and its connection until TCP gives up, which it never does while the server answers;
//! here the watcher closes the socket from outside ([`connect`]), and the write goes to the new primary under its
//! key. r2d2's back-off between attempts to connect doubles up to half of its `connection_timeout`: 15 s by default
//! after a long outage, and with 3 s, as in the first failover line, 1.5 s. Here a request that needs a connection
//! asks for one at once, a few at the same moment.

mod answers;
pub mod connect;
pub mod pool;
pub mod position;
mod standby;
mod tls;
mod validity;
pub mod watch;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::result::{DatabaseErrorKind, Error};
use diesel_async::AsyncPgConnection;

use crate::config::Database;
use crate::metrics::Metrics;
pub use connect::Work;
use connect::{Connector, READ_STATEMENT, Target};
use pool::{Lent, NoConnection, Pool};
use watch::Watch;

/// The time that a read waits for a connection, and then for its answer, before it is tried elsewhere.
const READ_ATTEMPT: Duration = Duration::from_millis(1500);
/// The time that one attempt to write waits for a connection.
const POOL_WAIT: Duration = Duration::from_secs(3);
/// The time after which a write makes the watcher look whether the primary still is the primary.
const SLOW_WRITE: Duration = Duration::from_millis(500);
/// The time after which a write without an answer is tried on another connection, under the same key. Where packets are
/// lost the kernel gives up as early; where something in between answers for the server, it never would.
const ABANDON_WRITE: Duration = Duration::from_secs(5);
/// The time after which a write won't get an answer any more: its connection is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// The same for a read, which the server was to end long before.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// The times that a read is tried which the server ended because it took too long. The first may have found cold caches.
const SLOW_READS: u32 = 2;
/// The times that an error which isn't understood is tried again: it may be the server going down.
const UNEXPLAINED_RETRIES: u32 = 3;

/// An operation on the database. It may be done more than once.
pub trait Operation: Clone + 'static {
    /// The value that the operation finds or makes.
    type Out: 'static;

    /// The work that a read of this kind is.
    fn reading(&self) -> Work {
        Work::Read
    }

    /// Runs the operation once.
    fn run(&self, conn: &mut AsyncPgConnection) -> impl Future<Output = Result<Self::Out, Error>>;
}

/// A value that was read, and from where.
#[derive(Debug, Clone)]
pub struct Read<T> {
    /// The value.
    pub value: T,
    /// Whether it came from a standby: the latest writes may be missing.
    pub stale: bool,
}

/// The reason why there is no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DbError {
    /// No database answered before the deadline. A write may or may not have taken place.
    #[error("the database did not answer in time")]
    Unavailable,
    /// The read took too long, again and again: it asks for too much.
    #[error("the query took too long")]
    TooSlow,
    /// The query was refused, or what it found can't be shown: a fault of this program or of its schema.
    #[error("{0}")]
    Fault(String),
}

/// The failure of one attempt.
enum Failure {
    /// The connection is gone, or there was none: try again.
    Lost,
    /// All connections are in use: try again, the database is as it was.
    Busy,
    /// The server has ended a read that took too long.
    Slow,
    /// An error that may pass.
    Unexplained(Error),
    /// An error that will not pass.
    Refused(Error),
}

impl From<NoConnection> for Failure {
    fn from(none: NoConnection) -> Self {
        match none {
            NoConnection::Busy => Self::Busy,
            NoConnection::Failed => Self::Lost,
        }
    }
}

/// A worker thread's access to the database.
pub struct Db {
    primary: Rc<Pool>,
    standby: Option<Rc<Pool>>,
    /// The moment until which no standby is asked what the primary can tell.
    standby_rest: Cell<Option<Instant>>,
    watch: Arc<Watch>,
    metrics: Arc<Metrics>,
    deadline: Duration,
}

impl Db {
    /// Makes the access of one of `workers` threads.
    pub fn new(
        database: &Database,
        workers: usize,
        watch: Arc<Watch>,
        metrics: Arc<Metrics>,
        deadline: Duration,
    ) -> Self {
        let pool = |target, size: usize| {
            let expiry = Arc::clone(&metrics.certificate_expiry);
            let connector = Connector::new(database.clone(), target, watch.valid_from(), expiry);
            Pool::new(connector, target, size / workers, Arc::clone(&metrics))
        };
        Self {
            primary: pool(Target::Primary, database.pool),
            standby: database.read_host.as_ref().map(|_| pool(Target::Standby, database.read_pool)),
            standby_rest: Cell::default(),
            watch,
            metrics,
            deadline,
        }
    }

    /// The watch over the primary.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Reads from the primary, or from a standby while there is none.
    pub async fn read<O: Operation>(&self, operation: O) -> Result<Read<O::Out>, DbError> {
        self.read_until(operation, Instant::now() + self.deadline, 0).await
    }

    /// Reads until `deadline`, after `slow` times at which the read took too long.
    async fn read_until<O: Operation>(
        &self,
        operation: O,
        deadline: Instant,
        mut slow: u32,
    ) -> Result<Read<O::Out>, DbError> {
        let mut unexplained = 0;
        for attempt in 0_u32.. {
            if attempt > 0 {
                self.metrics.read_retries.inc();
            }
            if self.watch.is_up() || self.standby.is_none() {
                match self.read_attempt(&self.primary, &operation, deadline).await {
                    Ok(value) => return Ok(Read { value, stale: false }),
                    Err(failure) => self.consider(failure, &mut unexplained, &mut slow)?,
                }
            }
            // A connection that merely broke is made anew before a standby is asked; what is too much for the primary is not
            // asked of it twice.
            if let Some(standby) = self.standby.as_ref().filter(|_| attempt > 0 || slow > 0 || !self.watch.is_up()) {
                match self.read_attempt(standby, &operation, deadline).await {
                    Ok(value) => {
                        self.metrics.stale_reads.inc();
                        return Ok(Read { value, stale: true });
                    }
                    Err(Failure::Slow) => self.consider(Failure::Slow, &mut unexplained, &mut slow)?,
                    Err(_) => {}
                }
            }
            if !self.pause(attempt, deadline).await {
                break;
            }
        }
        self.metrics.reads_unavailable.inc();
        Err(DbError::Unavailable)
    }

    /// Reads from a standby only, once: to tell how the standbys are.
    pub async fn read_standby<O: Operation>(&self, operation: O) -> Option<O::Out> {
        let standby = self.standby.as_ref()?;
        self.read_attempt(standby, &operation, Instant::now() + 2 * READ_ATTEMPT).await.ok()
    }

    async fn read_attempt<O: Operation>(
        &self,
        pool: &Rc<Pool>,
        operation: &O,
        deadline: Instant,
    ) -> Result<O::Out, Failure> {
        let lent = pool
            .get(operation.reading(), deadline.min(Instant::now() + READ_ATTEMPT))
            .await
            .map_err(|_| Failure::Lost)?;
        self.read_on(lent, operation, deadline).await
    }

    async fn read_on<O: Operation>(&self, lent: Lent, operation: &O, deadline: Instant) -> Result<O::Out, Failure> {
        // Nobody ends the task: its connection counts as in use until the server has ended the query.
        let task = actix_web::rt::spawn(run(lent, operation.clone(), operation.reading()));
        match tokio::time::timeout_at(deadline.min(Instant::now() + READ_ATTEMPT).into(), task).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(Failure::Lost),
        }
    }

    /// Writes to the primary. The operation must be safe to do twice.
    ///
    /// The write runs in a task of its own: neither the client's going away nor the deadline ends a
    /// commit that is under way.
    pub async fn write<O: Operation>(&self, operation: O) -> Result<O::Out, DbError> {
        let deadline = Instant::now() + self.deadline;
        let mut unexplained = 0;
        for attempt in 0_u32.. {
            if attempt > 0 {
                self.metrics.write_retries.inc();
            }
            match self.write_attempt(&operation, deadline).await {
                Some(Ok(value)) => return Ok(value),
                Some(Err(failure)) => self.consider(failure, &mut unexplained, &mut 0)?,
                None => break,
            }
            if !self.pause(attempt, deadline).await {
                break;
            }
        }
        self.metrics.writes_unavailable.inc();
        Err(DbError::Unavailable)
    }

    /// Writes once, without a second try: for what may be lost but must not be done twice.
    pub async fn write_once<O: Operation>(&self, operation: O) -> Option<O::Out> {
        if !self.watch.is_up() {
            return None;
        }
        let deadline = Instant::now() + POOL_WAIT;
        self.write_attempt(&operation, deadline).await?.ok()
    }

    /// Tries a write once; `None` when the deadline has ended.
    async fn write_attempt<O: Operation>(&self, operation: &O, deadline: Instant) -> Option<Result<O::Out, Failure>> {
        let lent = match self.primary.get(Work::Write, deadline.min(Instant::now() + POOL_WAIT)).await {
            Ok(lent) => lent,
            Err(none) => return Some(Err(none.into())),
        };
        let abandon = Instant::now() + ABANDON_WRITE;
        let mut task = actix_web::rt::spawn(run(lent, operation.clone(), Work::Write));
        loop {
            let now = Instant::now();
            let tick = deadline.min(now + SLOW_WRITE);
            match tokio::time::timeout_at(tick.into(), &mut task).await {
                Ok(result) => return Some(result.unwrap_or(Err(Failure::Lost))),
                Err(_) if Instant::now() >= deadline => return None,
                Err(_) if now >= abandon && self.watch.is_up() => return Some(Err(Failure::Lost)),
                Err(_) => self.watch.doubt(),
            }
        }
    }

    /// Decides whether to go on after a failure: an error ends the attempts.
    fn consider(&self, failure: Failure, unexplained: &mut u32, slow: &mut u32) -> Result<(), DbError> {
        match failure {
            Failure::Lost => self.watch.doubt(),
            Failure::Busy => {}
            Failure::Slow => {
                *slow += 1;
                if *slow >= SLOW_READS {
                    self.metrics.reads_too_slow.inc();
                    return Err(DbError::TooSlow);
                }
            }
            Failure::Unexplained(_) if *unexplained < UNEXPLAINED_RETRIES => *unexplained += 1,
            Failure::Unexplained(e) | Failure::Refused(e) => {
                return Err(DbError::Fault(format!("the database refused the query: {e}")));
            }
        }
        Ok(())
    }

    /// Waits before the next attempt: until the primary is back where it is known to be
    /// away, else a little. `false` when the deadline has ended.
    async fn pause(&self, attempt: u32, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        if self.watch.is_up() {
            let backoff = Duration::from_millis(10 << attempt.min(4));
            tokio::time::sleep(backoff.mul_f64(0.5 + jitter()).min(left)).await;
        } else {
            self.watch.up(left.min(Duration::from_secs(1))).await;
        }
        true
    }
}

/// A random number from 0 to 1, so that many requests don't come back at the same moment.
fn jitter() -> f64 {
    f64::from(u16::try_from(getrandom::u32().unwrap_or(0) & 0xffff).unwrap_or(0)) / 65536.0
}

async fn run<O: Operation>(mut lent: Lent, operation: O, work: Work) -> Result<O::Out, Failure> {
    let limit = match work {
        Work::Read | Work::Search => READ_TIMEOUT,
        Work::Write => WRITE_TIMEOUT,
    };
    let conn = lent.conn();
    conn.take_warning();
    let started = Instant::now();
    let done = async {
        conn.set_up_for(work).await?;
        operation.run(&mut conn.pg).await
    };
    let Ok(result) = tokio::time::timeout(limit, done).await else {
        return Err(Failure::Lost);
    };
    match result {
        // Done, but perhaps on this one server only: ask again under the same key, which
        // writes, and so waits for the standby that this commit didn't wait for.
        Ok(_) if work == Work::Write && conn.take_warning() => Err(Failure::Lost),
        Ok(value) => {
            lent.give_back();
            Ok(value)
        }
        Err(e) => {
            // The server's words are in its own language: the time tells that it was its limit.
            let slow = work != Work::Write && started.elapsed() >= READ_STATEMENT;
            Err(classify(lent, e, slow).await)
        }
    }
}

async fn classify(mut lent: Lent, error: Error, slow: bool) -> Failure {
    use DatabaseErrorKind::{
        ClosedConnection, ReadOnlyTransaction, SerializationFailure, UnableToSendCommand, Unknown,
    };
    match &error {
        // A standby reached by mistake; the loan is dropped and with it the connection.
        Error::DatabaseError(ReadOnlyTransaction | ClosedConnection | UnableToSendCommand, _) => Failure::Lost,
        Error::DatabaseError(SerializationFailure, _) => {
            lent.give_back();
            Failure::Lost
        }
        // A server that shuts down says so in an error and then closes the connection.
        Error::DatabaseError(Unknown, _) => {
            let closed = tokio::time::timeout(Duration::from_millis(50), lent.conn().closed()).await;
            match closed {
                Ok(()) => Failure::Lost,
                Err(_) if slow => {
                    lent.give_back();
                    Failure::Slow
                }
                Err(_) => Failure::Unexplained(error),
            }
        }
        _ => {
            lent.give_back();
            Failure::Refused(error)
        }
    }
}
