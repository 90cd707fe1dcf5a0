//! The state that a worker thread answers requests with.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use actix_web::web::Bytes;

use crate::config::Config;
use crate::db::position::Position;
use crate::db::watch::Watch;
use crate::db::{Db, DbError};
use crate::gather::Gather;
use crate::metrics::Metrics;
use crate::rate::Limiter;
use crate::store::List;

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A list ready to be sent, and whether it is possibly stale.
pub type Rendered = Result<(Bytes, bool), DbError>;

/// A part of the list, and the position in the WAL that its reader knows of where not every standby has it.
pub type Question = (List, Option<Position>);

/// The state that all threads share.
pub struct Shared {
    /// The settings.
    pub config: Config,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Limits by client.
    pub limiter: Limiter,
    /// The watch over the primary.
    pub watch: Arc<Watch>,
    /// Whether the end has begun: the pod is not ready any more, and connections are closed after each answer.
    pub draining: AtomicBool,
    /// The moment of the program's start.
    pub started: Instant,
}

impl Shared {
    /// Tells whether new requests should come to this pod.
    pub fn is_ready(&self) -> bool {
        // Once the database has been reached, its failure takes no pod away: all would go
        // at once, and with them the pages that say what is the matter.
        self.watch.has_schema() && !self.is_draining()
    }

    /// Tells whether the end has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// The state of one worker thread.
pub struct App {
    /// The state that all threads share.
    pub shared: Arc<Shared>,
    /// The database.
    pub db: Rc<Db>,
    /// Equal list pages, asked for together.
    pub pages: Gather<Question, Rendered>,
    /// Equal lists of the API, asked for together.
    pub lists: Gather<Question, Rendered>,
}

impl App {
    /// Makes the state of one worker thread.
    pub fn new(shared: Arc<Shared>) -> Self {
        let config = &shared.config;
        let (watch, metrics) = (Arc::clone(&shared.watch), Arc::clone(&shared.metrics));
        let db = Rc::new(Db::new(&config.database, config.workers, watch, metrics, config.deadline));
        Self { shared, db, pages: Gather::default(), lists: Gather::default() }
    }
}
