//! A small pool of connections for one thread, as Actix's workers are: nothing in it is
//! shared, so nothing is locked and no query wakes another thread.
//!
//! A connection that ended, or that a request was abandoned in, is not given out again. It
//! counts as in use until its query has ended, so a database that hangs can't be buried
//! under new connections. Reads never have all of them, and searches not
//! all that reads have: a crowd that reads leaves one to writes, and one that searches leaves one to the rest.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::connect::{Conn, Connector, Target, Work};
use crate::metrics::{Metrics, PoolMetrics};

/// The time after which an idle connection is closed: ten pods at rest need few.
const IDLE: Duration = Duration::from_secs(60);

/// The pool of a thread's connections to one target.
pub struct Pool {
    connector: Arc<Connector>,
    target: Target,
    permits: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    searches: Arc<Semaphore>,
    idle: RefCell<Vec<(Conn, Instant)>>,
    metrics: Arc<Metrics>,
}

impl Pool {
    /// Makes a pool of at most `size` connections.
    pub fn new(connector: Arc<Connector>, target: Target, size: usize, metrics: Arc<Metrics>) -> Rc<Self> {
        let bound = |left: usize| Arc::new(Semaphore::new(size.saturating_sub(left).max(1)));
        // No write comes to a standby.
        let writes = usize::from(target == Target::Primary);
        let (permits, reads, searches) = (bound(0), bound(writes), bound(writes + 1));
        Rc::new(Self { connector, target, permits, reads, searches, idle: RefCell::default(), metrics })
    }

    fn metrics(&self) -> &PoolMetrics {
        match self.target {
            Target::Primary => &self.metrics.primary,
            Target::Standby => &self.metrics.standby,
        }
    }

    /// Lends a connection for this work, an open one or a new one, before `until`.
    pub async fn get(self: &Rc<Self>, work: Work, until: Instant) -> Result<Lent, NoConnection> {
        let started = Instant::now();
        let got = self.get_before(work, until).await;
        self.metrics().wait.observe(started.elapsed());
        got
    }

    async fn get_before(self: &Rc<Self>, work: Work, until: Instant) -> Result<Lent, NoConnection> {
        let permit = {
            let _waiting = Held::new(&self.metrics().waiting);
            let permit = tokio::time::timeout_at(until.into(), self.permit(work)).await;
            permit.ok().flatten().ok_or(NoConnection::Busy)?
        };
        if let Some(conn) = self.take_idle(work) {
            return Ok(self.lend(conn, permit));
        }
        let (asked, made) = oneshot::channel();
        actix_web::rt::spawn(Rc::clone(self).make(permit, asked));
        match tokio::time::timeout_at(until.into(), made).await {
            Ok(Ok(Ok(lent))) => Ok(lent),
            // Late, panicked, or refused.
            Err(_) | Ok(Err(_) | Ok(Err(_))) => Err(NoConnection::Failed),
        }
    }

    /// Waits for the permission to use a connection. `None` only where the pool is gone.
    async fn permit(&self, work: Work) -> Option<Permit> {
        // In this order, so that a search that waits holds nothing that another read could use.
        let search = match work {
            Work::Search => Some(Arc::clone(&self.searches).acquire_owned().await.ok()?),
            Work::Read | Work::Write => None,
        };
        let read = match work {
            Work::Search | Work::Read => Some(Arc::clone(&self.reads).acquire_owned().await.ok()?),
            Work::Write => None,
        };
        Some(Permit { _search: search, _read: read, _any: Arc::clone(&self.permits).acquire_owned().await.ok()? })
    }

    /// Makes a connection for who has asked, or for the next one: what was begun is not broken off because a
    /// request could not wait. The permit bounds how many are being made.
    async fn make(self: Rc<Self>, permit: Permit, asked: oneshot::Sender<Result<Lent>>) {
        let made = self.connector.connect().await;
        match &made {
            Ok(_) => self.metrics().connects.inc(),
            Err(_) => self.metrics().connects_failed.inc(),
        }
        if let Err(Ok(unclaimed)) = asked.send(made.map(|conn| self.lend(conn, permit))) {
            unclaimed.give_back();
        }
    }

    fn lend(self: &Rc<Self>, conn: Conn, permit: Permit) -> Lent {
        self.metrics().in_use.add(1);
        Lent { conn: Some(conn), pool: Rc::clone(self), _permit: permit }
    }

    /// Takes the connection that was used last for this work, so that the others age; else one that was used for other.
    fn take_idle(&self, work: Work) -> Option<Conn> {
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        idle.retain(|(conn, _)| !conn.is_closed());
        let same = idle.iter().rposition(|(conn, _)| conn.is_set_up_for(work));
        let conn = same.or(idle.len().checked_sub(1)).map(|at| idle.remove(at).0);
        self.idle_changed(before, idle.len());
        conn
    }

    fn put(&self, conn: Conn) {
        let mut idle = self.idle.borrow_mut();
        let before = idle.len();
        idle.push((conn, Instant::now()));
        if idle.first().is_some_and(|(_, since)| since.elapsed() > IDLE) {
            idle.remove(0);
        }
        self.idle_changed(before, idle.len());
    }

    fn idle_changed(&self, before: usize, after: usize) {
        let signed = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.metrics().idle.add(signed(after) - signed(before));
    }
}

/// The reason why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoConnection {
    /// All that there may be are in use: it says nothing about the database.
    Busy,
    /// A new one could not be made, or not in time.
    Failed,
}

/// The permission to use a connection.
struct Permit {
    _search: Option<OwnedSemaphorePermit>,
    _read: Option<OwnedSemaphorePermit>,
    _any: OwnedSemaphorePermit,
}

/// A connection lent to one query. Dropped without [`Lent::give_back`] it is closed.
pub struct Lent {
    conn: Option<Conn>,
    pool: Rc<Pool>,
    _permit: Permit,
}

impl Lent {
    /// The connection.
    pub fn conn(&mut self) -> &mut Conn {
        // Only `give_back`, which consumes the loan, takes it away.
        self.conn.as_mut().expect("a loan has its connection")
    }

    /// Gives the connection back for others to use.
    pub fn give_back(mut self) {
        if let Some(conn) = self.conn.take().filter(|conn| !conn.is_closed()) {
            self.pool.put(conn);
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.metrics().in_use.add(-1);
    }
}

/// A hold on a gauge, which is one higher for as long as the hold lives.
struct Held<'a>(&'a crate::metrics::Gauge);

impl<'a> Held<'a> {
    fn new(gauge: &'a crate::metrics::Gauge) -> Self {
        gauge.add(1);
        Self(gauge)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}
