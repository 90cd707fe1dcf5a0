//! Why something is not ready: from the object to its pods, claims and events, and to the last log lines.

mod events;
mod pods;
mod watchlist;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, ListParams, LogParams},
};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::OnceCell;

use watchlist::STUCK;
pub(super) use watchlist::Watchlist;

use super::{
    Kube, ObjectRef,
    cnpg::ClusterStatus,
    policies::suspected,
    readiness::{Readiness, age_seconds, condition, is_ready, readiness},
    refusal::Refusal,
};
use crate::error::Result;
use events::Events;

/// Lines of a container's log that a problem carries.
const LOG_LINES: i64 = 8;
/// Not more than this many pods are looked into for one object.
const PODS: usize = 6;
/// An operator that says nothing about a resource for so long, in seconds, is in trouble.
const SILENCE: u64 = 20;

/// Something in the way of an object's becoming ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What it is about: often not the object that is waited for, but a pod or a claim of it.
    pub object: ObjectRef,
    /// One word of the API, e.g. `ImagePullBackOff`.
    pub reason: String,
    /// The cluster's own words.
    pub message: String,
    /// The last Warning event, `Reason: message`.
    pub last_event: Option<String>,
    /// The last lines of the container's log.
    pub last_log: Vec<String>,
    /// What to do.
    pub remedy: Option<String>,
    /// Whether the object cannot recover by itself.
    pub fatal: bool,
}

