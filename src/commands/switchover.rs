//! `stackctl switchover`: another instance as the primary, on purpose.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use super::{interruptible, locked};
use crate::{
    cli::{Global, SwitchoverArgs},
    commands::configured::configured,
    config::Options,
    context::Context,
    database::{self, reload, switchover},
    error::{Failure, Result, failed, kind_of},
    kube::{cnpg::ClusterStatus, wait_ready},
    names::FIELD_MANAGER,
    poll, progress,
    ui::{Event, PhaseId, Reporter, Style, open, prompt},
};

const ID: PhaseId = PhaseId::Switchover;
/// How long the change itself may take: the primary's shutdown, of which the operator allows 40 s, and the promotion.
const CHANGES_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Makes a standby the primary, and waits until the former one follows it.
///
/// # Errors
/// A database that is not well, or a standby that would lose or hold up writes: nothing is changed then. Not confirmed, or
/// a change that does not end.
pub async fn run(global: &Global, args: &SwitchoverArgs, style: Style) -> Result<u8> {
    let config = configured(global, &Options::default())?;
    let cx = Context::new(config.clone(), Reporter::discard())?;
    let Plan { from, to } = interruptible(plan(&cx, args.instance.as_deref())).await?;
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
}

async fn plan(cx: &Context, wanted: Option<&str>) -> Result<Plan> {
    let (kube, namespace, cluster) = (cx.kube().await?, &cx.config.stack.namespace, cx.database().await?);
    let live = kube.get(&database::reference(namespace, &cluster)).await?;
    judge(cx, &cluster, &live.as_ref().map(ClusterStatus::of).unwrap_or_default(), wanted).await
}

/// Decides for a database in this state.
async fn judge(cx: &Context, cluster: &str, status: &ClusterStatus, wanted: Option<&str>) -> Result<Plan> {
    let Some(primary) = status.settled_primary() else {
        return Err(failed("the database has no primary that stays").remedy("stackctl status shows it").into());
    };
    if wanted == Some(primary) {
        return Ok(Plan { from: primary.to_owned(), to: primary.to_owned() });
    }
    if !status.is_healthy() {
        let seen = format!("{}/{} instances are ready, {}", status.ready, status.wanted, status.phase);
        let why = format!("a switchover takes a database that is well: {seen}");
        return Err(failed(why).remedy("stackctl status shows it; stackctl up brings it back").into());
    }
    let (kube, namespace) = (cx.kube().await?, &cx.config.stack.namespace);
    let to = switchover::find(kube, namespace, cluster, primary, wanted).await?;
    Ok(Plan { from: primary.to_owned(), to: to.name })
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
    let stage = Cell::new(Stage::Before);
    let outcome = locked(cx, "the switchover", switch(cx, from, to, &stage)).await;
    let outcome = outcome.map_err(|error| stage.get().explain(error, from, to));
    let ended = outcome.as_ref().map(|took| format!("{to} is the primary after {:.1} s", took.as_secs_f64()));
    cx.reporter.send(Event::phase_ended(ID, &title, ended, began.elapsed()));
    finished(cx, began, outcome.is_ok());
    outcome.map(drop)
}

/// How far a switchover has come; whatever ends the wait for it, the operator takes it to its end.
#[derive(Clone, Copy)]
enum Stage {
    /// Nothing was asked for.
    Before,
    /// The request is on its way.
    Asking,
    /// The operator was asked.
    Asked,
    /// The instance is the primary; the former one comes back.
    Moved,
}

impl Stage {
    /// Adds to an error what goes on in spite of it.
    fn explain(self, error: anyhow::Error, from: &str, to: &str) -> anyhow::Error {
        let goes_on = match self {
            Stage::Before => return error,
            Stage::Asking => {
                format!("the operator was being asked to make {to} the primary in the place of {from}, and may do so")
            }
            Stage::Asked => format!(
                "the operator was asked to make {to} the primary in the place of {from}, and goes on with it by itself"
            ),
            Stage::Moved => {
                format!("{to} is the primary, and the operator brings {from} back as its standby by itself")
            }
        };
        let failure = Failure::new(kind_of(&error), goes_on)
            .remedy("stackctl status shows who is the primary, and whether the other instances follow it")
            .remedy("stackctl logs operator and stackctl logs database say what is in the way, should it stay so");
        error.context(failure)
    }
}

fn finished(cx: &Context, began: Instant, ok: bool) {
    let (command, requests, elapsed) = (ID.name().into(), cx.requests(), began.elapsed());
    let next = vec![("stackctl status".into(), "every instance, and what it does".into())];
    cx.reporter.send(Event::Finished { command, ok, elapsed, requests, facts: Vec::new(), next });
}

