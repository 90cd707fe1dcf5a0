//! `stackctl backup schedule`: when base backups are taken, and how long they are kept.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{
    backup::Store,
    cli::Global,
    commands::configured::configured,
    config::Options,
    context::Context,
    error::{Result, failed},
    kube::ObjectRef,
    ui::{self, Reporter, Style},
};

/// Prints the schedule, the last base backup that it asked for and the next one.
///
/// # Errors
/// No schedule, or the API server does not answer.
pub async fn run(global: &Global, style: Style) -> Result<u8> {
    let cx = Context::new(configured(global, &Options::default())?, Reporter::discard())?;
    let kube = cx.kube().await?;
    let namespace = &cx.config.stack.namespace;
    let store = Store::required(kube, namespace).await?;
    let object = ObjectRef::namespaced("postgresql.cnpg.io/v1", "ScheduledBackup", namespace, &cx.database().await?);
    let found = kube.get(&object).await?.ok_or_else(|| {
        failed(format!("there is no {object}")).remedy("stackctl up installs it, without --without backup")
    })?;
    let text = |pointer: &str| found.data.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let schedule = text("/spec/schedule").context("the schedule has no time")?;
    let (last, next) = (text("/status/lastScheduleTime"), text("/status/nextScheduleTime"));
    if style.mode == ui::Mode::Json {
        ui::out(&json!({"schedule": schedule, "last": last, "next": next, "keep": store.keep}).to_string());
        return Ok(0);
    }
    ui::out(&format!("schedule  {schedule} (second, minute, hour, day, month, day of the week; UTC)"));
    ui::out(&format!("last      {}", last.as_deref().unwrap_or("none yet")));
    ui::out(&format!("next      {}", next.as_deref().unwrap_or("not known yet")));
    ui::out(&format!("kept      every moment of the last {}", store.keep.as_deref().unwrap_or("(for ever)")));
    ui::err("stackctl up --backup-schedule CRON --backup-keep TIME changes it");
    Ok(0)
}
