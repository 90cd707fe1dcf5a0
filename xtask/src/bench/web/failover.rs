//! The primary is killed while users register, and its standby is promoted some seconds later.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use testbed::ledger::Registrations;
use testbed::postgres::Postgres;
use testbed::proxy::Proxy;

use super::contender::Contender;
use crate::webapp::{Database, WebApp};

/// Registrations a second.
pub const RATE: u32 = 200;
const CLIENTS: u32 = 20;
/// Without a primary: about what an operator takes to promote a standby.
pub const AWAY: Duration = Duration::from_secs(8);
const BEFORE: Duration = Duration::from_secs(3);
const AFTER: Duration = Duration::from_secs(4);

/// What became of the registrations.
#[derive(Debug, Clone, Serialize)]
pub struct Survived {
    /// Answered by 201.
    pub acknowledged: usize,
    /// Acknowledged, and not on the new primary.
    pub lost: usize,
    /// There twice.
    pub doubled: usize,
    /// Answered otherwise, or not at all.
    pub errors: usize,
    /// The first of them.
    pub error: Option<String>,
    /// Seconds that the slowest answer took.
    pub longest: f64,
}

/// Does it to one contender, on a pair of servers of its own with synchronous replication.
///
/// # Errors
/// When something does not start.
pub fn kill_primary(contender: &Contender, migrate: &WebApp, folder: &Path) -> Result<Survived> {
    let primary = Postgres::start(&["wal_keep_size=64MB"])?;
    let standby = primary.standby("standby")?;
    primary.wait_for_standby("standby")?;
    let name = primary.database()?;
    let proxy = Proxy::to(primary.port)?;
    let database = Database { port: proxy.port, name: &name };
    migrate.migrate(database)?;
    let running = contender.start(database, true, folder)?;
    let load = Registrations::start(&[running.address], CLIENTS, RATE);
    std::thread::sleep(BEFORE);
    primary.kill()?;
    std::thread::sleep(AWAY);
    standby.promote()?;
    proxy.switch(standby.port);
    std::thread::sleep(AFTER);
    let ledger = load.stop();
    let verdict = ledger.check(&standby, &name)?;
    Ok(Survived {
        acknowledged: ledger.acknowledged.len(),
        lost: verdict.lost,
        doubled: verdict.doubled,
        errors: ledger.errors.len(),
        error: ledger.errors.first().cloned(),
        longest: ledger.longest.as_secs_f64(),
    })
}
