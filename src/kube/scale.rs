//! The number of a workload's pods.

use kube::api::Patch;
use serde_json::json;

use super::{Kube, ObjectRef, merge_params};
use crate::error::Result;

/// Sets how many pods a workload has, through its scale subresource. `manager` is written down as the one that
/// set it; applying the workload without `spec.replicas` leaves the number alone.
///
/// # Errors
/// The object is not there or cannot be scaled; the server's refusal.
pub async fn scale(kube: &Kube, object: &ObjectRef, replicas: i64, manager: &str) -> Result<()> {
    let api = kube.api(object).await?;
    let params = merge_params(manager);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    kube.call(&format!("scale {object}"), || api.patch_scale(&object.name, &params, &patch)).await?;
    Ok(())
}
