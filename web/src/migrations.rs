//! The database's schema: embedded migrations and who may run them when.
//!
//! Every migration only adds (tables, indexes, functions, columns with a default): the version before
//! keeps running on the schema after, so that an update can roll and be rolled back. Indexes on tables that may
//! be large are built beside reads and writes, each in a migration of its own, which has no transaction.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use diesel::migration::Migration;
use diesel::pg::Pg;
use diesel::sql_types::Bool;
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
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

/// The time that a migration waits for a table's lock. One that is long in coming makes every request behind it wait
/// too: it is better to give up early and to come back.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '2s'";
/// The same for an index that is built beside reads and writes: it waits for transactions to end and holds up nobody.
/// With the default of 64 MB of memory it would go through its entries many times.
const INDEX_LOCK_TIMEOUT: &str = "SET lock_timeout = '5min'; SET maintenance_work_mem = '128MB'";

async fn try_migrate(database: &Database, deadline: Instant) -> Result<Vec<String>> {
    let mut conn = connect::connect_once(database, Target::Primary).await?;
    // Both locks, this one and those of the migrations, go with the session.
    lock(&mut conn, deadline).await?;
    drop_unfinished_indexes(&mut conn).await.context("removing indexes that were not built to the end")?;
    let mut harness = AsyncMigrationHarness::new(conn);
    let pending = harness.pending_migrations(MIGRATIONS).map_err(|e| anyhow!(e)).context("reading the migrations")?;
    let mut done = Vec::new();
    for migration in pending {
        let mut conn = harness.into_inner();
        let exclusive = migration.metadata().run_in_transaction();
        conn.batch_execute(if exclusive { LOCK_TIMEOUT } else { INDEX_LOCK_TIMEOUT }).await?;
        harness = AsyncMigrationHarness::new(conn);
        let run = harness.run_migration(&*migration).map_err(|e| anyhow!(e));
        done.push(run.with_context(|| format!("running the migration {}", migration.name()))?.to_string());
    }
    Ok(done)
}

/// Removes indexes whose build beside reads and writes was interrupted: no query uses them, every write pays for them,
/// and their names are in the way of the next build.
async fn drop_unfinished_indexes(conn: &mut AsyncPgConnection) -> Result<()> {
    #[derive(diesel::QueryableByName)]
    struct Index {
        #[diesel(sql_type = diesel::sql_types::Text)]
        name: String,
    }
    let unfinished = diesel::sql_query(
        "SELECT indexrelid::regclass::text AS name FROM pg_index JOIN pg_class ON pg_class.oid = indrelid \
         WHERE NOT indisvalid AND relname IN ('users', 'idempotency_keys') AND relnamespace = current_schema()::regnamespace",
    )
    .load::<Index>(conn)
    .await?;
    for Index { name } in unfinished {
        tracing::warn!(name, "an index was not built to the end; it is built again");
        conn.batch_execute(INDEX_LOCK_TIMEOUT).await?;
        conn.batch_execute(&format!("DROP INDEX CONCURRENTLY {name}")).await?;
    }
    Ok(())
}

async fn lock(conn: &mut AsyncPgConnection, deadline: Instant) -> Result<()> {
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
