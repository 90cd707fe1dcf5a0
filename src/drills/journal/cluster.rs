//! The record in the cluster: a ConfigMap, which is there while a drill runs, and no second one beside it.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, Patch},
};
use serde_json::json;

use super::DrillRecord;
use crate::{
    drills::target::DrillTarget,
    error::Result,
    kube::{merge_params, post_params},
    names::{DRILL_MANAGER, DRILL_RECORD as NAME, DRILL_RECORD_KEY as KEY},
};

/// Reads the cluster's UID: that of its namespace `kube-system`, which lives as long as the cluster; or, for whoever may look
/// into one namespace alone, that of the stack's.
///
/// # Errors
/// The API's refusal.
pub async fn uid(target: &DrillTarget) -> Result<String> {
    let namespaces: Api<Namespace> = Api::all(target.kube.client());
    let found = match namespaces.get("kube-system").await {
        Err(kube::Error::Api(status)) if status.code == 403 => namespaces.get(&target.namespace).await,
        found => found,
    };
    let found = found.context("cannot tell which cluster it is")?;
    found.metadata.uid.context("a namespace without a UID")
}

/// Writes the record.
///
/// # Errors
/// There is one already, or the API's refusal.
pub async fn create(target: &DrillTarget, record: &DrillRecord) -> Result<()> {
    let data = [(KEY.to_owned(), serde_json::to_string(record)?)].into();
    let map = ConfigMap {
        metadata: ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() },
        data: Some(data),
        ..ConfigMap::default()
    };
    target
        .api::<ConfigMap>()
        .create(&post_params(DRILL_MANAGER), &map)
        .await
        .context("cannot write the drill's record")?;
    Ok(())
}

/// Writes the record that is there anew.
///
/// # Errors
/// The API's refusal.
pub async fn update(target: &DrillTarget, record: &DrillRecord) -> Result<()> {
    let patch = Patch::Merge(json!({"data": {KEY: serde_json::to_string(record)?}}));
    target
        .api::<ConfigMap>()
        .patch(NAME, &merge_params(DRILL_MANAGER), &patch)
        .await
        .context("cannot write the drill's record")?;
    Ok(())
}

/// Reads the record, if there is one.
///
/// # Errors
/// The API's refusal; a record that can't be read.
pub async fn read(target: &DrillTarget) -> Result<Option<DrillRecord>> {
    let found = target.api::<ConfigMap>().get_opt(NAME).await.context("cannot look for the record of a drill")?;
    let text = found.and_then(|map| map.data?.remove(KEY));
    text.map(|text| serde_json::from_str(&text).context("the record of a drill can't be read")).transpose()
}

/// Removes the record.
///
/// # Errors
/// The API's refusal.
pub async fn remove(target: &DrillTarget) -> Result<()> {
    target
        .api::<ConfigMap>()
        .delete(NAME, &DeleteParams::default())
        .await
        .context("cannot remove the drill's record")?;
    Ok(())
}
