//! Asking for a base backup.

use std::time::{Duration, Instant};

use kube::api::{DynamicObject, PostParams};
use serde_json::json;

use super::{PLUGIN, stamp};
use crate::{
    error::{Result, failed},
    kube::{Kube, ObjectRef, wait_ready},
};

/// Has a base backup of `cluster` taken, and waits until it is.
///
/// # Errors
/// As [`request`]; the backup fails, or is not done `within` this time.
pub async fn take(kube: &Kube, namespace: &str, cluster: &str, within: Duration) -> Result<()> {
    let deadline = Instant::now() + within;
    let backup = request(kube, namespace, cluster).await?;
    wait_ready(kube, &[backup], deadline, &|_| {}).await
}

/// Asks the operator for a base backup of `cluster`, and names the object that tells how it goes.
///
/// # Errors
/// The API server refuses.
pub async fn request(kube: &Kube, namespace: &str, cluster: &str) -> Result<ObjectRef> {
    let name = format!("{cluster}-{}", stamp());
    let object = ObjectRef::namespaced("postgresql.cnpg.io/v1", "Backup", namespace, &name);
    let backup: DynamicObject = serde_json::from_value(json!({
        "apiVersion": object.api_version, "kind": object.kind,
        "metadata": {
            "name": object.name, "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "stackctl", "app.kubernetes.io/part-of": "stackctl"},
        },
        "spec": {"cluster": {"name": cluster}, "method": "plugin", "pluginConfiguration": {"name": PLUGIN}},
    }))?;
    kube.api(&object).await?.create(&PostParams::default(), &backup).await.map_err(|error| {
        failed(format!("cannot ask for a backup: {error}")).remedy("stackctl status tells how the database is")
    })?;
    Ok(object)
}
