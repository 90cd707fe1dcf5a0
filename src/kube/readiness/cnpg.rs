//! CloudNativePG's kinds.
//!
//! A `Cluster` has no `observedGeneration`, and a fresh one no conditions at all: it is ready only when
//! every sign says so, and the counts are compared with what the spec asks for now.

use kube::api::DynamicObject;
use serde_json::Value;

use super::{Readiness, condition, failed, number, progressing, text};

/// The operator's word for a healthy cluster.
const HEALTHY: &str = "Cluster in healthy state";

/// Phases that the operator does not leave by itself.
const STUCK: [&str; 6] = [
    "Cluster is unrecoverable and needs manual intervention",
    "Cluster cannot proceed to reconciliation due to an unknown plugin being required",
    "Cluster has incomplete or invalid image catalog",
    "Cluster cannot execute instance online upgrade due to missing architecture binary",
    "Invalid cluster definition",
    "Waiting for user action",
];

/// All instances are ready, the primary is the one that was chosen, and the operator calls it healthy.
pub(super) fn cluster(object: &DynamicObject) -> Readiness {
    let wanted = object.data.pointer("/spec/instances").and_then(Value::as_i64).unwrap_or(1);
    let ready = number(object, "/status/readyInstances");
    let present = number(object, "/status/instances");
    let phase = text(object, "/status/phase");
    let count = format!("{ready}/{wanted} instances ready");
    if phase.is_empty() {
        return progressing("waiting for the operator");
    }
    if STUCK.contains(&phase) {
        return failed(phase, text(object, "/status/phaseReason"));
    }
    if phase != HEALTHY {
        return progressing(format!("{count}: {}", lower_first(phase)));
    }
    let (current, target) = (text(object, "/status/currentPrimary"), text(object, "/status/targetPrimary"));
    if current.is_empty() || current != target {
        return progressing(format!("{count}, the primary is changing"));
    }
    if ready != wanted || present != wanted {
        return progressing(count);
    }
    match condition(object, "Ready") {
        Some(condition) if condition.status == "True" => Readiness::Ready(format!("{count}, primary {current}")),
        _ => progressing(count),
    }
}

/// Kinds whose status says whether they were applied in the database.
pub(super) fn applied(object: &DynamicObject) -> Readiness {
    let seen = number(object, "/status/observedGeneration") >= object.metadata.generation.unwrap_or(0);
    match object.data.pointer("/status/applied").and_then(Value::as_bool) {
        Some(true) if seen => Readiness::Ready("applied".into()),
        Some(false) => progressing(text(object, "/status/message")),
        _ => progressing("not applied yet"),
    }
}

/// It completed.
pub(super) fn backup(object: &DynamicObject) -> Readiness {
    match text(object, "/status/phase") {
        "completed" => Readiness::Ready("completed".into()),
        "failed" | "walArchivingFailing" => failed("BackupFailed", text(object, "/status/error")),
        "" => progressing("waiting for the operator"),
        phase => progressing(phase),
    }
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
