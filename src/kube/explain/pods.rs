//! Why a pod is not ready, or a claim not bound, from its status and events.

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, PersistentVolumeClaim, Pod,
};

use super::{Problem, age_seconds, events::Events};
use crate::kube::ObjectRef;

/// A container may start, or run without being ready, for so long, in seconds, before that is a problem.
const STARTING: u64 = 15;

/// A pod's problem and whose log tells more.
pub(super) struct PodFinding {
    pub problem: Problem,
    /// The container.
    pub log_of: Option<String>,
    /// The log of the run before this one.
    pub previous: bool,
}

impl PodFinding {
    fn without_log(problem: Problem) -> Self {
        PodFinding { problem, log_of: None, previous: false }
    }
}

/// The first problem of a pod; `None` when it is well, ends, or just needs time.
pub(super) fn pod_problem(namespace: &str, pod: &Pod, events: &Events) -> Option<PodFinding> {
    let object = ObjectRef::namespaced("v1", "Pod", namespace, pod.metadata.name.as_deref()?);
    let status = pod.status.as_ref()?;
    let phase = status.phase.as_deref().unwrap_or("");
    if pod.metadata.deletion_timestamp.is_some() || phase == "Succeeded" {
        return None;
    }
    let last_event = events.of(&object).next();
    let mut found = if phase == "Failed" {
        let reason = status.reason.clone().unwrap_or_else(|| "Failed".into());
        let mut found =
            PodFinding::without_log(Problem::new(object.clone(), reason, status.message.clone().unwrap_or_default()));
        if let Some((container, end)) = containers(pod).find_map(|c| Some((c, ended(c.state.as_ref()?)?))) {
            if found.problem.message.is_empty() {
                found.problem.message = format!("container {} {}", container.name, exit(end));
            }
            found.log_of = Some(container.name.clone());
        }
        found
    } else if let Some(found) = unschedulable(&object, pod).or_else(|| kept_from_ending(&object, pod)) {
        PodFinding::without_log(found)
    } else {
        containers(pod).find_map(|container| container_problem(&object, container))?.or_event(last_event, pod)?
    };
    found.problem.last_event = last_event.map(|event| event.line());
    Some(found)
}

/// A container either has a definite problem, or may have one that only the pod's events can tell.
enum Suspect {
    Definite(PodFinding),
    /// Not running, or not ready, for longer than a start takes.
    Slow(PodFinding),
}

impl Suspect {
    fn or_event(self, event: Option<&super::events::Warning>, pod: &Pod) -> Option<PodFinding> {
        match self {
            Suspect::Definite(found) => Some(found),
            Suspect::Slow(mut found) => {
                let age = pod.metadata.creation_timestamp.as_ref().map_or(0, age_seconds);
                let Some(event) = event else {
                    // Without any warning, a slow start gets much longer.
                    return (age > 4 * STARTING).then_some(found);
                };
                found.problem.reason.clone_from(&event.reason);
                found.problem.message.clone_from(&event.message);
                Some(found)
            }
        }
    }
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    })
}

fn unschedulable(object: &ObjectRef, pod: &Pod) -> Option<Problem> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .filter(|condition| condition.reason.as_deref() == Some("Unschedulable"))?;
    let message = condition.message.clone().unwrap_or_default();
    let remedy = if message.contains("Insufficient cpu") || message.contains("Insufficient memory") {
        "the nodes are full: free some of it, add nodes, or make the cluster with more --cpus and --memory"
    } else if message.contains("PersistentVolumeClaim") || message.contains("volume") {
        "its volume is the cause: kubectl get pvc,storageclass shows whether there is a default StorageClass"
    } else if message.contains("affinity") || message.contains("topology spread") {
        "its pods may not share a node: add nodes"
    } else if message.contains("taint") {
        "no node takes it: kubectl describe nodes shows taints, and why a node is not ready"
    } else {
        "kubectl describe nodes shows what is free"
    };
    Some(Problem::new(object.clone(), "Unschedulable", message).remedy(remedy))
}

