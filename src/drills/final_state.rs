//! The rows of a run: where they are written to, what every instance holds of them in the end, and their removal.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;

use super::{
    model::verdict::{FinalState, InstanceRows},
    target::DrillTarget,
};
use crate::{
    database::{self, Fork, Lsn},
    error::{Result, failed, one_line, timed_out},
    poll::Tries,
};

/// How long the standbys may take to replay what the primary has.
const CATCH_UP: Duration = Duration::from_secs(60);

/// Makes the SQL stream's table, owned by the app's role. Without a unique key: doubling must be possible
/// to be looked for.
///
/// # Errors
/// As [`DrillTarget::psql`].
pub async fn create_table(target: &DrillTarget, primary: &str) -> Result<()> {
    let sql = "DROP SCHEMA IF EXISTS stackctl_drill CASCADE; \
               CREATE SCHEMA stackctl_drill AUTHORIZATION app; \
               CREATE TABLE stackctl_drill.writes (run text NOT NULL, key bigint NOT NULL); \
               ALTER TABLE stackctl_drill.writes OWNER TO app";
    target.psql(primary, sql).await.map(drop)
}

/// Removes every row of a run, and the SQL stream's table.
///
/// # Errors
/// As [`DrillTarget::psql`].
pub async fn delete_rows(target: &DrillTarget, primary: &str, run: &str) -> Result<()> {
    let sql = format!(
        "DROP SCHEMA IF EXISTS stackctl_drill CASCADE; \
         DELETE FROM users WHERE email LIKE '{run}-%@drill.invalid'; \
         DELETE FROM idempotency_keys WHERE key LIKE '{run}-%'"
    );
    target.psql(primary, &sql).await.map(drop)
}

/// An instance that could not be read, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableInstance {
    /// The instance's name.
    pub name: String,
    /// The reason in one line.
    pub why: String,
}

/// Reads what every instance holds of a run, after the standbys have replayed all that the primary has. An instance that
/// cannot be read, be it the primary, does not hide what the others show.
///
/// # Errors
/// None can be read, or nobody knows which there are.
pub async fn read(target: &DrillTarget, run: &str) -> Result<(FinalState, Vec<UnreadableInstance>)> {
    let primary = target.primary().await?;
    let mut unreadable = Vec::new();
    // Only a primary tells where its timeline forked.
    let (mut instances, mut forks, mut end) = (Vec::new(), Vec::new(), None);
    match primary_state(target, &primary, run).await {
        Ok((rows, forked, flushed)) => {
            instances.push(InstanceRows { rows, name: primary.clone() });
            (forks, end) = (forked, Some(flushed));
        }
        Err(error) => unreadable.push(UnreadableInstance { name: primary.clone(), why: one_line(&error) }),
    }
    for name in target.standbys(&primary).await? {
        match standby_rows(target, &name, run, end).await {
            Ok(rows) => instances.push(InstanceRows { rows, name }),
            Err(error) => unreadable.push(UnreadableInstance { name, why: one_line(&error) }),
        }
    }
    if instances.is_empty() {
        let why: Vec<String> = unreadable.iter().map(|one| format!("{}: {}", one.name, one.why)).collect();
        return Err(failed(format!("no instance can be read: {}", why.join("; "))).into());
    }
    Ok((FinalState { instances, forks }, unreadable))
}

/// The rows on the primary, the forks of its timeline, and the end of its WAL.
async fn primary_state(target: &DrillTarget, primary: &str, run: &str) -> Result<(BTreeMap<u64, u32>, Vec<Fork>, Lsn)> {
    let end: Lsn = target.psql(primary, "SELECT pg_current_wal_flush_lsn()").await?.trim().parse()?;
    let rows = rows(target, primary, run).await?;
    Ok((rows, database::forks(&target.psql(primary, database::HISTORY).await?)?, end))
}

/// `end`: where the primary's WAL ends, unknown if it cannot be read: then a standby is read as it is.
async fn standby_rows(target: &DrillTarget, standby: &str, run: &str, end: Option<Lsn>) -> Result<BTreeMap<u64, u32>> {
    if let Some(end) = end {
        wait_until_replayed(target, standby, end).await?;
    }
    rows(target, standby, run).await
}

async fn wait_until_replayed(target: &DrillTarget, standby: &str, end: Lsn) -> Result<()> {
    let mut tries = Tries::within(CATCH_UP, Duration::from_millis(200));
    loop {
        let replayed: Lsn = target.psql(standby, "SELECT pg_last_wal_replay_lsn()").await?.trim().parse()?;
        if replayed >= end {
            return Ok(());
        }
        if !tries.another().await {
            let limit = CATCH_UP.as_secs();
            let late = format!("{standby} has replayed up to {replayed} after {limit} s, the primary is at {end}");
            return Err(timed_out(late).into());
        }
    }
}

async fn rows(target: &DrillTarget, instance: &str, run: &str) -> Result<BTreeMap<u64, u32>> {
    let sql = format!(
        "SELECT key, count(*) FROM stackctl_drill.writes WHERE run = '{run}' GROUP BY key \
         UNION ALL SELECT substr(name, {})::bigint, count(*) FROM users \
         WHERE email LIKE '{run}-%@drill.invalid' GROUP BY 1",
        run.len() + 2
    );
    let mut rows = BTreeMap::new();
    for line in target.psql(instance, &sql).await?.lines() {
        let (key, count) = line.split_once('|').with_context(|| format!("{instance} answers {line:?}"))?;
        *rows.entry(key.parse()?).or_insert(0) += count.parse::<u32>()?;
    }
    Ok(rows)
}
