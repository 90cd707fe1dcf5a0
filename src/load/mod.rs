//! Load on the web app, and how the autoscaler answers it.
//!
//! A pod of the web app's own image ([`sender`]) sends requests from inside the cluster through the Service, at a
//! fixed rate: a port-forward would lead to one pod, and measure the API server. Its log tells each second what
//! came of them. Meanwhile [`scale`] watches the autoscaler. After the load a trickle goes on until the
//! additional pods are gone, so that a request which fails because its pod ends is seen.
//!
//! The users that are registered have addresses at `load.invalid`: [`rows`] removes them afterwards, and those
//! of a run that crashed before the next one. The pod of such a run ends by itself.

mod fit;
pub mod report;
mod rows;
mod scale;
mod sender;
mod told;

use std::time::{Duration, Instant};

use tokio::sync::watch;

pub use fit::check;
pub use report::Report;

use crate::{
    context::Context,
    error::{Result, failed},
    ui::{Event, PhaseId},
};
use report::Change;
use scale::Seen;
use sender::Sender;
use told::{Stage, Told};

/// The phase of its events.
pub const PHASE: PhaseId = PhaseId::Load;
/// The trickle's share of the load's rate.
const TRICKLE: f64 = 0.05;
/// How long the autoscaler may take to take the additional pods away: its own rules need five minutes for ten.
const SCALE_DOWN: Duration = Duration::from_secs(600);
/// A sender that tells nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// What to send.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Requests a second.
    pub rate: f64,
    /// For how long.
    pub lasts: Duration,
    /// Users at the same time at most.
    pub users: u32,
    /// Wait for the additional pods to go, with a trickle.
    pub scale_down: bool,
}

impl Plan {
    /// Requests a second while the additional pods go.
    fn trickle(&self) -> f64 {
        (self.rate * TRICKLE).max(1.0)
    }

    /// For how long there may be a trickle.
    fn tail(&self) -> Duration {
        if self.scale_down { SCALE_DOWN } else { Duration::ZERO }
    }
}

/// What is known so far; the report is made of it, also when the run is interrupted.
#[derive(Debug, Default)]
pub struct Record {
    last: Option<Told>,
    changes: Vec<Change>,
}

/// Sends the load and watches; `record` is filled as it goes.
///
/// # Errors
/// The sender does not run or ends too early, or the API server refuses.
pub async fn run(cx: &Context, plan: &Plan, record: &mut Record) -> Result<()> {
    let kube = cx.kube().await?;
    let namespace = &cx.config.stack.namespace;
    // What a run that crashed has left.
    rows::remove(kube, namespace, &cx.database().await?).await?;
    cx.reporter.send(Event::PhaseStarted { phase: PHASE, title: "Starting the sender".into() });
    let mut sender = Sender::start(cx, plan).await?;
    let mut seen = scale::watch(kube, namespace);
    scale::known(&mut seen.now).await?;
    let title =
        format!("Load: {} requests a second for {} s, {} users at most", plan.rate, plan.lasts.as_secs(), plan.users);
    cx.reporter.send(Event::PhaseStarted { phase: PHASE, title });
    let mut lines = sender.told();
    let mut began = None;
    let mut stage = Stage::Load;
    loop {
        let told = tokio::select! {
            told = tokio::time::timeout(SILENCE, lines.recv()) => told,
            changed = seen.now.changed() => {
                changed?;
                note(cx, began, &seen.now, record);
                if stage == Stage::Tail && settled(&seen.now, record) {
                    break;
                }
                continue;
            }
        };
        let Ok(Some(told)) = told else { return Err(sender.lost().await) };
        // A line comes at a whole second of the sender's clock, and some time later here: the earliest one counts.
        let start = Instant::now().checked_sub(Duration::from_secs(told.second)).unwrap_or_else(Instant::now);
        let first = began.is_none();
        began = Some(began.map_or(start, |known: Instant| known.min(start)));
        if first {
            note(cx, began, &seen.now, record);
        }
        tell(cx, &told, &seen.now.borrow());
        let (ended, now) = (told.ended, told.stage);
        record.last = Some(told);
        if ended {
            break;
        }
        if stage == Stage::Load && now == Stage::Tail {
            stage = now;
            if !plan.scale_down || settled(&seen.now, record) {
                break;
            }
            let trickle = plan.trickle();
            let title = format!("Scaling back: {trickle} requests a second until the additional pods are gone");
            cx.reporter.send(Event::PhaseStarted { phase: PHASE, title });
        }
    }
    // Its last words have the answers that were still under way.
    if let Some(last) = sender.end(&mut lines).await? {
        record.last = Some(last);
    }
    Ok(())
}

/// Removes the sender and the users that it has registered; to be called on every way out.
///
/// # Errors
/// The API server refuses, or the database has no primary.
pub async fn clean(cx: &Context) -> Result<u64> {
    let kube = cx.kube().await?;
    let namespace = &cx.config.stack.namespace;
    sender::remove(kube, namespace).await?;
    rows::remove(kube, namespace, &cx.database().await?).await
}

/// Whether there are as many pods as before the load, and no more are wanted.
fn settled(now: &watch::Receiver<Seen>, record: &Record) -> bool {
    let now = now.borrow();
    let before = record.changes.first().map_or(now.least, |first| first.ready);
    now.wanted <= before && now.ready <= before
}

/// Writes down how many pods are wanted and ready, if that has changed.
fn note(cx: &Context, began: Option<Instant>, now: &watch::Receiver<Seen>, record: &mut Record) {
    let Some(began) = began else { return };
    let now = *now.borrow();
    let change = Change { at: began.elapsed().as_secs_f64(), wanted: now.wanted, ready: now.ready, cpu: now.cpu };
    let new = record.changes.last().is_none_or(|last| (last.wanted, last.ready) != (now.wanted, now.ready));
    if let (true, Some(last)) = (new, record.changes.last()) {
        cx.reporter.send(scale::event(now, last.ready));
    }
    if new {
        record.changes.push(change);
    }
}

fn tell(cx: &Context, told: &Told, seen: &Seen) {
    let text = format!("{}; {}", told.text(), seen.text());
    let values = serde_json::json!({
        "second": told.second, "stage": told.stage, "answered": told.now.answered, "failed": told.now.failed,
        "p50_ms": told.now.p50_ms(), "p99_ms": told.now.p99_ms(), "busy": told.busy, "waiting": told.waiting,
        "wanted": seen.wanted, "ready": seen.ready, "cpu_percent": seen.cpu, "target_percent": seen.target,
    });
    cx.reporter.send(Event::Measured { phase: PHASE, text, values });
}

impl Record {
    /// The report; `None` when no request was sent.
    pub fn report(self, target: String, plan: &Plan) -> Option<Report> {
        Some(Report::new(target, plan, self.last?, self.changes))
    }
}

/// A result that is no success though all went as planned: requests failed.
///
/// # Errors
/// That, with how many and the remedy.
pub fn verdict(report: &Report) -> Result<()> {
    let failures = report.failed();
    if failures == 0 {
        return Ok(());
    }
    let failure = failed(format!("{failures} of {} requests failed", report.requests()));
    Err(failure.remedy("a lower --rate or more --users, if the app could not keep up").into())
}