/// A Job's pod whose work is done, and in which another container goes on, as one does that a webhook has added: the Job never
/// ends. (Native sidecars end with the pod; they are among the init containers.)
fn kept_from_ending(object: &ObjectRef, pod: &Pod) -> Option<Problem> {
    let owners = pod.metadata.owner_references.as_ref()?;
    let job = owners.iter().find(|owner| owner.kind == "Job")?;
    let all = pod.status.as_ref()?.container_statuses.as_ref()?;
    let state = |container: &'_ ContainerStatus| container.state.clone().unwrap_or_default();
    let done = all.iter().find_map(|container| {
        let end = state(container).terminated.filter(|end| end.exit_code == 0)?;
        Some((&container.name, end.finished_at.as_ref().map_or(0, age_seconds)))
    });
    let (name, seconds) = done.filter(|(_, seconds)| *seconds >= 2 * STARTING)?;
    let on: Vec<&str> = all.iter().filter(|one| state(one).running.is_some()).map(|one| one.name.as_str()).collect();
    let others = (!on.is_empty()).then(|| on.join(", "))?;
    let text = format!(
        "container {name} has been done for {seconds} s, but {others} beside it goes on: Job {} does not end",
        job.name
    );
    Some(Problem::new(object.clone(), "KeptFromEnding", text).remedy(format!(
        "leave these pods, or the namespace, out of what adds {others}, or have it added as a native sidecar (an init \
         container with restartPolicy Always), which ends with the pod"
    )))
}

fn container_problem(object: &ObjectRef, container: &ContainerStatus) -> Option<Suspect> {
    let state = container.state.as_ref()?;
    let name = &container.name;
    if let Some(waiting) = &state.waiting {
        let reason = waiting.reason.as_deref().unwrap_or("");
        let message = waiting.message.clone().unwrap_or_default();
        return match reason {
            "ContainerCreating" | "PodInitializing" | "" => {
                let text = format!("container {name} does not start");
                Some(Suspect::Slow(PodFinding::without_log(Problem::new(object.clone(), "SlowStart", text))))
            }
            "CrashLoopBackOff" => {
                let end = container.last_state.as_ref().and_then(ended);
                Some(Suspect::Definite(crash(object, container, end, "CrashLoopBackOff")))
            }
            _ if is_image(reason) => {
                Some(Suspect::Definite(PodFinding::without_log(image_problem(object, container, reason, &message))))
            }
            "CreateContainerConfigError" => Some(Suspect::Definite(PodFinding::without_log(
                Problem::new(object.clone(), reason, format!("container {name}: {message}"))
                    .remedy("what the message names (a Secret or ConfigMap) must exist in the pod's namespace"),
            ))),
            _ => Some(Suspect::Definite(PodFinding::without_log(Problem::new(
                object.clone(),
                reason,
                format!("container {name}: {message}"),
            )))),
        };
    }
    if let Some(end) = ended(state) {
        // It will be restarted, perhaps at once; if it goes on like that, it becomes CrashLoopBackOff.
        return Some(Suspect::Definite(crash(object, container, Some(end), end.reason.as_deref().unwrap_or("Error"))));
    }
    let running = state.running.as_ref()?;
    if container.ready {
        return None;
    }
    let since = running.started_at.as_ref().map_or(0, age_seconds);
    if container.restart_count > 0
        && since < STARTING
        && let Some(end) = container.last_state.as_ref().and_then(ended)
    {
        return Some(Suspect::Definite(crash(object, container, Some(end), end.reason.as_deref().unwrap_or("Error"))));
    }
    (since >= STARTING).then(|| {
        let text = format!("container {name} has been running for {since} s and is not ready");
        let problem = Problem::new(object.clone(), "NotReady", text);
        Suspect::Slow(PodFinding { problem, log_of: Some(name.clone()), previous: false })
    })
}

fn is_image(reason: &str) -> bool {
    matches!(
        reason,
        "ErrImagePull"
            | "ImagePullBackOff"
            | "ErrImageNeverPull"
            | "InvalidImageName"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "SignatureValidationFailed"
    )
}

