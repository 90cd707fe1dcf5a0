//! What a pod's status says.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};

/// Whether a pod is ready: it serves, and is not being deleted.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

/// How the container `name` of a pod ended; `None` while it waits or runs. A container that a webhook has put beside it may go
/// on for ever, and with it the pod, and the Job that the pod is of.
pub fn end_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStateTerminated> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    containers.iter().find(|container| container.name == name)?.state.as_ref()?.terminated.as_ref()
}
