//! Kubernetes' objects in the rules' words. What an object does not say counts as what allows least.

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Pod, PodStatus},
};
use kube::{ResourceExt as _, core::DynamicObject};

use crate::rules::{self, Container, Role};

/// The container of PostgreSQL in an instance's pod.
const POSTGRES: &str = "postgres";
/// The label with an instance's role, and its older name: the operator keeps both.
pub const ROLES: [&str; 2] = ["cnpg.io/instanceRole", "role"];
/// The value of [`ROLES`] that the `-rw` Service selects.
pub const PRIMARY: &str = "primary";
/// The annotation with the version of the operator that made a pod.
const OPERATOR: &str = "cnpg.io/operatorVersion";
/// Why a pod got its final phase from the control plane and not from its kubelet.
const COLLECTED: &str = "DeletionByPodGC";
/// The phases in which an operator leaves a primary as it is, or fails over from it (`api/v1` of the operator: `PhaseHealthy`,
/// `PhaseWaitingForInstancesToBeActive`, `PhaseFailOver`).
const UNDISTURBED: [&str; 3] =
    ["Cluster in healthy state", "Waiting for the instances to become active", "Failing over"];
/// Since when the primary fails, in a Cluster.
const FAILING_SINCE: &str = "/status/currentPrimaryFailingSinceTimestamp";
/// What a kubelet says of a container that it has lost sight of.
const UNKNOWN: &str = "ContainerStatusUnknown";

/// The primary's Lease.
#[must_use]
pub fn lease(lease: &Lease) -> rules::Lease {
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.clone());
    rules::Lease {
        holder: holder.filter(|holder| !holder.is_empty()),
        version: lease.resource_version().unwrap_or_default(),
    }
}

/// What the Cluster says of its primary.
#[must_use]
pub fn cluster(cluster: &DynamicObject) -> rules::Cluster {
    let text = |path| cluster.data.pointer(path).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    rules::Cluster { current: text("/status/currentPrimary"), target: text("/status/targetPrimary") }
}

/// The Cluster's delay before a failover.
#[must_use]
pub fn delay(cluster: &DynamicObject) -> rules::Delay {
    let seconds = cluster.data.pointer("/spec/failoverDelay").and_then(serde_json::Value::as_u64).unwrap_or_default();
    let since = cluster.data.pointer(FAILING_SINCE).and_then(serde_json::Value::as_str).unwrap_or_default();
    rules::Delay {
        version: cluster.resource_version().unwrap_or_default(),
        seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
        has_begun: !since.is_empty(),
    }
}

/// Whether the operator says of the Cluster that it is not at work on its primary.
#[must_use]
pub fn is_undisturbed(cluster: &DynamicObject) -> bool {
    let phase = cluster.data.pointer("/status/phase").and_then(serde_json::Value::as_str);
    phase.is_some_and(|phase| UNDISTURBED.contains(&phase))
}

/// The change of a Cluster by which its delay has passed, at the version that was seen.
#[must_use]
pub fn passed(hasten: &rules::Hasten, now: jiff::Timestamp) -> serde_json::Value {
    let since = now.saturating_sub(jiff::SignedDuration::from_secs(hasten.seconds.into())).unwrap_or(now);
    // The operator reads a time with just as many digits.
    let since = since.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    serde_json::json!({
        "metadata": {"resourceVersion": hasten.version},
        "status": {"currentPrimaryFailingSinceTimestamp": since},
    })
}

