//! `stackctl backup verify`: proves the backups by restoring them into a scratch database, reading all of it, and
//! deleting it again.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    backup::{RecoveryTarget, Store, stamp},
    cli::Global,
    commands::configured::configured,
    commands::interruptible,
    config::Options,
    context::Context,
    database,
    error::{Result, failed},
    names::DATABASE,
    restore::recovery::{self, Order},
    ui::{self, Event, PhaseId, Style},
};

const ID: PhaseId = PhaseId::Verify;
/// The deletion of the scratch database has its own time, also when the command's is over.
const DISCARD_WITHIN: Duration = Duration::from_secs(90);

/// Reads every row, which checks the checksum of every page of every table; has every B-tree compared with its table,
/// and every table's rows looked into. Damage that is found is an error or a count above zero.
const CHECKS: &str = "
set client_min_messages = warning;
create extension if not exists amcheck;
with tables as (
  select format('%I.%I', schemaname, tablename) as name from pg_tables
  where schemaname not in ('pg_catalog', 'information_schema')
), counted as (
  select coalesce(sum((xpath('/row/c/text()', query_to_xml('select count(*) as c from ' || name, false, true, '')))[1]
    ::text::bigint), 0) as rows, count(*) as tables from tables
), trees as (
  select bt_index_check(i.indexrelid, true) from pg_index i
  join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
  where a.amname = 'btree' and c.relpersistence = 'p' and i.indisready and i.indisvalid
), damage as (
  select count(*) as found from tables, lateral verify_heapam(name::regclass)
)
select json_build_object('tables', counted.tables, 'rows', counted.rows,
  'indexes', (select count(*) from trees), 'damaged', damage.found) from counted, damage";

/// What was found in the scratch database.
#[derive(Debug, Serialize, Deserialize)]
struct ScratchContent {
    tables: u64,
    rows: u64,
    indexes: u64,
    damaged: u64,
}

/// Restores the latest moment, checks it and deletes it.
///
/// # Errors
/// The store does not hold what it takes, the recovery fails, or what was restored is damaged.
pub async fn run(global: &Global, style: Style) -> Result<u8> {
    let config = configured(global, &Options::default())?;
    let order = Order {
        target: RecoveryTarget::Latest,
        server: None,
        name: format!("{DATABASE}-verify-{}", stamp()),
        instances: Some(1),
        archives: false,
        deadline: Instant::now() + config.timeout,
    };
    let (reporter, screen) = ui::open(style);
    let cx = Context::new(config, reporter)?;
    let began = Instant::now();
    let title = "Restore into a scratch database and check it";
    cx.reporter.send(Event::PhaseStarted { phase: ID, title: title.into() });
    let work = async {
        cx.lock().await?;
        verify(&cx, &order).await
    };
    let outcome = interruptible(cx.until_deadline("the proof of the backups", work)).await;
    cx.doing(ID, "deleting the scratch database");
    let gone = recovery::discard(&cx, ID, &order.name, None, Instant::now() + DISCARD_WITHIN).await;
    cx.unlock().await;
    let ended = outcome.as_ref().map(|_| "sound".to_owned());
    cx.reporter.send(Event::phase_ended(ID, title, ended, began.elapsed()));
    screen.close().await;
    let (recovered, found) = outcome?;
    gone.context("the scratch database was checked, but not deleted")?;
    let seconds = recovered.as_secs_f64();
    if style.mode == ui::Mode::Json {
        ui::out(&json!({"restored_seconds": seconds, "found": found}).to_string());
    } else {
        let ScratchContent { tables, rows, indexes, .. } = found;
        ui::out(&format!(
            "the backups are sound: restored in {seconds:.0} s, {rows} rows of {tables} tables read, {indexes} indexes \
             checked"
        ));
    }
    Ok(0)
}

async fn verify(cx: &Context, order: &Order) -> Result<(Duration, ScratchContent)> {
    is_complete(cx, order).await?;
    let recovered = recovery::restore(cx, ID, order).await?;
    cx.doing(ID, "reading all of it");
    let left = cx.deadline.saturating_duration_since(Instant::now());
    let pod = format!("{}-1", order.name);
    let text = database::query_on(cx.kube().await?, &cx.config.stack.namespace, &pod, CHECKS, left).await?;
    let found: ScratchContent =
        serde_json::from_str(&text).context("what the scratch database answers cannot be read")?;
    if found.damaged > 0 {
        return Err(failed(format!("the restored tables hold {} damaged rows", found.damaged))
            .remedy("stackctl restore --to an earlier moment, and look with stackctl psql --cluster")
            .into());
    }
    Ok((recovered, found))
}

/// Checks that the archive goes on, and holds all WAL since the newest base backup: what can be restored today is not sound
/// if it ends long ago.
async fn is_complete(cx: &Context, order: &Order) -> Result<()> {
    let (kube, namespace, database) = (cx.kube().await?, &cx.config.stack.namespace, cx.database().await?);
    recovery::archive_now(cx, ID).await.context("the backups are not sound: the archive does not go on")?;
    cx.doing(ID, "asking the store whether WAL is missing");
    let catalog = Store::required(kube, namespace).await?.catalog(kube, namespace, order.deadline).await?;
    match catalog.servers.get(&database).map_or(0, |server| server.gap()) {
        0 => Ok(()),
        missing => Err(failed(format!(
            "the backups are not sound: {missing} WAL segments are missing after the newest base backup of {database}, and \
             nothing that came after them can be restored"
        ))
        .remedy("stackctl backup create takes a base backup, from which on everything can be")
        .into()),
    }
}
