//! The database's schema: embedded migrations and who may run them when.
//!
//! Every migration only adds (tables, indexes, columns with a default): the version before
//! keeps running on the schema after, so that an update can roll and be rolled back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use diesel::migration::Migration;
use diesel::pg::Pg;
use diesel::sql_types::Bool;
use diesel_async::{AsyncMigrationHarness, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::config::Database;
use crate::db::connect::{self, Target};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// The key of the advisory lock: any number that only this program locks.
const LOCK: i64 = 0x75_73_65_72_61_70_70;

/// The time that `migrate` has in all: for a database, for the lock, and for the work.
const DEADLINE: Duration = Duration::from_secs(300);

/// The schema's version that this program needs: its newest migration.
pub fn newest() -> Result<String> {
    let all: Vec<Box<dyn Migration<Pg>>> =
        diesel::migration::MigrationSource::<Pg>::migrations(&MIGRATIONS).map_err(|e| anyhow!(e))?;
    all.iter().map(|m| m.name().version().to_string()).max().context("no migration is embedded")
}

/// Brings the schema up to date and returns the names of the migrations that were run.
///
/// Waits for the database to come up and for another `migrate` that runs now; five minutes
/// at most. Of many started together one works and the others find nothing to do.
pub async fn migrate(database: &Database) -> Result<Vec<String>> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match try_migrate(database, deadline).await {
            Ok(done) => return Ok(done),
            Err(e) if Instant::now() + Duration::from_secs(1) > deadline => return Err(e),
            Err(e) => tracing::warn!(reason = format!("{e:#}"), "migration not possible yet"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn try_migrate(database: &Database, deadline: Instant) -> Result<Vec<String>> {
    let mut conn = connect::connect_once(database, Target::Primary).await?;
    // A table lock that is long in coming would make every request behind it wait too:
    // give up early and come back instead.
    conn.batch_execute("SET lock_timeout = '2s'").await?;
    lock(&mut conn, deadline).await?;
    let mut harness = AsyncMigrationHarness::new(conn);
    let done = harness
        .run_pending_migrations(MIGRATIONS)
        .map(|versions| versions.iter().map(ToString::to_string).collect())
        .map_err(|e| anyhow!(e));
    // The lock goes with the session.
    drop(harness);
    done.context("running the migrations")
}

async fn lock(conn: &mut diesel_async::AsyncPgConnection, deadline: Instant) -> Result<()> {
    loop {
        let got: bool = diesel::select(
            diesel::dsl::sql::<Bool>("pg_try_advisory_lock(").bind::<diesel::sql_types::BigInt, _>(LOCK).sql(")"),
        )
        .get_result(conn)
        .await?;
        if got {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("another migration holds the lock");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
