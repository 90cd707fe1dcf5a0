//! `stackctl backup create`: a base backup now.

use std::time::Instant;

use anyhow::Context as _;
use serde_json::json;

use crate::{
    backup::{BaseBackup, Cause, Store, base, cause},
    cli::Global,
    commands::configured::configured,
    config::Options,
    context::Context,
    database,
    error::{Kind, Result, failed, kind_of},
    kube::{ObjectRef, wait_ready},
    progress,
    ui::{self, Event, PhaseId, Style, human},
};

const ID: PhaseId = PhaseId::Backup;

/// Takes a base backup, waits for it, and tells what the store has then.
///
/// # Errors
/// No database, a backup that fails (says why), or none by the deadline.
pub async fn run(global: &Global, style: Style) -> Result<u8> {
    let config = configured(global, &Options::default())?;
    let (reporter, screen) = ui::open(style);
    let cx = Context::new(config, reporter)?;
    let outcome = cx.until_deadline("the backup", create(&cx)).await;
    screen.close().await;
    let (id, backup, seconds) = outcome?;
    if style.mode == ui::Mode::Json {
        let copied = backup.began.zip(backup.ended).map(|(began, ended)| ended.duration_since(began).as_secs_f64());
        ui::out(&json!({"backup": backup, "id": id, "seconds": seconds, "copied_seconds": copied}).to_string());
    } else {
        ui::out(&format!("{id}: {} in the store, taken in {seconds:.1} s", human::bytes(backup.stored)));
    }
    Ok(0)
}

async fn create(cx: &Context) -> Result<(String, BaseBackup, f64)> {
    let kube = cx.kube().await?;
    let (namespace, cluster) = (&cx.config.stack.namespace, cx.database().await?);
    let store = Store::required(kube, namespace).await?;
    let began = Instant::now();
    let size = database::size(kube, namespace, &cluster).await?;
    let (phase, title) = (ID, format!("Base backup of {}", human::bytes(size)));
    cx.reporter.send(Event::PhaseStarted { phase, title: title.clone() });

    let object = base::request(kube, namespace, &cluster).await?;
    let observer = progress::observer(&cx.reporter, ID);
    if let Err(error) = wait_ready(kube, std::slice::from_ref(&object), cx.deadline, &observer).await {
        return Err(explained(cx, &object, &store, error).await);
    }
    let seconds = began.elapsed();
    cx.doing(ID, "asking the store what it has now");
    let done = kube.get(&object).await?;
    let id = done.as_ref().and_then(|done| done.data.pointer("/status/backupId")?.as_str()).unwrap_or_default();
    let catalog = store.catalog(kube, namespace, cx.deadline).await?;
    let found = catalog.servers.into_values().flat_map(|server| server.backups).find(|backup| backup.id == id);
    if found.as_ref().is_some_and(|found| found.without_wal) {
        return Err(failed(format!("backup {id} cannot be restored: the WAL that it begins with is not in the store"))
            .remedy("stackctl psql -- -c checkpoint, and then stackctl backup create: it begins with newer WAL")
            .into());
    }
    let found = found.filter(BaseBackup::complete).ok_or_else(|| {
        failed(format!("the operator calls backup {id} completed, but the store does not have it"))
            .remedy("stackctl backup list shows what the store has")
    })?;
    let outcome = format!("{} in the store", human::bytes(found.stored));
    cx.reporter.send(Event::PhaseDone { phase, title, outcome, elapsed: seconds });
    Ok((id.to_owned(), found, seconds.as_secs_f64()))
}

/// Adds to the `error` of a backup why it failed, as the instance that took it logged it: the operator has no more than
/// a program's exit code.
async fn explained(cx: &Context, object: &ObjectRef, store: &Store, error: anyhow::Error) -> anyhow::Error {
    const UNHARMED: &str = "the database goes on, and earlier backups are as they were";
    if kind_of(&error) != Kind::Failed {
        return error.context(format!("the backup failed; {UNHARMED}"));
    }
    match why(cx, object, store).await {
        Ok(Cause { what, remedy }) => {
            error.context(failed(format!("the backup failed: {what}; {UNHARMED}")).remedy(remedy))
        }
        Err(_) => error.context(
            failed(format!("the backup failed; {UNHARMED}"))
                .remedy("stackctl status tells how the store and the database are"),
        ),
    }
}

async fn why(cx: &Context, object: &ObjectRef, store: &Store) -> Result<Cause> {
    let kube = cx.kube().await?;
    let failed = kube.get(object).await?;
    let pod = failed.as_ref().and_then(|failed| failed.data.pointer("/status/instanceID/podName")?.as_str());
    let pod = pod.context("no instance took it")?;
    cause::read(kube, &cx.config.stack.namespace, pod, store).await
}
