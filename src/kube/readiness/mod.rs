//! Whether an object is ready, by its kind, from its status alone.
//!
//! No predicate takes "nothing is known yet" for ready: a status that is older than the object's spec
//! (`observedGeneration`) is [`Readiness::Progressing`].

mod cluster_scoped;
mod cnpg;
mod workloads;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::DynamicObject;
use serde_json::Value;

use super::ObjectRef;

/// How ready an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Ready; the text says what that means here, e.g. `2/2 pods ready`, and may be empty.
    Ready(String),
    /// Not yet; the text says how far it is.
    Progressing(String),
    /// It will not become ready by itself.
    Failed {
        /// One word of the API, e.g. `ProgressDeadlineExceeded`.
        reason: String,
        /// The cluster's own words.
        message: String,
    },
}

impl Readiness {
    /// Whether it is [`Readiness::Ready`].
    pub fn is_ready(&self) -> bool {
        matches!(self, Readiness::Ready(_))
    }

    /// The text to show.
    pub fn detail(&self) -> String {
        match self {
            Readiness::Ready(text) | Readiness::Progressing(text) => text.clone(),
            Readiness::Failed { reason, message } if message.is_empty() => reason.clone(),
            Readiness::Failed { reason, message } => format!("{reason}: {message}"),
        }
    }
}

/// Tells the readiness of objects of one kind from their status.
type Predicate = fn(&DynamicObject) -> Readiness;

/// The one list of kinds whose objects can exist without being ready.
fn predicate(group: &str, kind: &str) -> Option<Predicate> {
    Some(match (group, kind) {
        ("apps", "Deployment") => workloads::deployment,
        ("apps", "StatefulSet") => workloads::stateful_set,
        ("apps", "DaemonSet") => workloads::daemon_set,
        ("batch", "Job") => workloads::job,
        ("", "Pod") => workloads::pod,
        ("", "PersistentVolumeClaim") => workloads::claim,
        ("", "Service") => workloads::service,
        ("autoscaling", "HorizontalPodAutoscaler") => workloads::autoscaler,
        ("", "Namespace") => cluster_scoped::namespace,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => cluster_scoped::definition,
        ("apiregistration.k8s.io", "APIService") => cluster_scoped::api_service,
        ("postgresql.cnpg.io", "Cluster") => cnpg::cluster,
        ("postgresql.cnpg.io", "Database" | "Publication" | "Subscription") => cnpg::applied,
        ("postgresql.cnpg.io", "Backup") => cnpg::backup,
        _ => return None,
    })
}

/// The readiness of a live object; `None` for kinds whose objects are ready as soon as they exist.
pub fn readiness(object: &DynamicObject) -> Option<Readiness> {
    let Some(types) = &object.types else { return Some(progressing("its kind is not known")) };
    let group = types.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    if object.metadata.deletion_timestamp.is_some() {
        return Some(progressing("being deleted"));
    }
    predicate(group, &types.kind).map(|readiness| readiness(object))
}

/// Whether a live object is ready, or of a kind that is as soon as it exists.
pub fn is_ready(object: &DynamicObject) -> bool {
    readiness(object).is_none_or(|readiness| readiness.is_ready())
}

impl ObjectRef {
    /// Whether objects of this kind can exist without being ready, so that they are worth waiting for.
    pub fn has_readiness(&self) -> bool {
        predicate(self.group(), &self.kind).is_some()
    }
}

fn progressing(text: impl Into<String>) -> Readiness {
    Readiness::Progressing(text.into())
}

fn failed(reason: &str, message: &str) -> Readiness {
    Readiness::Failed { reason: reason.into(), message: message.into() }
}

/// A number at a JSON pointer; 0 where there is none, as the API leaves zeros out.
fn number(object: &DynamicObject, pointer: &str) -> i64 {
    object.data.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// A text at a JSON pointer; empty where there is none.
fn text<'a>(object: &'a DynamicObject, pointer: &str) -> &'a str {
    object.data.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// Whether the controller has seen the object's latest spec.
fn observed(object: &DynamicObject) -> bool {
    number(object, "/status/observedGeneration") >= object.metadata.generation.unwrap_or(0)
}

/// A condition of `status.conditions`.
pub(super) struct Condition<'a> {
    pub status: &'a str,
    pub reason: &'a str,
    pub message: &'a str,
}

/// The condition of a type, if the status has it.
pub(super) fn condition<'a>(object: &'a DynamicObject, kind: &str) -> Option<Condition<'a>> {
    let conditions = object.data.pointer("/status/conditions")?.as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    let field = |name: &str| found[name].as_str().unwrap_or("");
    Some(Condition { status: field("status"), reason: field("reason"), message: field("message") })
}

/// Seconds since `time`; 0 for the future, which clocks that differ make.
pub(super) fn age_seconds(time: &Time) -> u64 {
    let seconds = jiff::Timestamp::now().duration_since(time.0).as_secs();
    u64::try_from(seconds).unwrap_or(0)
}

#[cfg(test)]
mod tests;