/// An instance's pod.
#[must_use]
pub fn pod(pod: &Pod) -> rules::Pod {
    let none = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&none);
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let spec = pod.spec.as_ref();
    let says = |kind, status| conditions.iter().any(|found| found.type_ == kind && found.status == status);
    let is_primary = ROLES.iter().any(|label| pod.labels().get(*label).is_some_and(|role| role == PRIMARY));
    rules::Pod {
        uid: pod.uid().unwrap_or_default(),
        version: pod.resource_version().unwrap_or_default(),
        is_deleting: pod.metadata.deletion_timestamp.is_some(),
        has_final_phase: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
        is_collected: conditions.iter().any(|condition| condition.reason.as_deref() == Some(COLLECTED)),
        shares_processes: spec
            .is_none_or(|spec| spec.share_process_namespace == Some(true) || spec.host_pid == Some(true)),
        postgres: postgres(status),
        has_started: has_started(status),
        operator: pod.annotations().get(OPERATOR).cloned().unwrap_or_default(),
        role: if is_primary { Role::Primary } else { Role::Other },
        is_ready: says("Ready", "True"),
        // A kubelet sets both; the control plane sets the first alone, in pods of a node of which it hears nothing
        // (`MarkPodsNotReady` of Kubernetes' `pkg/controller/util/node`).
        is_out_of_touch: says("Ready", "False") && says("ContainersReady", "True"),
        node: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
    }
}

fn has_started(status: &PodStatus) -> bool {
    let mut all = status.container_statuses.as_deref().unwrap_or_default().iter();
    let found = all.find(|container| container.name == POSTGRES);
    found.is_some_and(|container| {
        container.started == Some(true) && container.state.as_ref().is_some_and(|state| state.running.is_some())
    })
}

fn postgres(status: &PodStatus) -> Container {
    let mut all = status.container_statuses.as_deref().unwrap_or_default().iter();
    let found = all.find(|container| container.name == POSTGRES);
    let ended = found.and_then(|container| container.state.as_ref()?.terminated.as_ref());
    let is_known = |id: &Option<String>| id.as_ref().is_some_and(|id| !id.is_empty());
    match ended {
        Some(ended) if is_known(&ended.container_id) && ended.reason.as_deref() != Some(UNKNOWN) => {
            Container::Terminated
        }
        _ => Container::MayRun,
    }
}

