//! Pods, what makes them, and what stands in front of or below them.

use kube::api::DynamicObject;
use serde_json::Value;

use super::{Readiness, condition, failed, number, observed, progressing, text};

/// All replicas that are wanted are of the latest revision and available, and no old one is left.
pub(super) fn deployment(object: &DynamicObject) -> Readiness {
    if let Some(progress) = condition(object, "Progressing")
        && progress.status == "False"
        && observed(object)
    {
        return failed(progress.reason, progress.message);
    }
    let wanted = object.data.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    let updated = number(object, "/status/updatedReplicas");
    let available = number(object, "/status/availableReplicas");
    let total = number(object, "/status/replicas");
    let count = format!("{available}/{wanted} pods ready");
    if !observed(object) {
        return progressing("waiting for its controller");
    }
    if updated < wanted {
        return progressing(format!("{count}, {updated} of the latest revision"));
    }
    if total > updated {
        return progressing(format!("{count}, {} old pods are ending", total - updated));
    }
    if available < wanted {
        return progressing(count);
    }
    Readiness::Ready(count)
}

/// All pods are of the latest revision and ready.
pub(super) fn stateful_set(object: &DynamicObject) -> Readiness {
    let wanted = object.data.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    let ready = number(object, "/status/readyReplicas");
    let updated = number(object, "/status/updatedReplicas");
    let count = format!("{ready}/{wanted} pods ready");
    if !observed(object) {
        return progressing("waiting for its controller");
    }
    if text(object, "/spec/updateStrategy/type") == "OnDelete" {
        return if ready >= wanted { Readiness::Ready(count) } else { progressing(count) };
    }
    let partition = number(object, "/spec/updateStrategy/rollingUpdate/partition");
    if updated < wanted - partition {
        return progressing(format!("{count}, {updated} of the latest revision"));
    }
    if ready < wanted {
        return progressing(count);
    }
    Readiness::Ready(count)
}

/// A pod of the latest revision is available on every node that should have one.
pub(super) fn daemon_set(object: &DynamicObject) -> Readiness {
    let wanted = number(object, "/status/desiredNumberScheduled");
    let updated = number(object, "/status/updatedNumberScheduled");
    let available = number(object, "/status/numberAvailable");
    let count = format!("{available}/{wanted} pods ready");
    if !observed(object) {
        return progressing("waiting for its controller");
    }
    let on_delete = text(object, "/spec/updateStrategy/type") == "OnDelete";
    if (!on_delete && updated < wanted) || available < wanted {
        return progressing(count);
    }
    Readiness::Ready(count)
}

/// A Job is ready when it completed.
pub(super) fn job(object: &DynamicObject) -> Readiness {
    if let Some(end) = condition(object, "Failed").filter(|condition| condition.status == "True") {
        return failed(end.reason, end.message);
    }
    if condition(object, "Complete").is_some_and(|condition| condition.status == "True") {
        return Readiness::Ready("completed".into());
    }
    let failures = number(object, "/status/failed");
    let active = number(object, "/status/active");
    progressing(match (active, failures) {
        (0, 0) => "waiting for its pod".to_owned(),
        (active, 0) => format!("{active} running"),
        (active, failures) => format!("{active} running, {failures} failed"),
    })
}

/// A Pod is ready when its `Ready` condition holds, or it succeeded.
pub(super) fn pod(object: &DynamicObject) -> Readiness {
    match text(object, "/status/phase") {
        "Succeeded" => return Readiness::Ready("completed".into()),
        "Failed" => return failed(or(text(object, "/status/reason"), "Failed"), text(object, "/status/message")),
        _ => {}
    }
    match condition(object, "Ready") {
        Some(ready) if ready.status == "True" => Readiness::Ready("ready".into()),
        Some(ready) => progressing(or(ready.message, or(text(object, "/status/phase"), "Pending"))),
        None => progressing(or(text(object, "/status/phase"), "Pending")),
    }
}

/// A PersistentVolumeClaim is ready when it is bound to a volume.
pub(super) fn claim(object: &DynamicObject) -> Readiness {
    match text(object, "/status/phase") {
        "Bound" => Readiness::Ready(format!("bound, {}", text(object, "/status/capacity/storage"))),
        "Lost" => failed("Lost", "the volume that it was bound to is gone"),
        _ => progressing("not bound to a volume yet"),
    }
}

/// A Service is ready when it has an address; whether pods stand behind it is their own readiness.
pub(super) fn service(object: &DynamicObject) -> Readiness {
    match text(object, "/spec/type") {
        "ExternalName" => Readiness::Ready(String::new()),
        "LoadBalancer" => {
            let ingress = object.data.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
            match ingress.and_then(|all| all.first()) {
                Some(first) => {
                    let address = first["ip"].as_str().or_else(|| first["hostname"].as_str()).unwrap_or("");
                    Readiness::Ready(address.into())
                }
                None => progressing("no address from the load balancer yet"),
            }
        }
        _ if text(object, "/spec/clusterIP").is_empty() => progressing("no address yet"),
        _ => Readiness::Ready(String::new()),
    }
}

/// A HorizontalPodAutoscaler is ready when it reads its metrics and can scale.
pub(super) fn autoscaler(object: &DynamicObject) -> Readiness {
    let (Some(able), Some(active)) = (condition(object, "AbleToScale"), condition(object, "ScalingActive")) else {
        return progressing("waiting for its controller");
    };
    if able.status != "True" {
        return progressing(or(able.message, able.reason));
    }
    if active.status != "True" {
        return progressing(or(active.message, active.reason));
    }
    Readiness::Ready(format!(
        "{} replicas, {} to {}",
        number(object, "/status/currentReplicas"),
        object.data.pointer("/spec/minReplicas").and_then(Value::as_i64).unwrap_or(1),
        number(object, "/spec/maxReplicas"),
    ))
}

fn or<'a>(text: &'a str, fallback: &'a str) -> &'a str {
    if text.is_empty() { fallback } else { text }
}