impl Problem {
    fn new(object: ObjectRef, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Problem {
            object,
            reason: reason.into(),
            message: message.into(),
            last_event: None,
            last_log: Vec::new(),
            remedy: None,
            fatal: false,
        }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    fn fatal(mut self) -> Self {
        self.fatal = true;
        self
    }

    /// All of it in one line, with the last event and the last log line.
    pub fn sentence(&self) -> String {
        let mut sentence = format!("{}: {}", self.object, self.reason);
        if !self.message.is_empty() {
            sentence.push_str(&format!(": {}", self.message));
        }
        if let Some(event) = self.last_event.as_ref().filter(|event| !sentence.contains(event.as_str())) {
            sentence.push_str(&format!(" (last event: {event})"));
        }
        if let Some(line) = self.last_log.last() {
            sentence.push_str(&format!(" (last log line: {line})"));
        }
        sentence
    }
}

/// What is in the way of `object`; empty when it is ready or just needs time.
///
/// # Errors
/// The server does not answer or forbids to look.
pub async fn explain(kube: &Kube, object: &ObjectRef) -> Result<Vec<Problem>> {
    let Some(live) = kube.get(object).await? else { return Ok(Vec::new()) };
    if is_ready(&live) {
        return Ok(Vec::new());
    }
    let Some(namespace) = object.namespace.as_deref() else { return Ok(cluster_scoped(object, &live)) };
    let events = Events::warnings(kube, namespace).await?;
    let mut problems = Vec::new();
    let mut claims = Vec::new();
    match (object.group(), object.kind.as_str()) {
        ("", "Pod") => {
            if let Ok(pod) = live.clone().try_parse::<Pod>() {
                problems.extend(pod_problems(kube, namespace, &[pod], &events).await);
            }
        }
        ("", "PersistentVolumeClaim") => {
            if let Ok(claim) = live.clone().try_parse::<PersistentVolumeClaim>() {
                claims.push(claim);
            }
        }
        ("postgresql.cnpg.io", "Cluster") => {
            let selector = format!("cnpg.io/cluster={}", object.name);
            let params = ListParams::default().labels(&selector);
            let pods = pods_of(kube, namespace, &selector).await?;
            problems.extend(pod_problems(kube, namespace, &pods, &events).await);
            let api: Api<PersistentVolumeClaim> = Api::namespaced(kube.client(), namespace);
            claims = kube.call("list volume claims", || api.list(&params)).await?.items;
            // The pods of the Jobs by which the operator makes an instance.
            problems.extend(job_problem(object, &pods, &events));
            problems.extend(operator_problem(object, &live));
        }
        _ => {
            if let Some(selector) = selector_of(&live) {
                let pods = pods_of(kube, namespace, &selector).await?;
                problems.extend(pod_problems(kube, namespace, &pods, &events).await);
            }
            problems.extend(creation_problem(object, &live, &events));
        }
    }
    problems.extend(claims.iter().filter_map(|claim| pods::claim_problem(namespace, claim, &events)));
    if problems.is_empty() {
        problems.extend(own_problem(object, &live, &events));
    }
    Ok(problems)
}

/// The label selector of a workload or Service.
fn selector_of(live: &DynamicObject) -> Option<String> {
    let labels = live
        .data
        .pointer("/spec/selector/matchLabels")
        .or_else(|| live.data.pointer("/spec/selector"))
        .and_then(Value::as_object)?;
    let labels: BTreeMap<_, _> = labels.iter().filter_map(|(key, value)| Some((key, value.as_str()?))).collect();
    let terms: Vec<String> = labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    (!terms.is_empty()).then(|| terms.join(","))
}

async fn pods_of(kube: &Kube, namespace: &str, selector: &str) -> Result<Vec<Pod>> {
    let api: Api<Pod> = Api::namespaced(kube.client(), namespace);
    let params = ListParams::default().labels(selector);
    Ok(kube.call("list pods", || api.list(&params)).await?.items)
}

async fn pod_problems(kube: &Kube, namespace: &str, pods: &[Pod], events: &Events) -> Vec<Problem> {
    let mut problems = Vec::new();
    let policies = OnceCell::new();
    for pod in pods {
        let Some(found) = pods::pod_problem(namespace, pod, events) else { continue };
        let mut problem = found.problem;
        if let Some(container) = found.log_of {
            problem.last_log = last_lines(kube, namespace, &problem.object.name, &container, found.previous).await;
            if problem.remedy.is_none() {
                let read = || async { kube.policies_of_others(namespace).await.unwrap_or_default() };
                problem.remedy = suspected(policies.get_or_init(read).await, pod.labels());
            }
        }
        problems.push(problem);
        if problems.len() == PODS {
            break;
        }
    }
    problems
}

/// The end of a container's log; empty when there is none to be had.
async fn last_lines(kube: &Kube, namespace: &str, pod: &str, container: &str, previous: bool) -> Vec<String> {
    let api: Api<Pod> = Api::namespaced(kube.client(), namespace);
    let params = LogParams {
        container: Some(container.to_owned()),
        tail_lines: Some(LOG_LINES),
        previous,
        limit_bytes: Some(16 * 1024),
        ..LogParams::default()
    };
    let text = match kube.bounded("read a log", api.logs(pod, &params)).await {
        Ok(text) => text,
        Err(error) => {
            tracing::debug!("no log of {pod}: {error:#}");
            return Vec::new();
        }
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(|line| line.chars().take(400).collect()).collect()
}

/// A Job by which the operator makes an instance, and whose pod is refused.
fn job_problem(object: &ObjectRef, pods: &[Pod], events: &Events) -> Option<Problem> {
    let of_a_job = |pod: &Pod, job: &str| pod.metadata.name.as_ref().is_some_and(|name| name.starts_with(job));
    let mut refused = events.of_descendants(object).filter(|event| event.reason == "FailedCreate");
    // What has a pod by now is over.
    let event = refused.find(|event| !pods.iter().any(|pod| of_a_job(pod, &event.name)))?;
    let problem = Problem::new(object.clone(), "FailedCreate", &event.message);
    Some(match Refusal::of(&event.message) {
        Some(refusal) => problem.remedy(format!("{}; {}", refusal.why, refusal.remedy)),
        None => problem,
    })
}

/// A workload whose pods are refused: quota, Pod Security, a webhook, a missing service account.
fn creation_problem(object: &ObjectRef, live: &DynamicObject, events: &Events) -> Option<Problem> {
    let refused = condition(live, "ReplicaFailure").filter(|condition| condition.status == "True");
    let message = match refused {
        Some(condition) => condition.message.to_owned(),
        None => events.of_descendants(object).find(|event| event.reason == "FailedCreate")?.message.clone(),
    };
    let problem = Problem::new(object.clone(), "FailedCreate", &message);
    Some(if let Some(refusal) = Refusal::of(&message) {
        let told = problem.remedy(format!("{}; {}", refusal.why, refusal.remedy));
        if refusal.may_pass { told } else { told.fatal() }
    } else if message.contains("failed calling webhook") {
        problem.remedy("look at the pods of the webhook's Service; the message names it")
    } else {
        problem
    })
}

/// What the CloudNativePG operator itself says, or that it says nothing.
fn operator_problem(object: &ObjectRef, live: &DynamicObject) -> Option<Problem> {
    let status = ClusterStatus::of(live);
    let stuck = status.is_stuck();
    let ClusterStatus { phase, phase_reason: reason, .. } = status;
    let age = live.metadata.creation_timestamp.as_ref().map_or(0, age_seconds);
    if phase.is_empty() && age > SILENCE {
        return Some(
            Problem::new(object.clone(), "OperatorSilent", "the operator has not looked at it yet")
                .remedy("stackctl logs operator shows what it does"),
        );
    }
    if stuck {
        let problem = Problem::new(object.clone(), STUCK, format!("{phase}: {reason}"));
        return Some(problem.remedy("stackctl logs operator says why"));
    }
    let in_trouble = phase.starts_with("Unable to") || phase.starts_with("Cluster cannot");
    in_trouble.then(|| Problem::new(object.clone(), "ClusterBlocked", format!("{phase}: {reason}")))
}

/// What the object's own conditions and events say, for kinds without pods.
fn own_problem(object: &ObjectRef, live: &DynamicObject, events: &Events) -> Option<Problem> {
    let last = events.of(object).next();
    if object.is("autoscaling", "HorizontalPodAutoscaler") {
        let age = live.metadata.creation_timestamp.as_ref().map_or(0, age_seconds);
        let inactive = condition(live, "ScalingActive").filter(|condition| condition.status == "False")?;
        // Metrics of a new pod take a scrape or two.
        return (age > 45).then(|| {
            Problem::new(object.clone(), inactive.reason, inactive.message)
                .remedy("the metrics API must serve the pods' CPU: kubectl top pods shows whether it does")
        });
    }
    let event = last?;
    let mut problem = Problem::new(object.clone(), &event.reason, &event.message);
    problem.last_event = Some(event.line());
    Some(problem)
}

/// Objects outside namespaces have no events that are easily found; their conditions say enough.
fn cluster_scoped(object: &ObjectRef, live: &DynamicObject) -> Vec<Problem> {
    let problem = if object.is("", "Namespace") {
        terminating(object, live)
    } else if object.is("apiregistration.k8s.io", "APIService") {
        condition(live, "Available").filter(|condition| condition.status == "False").map(|condition| {
            Problem::new(object.clone(), condition.reason, condition.message)
                .remedy("look at the pods behind the Service that the message names")
        })
    } else {
        match readiness(live) {
            Some(Readiness::Failed { reason, message }) => Some(Problem::new(object.clone(), reason, message)),
            _ => None,
        }
    };
    problem.into_iter().collect()
}

/// What holds an object that is being deleted.
pub(super) fn held(object: &ObjectRef, live: &DynamicObject) -> Option<Problem> {
    if object.is("", "Namespace") {
        return terminating(object, live);
    }
    live.metadata.deletion_timestamp.as_ref()?;
    let finalizers = live.metadata.finalizers.clone().unwrap_or_default();
    let waits_for_owned = finalizers.iter().any(|finalizer| finalizer == "foregroundDeletion");
    let others: Vec<_> = finalizers.into_iter().filter(|finalizer| finalizer != "foregroundDeletion").collect();
    if others.is_empty() {
        return waits_for_owned.then(|| Problem::new(object.clone(), "Terminating", "what it owns is not gone yet"));
    }
    Some(
        Problem::new(object.clone(), "Terminating", format!("held by the finalizer {}", others.join(", ")))
            .remedy("let the controller that the finalizer belongs to run, or remove the finalizer"),
    )
}

/// What holds a namespace that is being deleted.
fn terminating(object: &ObjectRef, live: &DynamicObject) -> Option<Problem> {
    live.metadata.deletion_timestamp.as_ref()?;
    let holds = [
        "NamespaceDeletionDiscoveryFailure",
        "NamespaceDeletionGroupVersionParsingFailure",
        "NamespaceDeletionContentFailure",
        "NamespaceFinalizersRemaining",
        "NamespaceContentRemaining",
    ];
    let found = holds
        .iter()
        .find_map(|kind| condition(live, kind).filter(|condition| condition.status == "True").map(|c| (*kind, c)));
    let (reason, message) = match found {
        Some((kind, condition)) => (kind, condition.message.to_owned()),
        None => ("Terminating", "it is being deleted".to_owned()),
    };
    let remedy = match reason {
        "NamespaceDeletionDiscoveryFailure" => {
            "an aggregated API does not answer: kubectl get apiservices shows it; repair it or delete its APIService"
        }
        "NamespaceFinalizersRemaining" => {
            "let the controller that the finalizer belongs to run, or remove the finalizer from what is left"
        }
        _ => "look at what is left in the namespace",
    };
    Some(Problem::new(object.clone(), reason, message).remedy(remedy))
}

#[cfg(test)]
mod tests;
