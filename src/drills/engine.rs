//! One run: steady state, fault, recovery, verdict.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use tokio::time::Instant;

use super::{
    clock::Clock,
    events::Kind,
    history::Stream,
    ledger::{self, Ledger},
    observer::{Observer, wait},
    pod,
    prober::{Flow, Load, Place},
    record::{self, Running},
    report::{self, Criterion, Run},
    scenarios::{Role, Scenario, Scene, cast, disturbed},
    stack::Stack,
    times::{self, Times},
    verdict::{Verdict, Wrong, judge},
};
use crate::{
    error::{Result, failed},
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
    scenario: &Scenario,
    options: &Options,
    reporter: &Reporter,
    name: &str,
    path: &Path,
) -> Result<Run> {
    let doing = |text: &str| reporter.send(UiEvent::Doing { phase: PHASE.into(), text: text.into() });
    doing("checking that the stack is fit for it");
    let primary = stack.fit().await?;
    let standbys = cast(stack, &primary).await?;

    let began = jiff::Timestamp::now();
    let clock = Clock::start();
    let ledger = Ledger::create(path, name, scenario.id)?;
    let observer = Observer::start(stack, &primary, clock, ledger.clone());
    let scene = Scene { stack, observer: &observer, primary: primary.clone(), standbys };
    let undo = (scenario.undo)(&scene).await?;
    record::write(stack, &Running { run: name.into(), scenario: scenario.id.into(), undo: undo.clone() }).await?;
    stack.prepare(&primary).await?;
    doing("starting the prober");
    pod::start(stack).await?;

    let place = Place { kube: stack.kube.clone(), namespace: stack.namespace.clone(), pod: pod::NAME.into() };
    let load = Load { streams: Stream::ALL.to_vec(), rate: options.rate, ahead: Duration::from_secs(2) };
    let mut flow = Flow::start(place, name, load, ledger.clone(), clock);
    let live = std::sync::Arc::clone(&flow.live);
    let script = async {
        let outcome = script(stack, scenario, &scene, &undo, &flow_view(&live), reporter).await;
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
    let clock_error = times::millis(live.clock_error());
    drop(observer);
    ledger.close().await?;

    // Only what is on disk counts.
    let content = ledger::read(path)?;
    let verdict = judge(&content.history, &state);
    let times = times::measure(&content.history, &content.events, ended);
    let moved = content.events.iter().any(|event| event.kind == Kind::CurrentPrimary);
    let criteria = criteria(scenario, &verdict, &times, moved, options);
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

type View<'a> = dyn Fn(&str) -> String + Sync + 'a;

fn flow_view(live: &super::prober::Live) -> impl Fn(&str) -> String + Sync {
    move |what| {
        let (sql, http) = (live.counts(Stream::Sql), live.counts(Stream::Http));
        format!("{what}: SQL {} written, {} failed; HTTP {} written, {} failed", sql.0, sql.1, http.0, http.1)
    }
}

/// What happens while the writes flow.
async fn script(
    stack: &Stack,
    scenario: &Scenario,
    scene: &Scene<'_>,
    undo: &[record::Undo],
    view: &View<'_>,
    reporter: &Reporter,
) -> Result<()> {
    let ticking = tick(scene, view, reporter);
    let acting = async {
        let observer = scene.observer;
        let mut seen = observer.seen.clone();
        if !wait(&mut seen, NOTICE, super::observer::Seen::healthy).await {
            return Err(failed("the cluster is not seen healthy before the fault").into());
        }
        observer.note(Kind::Started, format!("primary {}", scene.primary));
        tokio::time::sleep(STEADY).await;
        let before = seen.borrow().clone();

        let what = (scenario.inject)(scene).await?;
        observer.note(Kind::Injected, &what);
        (scenario.then)(scene).await?;
        disturbed(&mut seen, &before, NOTICE).await;
        for change in undo.iter().rev() {
            record::one(stack, change).await?;
            observer.note(Kind::Undone, scenario.undone);
        }
        recovered(stack, observer).await?;
        tokio::time::sleep(STEADY).await;
        anyhow::Ok(())
    };
    tokio::select! {
        done = acting => done,
        () = ticking => Ok(()),
    }
}

async fn tick(scene: &Scene<'_>, view: &View<'_>, reporter: &Reporter) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        let seen = scene.observer.seen.borrow().clone();
        let what = format!("primary {}, {}/{} ready", seen.current_primary, seen.ready, seen.wanted);
        reporter.send(UiEvent::Doing { phase: PHASE.into(), text: view(&what) });
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

fn criteria(scenario: &Scenario, verdict: &Verdict, times: &Times, moved: bool, options: &Options) -> Vec<Criterion> {
    let counted = |wrong: &[Wrong]| wrong.iter().map(|wrong| verdict.count(*wrong)).sum::<usize>();
    let criterion = |name: &str, ok, detail: String| Criterion { name: name.into(), ok, detail };
    let acknowledged = verdict.sql.acknowledged + verdict.http.acknowledged;
    let lost = counted(&[Wrong::Lost]);
    let mut all = Vec::new();
    if scenario.control {
        // Here the stack is made to lose; what is tried is the checker.
        all.push(criterion(
            "the checker finds the loss",
            lost > 0,
            format!("{lost} findings, {acknowledged} acknowledged"),
        ));
        return all;
    }
    all.push(criterion(
        "nothing acknowledged is lost",
        lost == 0,
        format!("{acknowledged} acknowledged, {lost} findings"),
    ));
    let others = [Wrong::Phantom, Wrong::Doubled, Wrong::Foreign, Wrong::Divergent];
    let detail = others.map(|wrong| format!("{} {}", verdict.count(wrong), wrong.title())).join(", ");
    all.push(criterion("nothing is stored that should not be", counted(&others) == 0, detail));
    let split = counted(&[Wrong::SplitBrain, Wrong::BeyondFork]);
    let late = verdict.late_acknowledgements;
    all.push(criterion("one primary at a time", split == 0, format!("{split} findings, {late} late answers")));
    all.push(criterion(
        "there is evidence",
        verdict.count(Wrong::NoEvidence) == 0,
        format!("{} SQL and {} HTTP writes attempted", verdict.sql.attempted, verdict.http.attempted),
    ));
    let redundancy = times.redundancy_ms.map_or("it never was".to_owned(), |ms| format!("after {:.1} s", ms / 1000.0));
    all.push(criterion("full redundancy is back", times.redundancy_ms.is_some(), redundancy));
    for interruption in &times.interruptions {
        let stream = interruption.stream;
        let recovery = interruption.recovery_ms;
        let detail = recovery.map_or("never".to_owned(), |ms| format!("{:.2} s after the fault", ms / 1000.0));
        let limit = options.max_rto.map_or(f64::INFINITY, |limit| limit.as_secs_f64() * 1000.0);
        let name = match options.max_rto {
            Some(limit) => format!("{stream} writes resume within {limit:?}"),
            None => format!("{stream} writes resume"),
        };
        all.push(criterion(&name, recovery.is_some_and(|ms| ms <= limit), detail));
    }
    let detail = if moved { "it moved" } else { "it stayed" };
    match scenario.role {
        Role::Moves => all.push(criterion("a standby becomes the primary", moved, detail.into())),
        Role::Stays => all.push(criterion("the primary stays", !moved, detail.into())),
        Role::Either => {}
    }
    all
}
