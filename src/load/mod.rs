//! Load on the web app, and how the autoscaler answers it.
//!
//! A pod of the web app's own image ([`sender`]) sends requests from inside the cluster through the Service, at a
//! fixed rate: a port-forward would lead to one pod, and measure the API server. Its log has a report of each second
//! ([`sender_report`]). Meanwhile [`autoscaler`] watches how many pods there are. After the load a trickle goes on
//! until the additional pods are gone, so that a request which fails because its pod ends is seen.
//!
//! The users that are registered have addresses at `load.invalid`: [`registered_users`] removes them afterwards, and
//! those of a run that crashed before the next one. The pod of such a run ends by itself.

mod autoscaler;
mod preconditions;
mod registered_users;
pub mod report;
mod sender;
mod sender_report;

use std::time::{Duration, Instant};

use stackctl_protocol::load::{SenderReport, Stage};
use tokio::sync::watch;

pub use preconditions::ensure_sendable;
pub use report::LoadReport;

use crate::{
    context::Context,
    error::{Result, failed},
    ui::{Event, PhaseId},
};
use autoscaler::AutoscalerState;
use report::PodCountChange;
use sender::Sender;
use sender_report::milliseconds;

/// The phase that the events of a load have.
pub const PHASE: PhaseId = PhaseId::Load;
/// The trickle's share of the load's rate.
const TAIL_SHARE: f64 = 0.05;
/// The time within which the autoscaler must take the additional pods away: its own rules need five minutes for ten.
const SCALE_DOWN: Duration = Duration::from_secs(600);
/// The time after which a sender that reports nothing is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// The plan of a load.
#[derive(Debug, Clone)]
pub struct LoadPlan {
    /// Requests a second.
    pub rate: f64,
    /// The load's length.
    pub lasts: Duration,
    /// Users at the same time at most.
    pub users: u32,
    /// Whether to wait for the additional pods to go, with a trickle.
    pub scale_down: bool,
}

impl LoadPlan {
    /// The requests a second of the trickle.
    fn tail_rate(&self) -> f64 {
        (self.rate * TAIL_SHARE).max(1.0)
    }

    /// The length of the trickle at most.
    fn tail(&self) -> Duration {
        if self.scale_down { SCALE_DOWN } else { Duration::ZERO }
    }
}

/// The record of what is known so far; the report is made of it, also when the run is interrupted.
#[derive(Debug, Default)]
pub struct LoadRecord {
    last: Option<SenderReport>,
    changes: Vec<PodCountChange>,
}

/// Sends the load and watches; `record` is filled as it goes.
///
/// # Errors
/// The sender does not run or ends too early, or the API server refuses.
pub async fn run(cx: &Context, plan: &LoadPlan, record: &mut LoadRecord) -> Result<()> {
    let kube = cx.kube().await?;
    let namespace = &cx.config.stack.namespace;
    // What a run that crashed has left.
    registered_users::remove(kube, namespace, &cx.database().await?).await?;
    cx.reporter.send(Event::PhaseStarted { phase: PHASE, title: "Starting the sender".into() });
    let mut sender = Sender::start(cx, plan).await?;
    let mut scaling = autoscaler::watch(kube, namespace);
    autoscaler::wait_until_seen(&mut scaling.now).await?;
    let title =
        format!("Load: {} requests a second for {} s, {} users at most", plan.rate, plan.lasts.as_secs(), plan.users);
    cx.reporter.send(Event::PhaseStarted { phase: PHASE, title });
    let mut reports = sender.reports();
    let mut began = None;
    let mut stage = Stage::Load;
    loop {
        let report = tokio::select! {
            report = tokio::time::timeout(SILENCE, reports.recv()) => report,
            changed = scaling.now.changed() => {
                changed?;
                record_change(cx, began, &scaling.now, record);
                if stage == Stage::Tail && is_scaled_back(&scaling.now, record) {
                    break;
                }
                continue;
            }
        };
        let Ok(Some(report)) = report else { return Err(sender.explain_loss().await) };
        // A report comes at a whole second of the sender's clock, and some time later here: the earliest one counts.
        let start = Instant::now().checked_sub(Duration::from_secs(report.second)).unwrap_or_else(Instant::now);
        let first = began.is_none();
        began = Some(began.map_or(start, |known: Instant| known.min(start)));
        if first {
            record_change(cx, began, &scaling.now, record);
        }
        show_progress(cx, &report, &scaling.now.borrow());
        let (ended, now) = (report.ended, report.stage);
        record.last = Some(report);
        if ended {
            break;
        }
        if stage == Stage::Load && now == Stage::Tail {
            stage = now;
            if !plan.scale_down || is_scaled_back(&scaling.now, record) {
                break;
            }
            let rate = plan.tail_rate();
            let title = format!("Scaling back: {rate} requests a second until the additional pods are gone");
            cx.reporter.send(Event::PhaseStarted { phase: PHASE, title });
        }
    }
    // Its last words have the answers that were still under way.
    if let Some(last) = sender.end(&mut reports).await? {
        record.last = Some(last);
    }
    Ok(())
}

