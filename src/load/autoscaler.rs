//! The autoscaler and the Deployment, watched: how many pods there are and should be.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::api::{apps::v1::Deployment, autoscaling::v2::HorizontalPodAutoscaler};
use kube::{
    Api,
    runtime::{WatchStreamExt as _, watcher::watch_object},
};
use tokio::{sync::watch, task::JoinSet};

use super::PHASE;
use crate::{
    error::{Result, timed_out},
    kube::{Kube, cpu_percent},
    names::WEB,
    ui::{Event, State},
};

/// The time within which both must be seen first: a request each.
const FIRST_LOOK: Duration = Duration::from_secs(20);

/// The state of the autoscaler and of the pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AutoscalerState {
    /// Pods that the autoscaler wants.
    pub wanted: i32,
    /// Pods that it wants at least.
    pub least: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// The CPU that they use on average, in percent of what they request.
    pub cpu: Option<i32>,
    /// The CPU that they should use.
    pub target: Option<i32>,
}

impl AutoscalerState {
    /// The state in words.
    pub fn text(&self) -> String {
        let percent = |value: Option<i32>| value.map_or_else(|| "?".into(), |value| value.to_string());
        let (cpu, target) = (percent(self.cpu), percent(self.target));
        format!("CPU {cpu} % of {target} %, {} pods wanted, {} ready", self.wanted, self.ready)
    }
}

/// A watch over both, which ends when it is dropped.
pub struct AutoscalerWatch {
    /// The state now.
    pub now: watch::Receiver<AutoscalerState>,
    _tasks: JoinSet<()>,
}

/// Starts to watch both.
pub fn watch(kube: &Kube, namespace: &str) -> AutoscalerWatch {
    let (sender, now) = watch::channel(AutoscalerState::default());
    let sender = Arc::new(sender);
    let mut tasks = JoinSet::new();
    tasks.spawn(watch_autoscaler(Api::namespaced(kube.client(), namespace), Arc::clone(&sender)));
    tasks.spawn(watch_deployment(Api::namespaced(kube.client(), namespace), sender));
    AutoscalerWatch { now, _tasks: tasks }
}

/// Waits until both have been seen.
///
/// # Errors
/// The API server does not tell.
pub async fn wait_until_seen(now: &mut watch::Receiver<AutoscalerState>) -> Result<()> {
    let both = now.wait_for(|seen| seen.least > 0 && seen.ready > 0);
    match tokio::time::timeout(FIRST_LOOK, both).await {
        Ok(found) => Ok(found.map(drop)?),
        Err(_) => Err(timed_out("the autoscaler and its pods cannot be watched").remedy("stackctl status").into()),
    }
}

async fn watch_autoscaler(api: Api<HorizontalPodAutoscaler>, sender: Arc<watch::Sender<AutoscalerState>>) {
    // It restarts by itself when the connection breaks.
    let mut stream = watch_object(api, WEB).default_backoff().boxed();
    while let Some(update) = stream.next().await {
        let Ok(Some(found)) = update else { continue };
        let (cpu, target) = cpu_percent(&found);
        let least = found.spec.as_ref().and_then(|spec| spec.min_replicas).unwrap_or(1);
        let wanted = found.status.map_or(0, |status| status.desired_replicas);
        change(&sender, |seen| (seen.wanted, seen.least, seen.cpu, seen.target) = (wanted, least, cpu, target));
    }
}

async fn watch_deployment(api: Api<Deployment>, sender: Arc<watch::Sender<AutoscalerState>>) {
    let mut stream = watch_object(api, WEB).default_backoff().boxed();
    while let Some(update) = stream.next().await {
        let Ok(Some(found)) = update else { continue };
        let ready = found.status.and_then(|status| status.ready_replicas).unwrap_or(0);
        change(&sender, |seen| seen.ready = ready);
    }
}

/// Edits the state, and tells only when that changes it.
fn change(sender: &watch::Sender<AutoscalerState>, edit: impl FnOnce(&mut AutoscalerState)) {
    sender.send_if_modified(|seen| {
        let before = *seen;
        edit(seen);
        *seen != before
    });
}

/// The event of a changed number of pods.
pub fn pod_count_event(now: AutoscalerState, ready_before: i32) -> Event {
    let state = if now.ready == now.wanted { State::Ready } else { State::Waiting };
    let came = match now.ready - ready_before {
        0 => String::new(),
        more @ 1.. => format!(", {more} more than before"),
        fewer => format!(", {} fewer than before", -fewer),
    };
    let detail = format!("{} pods wanted, {} ready{came}", now.wanted, now.ready);
    Event::Resource { phase: PHASE, resource: format!("Deployment {WEB}"), state, detail }
}
