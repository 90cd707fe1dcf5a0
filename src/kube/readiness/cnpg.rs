//! CloudNativePG's kinds.
//!
//! A `Cluster` has no `observedGeneration`, and a fresh one no conditions at all: it is ready only when
//! every sign says so, and the counts are compared with what the spec asks for now. Nor does a phase say what spec or
//! what plugins it is about: one that the operator calls final may be of before, so none ends a wait at once (the
//! problem that `explain` makes of it does, once it has lasted).

use kube::api::DynamicObject;
use serde_json::Value;

use super::{
    super::cnpg::{ClusterStatus, HEALTHY},
    Readiness, condition, failed, number, progressing, text,
};

/// All instances are ready, the primary is the one that was chosen, and the operator calls it healthy.
pub(super) fn cluster(object: &DynamicObject) -> Readiness {
    let status = ClusterStatus::of(object);
    let count = format!("{}/{} instances ready", status.ready, status.wanted);
    if status.phase.is_empty() {
        return progressing("waiting for the operator");
    }
    if status.phase != HEALTHY {
        return progressing(format!("{count}: {}", lower_first(&status.phase)));
    }
    let Some(primary) = status.settled_primary() else {
        return progressing(format!("{count}, the primary is changing"));
    };
    if status.ready != status.wanted || status.present != status.wanted {
        return progressing(count);
    }
    match condition(object, "Ready") {
        Some(condition) if condition.status == "True" => Readiness::Ready(format!("{count}, primary {primary}")),
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

/// A Backup is ready when it completed.
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
