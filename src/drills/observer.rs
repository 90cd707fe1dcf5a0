//! Watches the cluster while a drill runs, and notes each step of the recovery when it is seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _, future};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{ListParams, LogParams},
    runtime::{WatchStreamExt as _, watcher, watcher::watch_object},
};
use tokio::{sync::watch, task::JoinSet};

use super::{
    model::{
        clock::Clock,
        events::{DrillEvent, EventKind},
        history::Micros,
        ledger::{Ledger, LedgerRecord},
    },
    target::DrillTarget,
};
use crate::{
    kube::{
        cnpg::{self, ClusterStatus},
        pods::is_ready,
    },
    names::{OPERATOR, POSTGRES, selector},
};

/// What is known of the database, by the latest of what the API server told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedState {
    /// What the operator says.
    pub cluster: ClusterStatus,
    /// The instances' pods: uid and whether it is ready and stays.
    pub pods: BTreeMap<String, (String, bool)>,
}

impl ObservedState {
    /// Whether everything is as it should be, as far as Kubernetes tells.
    pub fn is_healthy(&self) -> bool {
        self.cluster.is_healthy() && self.pods.values().filter(|(_, ready)| *ready).count() == self.cluster.wanted
    }
}

/// The watches on everything that a recovery changes; they end when it is dropped.
pub struct Observer {
    /// What is known now.
    pub seen: watch::Receiver<ObservedState>,
    notes: Notes,
    _tasks: JoinSet<()>,
}

/// Writes events down, each kind once but for notes and what can come again.
#[derive(Clone)]
struct Notes {
    clock: Clock,
    ledger: Ledger,
    done: Arc<Mutex<Done>>,
}

/// What was written down so far.
#[derive(Debug, Default)]
struct Done {
    kinds: BTreeSet<EventKind>,
    injected: Option<Micros>,
    latest: Option<(EventKind, Micros)>,
}

impl Notes {
    fn write(&self, kind: EventKind, text: impl Into<String>) {
        let at = self.clock.now();
        let again = matches!(kind, EventKind::Note | EventKind::RedundancyRestored | EventKind::RedundancyLost);
        {
            let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            if !done.kinds.insert(kind) && !again {
                return;
            }
            if kind == EventKind::Injected {
                done.injected = Some(at);
            }
            if kind != EventKind::Note {
                done.latest = Some((kind, at));
            }
        }
        // A broken ledger ends the drill by the writes that can't be recorded.
        let _ = self.ledger.append(vec![LedgerRecord::Event(DrillEvent { at, kind, text: text.into() })]);
    }
}

impl Observer {
    /// Starts watching. `primary` is the one before the fault.
    pub fn start(target: &DrillTarget, primary: &str, clock: Clock, ledger: Ledger) -> Observer {
        Observer::watch(target, primary, Notes { clock, ledger, done: Arc::default() })
    }

    fn watch(target: &DrillTarget, primary: &str, notes: Notes) -> Observer {
        let (sender, seen) = watch::channel(ObservedState::default());
        let sender = Arc::new(sender);
        let mut tasks = JoinSet::new();
        tasks.spawn(cluster(target.clone(), primary.to_owned(), Arc::clone(&sender), notes.clone()));
        tasks.spawn(pods(target.clone(), primary.to_owned(), sender, notes.clone()));
        tasks.spawn(lease(target.clone(), primary.to_owned(), notes.clone()));
        tasks.spawn(endpoints(target.clone(), primary.to_owned(), notes.clone()));
        tasks.spawn(operator(target.clone(), notes.clone()));
        Observer { seen, notes, _tasks: tasks }
    }

    /// Watches the database that has taken the place of the one before, in the same ledger.
    pub fn follow(&self, target: &DrillTarget) -> Observer {
        Observer::watch(target, "", self.notes.clone())
    }

    /// The latest step, and how long after the fault it came.
    pub fn latest(&self) -> Option<(EventKind, Duration)> {
        let done = self.notes.done.lock().unwrap_or_else(PoisonError::into_inner);
        let (kind, at) = done.latest?;
        Some((kind, Duration::from_micros(at.saturating_sub(done.injected.unwrap_or(at)))))
    }