/// Asks the operator for the change.
async fn ask(cx: &Context, cluster: &str, from: &str, to: &str, stage: &Cell<Stage>) -> Result<()> {
    let (kube, namespace) = (cx.kube().await?, &cx.config.stack.namespace);
    let judge = async |status: &ClusterStatus| {
        stage.set(Stage::Before);
        let plan = judge(cx, cluster, status, Some(to)).await?;
        // Before the lock was taken, or since, it may have become another one.
        if plan.from != from {
            return Err(failed(format!("{from} is not the primary any more: nothing was changed")).into());
        }
        stage.set(Stage::Asking);
        Ok(Some(plan.to))
    };
    let asked = switchover::ask(kube, namespace, cluster, FIELD_MANAGER, judge).await;
    stage.set(if asked.is_ok() { Stage::Asked } else { Stage::Before });
    asked.map(drop)
}

/// Waits until `to` is the primary, whatever a single look at the Cluster comes to.
async fn until_primary<Looked: Future<Output = Result<Option<ClusterStatus>>>>(
    within: Duration,
    to: &str,
    mut look: impl FnMut() -> Looked,
) -> Result<()> {
    let late = format!("{to} has not become the primary");
    poll::until_ok(within, LOOK_EVERY, &late, || {
        let looked = look();
        async {
            let status = looked.await?.unwrap_or_default();
            match status.settled_primary() == Some(to) {
                true => Ok(()),
                false => Err(failed(format!("{} is it", status.current_primary.as_deref().unwrap_or("none"))).into()),
            }
        }
    })
    .await
}

/// Returns how long it was until the other instance was the primary.
async fn switch(cx: &Context, from: &str, to: &str, stage: &Cell<Stage>) -> Result<Duration> {
    let (kube, namespace, cluster) = (cx.kube().await?, &cx.config.stack.namespace, cx.database().await?);
    let began = Instant::now();
    ask(cx, &cluster, from, to, stage).await?;
    cx.doing(ID, format!("{from} stops, {to} takes over"));
    let reference = database::reference(namespace, &cluster);
    let look = || async { Ok(kube.get(&reference).await?.as_ref().map(ClusterStatus::of)) };
    until_primary(CHANGES_WITHIN, to, look).await?;
    stage.set(Stage::Moved);
    let took = began.elapsed();
    cx.doing(ID, format!("{to} is the primary; {from} comes back as its standby"));
    let (objects, observer) = ([reference], progress::observer(&cx.reporter, ID));
    let waiting = wait_ready(kube, &objects, cx.deadline, &observer);
    reload::during(cx, ID, &cluster, cx.deadline, waiting).await?;
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, one_line, remedies_of};

    #[test]
    fn whatever_ends_the_wait_says_what_was_asked_and_that_the_operator_goes_on() {
        let interrupted = || Failure::new(Kind::Interrupted, "interrupted (SIGINT)").into();
        let explained = |stage: Stage| stage.explain(interrupted(), "db-1", "db-2");
        for (stage, said) in [
            (Stage::Asking, "was being asked to make db-2 the primary in the place of db-1, and may do so"),
            (Stage::Asked, "was asked to make db-2 the primary in the place of db-1, and goes on with it by itself"),
            (Stage::Moved, "db-2 is the primary, and the operator brings db-1 back as its standby by itself"),
        ] {
            let error = explained(stage);
            let line = one_line(&error);
            assert!(line.contains(said) && line.ends_with(": interrupted (SIGINT)"), "{line}");
            assert_eq!(kind_of(&error), Kind::Interrupted);
            assert!(remedies_of(&error)[0].starts_with("stackctl status"));
        }
        assert_eq!(one_line(&explained(Stage::Before)), "interrupted (SIGINT)", "nothing was asked for");
    }

    fn status(current: &str) -> ClusterStatus {
        let name = Some(current.to_owned());
        ClusterStatus { current_primary: name.clone(), target_primary: name, ..ClusterStatus::default() }
    }

    #[tokio::test]
    async fn an_api_server_that_is_away_for_a_while_does_not_end_the_wait() {
        let looks = [Ok(Some(status("db-1"))), Err(failed("away").into()), Ok(None), Ok(Some(status("db-2")))];
        let mut looks = looks.into_iter();
        until_primary(CHANGES_WITHIN, "db-2", || std::future::ready(looks.next().unwrap())).await.unwrap();
        assert!(looks.next().is_none());
    }

    #[tokio::test]
    async fn a_wait_ends_at_its_deadline_and_names_what_was_in_the_way_last() {
        let within = Duration::from_secs(1);
        let away = || async { Err(failed("the API server is away").into()) };
        let error = until_primary(within, "db-2", away).await.unwrap_err();
        assert_eq!(one_line(&error), "db-2 has not become the primary within 1 s: the API server is away");
        let error = until_primary(within, "db-2", || async { Ok(Some(status("db-1"))) }).await.unwrap_err();
        assert_eq!(one_line(&error), "db-2 has not become the primary within 1 s: db-1 is it");
        assert_eq!(kind_of(&error), Kind::Timeout);
    }
}
