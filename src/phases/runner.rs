//! Runs phases in the order that they ask for, independent ones side by side.

use std::{collections::HashSet, time::Instant};

use anyhow::Context as _;
use futures::stream::{FuturesUnordered, StreamExt};

use super::{Need, Phase, cluster};
use crate::{
    context::Context,
    error::{self, Result},
    ui::{Event, PhaseId},
};

/// Runs all of them. The first failure ends the whole run: what runs beside it is dropped (and with it
/// the processes that it started), what has not begun does not begin.
///
/// # Errors
/// The first phase's error, with the phase's title in front.
pub async fn run(cx: &Context, phases: &[Box<dyn Phase>]) -> Result<()> {
    let mut done: HashSet<PhaseId> = HashSet::new();
    let mut begun: HashSet<PhaseId> = HashSet::new();
    let mut running = FuturesUnordered::new();
    loop {
        for phase in phases {
            // A phase that is left out of this run counts as done: the order of the rest still holds.
            let ready =
                phase.after().iter().all(|id| done.contains(id) || !phases.iter().any(|other| other.id() == *id));
            if ready && begun.insert(phase.id()) {
                running.push(one(cx, phase.as_ref()));
            }
        }
        match running.next().await {
            Some(Ok(id)) => done.insert(id),
            Some(Err(error)) => return Err(error),
            None if begun.len() == phases.len() => return Ok(()),
            None => {
                let stuck = phases.iter().map(|p| p.id()).filter(|id| !begun.contains(id));
                let stuck: Vec<_> = stuck.map(PhaseId::name).collect();
                return Err(error::failed(format!("phases wait for each other: {}", stuck.join(", "))).into());
            }
        };
    }
}

async fn one(cx: &Context, phase: &dyn Phase) -> Result<PhaseId> {
    let (id, title) = (phase.id(), phase.title());
    let began = Instant::now();
    let outcome = async {
        if let Need::Skip(reason) = phase.needed(cx).await? {
            return Ok(Err(reason));
        }
        cx.reporter.send(Event::PhaseStarted { phase: id, title: title.clone() });
        phase.run(cx).await.map(Ok)
    }
    .await;
    match outcome {
        Ok(Ok(outcome)) => {
            cx.reporter.send(Event::phase_ended(id, &title, Ok(outcome), began.elapsed()));
            Ok(id)
        }
        Ok(Err(reason)) => {
            cx.reporter.send(Event::PhaseSkipped { phase: id, title, reason });
            Ok(id)
        }
        Err(error) => {
            cx.reporter.send(Event::phase_ended(id, &title, Err(&error), began.elapsed()));
            Err(error).with_context(|| format!("{title} failed"))
        }
    }
}

