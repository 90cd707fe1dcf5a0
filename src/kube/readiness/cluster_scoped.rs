//! Namespaces, and what extends the API.

use kube::api::DynamicObject;

use super::{Readiness, condition, failed, progressing, text};

/// A Namespace is ready when it is active.
pub(super) fn namespace(object: &DynamicObject) -> Readiness {
    match text(object, "/status/phase") {
        "Active" => Readiness::Ready(String::new()),
        phase => progressing(if phase.is_empty() { "being created" } else { phase }),
    }
}

/// The API server serves its kind.
pub(super) fn definition(object: &DynamicObject) -> Readiness {
    if let Some(names) = condition(object, "NamesAccepted")
        && names.status == "False"
        && names.reason != "NotAccepted"
    {
        return failed(names.reason, names.message);
    }
    match condition(object, "Established") {
        Some(established) if established.status == "True" => Readiness::Ready("established".into()),
        _ => progressing("not served yet"),
    }
}

/// The server behind it answers.
pub(super) fn api_service(object: &DynamicObject) -> Readiness {
    match condition(object, "Available") {
        Some(available) if available.status == "True" => Readiness::Ready("available".into()),
        Some(available) => progressing(available.message),
        None => progressing("not asked yet"),
    }
}