    /// Notes something that the drill itself did or found.
    pub fn note(&self, kind: EventKind, text: impl Into<String>) {
        self.notes.write(kind, text);
    }
}

async fn cluster(target: DrillTarget, primary: String, sender: Arc<watch::Sender<ObservedState>>, notes: Notes) {
    let name = target.database.get();
    let mut stream = watch_object(target.clusters(), &name).default_backoff().boxed();
    let mut phase = String::new();
    while let Some(update) = stream.next().await {
        let Ok(Some(cluster)) = update else { continue };
        let status = ClusterStatus::of(&cluster);
        if let Some(chosen) = status.target_primary.as_ref().filter(|chosen| **chosen != primary) {
            // While it is being decided the field holds another word.
            if chosen.starts_with(&name) {
                notes.write(EventKind::TargetChosen, chosen);
            }
        }
        if let Some(current) = status.current_primary.as_ref().filter(|current| **current != primary) {
            notes.write(EventKind::CurrentPrimary, current);
        }
        if status.phase != phase {
            notes.write(EventKind::Note, format!("{} {}", status.phase, status.phase_reason).trim_end());
            phase.clone_from(&status.phase);
        }
        sender.send_modify(|seen| seen.cluster = status);
    }
}

async fn pods(target: DrillTarget, primary: String, sender: Arc<watch::Sender<ObservedState>>, notes: Notes) {
    let config = watcher::Config::default().labels(&cnpg::instances(&target.database.get()));
    let mut stream = watcher(target.api::<Pod>(), config).default_backoff().boxed();
    let mut logs = JoinSet::new();
    let mut followed = BTreeSet::new();
    let mut listed = BTreeMap::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(pod)) => drop(listed.insert(pod.name_any(), state(&pod))),
            Ok(watcher::Event::InitDone) => sender.send_modify(|seen| seen.pods = std::mem::take(&mut listed)),
            Ok(watcher::Event::Apply(pod)) => {
                sender.send_modify(|seen| drop(seen.pods.insert(pod.name_any(), state(&pod))));
            }
            Ok(watcher::Event::Delete(pod)) => sender.send_modify(|seen| drop(seen.pods.remove(&pod.name_any()))),
            Err(_) => continue,
        }
        let seen = sender.borrow().clone();
        if !seen.pods.is_empty() && !seen.pods.get(&primary).is_some_and(|(_, ready)| *ready) {
            notes.write(EventKind::PrimaryUnhealthy, &primary);
        }
        for (pod, (uid, ready)) in &seen.pods {
            if *ready && followed.insert(uid.clone()) {
                logs.spawn(promotion(target.clone(), pod.clone(), notes.clone()));
            }
        }
    }
}

fn state(pod: &Pod) -> (String, bool) {
    (pod.uid().unwrap_or_default(), is_ready(pod))
}

/// Follows an instance's log for the line by which PostgreSQL says that it has begun a timeline of its own.
async fn promotion(target: DrillTarget, pod: String, notes: Notes) {
    let params =
        LogParams { follow: true, container: Some(POSTGRES.into()), tail_lines: Some(0), ..LogParams::default() };
    let Ok(log) = target.api::<Pod>().log_stream(&pod, &params).await else { return };
    let mut lines = log.lines();
    while let Ok(Some(line)) = lines.try_next().await {
        if line.contains("selected new timeline ID") {
            notes.write(EventKind::Promoted, &pod);
        }
    }
}

async fn lease(target: DrillTarget, primary: String, notes: Notes) {
    let mut stream = watch_object(target.api::<Lease>(), &target.database.get()).default_backoff().boxed();
    let mut released = false;
    while let Some(update) = stream.next().await {
        let Ok(Some(lease)) = update else { continue };
        let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        if holder.is_empty() && !released {
            released = true;
            notes.write(EventKind::Note, format!("{primary} released the Lease"));
        }
        if !holder.is_empty() && holder != primary {
            notes.write(EventKind::LeaseTaken, holder);
        }
    }
}

/// The container of the operator in its pods, as upstream's manifest and chart name it.
const MANAGER: &str = "manager";
/// How the operator says that it does not dare to promote: too few standbys in reach, or unknown how many it takes.
const REFUSALS: [&str; 2] = ["Strong consistency check failed", "Quorum check failed"];

