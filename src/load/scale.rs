//! How many pods there are and should be: the autoscaler and the Deployment, watched.

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
    kube::Kube,
    ui::{Event, State},
};

/// The Deployment and its autoscaler.
pub const WEB: &str = "user-app";
/// The first look takes a request each.
const FIRST_LOOK: Duration = Duration::from_secs(20);

/// What is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
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

impl Seen {
    /// For people.
    pub fn text(&self) -> String {
        let percent = |value: Option<i32>| value.map_or_else(|| "?".into(), |value| value.to_string());
        let (cpu, target) = (percent(self.cpu), percent(self.target));
        format!("CPU {cpu} % of {target} %, {} pods wanted, {} ready", self.wanted, self.ready)
    }
}

/// The watching; ends when it is dropped.
pub struct Watching {
    /// What is known now.
    pub now: watch::Receiver<Seen>,
    _tasks: JoinSet<()>,
}

/// Starts to watch.
pub fn watch(kube: &Kube, namespace: &str) -> Watching {
    let (sender, now) = watch::channel(Seen::default());
    let sender = Arc::new(sender);
    let mut tasks = JoinSet::new();
    tasks.spawn(autoscaler(Api::namespaced(kube.client(), namespace), Arc::clone(&sender)));
    tasks.spawn(deployment(Api::namespaced(kube.client(), namespace), sender));
    Watching { now, _tasks: tasks }
}

/// Waits until both have been seen.
///
/// # Errors
/// The API server does not tell.
pub async fn known(now: &mut watch::Receiver<Seen>) -> Result<()> {
    let both = now.wait_for(|seen| seen.least > 0 && seen.ready > 0);
    match tokio::time::timeout(FIRST_LOOK, both).await {
        Ok(found) => Ok(found.map(drop)?),
        Err(_) => Err(timed_out("the autoscaler and its pods cannot be watched").remedy("stackctl status").into()),
    }
}

async fn autoscaler(api: Api<HorizontalPodAutoscaler>, sender: Arc<watch::Sender<Seen>>) {
    // It restarts by itself when the connection breaks.
    let mut stream = watch_object(api, WEB).default_backoff().boxed();
    while let Some(update) = stream.next().await {
        let Ok(Some(found)) = update else { continue };
        let (cpu, target) = cpu(&found);
        let least = found.spec.as_ref().and_then(|spec| spec.min_replicas).unwrap_or(1);
        let wanted = found.status.map_or(0, |status| status.desired_replicas);
        change(&sender, |seen| (seen.wanted, seen.least, seen.cpu, seen.target) = (wanted, least, cpu, target));
    }
}

async fn deployment(api: Api<Deployment>, sender: Arc<watch::Sender<Seen>>) {
    let mut stream = watch_object(api, WEB).default_backoff().boxed();
    while let Some(update) = stream.next().await {
        let Ok(Some(found)) = update else { continue };
        let ready = found.status.and_then(|status| status.ready_replicas).unwrap_or(0);
        change(&sender, |seen| seen.ready = ready);
    }
}

fn change(sender: &watch::Sender<Seen>, edit: impl FnOnce(&mut Seen)) {
    sender.send_if_modified(|seen| {
        let before = *seen;
        edit(seen);
        *seen != before
    });
}

/// The CPU that an autoscaler sees and aims at, in percent of what the pods request.
pub fn cpu(autoscaler: &HorizontalPodAutoscaler) -> (Option<i32>, Option<i32>) {
    let current = autoscaler.status.as_ref().and_then(|status| status.current_metrics.as_deref());
    let current = current.and_then(|all| all.first()?.resource.as_ref()?.current.average_utilization);
    let target = autoscaler.spec.as_ref().and_then(|spec| spec.metrics.as_deref());
    (current, target.and_then(|all| all.first()?.resource.as_ref()?.target.average_utilization))
}

/// A change of the number of pods.
pub fn event(now: Seen, ready_before: i32) -> Event {
    let state = if now.ready == now.wanted { State::Ready } else { State::Waiting };
    let came = match now.ready - ready_before {
        0 => String::new(),
        more @ 1.. => format!(", {more} more than before"),
        fewer => format!(", {} fewer than before", -fewer),
    };
    let detail = format!("{} pods wanted, {} ready{came}", now.wanted, now.ready);
    Event::Resource { phase: PHASE, resource: format!("Deployment {WEB}"), state, detail }
}
