//! One run: steady state, fault, recovery, verdict.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use tokio::time::Instant;

use super::{
    actions::switchover::{cast, disturbed, node_of, poll},
    journal::cluster::{self as record, Running},
    live_view::View,
    model::{
        clock::Clock,
        criteria::criteria,
        events::Kind,
        history::Stream,
        ledger::{self, Ledger},
        report::{self, Run},
        requirement::Ground,
        times,
        verdict::judge,
    },
    observer::{Observer, wait},
    pod,
    prober::{Flow, Live, Place},
    scenarios::{Scenario, Scene, Stage},
    schedule::Load,
    target::{SETTLE, Stack},
    undo::{self, Undo},
};
use crate::{
    backup::Store,
    error::{Result, failed, one_line},
    ui::{Event as UiEvent, Reporter},
};

/// Writes before the fault, and after recovery.
const STEADY: Duration = Duration::from_secs(6);
/// By then a fault is noticed, or never is.
const NOTICE: Duration = Duration::from_secs(20);
/// By then redundancy is back, or the drill has failed.
const RECOVERY: Duration = Duration::from_secs(300);
/// It must stay back for this long.
const STABLE: Duration = Duration::from_secs(2);

/// How a drill is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Writes a second in each stream.
    pub rate: f64,
    /// The longest time from the fault to the first acknowledged write that is a pass.
    pub max_rto: Option<Duration>,
}

/// The phase's id in events.
const PHASE: &str = "drill";

/// Runs a scenario once. The fault is undone by [`record::recover`], whatever the outcome.
///
/// # Errors
/// What kept the drill from being run to its end; a bad verdict is not one.
pub async fn run(
    stack: &Stack,
    ground: &Ground,
    scenario: &Scenario,
    options: &Options,
    reporter: &Reporter,
    name: &str,
    path: &Path,
) -> Result<Run> {
    let doing = |text: &str| reporter.send(UiEvent::Doing { phase: PHASE.into(), text: text.into() });
    doing("checking that the stack is fit for it");
    stack.fit().await?;
    let running = Running { run: name.into(), scenario: scenario.id.into(), undo: Vec::new() };
    record::write(stack, &running).await?;
    doing("preparing the scenario");
    let mut stage = Stage { stack, ground, running };
    (scenario.prepare)(&mut stage).await?;
    let primary = stack.fit().await?;
    let standbys = cast(stack, &primary).await?;

    let began = jiff::Timestamp::now();
    let clock = Clock::start();
    let ledger = Ledger::create(path, name, scenario.id)?;
    let observer = Observer::start(stack, &primary, clock, ledger.clone());
    let node = node_of(stack, &primary).await?;
    let found = std::sync::Mutex::default();
    let scene =
        Scene { run: name, stack, ground, observer: &observer, primary: primary.clone(), node, standbys, found };
    let undo = (scenario.undo)(&scene).await?;
    record::add(stack, &mut stage.running, undo.clone()).await?;
    stack.prepare(&primary).await?;
    doing("starting the prober");
    pod::start(stack, scenario.needs.takes_a_node().then_some(scene.node.as_str())).await?;

    let place = Place { kube: stack.kube.clone(), namespace: stack.namespace.clone(), pod: pod::NAME.into() };
    let load = Load { streams: scenario.streams.to_vec(), rate: options.rate, ahead: scenario.ahead };
    let mut flow = Flow::start(place, name, load, ledger.clone(), clock);
    let live = std::sync::Arc::clone(&flow.live);
    let script = async {
        let outcome = script(stack, scenario, &scene, &undo, &live, reporter).await;
        outcome.map(|()| clock.now())
    };
    let ended = tokio::select! {
        ended = script => ended?,
        broken = flow.broken() => { broken?; clock.now() }
    };
    doing("waiting for the last answers");
    flow.finish().await?;
    doing("reading every instance");
    let state = stack.read(name).await.context("cannot read the rows after the drill")?;
    if scenario.loses_log && Store::read(&stack.kube, &stack.namespace).await?.is_some() {
        doing("taking a base backup: log that was on the volume only is missing in the archive");
        if let Err(error) = stack.back_up().await {
            let text = format!(
                "moments after this drill cannot be restored before a base backup is taken: {}",
                one_line(&error)
            );
            reporter.send(UiEvent::Warning { phase: PHASE.into(), text });
        }
    }
    let clock_error = times::millis(live.clock_error());
    let findings = scene.findings();
    drop(observer);
    ledger.close().await?;

    // Only what is on disk counts.
    let content = ledger::read(path)?;
    let verdict = judge(&content.history, &state);
    let mut times = times::measure(&content.history, &content.events, ended);
    times.lost_ms = times::lost(&content.history, &verdict, times.injected_ms);
    let mut criteria = criteria(scenario, &verdict, &times, &content.events, options.max_rto);
    criteria.extend(findings);
    Ok(Run {
        run: name.into(),
        scenario: scenario.id.into(),
        title: scenario.title.into(),
        began,
        lasted_ms: times::millis(ended),
        rate: options.rate,
        pass: criteria.iter().all(|criterion| criterion.ok),
        criteria,
        series: report::series(&content.history, ended),
        reasons: report::reasons(&content.history),
        verdict,
        times,
        events: content.events,
        forks: state.forks,
        clock_error_ms: clock_error,
    })
}

