//! `stackctl switchover`: another instance as the primary, on purpose.

use std::time::{Duration, Instant};

use super::{interruptible, locked};
use crate::{
    cli::{Global, SwitchoverArgs},
    commands::configured::configured,
    config::Options,
    context::Context,
    database::{self, Replication, reload, switchover},
    error::{Result, failed, timed_out},
    kube::{cnpg::ClusterStatus, wait_ready},
    names::FIELD_MANAGER,
    poll, progress,
    ui::{Event, PhaseId, Reporter, Style, open, prompt},
};

const ID: PhaseId = PhaseId::Switchover;
/// How long the change itself may take: the primary's shutdown, of which the operator allows 40 s, and the promotion.
const CHANGES_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often it is looked at anew where the operator changes the Cluster between the look and the request.
const ATTEMPTS: usize = 5;

/// Makes a standby the primary, and waits until the former one follows it.
///
/// # Errors
/// A database that is not well, or a standby that would lose or hold up writes: nothing is changed then. Not confirmed, or
/// a change that does not end.
pub async fn run(global: &Global, args: &SwitchoverArgs, style: Style) -> Result<u8> {
    let config = configured(global, &Options::default())?;
    let cx = Context::new(config.clone(), Reporter::discard())?;
    let Plan { from, to, .. } = interruptible(plan(&cx, args.instance.as_deref())).await?;
    if from != to {
        prompt::confirm(
            &format!("Make {to} the primary in the place of {from}? Writes wait for some seconds."),
            args.yes,
        )?;
    }
    let (reporter, screen) = open(style);
    let cx = Context::new(config, reporter)?;
    let outcome = if from == to { already(&cx, &to) } else { change(&cx, &from, &to).await };
    screen.close().await;
    outcome?;
    Ok(0)
}

/// What a switchover is to change.
struct Plan {
    /// The primary.
    from: String,
    /// The instance that is to be it; the same where it is already.
    to: String,
    /// The resourceVersion at which the Cluster was judged.
    seen: Option<String>,
}

async fn plan(cx: &Context, wanted: Option<&str>) -> Result<Plan> {
    let (kube, namespace, cluster) = (cx.kube().await?, &cx.config.stack.namespace, cx.database().await?);
    let live = kube.get(&database::reference(namespace, &cluster)).await?;
    let status = live.as_ref().map(ClusterStatus::of).unwrap_or_default();
    let seen = live.and_then(|live| live.metadata.resource_version);
    let Some(primary) = status.settled_primary() else {
        return Err(failed("the database has no primary that stays").remedy("stackctl status shows it").into());
    };
    if wanted == Some(primary) {
        return Ok(Plan { from: primary.to_owned(), to: primary.to_owned(), seen });
    }
    if !status.is_healthy() {
        let seen = format!("{}/{} instances are ready, {}", status.ready, status.wanted, status.phase);
        let why = format!("a switchover takes a database that is well: {seen}");
        return Err(failed(why).remedy("stackctl status shows it; stackctl up brings it back").into());
    }
    let replication = Replication::read(kube, namespace, &cluster).await?;
    let to = switchover::choose(&replication.standbys, wanted)?;
    Ok(Plan { from: primary.to_owned(), to: to.name.clone(), seen })
}

fn already(cx: &Context, primary: &str) -> Result<()> {
    let (phase, title) = (ID, "Switchover".to_owned());
    cx.reporter.send(Event::started(ID.name(), cx.config.target.describe()));
    cx.reporter.send(Event::PhaseSkipped { phase, title, reason: format!("{primary} is the primary already") });
    finished(cx, Instant::now(), true);
    Ok(())
}

async fn change(cx: &Context, from: &str, to: &str) -> Result<()> {
    let (began, title) = (Instant::now(), format!("{to} in the place of {from}"));
    cx.reporter.send(Event::started(ID.name(), cx.config.target.describe()));
    cx.reporter.send(Event::PhaseStarted { phase: ID, title: title.clone() });
    let outcome = locked(cx, "the switchover", switch(cx, from, to)).await;
    let ended = outcome.as_ref().map(|took| format!("{to} is the primary after {:.1} s", took.as_secs_f64()));
    cx.reporter.send(Event::phase_ended(ID, &title, ended, began.elapsed()));
    finished(cx, began, outcome.is_ok());
    outcome.map(drop)
}

fn finished(cx: &Context, began: Instant, ok: bool) {
    let (command, requests, elapsed) = (ID.name().into(), cx.requests(), began.elapsed());
    let next = vec![("stackctl status".into(), "every instance, and what it does".into())];
    cx.reporter.send(Event::Finished { command, ok, elapsed, requests, facts: Vec::new(), next });
}

/// Asks the operator for the change, of the Cluster as it was judged last: the operator may change it at any moment.
async fn ask(cx: &Context, cluster: &str, from: &str, to: &str) -> Result<()> {
    let (kube, namespace) = (cx.kube().await?, &cx.config.stack.namespace);
    for _ in 0..ATTEMPTS {
        let plan = plan(cx, Some(to)).await?;
        // Before the lock was taken it may have been another one.
        if plan.from != from {
            return Err(failed(format!("{from} is not the primary any more: nothing was changed")).into());
        }
        if switchover::ask(kube, namespace, cluster, to, FIELD_MANAGER, plan.seen.as_deref()).await? {
            return Ok(());
        }
    }
    Err(failed("the operator changes the database's state again and again: nothing was changed")
        .remedy("stackctl status shows what it does; run the same command again when it is done")
        .into())
}

/// Returns how long it was until the other instance was the primary.
async fn switch(cx: &Context, from: &str, to: &str) -> Result<Duration> {
    let (kube, namespace, cluster) = (cx.kube().await?, &cx.config.stack.namespace, cx.database().await?);
    let began = Instant::now();
    ask(cx, &cluster, from, to).await?;
    cx.doing(ID, format!("{from} stops, {to} takes over"));
    let reference = database::reference(namespace, &cluster);
    let late = || {
        timed_out(format!("{to} has not become the primary within {} s", CHANGES_WITHIN.as_secs()))
            .remedy("stackctl logs operator and stackctl logs database say why; stackctl status shows who is")
    };
    poll::until_or(CHANGES_WITHIN, LOOK_EVERY, late, || async {
        let status = kube.get(&reference).await?.as_ref().map(ClusterStatus::of).unwrap_or_default();
        Ok((status.settled_primary() == Some(to)).then_some(()))
    })
    .await?;
    let took = began.elapsed();
    cx.doing(ID, format!("{to} is the primary; {from} comes back as its standby"));
    let (objects, observer) = ([reference], progress::observer(&cx.reporter, ID));
    let waiting = wait_ready(kube, &objects, cx.deadline, &observer);
    reload::during(cx, ID, &cluster, cx.deadline, waiting).await?;
    Ok(took)
}
