//! A place of backups that is new to a stack: a bucket is asked before anything goes to it, and a running database
//! begins anew there.

use std::time::Duration;

use anyhow::Context as _;
use kube::api::Patch;
use serde_json::json;

use crate::{
    backup::{KEY_ID, OBJECT_STORE, SECRET_KEY, Store, base, store},
    config::{Backup, BackupStore},
    context::Context,
    database,
    desired::backup::{self, wanted_store},
    error::{Failure, Result, failed},
    kube::{ObjectRef, merge_params},
    names::FIELD_MANAGER,
    ui::PhaseId,
};

/// For so long an instance may go by what it read of the ObjectStore: the plugin's `DefaultTTLSeconds`, and one more.
const READ_ANEW_AFTER: Duration = Duration::from_secs(11);

/// Checks a bucket's Secret: without it a database would never archive, and nothing but its log would say why.
///
/// # Errors
/// It is not there, or lacks a key.
pub async fn check_secret(cx: &Context, backup: &Backup) -> Result<()> {
    let BackupStore::Bucket { secret, .. } = &backup.store else { return Ok(()) };
    let namespace = &cx.config.stack.namespace;
    match store::lacks(cx.kube().await?, namespace, secret).await? {
        Some(lacking) if lacking.is_empty() => Ok(()),
        lacking => Err(unusable(namespace, secret, lacking.as_deref()).into()),
    }
}

fn unusable(namespace: &str, secret: &str, lacking: Option<&[&str]>) -> Failure {
    let named = format!("Secret {namespace}/{secret}, which --backup-s3 names,");
    let make = format!(
        "kubectl -n {namespace} create secret generic {secret} --from-file={KEY_ID}=FILE --from-file={SECRET_KEY}=FILE"
    );
    match lacking {
        None => failed(format!("{named} is not there")).remedy(make),
        Some(lacking) => failed(format!("{named} lacks {}", lacking.join(" and ")))
            .remedy(format!("{make} --dry-run=client -o yaml | kubectl apply -f -")),
    }
}

/// Whether the stack's backups go elsewhere so far. A bucket is asked then, before anything is changed, whether it
/// takes the keys, as it is where only they are others.
///
/// # Errors
/// It refuses, has no such bucket, or does not answer.
pub async fn is_new(cx: &Context) -> Result<bool> {
    let (kube, namespace) = (cx.kube().await?, &cx.config.stack.namespace);
    let (Some(used), Some(wanted)) = (Store::read(kube, namespace).await?, wanted_store(cx).await?) else {
        return Ok(false);
    };
    let moved = used.describe() != wanted.describe();
    let plugin = kube.operator().await?.plugin_reference();
    if (moved || used.secret != wanted.secret) && kube.get(&plugin).await?.is_some() {
        ask(cx, &wanted).await?;
    }
    Ok(moved)
}

/// Asks a bucket that no WAL has been archived in yet: on a new stack nothing else tells what is wrong with it.
///
/// # Errors
/// As [`is_new`].
pub async fn check_unused(cx: &Context) -> Result<()> {
    let is_bucket = backup::wanted(cx).is_some_and(|backup| matches!(backup.store, BackupStore::Bucket { .. }));
    if is_bucket
        && database::archives_wal(cx.kube().await?, &cx.config.stack.namespace, &cx.database().await?).await?
            != Some(true)
        && let Some(wanted) = wanted_store(cx).await?
    {
        ask(cx, &wanted).await?;
    }
    Ok(())
}

/// The store in the cluster is not asked: it is stackctl's own, and may not run yet.
async fn ask(cx: &Context, wanted: &Store) -> Result<()> {
    if wanted.is_in_cluster() {
        return Ok(());
    }
    cx.doing(PhaseId::Backup, format!("asking whether {} can be used", wanted.describe()));
    wanted.catalog(cx.kube().await?, &cx.config.stack.namespace, cx.deadline).await?;
    Ok(())
}

/// Has a running database take a base backup: the WAL that it archives in its new place is of no use without one, and
/// the next is due at night. What the plugin noted of the former place is struck out.
///
/// # Errors
/// The API server refuses, or the primary cannot be asked.
pub async fn begin_anew(cx: &Context) -> Result<()> {
    let (kube, namespace, cluster) = (cx.kube().await?, &cx.config.stack.namespace, cx.database().await?);
    if kube.get(&database::reference(namespace, &cluster)).await?.is_none() {
        return Ok(());
    }
    cx.doing(PhaseId::Backup, "waiting until every instance goes by the new place");
    tokio::time::sleep(READ_ANEW_AFTER).await;
    let store = ObjectRef::namespaced("barmancloud.cnpg.io/v1", "ObjectStore", namespace, OBJECT_STORE);
    let noted = Patch::Merge(json!({"status": {"serverRecoveryWindow": null}}));
    let params = merge_params(FIELD_MANAGER);
    let patched = kube.api(&store).await?.patch_status(OBJECT_STORE, &params, &noted).await;
    patched.with_context(|| format!("cannot write the status of {store}"))?;
    // A base backup starts at the last checkpoint: at one before this, the WAL that it needs is in the former place.
    database::query(kube, namespace, &cluster, "checkpoint").await?;
    base::request(kube, namespace, &cluster).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::remedies_of;

    #[test]
    fn a_missing_secret_is_told_from_one_that_lacks_a_key() {
        let told = |lacking: Option<&[&str]>| {
            let error = unusable("team-a", "keys", lacking).into();
            (format!("{error}"), remedies_of(&error).join("\n"))
        };
        let (message, remedy) = told(None);
        assert_eq!(message, "Secret team-a/keys, which --backup-s3 names, is not there");
        assert!(remedy.starts_with("kubectl -n team-a create secret generic keys --from-file=ACCESS_KEY_ID=FILE"));
        let (message, remedy) = told(Some(&[SECRET_KEY]));
        assert_eq!(message, "Secret team-a/keys, which --backup-s3 names, lacks SECRET_ACCESS_KEY");
        assert!(remedy.ends_with("| kubectl apply -f -"), "a Secret that is there cannot be created: {remedy}");
    }
}