/// The Lease without its holder, as an instance writes it that gives it up; at its version, so that the write is refused
/// when anybody has written since.
#[must_use]
pub fn without_holder(mut lease: Lease, now: jiff::Timestamp) -> Lease {
    let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(now);
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = None;
    spec.lease_duration_seconds = Some(1);
    spec.renew_time = Some(now.clone());
    spec.acquire_time = Some(now);
    lease
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn ended() -> Value {
        json!({
            "metadata": {
                "name": "user-db-1", "uid": "p", "resourceVersion": "7",
                "deletionTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"role": "primary"},
                "annotations": {"cnpg.io/operatorVersion": "1.30.0"},
            },
            "spec": {"containers": []},
            "status": {
                "phase": "Failed",
                "containerStatuses": [
                    {"name": "other", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                     "state": {"running": {}}},
                    {"name": "postgres", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                     "state": {"terminated": {"exitCode": 137, "containerID": "containerd://a"}}},
                ],
            },
        })
    }

    fn read(object: Value) -> rules::Pod {
        pod(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_pod_has_ended_when_its_kubelet_says_so_and_at_nothing_less() {
        let whole = read(ended());
        assert!(whole.has_ended() && whole.uid == "p" && whole.version == "7" && whole.role == Role::Primary);
        let without: [(&str, Value); 12] = [
            ("/metadata/deletionTimestamp", Value::Null),
            ("/metadata/annotations/cnpg.io~1operatorVersion", json!("1.31.0")),
            ("/metadata/annotations", Value::Null),
            ("/status/phase", json!("Running")),
            ("/status/containerStatuses", Value::Null),
            ("/status/containerStatuses/1/name", json!("postgres-2")),
            ("/status/containerStatuses/1/state", json!({"running": {}})),
            ("/status/containerStatuses/1/state", json!({"waiting": {}})),
            ("/status/containerStatuses/1/state/terminated/reason", json!("ContainerStatusUnknown")),
            ("/status/containerStatuses/1/state/terminated/containerID", json!("")),
            ("/spec/shareProcessNamespace", json!(true)),
            (
                "/status/conditions",
                json!([{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC"}]),
            ),
        ];
        for (path, value) in without {
            let mut object = ended();
            let (parent, key) = path.rsplit_once('/').unwrap();
            object.pointer_mut(parent).unwrap()[key.replace("~1", "/")] = value.clone();
            assert!(!read(object).has_ended(), "{path}: {value}");
        }
        assert!(!read(json!({"metadata": {"name": "user-db-1"}})).has_ended());
    }

    #[test]
    fn a_pod_is_out_of_touch_where_the_control_plane_alone_says_that_it_is_not_ready() {
        let with = |ready: &str, containers: &str| {
            let mut object = ended();
            object["status"]["conditions"] =
                json!([{"type": "Ready", "status": ready}, {"type": "ContainersReady", "status": containers}]);
            object["spec"]["nodeName"] = json!("a");
            read(object)
        };
        let lost = with("False", "True");
        assert!(lost.is_out_of_touch && !lost.is_ready && lost.node == "a");
        for (ready, containers) in [("True", "True"), ("False", "False"), ("Unknown", "True"), ("False", "Unknown")] {
            assert!(!with(ready, containers).is_out_of_touch, "{ready} {containers}");
        }
        assert!(!read(ended()).is_out_of_touch);
    }

    #[test]
    fn a_released_lease_has_no_holder_and_its_version_still() {
        let held = json!({"metadata": {"name": "user-db", "resourceVersion": "9"},
            "spec": {"holderIdentity": "user-db-1", "leaseDurationSeconds": 3, "leaseTransitions": 4}});
        let held: Lease = serde_json::from_value(held).unwrap();
        assert_eq!(lease(&held).holder.as_deref(), Some("user-db-1"));
        let released = without_holder(held, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(lease(&released), rules::Lease { holder: None, version: "9".into() });
        let spec = released.spec.unwrap();
        assert_eq!((spec.lease_transitions, spec.lease_duration_seconds), (Some(4), Some(1)));
    }

    #[test]
    fn a_delay_has_passed_when_the_primary_fails_since_before_it() {
        let read = |status: Value| {
            let cluster = json!({"metadata": {"resourceVersion": "9"}, "spec": {"failoverDelay": 2}, "status": status});
            delay(&serde_json::from_value(cluster).unwrap())
        };
        assert!(!read(json!({})).has_begun && !read(json!({"currentPrimaryFailingSinceTimestamp": ""})).has_begun);
        let begun = read(json!({"currentPrimaryFailingSinceTimestamp": "2026-01-01T00:00:09.500000Z"}));
        assert_eq!(begun, rules::Delay { version: "9".into(), seconds: 2, has_begun: true });
        let hasten = rules::Hasten { uid: "p".into(), version: begun.version, seconds: begun.seconds };
        assert_eq!(
            passed(&hasten, "2026-01-01T00:00:10.25Z".parse().unwrap()),
            json!({
                "metadata": {"resourceVersion": "9"},
                "status": {"currentPrimaryFailingSinceTimestamp": "2026-01-01T00:00:08.250000Z"},
            })
        );
    }

    #[test]
    fn a_cluster_without_a_status_names_nobody() {
        let read = |object| cluster(&serde_json::from_value(object).unwrap());
        assert_eq!(read(json!({"metadata": {"name": "user-db"}})), rules::Cluster::default());
        let named = read(json!({"metadata": {}, "status": {"currentPrimary": "a", "targetPrimary": "pending"}}));
        assert_eq!((named.current.as_str(), named.target.as_str()), ("a", "pending"));
        let phase = |phase: &str| {
            let cluster = json!({"metadata": {}, "status": {"phase": phase}});
            is_undisturbed(&serde_json::from_value(cluster).unwrap())
        };
        assert!(phase("Cluster in healthy state") && phase("Failing over"));
        for busy in [
            "Switchover in progress",
            "Primary instance is being restarted without a switchover",
            "Not enough disk space",
            "",
        ] {
            assert!(!phase(busy), "{busy}");
        }
    }
}