/// Removes the sender and the users that it has registered; it is to be called on every way out.
///
/// # Errors
/// The API server refuses, or the database has no primary.
pub async fn clean_up(cx: &Context) -> Result<u64> {
    let kube = cx.kube().await?;
    let namespace = &cx.config.stack.namespace;
    sender::remove(kube, namespace).await?;
    registered_users::remove(kube, namespace, &cx.database().await?).await
}

/// Tells whether there are as many pods as before the load, and no more are wanted.
fn is_scaled_back(now: &watch::Receiver<AutoscalerState>, record: &LoadRecord) -> bool {
    let now = now.borrow();
    let before = record.changes.first().map_or(now.least, |first| first.ready);
    now.wanted <= before && now.ready <= before
}

/// Writes down how many pods are wanted and ready, if that has changed.
fn record_change(
    cx: &Context,
    began: Option<Instant>,
    now: &watch::Receiver<AutoscalerState>,
    record: &mut LoadRecord,
) {
    let Some(began) = began else { return };
    let now = *now.borrow();
    let change =
        PodCountChange { at: began.elapsed().as_secs_f64(), wanted: now.wanted, ready: now.ready, cpu: now.cpu };
    let new = record.changes.last().is_none_or(|last| (last.wanted, last.ready) != (now.wanted, now.ready));
    if let (true, Some(last)) = (new, record.changes.last()) {
        cx.reporter.send(autoscaler::pod_count_event(now, last.ready));
    }
    if new {
        record.changes.push(change);
    }
}

fn show_progress(cx: &Context, report: &SenderReport, pods: &AutoscalerState) {
    let text = format!("{}; {}", sender_report::text(report), pods.text());
    let values = serde_json::json!({
        "second": report.second, "stage": report.stage, "answered": report.now.answered, "failed": report.now.failed,
        "p50_ms": milliseconds(report.now.p50), "p99_ms": milliseconds(report.now.p99), "busy": report.busy,
        "waiting": report.waiting, "wanted": pods.wanted, "ready": pods.ready, "cpu_percent": pods.cpu,
        "target_percent": pods.target,
    });
    cx.reporter.send(Event::Measured { phase: PHASE, text, values });
}

impl LoadRecord {
    /// The report; `None` when no request was sent.
    pub fn report(self, target: String, plan: &LoadPlan) -> Option<LoadReport> {
        Some(LoadReport::new(target, plan, self.last?, self.changes))
    }
}

/// Makes sure that every request was answered: a load of which requests failed is no success, though it ran as planned.
///
/// # Errors
/// Requests failed; with how many, and the remedy.
pub fn ensure_no_failures(report: &LoadReport) -> Result<()> {
    let failures = report.failed();
    if failures == 0 {
        return Ok(());
    }
    let failure = failed(format!("{failures} of {} requests failed", report.requests()));
    Err(failure.remedy("a lower --rate or more --users, if the app could not keep up").into())
}