fn image_problem(object: &ObjectRef, container: &ContainerStatus, reason: &str, message: &str) -> Problem {
    let image = &container.image;
    let text = if message.contains(image.as_str()) { message.to_owned() } else { format!("{image}: {message}") };
    let problem = Problem::new(object.clone(), reason, text);
    let lower = message.to_lowercase();
    let absent = ["not found", "manifest unknown", "does not exist", "pull access denied", "unauthorized"]
        .iter()
        .any(|word| lower.contains(word));
    match reason {
        "ErrImageNeverPull" => problem
            .remedy(format!("the node does not have {image} and may not pull it: load it into every node"))
            .fatal(),
        "InvalidImageName" => problem.remedy("correct the image's name").fatal(),
        _ if absent => problem
            .remedy(format!("{image} is not in its registry, or may not be read: push it, load it into the nodes, correct its name, or name a Secret that opens it (--pull-secret)"))
            .fatal(),
        _ => problem.remedy(format!(
            "the node does not reach the registry of {image}: check its network and proxy, or load the image into the nodes (--bundle)"
        )),
    }
}

fn crash(
    object: &ObjectRef,
    container: &ContainerStatus,
    end: Option<&ContainerStateTerminated>,
    reason: &str,
) -> PodFinding {
    let name = &container.name;
    let times = container.restart_count;
    let message = end.map_or_else(
        || format!("container {name} ends again and again, {times} restarts"),
        |end| format!("container {name} {}, {times} restarts", exit(end)),
    );
    let out_of_memory = end.is_some_and(|end| end.reason.as_deref() == Some("OOMKilled"));
    let mut problem = Problem::new(object.clone(), reason, message);
    if out_of_memory {
        problem = problem.remedy("it needs more memory than its limit allows: raise resources.limits.memory");
    }
    // While it waits or runs again, the log with the cause is that of the run before.
    let running_again = container.state.as_ref().is_some_and(|state| state.terminated.is_none());
    PodFinding { problem, log_of: Some(name.clone()), previous: running_again }
}

fn ended(state: &ContainerState) -> Option<&ContainerStateTerminated> {
    state.terminated.as_ref().filter(|end| end.exit_code != 0)
}

fn exit(end: &ContainerStateTerminated) -> String {
    match (end.reason.as_deref(), end.signal.filter(|signal| *signal > 0)) {
        (Some("OOMKilled"), _) => "was killed for using too much memory".into(),
        (_, Some(signal)) => format!("was killed by signal {signal}"),
        _ => format!("ended with exit code {}", end.exit_code),
    }
}

/// Why a claim is not bound.
pub(super) fn claim_problem(namespace: &str, claim: &PersistentVolumeClaim, events: &Events) -> Option<Problem> {
    let object = ObjectRef::namespaced("v1", "PersistentVolumeClaim", namespace, claim.metadata.name.as_deref()?);
    if claim.status.as_ref()?.phase.as_deref() != Some("Pending") {
        return None;
    }
    let age = claim.metadata.creation_timestamp.as_ref().map_or(0, age_seconds);
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.clone()).unwrap_or_default();
    if let Some(event) = events.of(&object).next() {
        let mut problem = Problem::new(object.clone(), &event.reason, &event.message);
        problem.last_event = Some(event.line());
        return Some(if event.message.contains("not found") && event.message.contains("storageclass") {
            problem.remedy("kubectl get storageclass lists those there are: name one with --storage-class").fatal()
        } else {
            problem.remedy("look at the provisioner's pods and at the space on the nodes")
        });
    }
    if class.is_empty() && age > STARTING {
        return Some(
            Problem::new(object, "NoStorageClass", "it names no StorageClass and the cluster has no default one")
                .remedy("make one the default (annotation storageclass.kubernetes.io/is-default-class), or name one with --storage-class")
                .fatal(),
        );
    }
    (age > 2 * STARTING).then(|| {
        Problem::new(object, "Pending", format!("not bound for {age} s; StorageClass {class}")).remedy(
            "look at the provisioner's pods; a class with WaitForFirstConsumer waits for the pod to be scheduled",
        )
    })
}