/// What happens while the writes flow.
async fn script(
    stack: &Stack,
    scenario: &Scenario,
    scene: &Scene<'_>,
    changes: &[Undo],
    live: &Live,
    reporter: &Reporter,
) -> Result<()> {
    let ticking = tick(scene, live, reporter);
    let acting = async {
        let observer = scene.observer;
        let mut seen = observer.seen.clone();
        if !wait(&mut seen, NOTICE, super::observer::Seen::healthy).await {
            return Err(failed("the cluster is not seen healthy before the fault").into());
        }
        observer.note(Kind::Started, format!("primary {}", scene.primary));
        tokio::time::sleep(STEADY).await;
        // The primary also strikes it out some seconds after the last instance came back, as the order of the standbys
        // in its configuration changes then. Were it lost at that moment, nobody would be promoted any more: the operator
        // leaves that to a human, and a drill would try that and not what it is about.
        let late = "the operator does not know how many standbys confirm a commit";
        poll(SETTLE, late, async || stack.quorum_is_known(&scene.primary).await).await?;
        let (before, before_name) = (seen.borrow().clone(), stack.database.get());

        let what = (scenario.inject)(scene).await?;
        observer.note(Kind::Injected, &what);
        (scenario.then)(scene).await?;
        disturbed(&mut seen, &before, NOTICE).await;
        for change in changes.iter().rev() {
            undo::one(stack, change).await?;
            observer.note(Kind::Undone, scenario.undone);
        }
        // A restored database may have taken the place of the one that was watched so far.
        let moved = (stack.database.get() != before_name).then(|| observer.follow(stack));
        recovered(stack, moved.as_ref().unwrap_or(observer)).await?;
        tokio::time::sleep(STEADY).await;
        anyhow::Ok(())
    };
    tokio::select! {
        done = acting => done,
        () = ticking => Ok(()),
    }
}

async fn tick(scene: &Scene<'_>, live: &Live, reporter: &Reporter) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut view = View::default();
    loop {
        ticks.tick().await;
        let seen = scene.observer.seen.borrow().clone();
        let text = view.line(&seen, Stream::ALL.map(|stream| live.counts(stream)), scene.observer.latest());
        reporter.send(UiEvent::Doing { phase: PHASE.into(), text });
    }
}

/// Waits until every instance is ready and streams, and stays so for a while. That it does not is a finding,
/// not an error.
async fn recovered(stack: &Stack, observer: &Observer) -> Result<()> {
    let deadline = Instant::now() + RECOVERY;
    let mut seen = observer.seen.clone();
    while Instant::now() < deadline {
        if !wait(&mut seen, deadline - Instant::now(), super::observer::Seen::healthy).await {
            break;
        }
        let now = seen.borrow().clone();
        let streaming = stack.streaming(&now.current_primary).await.unwrap_or(0);
        if streaming + 1 != now.wanted {
            tokio::time::sleep(Duration::from_millis(250)).await;
            continue;
        }
        observer.note(Kind::RedundancyRestored, format!("{0}/{0}, primary {1}", now.wanted, now.current_primary));
        if !wait(&mut seen, STABLE, |now| !now.healthy()).await {
            return Ok(());
        }
    }
    observer.note(Kind::Note, format!("no full redundancy after {} s", RECOVERY.as_secs()));
    Ok(())
}
