//! What a worker thread has at hand to answer requests.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::config::Config;
use crate::db::Db;
use crate::db::watch::Watch;
use crate::gather::Gather;
use crate::metrics::Metrics;
use crate::rate::Limiter;
use crate::routes::listing::Rendered;
use crate::store::List;

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Shared by all threads.
pub struct Shared {
    /// The settings.
    pub config: Config,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Limits by client.
    pub limiter: Limiter,
    /// What is known about the primary.
    pub watch: Arc<Watch>,
    /// The end has begun: not ready any more, and connections are closed after each answer.
    pub draining: AtomicBool,
    /// When the program was started.
    pub started: Instant,
}

impl Shared {
    /// Whether new requests should come here.
    pub fn is_ready(&self) -> bool {
        // Once the database has been reached, its failure takes no pod away: all would go
        // at once, and with them the pages that say what is the matter.
        self.watch.has_schema() && !self.is_draining()
    }

    /// Whether the end has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// One worker thread's.
pub struct App {
    /// Of all threads.
    pub shared: Arc<Shared>,
    /// The database.
    pub db: Rc<Db>,
    /// Equal list pages, asked for together.
    pub pages: Gather<List, Rendered>,
    /// Equal lists of the API, asked for together.
    pub lists: Gather<List, Rendered>,
}

impl App {
    /// For one worker thread.
    pub fn new(shared: Arc<Shared>) -> Self {
        let config = &shared.config;
        let (watch, metrics) = (Arc::clone(&shared.watch), Arc::clone(&shared.metrics));
        let db = Rc::new(Db::new(&config.database, config.workers, watch, metrics, config.deadline));
        Self { shared, db, pages: Gather::default(), lists: Gather::default() }
    }
}
