//! What a pod does beside requests, with a connection of its own: it exchanges the clients' counts, and removes what has
//! aged or is too much.
//!
//! The removal keeps pace with any rate of writes: while there is something to remove, each round removes for
//! [`ROUND`], in batches. A batch is deleted in a fraction of the time in which as many rows are written one by one.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::Shared;
use crate::db::Db;
use crate::rate::{EXCHANGE, MAX_ROWS};
use crate::store::{BATCH, CountRows, Expire, ExpireRates, ExpireUnkeyed, TrimClients, TrimKeys};

/// The time that one round of removals takes, before counts are exchanged again.
const ROUND: Duration = Duration::from_millis(400);

/// The removals, in the order in which they are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    Rates,
    Unkeyed,
    Aged,
    Clients,
    Keys,
}

const REMOVALS: [Removal; 5] = [Removal::Rates, Removal::Unkeyed, Removal::Aged, Removal::Clients, Removal::Keys];

/// Does the chores until the process ends.
pub async fn run(shared: Arc<Shared>) {
    let config = &shared.config;
    let (watch, metrics) = (Arc::clone(&shared.watch), Arc::clone(&shared.metrics));
    let db = Rc::new(Db::new(&config.database, config.database.pool.max(1), watch, metrics, config.deadline));
    let mut sweep_at = Instant::now() + config.sweep_every;
    let mut removals = REMOVALS.iter().copied().peekable();
    loop {
        tokio::time::sleep(EXCHANGE).await;
        shared.limiter.exchange(&db).await;
        if Instant::now() < sweep_at {
            continue;
        }
        let round = Instant::now();
        while let Some(removal) = removals.peek().copied() {
            let removed = remove(&shared, &db, removal).await;
            // One that failed is done again with the next sweep.
            if removed.is_none_or(|rows| rows < BATCH) {
                removals.next();
            }
            if round.elapsed() > ROUND {
                break;
            }
        }
        if removals.peek().is_none() {
            removals = REMOVALS.iter().copied().peekable();
            sweep_at = Instant::now() + config.sweep_every;
            count(&shared, &db).await;
        }
    }
}

/// Removes one batch; `None` where the database did not answer.
async fn remove(shared: &Shared, db: &Db, removal: Removal) -> Option<usize> {
    let keys = shared.config.keys;
    let removed = match removal {
        Removal::Rates => return db.write_once(ExpireRates).await,
        Removal::Unkeyed => db.write_once(ExpireUnkeyed).await,
        Removal::Aged => db.write_once(Expire).await,
        Removal::Clients => db.write_once(TrimClients(keys.per_client)).await,
        Removal::Keys => db.write_once(TrimKeys(keys.all)).await,
    };
    if let Some(keys) = removed.filter(|keys| *keys > 0) {
        tracing::info!(keys, ?removal, "idempotency keys removed");
    }
    removed
}

/// Counts what is left, for the metrics and the alert on them.
async fn count(shared: &Shared, db: &Db) {
    let (metrics, keys) = (&shared.metrics, shared.config.keys.all);
    metrics.keys.limit.set(keys);
    metrics.rates.limit.set(MAX_ROWS);
    if let Some(Some(rows)) = db.write_once(CountRows { keys, rates: MAX_ROWS }).await {
        metrics.keys.rows.set(rows.keys);
        metrics.rates.rows.set(rows.rates);
    }
}
