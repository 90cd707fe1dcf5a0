//! One run: steady state, fault, recovery, verdict.

use std::{path::Path, time::Duration};

use anyhow::Context as _;

use super::{
    actions::{pods::node_of, restore::back_up, wait_until},
    final_state,
    journal::{DrillRecord, Journal},
    live_view::LiveView,
    model::{
        clock::Clock,
        criteria::criteria,
        events::EventKind,
        history::{Micros, Stream},
        ledger::{self, Ledger, LedgerContent},
        report::{self, Criterion, DrillRun},
        requirement::ClusterCapabilities,
        times,
        verdict::{FinalState, judge},
    },
    observer::{ObservedState, Observer, fault_is_visible, wait},
    preconditions::{DRILLABLE_WITHIN, count_streaming_standbys, ensure_drillable, quorum_is_known},
    prober::{LiveCounts, ProberPod, ProberSession, WriteSchedule, pod},
    scenarios::{RunContext, Scenario, Setup},
    target::DrillTarget,
    undo::{Undo, undo_latest_first},
};
use crate::{
    backup::Store,
    error::{Result, failed, one_line},
    poll::Tries,
    ui::{Event, PhaseId, Reporter},
};

/// The time of writes before the fault, and after recovery.
const STEADY: Duration = Duration::from_secs(6);
/// The time by which writes are acknowledged, or the fault does not come: the prober looks up its addresses first.
const FIRST_ANSWERS: Duration = Duration::from_secs(45);
/// The time by which a fault is visible in the cluster, or never is.
const FAULT_VISIBLE_TIMEOUT: Duration = Duration::from_secs(20);
/// The time by which redundancy is back, or the drill has failed.
const RECOVERY: Duration = Duration::from_secs(300);
/// The time for which redundancy must stay back.
const REDUNDANCY_HOLD: Duration = Duration::from_secs(2);
/// The phase's id in events.
const PHASE: PhaseId = PhaseId::Drill;

/// The options of a drill.
#[derive(Debug, Clone)]
pub struct DrillOptions {
    /// The writes a second in each stream.
    pub rate: f64,
    /// The longest time from the fault to the first acknowledged write that is a pass.
    pub max_rto: Option<Duration>,
}

/// Runs drills on a stack.
pub struct Runner<'a> {
    /// The stack, and where a drill's record is.
    pub journal: &'a Journal,
    /// The capabilities of the cluster.
    pub cluster: &'a ClusterCapabilities,
    /// The options of every run.
    pub options: &'a DrillOptions,
    /// The reporter that is told how it goes.
    pub reporter: &'a Reporter,
}

/// What a verdict is passed on, besides the ledger.
struct Evidence {
    /// The wall clock's time of the begin.
    began: jiff::Timestamp,
    /// The time when the writes ended.
    ended: Micros,
    /// The rows on every instance.
    state: FinalState,
    /// The largest error of the prober's times.
    clock_error: Micros,
    /// The criteria that the fault itself has checked.
    findings: Vec<Criterion>,
}