/// Shows what [`run`] would do, in order, changing nothing.
///
/// # Errors
/// The first phase's error in making its plan.
pub async fn plan(cx: &Context, phases: &[Box<dyn Phase>]) -> Result<()> {
    // Where the cluster is still to be made there is nobody to ask what it lacks: everything.
    let mut no_cluster = false;
    for phase in phases {
        let need = if no_cluster { Need::Run } else { phase.needed(cx).await? };
        if phase.id() == cluster::ID {
            no_cluster = need == Need::Run;
            // Which database the manifests are about; a cluster that does not answer is told by the steps themselves.
            if !no_cluster && cx.inventory().await.is_err() {
                tracing::debug!("the inventory cannot be read: the plan is that of a new stack");
            }
        }
        let steps = match need {
            Need::Skip(reason) => vec![format!("nothing: {reason}")],
            Need::Run => phase.plan(cx).await?,
        };
        cx.reporter.send(Event::Plan { phase: phase.id(), title: phase.title(), steps });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::future::LocalBoxFuture;

    use super::*;
    use crate::ui::Reporter;

    const A: PhaseId = PhaseId::Operator;
    const B: PhaseId = PhaseId::Backup;
    const C: PhaseId = PhaseId::Database;

    struct Fake {
        id: PhaseId,
        after: &'static [PhaseId],
        log: Arc<Mutex<Vec<String>>>,
        fails: bool,
        skip: bool,
        unreachable: bool,
    }

    impl Phase for Fake {
        fn id(&self) -> PhaseId {
            self.id
        }
        fn title(&self) -> String {
            format!("the {}", self.id)
        }
        fn after(&self) -> &'static [PhaseId] {
            self.after
        }
        fn needed<'a>(&'a self, _: &'a Context) -> LocalBoxFuture<'a, Result<Need>> {
            Box::pin(async {
                anyhow::ensure!(!self.unreachable, "there is no cluster to ask");
                Ok(if self.skip { Need::Skip("it is there".into()) } else { Need::Run })
            })
        }
        fn run<'a>(&'a self, _: &'a Context) -> LocalBoxFuture<'a, Result<String>> {
            Box::pin(async {
                self.log.lock().unwrap().push(format!("+{}", self.id));
                tokio::task::yield_now().await;
                if self.fails {
                    anyhow::bail!("no luck");
                }
                self.log.lock().unwrap().push(format!("-{}", self.id));
                Ok("fine".into())
            })
        }
        fn plan<'a>(&'a self, _: &'a Context) -> LocalBoxFuture<'a, Result<Vec<String>>> {
            Box::pin(async { Ok(vec![format!("do {}", self.id)]) })
        }
    }

    type Log = Arc<Mutex<Vec<String>>>;

    fn fake(log: &Log, id: PhaseId, after: &'static [PhaseId]) -> Fake {
        Fake { id, after, log: log.clone(), fails: false, skip: false, unreachable: false }
    }

    fn at(log: &[String], entry: &str) -> usize {
        log.iter().position(|e| e == entry).unwrap_or_else(|| panic!("{entry} in {log:?}"))
    }

    #[tokio::test]
    async fn independent_phases_run_side_by_side_and_dependent_ones_wait() {
        let log = Log::default();
        let phases: Vec<Box<dyn Phase>> =
            vec![Box::new(fake(&log, C, &[A, B])), Box::new(fake(&log, A, &[])), Box::new(fake(&log, B, &[]))];
        run(&Context::for_tests(Reporter::discard()), &phases).await.unwrap();
        let log = log.lock().unwrap();
        assert!(at(&log, "+backup") < at(&log, "-operator"), "{log:?}");
        assert!(
            at(&log, "-operator") < at(&log, "+database") && at(&log, "-backup") < at(&log, "+database"),
            "{log:?}"
        );
    }

    #[tokio::test]
    async fn a_failure_ends_the_run_and_names_the_phase() {
        let log = Log::default();
        let phases: Vec<Box<dyn Phase>> =
            vec![Box::new(Fake { fails: true, ..fake(&log, A, &[]) }), Box::new(fake(&log, B, &[A]))];
        let error = run(&Context::for_tests(Reporter::discard()), &phases).await.unwrap_err();
        assert_eq!(error::one_line(&error), "the operator failed: no luck");
        assert!(!log.lock().unwrap().contains(&"+backup".to_owned()));
    }

    #[tokio::test]
    async fn a_skipped_phase_counts_as_done() {
        let log = Log::default();
        let phases: Vec<Box<dyn Phase>> =
            vec![Box::new(Fake { skip: true, ..fake(&log, A, &[]) }), Box::new(fake(&log, B, &[A]))];
        run(&Context::for_tests(Reporter::discard()), &phases).await.unwrap();
        assert_eq!(*log.lock().unwrap(), ["+backup", "-backup"]);
    }

    #[tokio::test]
    async fn phases_that_wait_for_each_other_are_an_error() {
        let log = Log::default();
        let phases: Vec<Box<dyn Phase>> = vec![Box::new(fake(&log, A, &[B])), Box::new(fake(&log, B, &[A]))];
        let error = run(&Context::for_tests(Reporter::discard()), &phases).await.unwrap_err();
        assert_eq!(error::one_line(&error), "phases wait for each other: operator, backup");
    }

    #[tokio::test]
    async fn nobody_asks_a_cluster_that_is_still_to_be_made() {
        let log = Log::default();
        let claim = || Fake { unreachable: true, ..fake(&log, PhaseId::Claim, &[PhaseId::Cluster]) };
        let cx = Context::for_tests(Reporter::discard());
        plan(&cx, &[Box::new(fake(&log, PhaseId::Cluster, &[])), Box::new(claim())]).await.unwrap();
        let there = Fake { skip: true, ..fake(&log, PhaseId::Cluster, &[]) };
        assert!(plan(&cx, &[Box::new(there), Box::new(claim())]).await.is_err());
    }
}