/// Follows the operator's log for the line by which it says that it does not dare to promote. The operator may
/// be away, another pod by now, or two, of which either may lead.
async fn operator(target: DrillTarget, notes: Notes) {
    let Ok(there) = target.kube.operator().await else { return };
    let pods: Api<Pod> = Api::namespaced(target.kube.client(), &there.namespace);
    let mut since = jiff::Timestamp::now();
    loop {
        let list = ListParams::default().labels(&selector(OPERATOR));
        let found = pods.list(&list).await.map(|found| found.items).unwrap_or_default();
        let there = found.iter().filter(|pod| pod.meta().deletion_timestamp.is_none());
        let followed: Vec<_> = there.map(|pod| Box::pin(refusals(&pods, pod, since, &notes))).collect();
        if !followed.is_empty() {
            // When one ends there may be another pod.
            future::select_all(followed).await;
        }
        since = jiff::Timestamp::now();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Follows the log of one pod of the operator to its end.
async fn refusals(pods: &Api<Pod>, pod: &Pod, since: jiff::Timestamp, notes: &Notes) {
    // Named, as a webhook may have put others beside it.
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let manager = containers.clone().find(|container| container.name == MANAGER).or(containers.clone().next());
    let container = manager.map(|container| container.name.clone());
    let params = LogParams { container, follow: true, since_time: Some(since), ..LogParams::default() };
    let Ok(log) = pods.log_stream(&pod.name_any(), &params).await else { return };
    let mut lines = log.lines();
    while let Ok(Some(line)) = lines.try_next().await {
        if REFUSALS.iter().any(|refusal| line.contains(refusal)) {
            notes.write(EventKind::PromotionRefused, "no quorum of standbys that is sure to have every write");
        }
    }
}

async fn endpoints(target: DrillTarget, primary: String, notes: Notes) {
    let config = watcher::Config::default().labels(&format!("kubernetes.io/service-name={}-rw", target.database.get()));
    let mut stream = watcher(target.api::<EndpointSlice>(), config).default_backoff().boxed();
    while let Some(event) = stream.next().await {
        let (Ok(watcher::Event::Apply(slice)) | Ok(watcher::Event::InitApply(slice))) = event else { continue };
        for endpoint in slice.endpoints {
            let ready = endpoint.conditions.and_then(|conditions| conditions.ready).unwrap_or(false);
            let pod = endpoint.target_ref.and_then(|target| target.name).unwrap_or_default();
            if ready && pod != primary && !pod.is_empty() {
                notes.write(EventKind::EndpointMoved, pod);
            }
        }
    }
}

/// Waits until `what` holds, for `limit` at most; whether it does.
pub async fn wait(
    seen: &mut watch::Receiver<ObservedState>,
    limit: Duration,
    what: impl FnMut(&ObservedState) -> bool,
) -> bool {
    tokio::time::timeout(limit, seen.wait_for(what)).await.is_ok_and(|found| found.is_ok())
}

/// Whether the fault shows in what is seen within `limit`: another pod, one that is not ready, or another target.
pub async fn fault_is_visible(
    seen: &mut watch::Receiver<ObservedState>,
    before: &ObservedState,
    limit: Duration,
) -> bool {
    wait(seen, limit, |now| now.pods != before.pods || now.cluster.target_primary != before.cluster.target_primary)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drills::model::ledger;

    #[tokio::test]
    async fn the_moment_of_the_fault_is_the_first_that_is_marked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let ledger = Ledger::create(&path, "r1", "double-fault").unwrap();
        let notes = Notes { clock: Clock::start(), ledger: ledger.clone(), done: Arc::default() };
        notes.write(EventKind::Injected, "pod user-db-2 deleted");
        notes.write(EventKind::Injected, "pod user-db-1 deleted");
        notes.write(EventKind::Note, "one");
        notes.write(EventKind::Note, "another");
        ledger.close().await.unwrap();
        let texts: Vec<_> = ledger::read(&path).unwrap().events.into_iter().map(|event| event.text).collect();
        assert_eq!(texts, ["pod user-db-2 deleted", "one", "another"]);
    }
}