impl Runner<'_> {
    fn doing(&self, text: impl Into<String>) {
        self.reporter.send(Event::Doing { phase: PHASE, text: text.into() });
    }

    /// Runs a scenario once, under the run's name and with its ledger at `path`. The fault is undone by
    /// [`Journal::recover`], whatever the outcome.
    ///
    /// # Errors
    /// What kept the drill from being run to its end; a bad verdict is not one.
    pub async fn run(&self, scenario: &Scenario, name: &str, path: &Path) -> Result<DrillRun> {
        let (journal, target) = (self.journal, &self.journal.target);
        self.doing("checking that the stack is fit for it");
        ensure_drillable(target).await?;
        let record = DrillRecord { run: name.into(), scenario: scenario.id.into(), undo: Vec::new() };
        journal.begin(&record).await?;
        self.doing("preparing the scenario");
        let mut setup = Setup { target, cluster: self.cluster, journal, record };
        scenario.fault.prepare(&mut setup).await?;
        let primary = ensure_drillable(target).await?;
        let standbys = target.standbys(&primary).await?;

        let began = jiff::Timestamp::now();
        let clock = Clock::start();
        let ledger = Ledger::create(path, name, scenario.id)?;
        let observer = Observer::start(target, &primary, clock, ledger.clone());
        let node = node_of(target, &primary).await?;
        let context = RunContext::new(setup, name, &observer, (primary.clone(), node), standbys);
        let changes = scenario.fault.undo_plan(&context).await?;
        context.record_plan(changes).await?;
        final_state::create_table(target, &primary).await?;
        self.doing("starting the prober");
        // It stays, whether the fault takes the node or its whole zone.
        let lost = if scenario.requires.loses_a_node() { context.cluster.zone_of(&context.node) } else { Vec::new() };
        pod::start(target, &lost).await?;

        let prober =
            ProberPod { kube: target.kube.clone(), namespace: target.namespace.clone(), name: pod::NAME.into() };
        let workload = &scenario.workload;
        let schedule = WriteSchedule {
            streams: workload.streams.to_vec(),
            rate: self.options.rate,
            lead_time: workload.lead_time,
        };
        let mut session = ProberSession::start(prober, name, schedule, ledger.clone(), clock);
        let live = std::sync::Arc::clone(&session.live);
        let script = async {
            let break_and_recover = self.break_and_recover(scenario, &context, &observer, &live);
            tokio::select! {
                done = break_and_recover => done.map(|()| clock.now()),
                () = self.show_progress(&observer, &live) => Ok(clock.now()),
            }
        };
        let ended = tokio::select! {
            ended = script => ended?,
            broken = session.broken() => { broken?; clock.now() }
        };
        self.doing("waiting for the last answers");
        session.finish().await?;
        self.doing("reading every instance");
        let read = final_state::read(target, name).await.context("cannot read the rows after the drill")?;
        let (state, unreadable) = read;
        for instance in unreadable {
            context.found(&format!("{} can be read", instance.name), false, instance.why);
        }
        if scenario.expect.loses_wal {
            self.close_archive_gap().await?;
        }
        let evidence = Evidence { began, ended, state, clock_error: live.clock_error(), findings: context.findings() };
        drop(observer);
        ledger.close().await?;
        // Only what is on disk counts.
        Ok(self.evaluate(scenario, name, ledger::read(path)?, evidence))
    }

    /// Passes the verdict on a run.
    fn evaluate(&self, scenario: &Scenario, name: &str, content: LedgerContent, evidence: Evidence) -> DrillRun {
        let Evidence { began, ended, state, clock_error, findings } = evidence;
        let verdict = judge(&content.history, &state);
        let mut times = times::measure(&content.history, &content.events, ended);
        times.lost_ms = times::lost(&content.history, &verdict, times.injected_ms);
        times.holes = times::holes(&content.history, &verdict, times.injected_ms);
        let mut criteria = criteria(&scenario.expect, &verdict, &times, &content.events, self.options.max_rto);
        criteria.extend(findings);
        DrillRun {
            run: name.into(),
            scenario: scenario.id.into(),
            title: scenario.text.title.into(),
            began,
            lasted_ms: times::millis(ended),
            rate: self.options.rate,
            pass: criteria.iter().all(|criterion| criterion.ok),
            criteria,
            series: report::series(&content.history, ended),
            reasons: report::reasons(&content.history),
            verdict,
            times,
            events: content.events,
            forks: state.forks,
            clock_error_ms: times::millis(clock_error),
        }
    }

    /// Breaks the stack and sees it recover, while the writes flow.
    async fn break_and_recover(
        &self,
        scenario: &Scenario,
        context: &RunContext<'_>,
        observer: &Observer,
        live: &LiveCounts,
    ) -> Result<()> {
        let target = &self.journal.target;
        let mut seen = observer.seen.clone();
        if !wait(&mut seen, FAULT_VISIBLE_TIMEOUT, ObservedState::is_healthy).await {
            return Err(failed("the cluster is not seen healthy before the fault").into());
        }
        observer.note(EventKind::Started, format!("primary {}", context.primary));
        live.first_acknowledged(scenario.workload.streams, FIRST_ANSWERS).await?;
        tokio::time::sleep(STEADY).await;
        // The primary also strikes it out some seconds after the last instance came back, as the order of the standbys
        // in its configuration changes then. Were it lost at that moment, nobody would be promoted any more: the operator
        // leaves that to a human, and a drill would try that and not what it is about.
        let late = "the operator does not know how many standbys confirm a commit";
        wait_until(DRILLABLE_WITHIN, late, || async { quorum_is_known(target, &context.primary).await }).await?;
        let (before, before_name) = (seen.borrow().clone(), target.database.get());

        scenario.fault.inject(context).await?;
        // A fault that names no moment of its own is in by now.
        context.mark_injection(scenario.text.title);
        scenario.fault.hold(context).await?;
        fault_is_visible(&mut seen, &before, FAULT_VISIBLE_TIMEOUT).await;
        let on_undone = || observer.note(EventKind::Undone, scenario.text.undone);
        let changes = context.plan().await;
        undo_latest_first(&changes, async |change: &Undo| self.journal.undo(change).await, on_undone).await?;
        // A restored database may have taken the place of the one that was watched so far.
        let moved = (target.database.get() != before_name).then(|| observer.follow(target));
        if !wait_for_redundancy(target, moved.as_ref().unwrap_or(observer)).await {
            let detail = format!("it did not come and stay within {} s", RECOVERY.as_secs());
            context.found("full redundancy stays", false, detail);
        }
        tokio::time::sleep(STEADY).await;
        Ok(())
    }

    async fn show_progress(&self, observer: &Observer, live: &LiveCounts) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        let mut view = LiveView::default();
        loop {
            ticks.tick().await;
            let seen = observer.seen.borrow().clone();
            self.doing(view.line(&seen, Stream::ALL.map(|stream| live.counts(stream)), observer.latest()));
        }
    }

    /// Takes a base backup after a volume was destroyed: moments after it can't be restored without.
    async fn close_archive_gap(&self) -> Result<()> {
        let target = &self.journal.target;
        if Store::read(&target.kube, &target.namespace).await?.is_none() {
            return Ok(());
        }
        self.doing("taking a base backup: WAL that was on the volume only is missing in the archive");
        if let Err(error) = back_up(target).await {
            let text = format!(
                "moments after this drill cannot be restored before a base backup is taken: {}",
                one_line(&error)
            );
            self.reporter.send(Event::Warning { phase: PHASE, text });
        }
        Ok(())
    }
}

/// Waits until every instance is ready and streams, and stays so for a while; returns whether it came to that. That it
/// does not is a finding, not an error.
async fn wait_for_redundancy(target: &DrillTarget, observer: &Observer) -> bool {
    let mut seen = observer.seen.clone();
    let mut tries = Tries::within(RECOVERY, Duration::from_millis(250));
    loop {
        let healthy = wait(&mut seen, RECOVERY, ObservedState::is_healthy).await;
        let now = seen.borrow().cluster.clone();
        let primary = now.current_primary.unwrap_or_default();
        if healthy && count_streaming_standbys(target, &primary).await.unwrap_or(0) + 1 == now.wanted {
            observer.note(EventKind::RedundancyRestored, format!("{0}/{0}, primary {primary}", now.wanted));
            if !wait(&mut seen, REDUNDANCY_HOLD, |now| !now.is_healthy()).await {
                return true;
            }
            observer.note(EventKind::RedundancyLost, "an instance or its stream is gone again");
        }
        if !tries.another().await {
            observer.note(EventKind::Note, format!("no full redundancy after {} s", RECOVERY.as_secs()));
            return false;
        }
    }
}
