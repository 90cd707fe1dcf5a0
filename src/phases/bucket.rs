//! A place of backups that is new to a stack: a bucket is asked before anything goes to it, and a running database
//! begins anew there.

use std::time::Duration;

use anyhow::Context as _;
use kube::api::Patch;
use serde_json::json;

use crate::{
    backup::{BaseBackup, CA_KEY, Catalog, KEY_ID, OBJECT_STORE, SECRET_KEY, Store, base, store},
    config::{Backup, BackupStore},
    context::Context,
    database,
    desired::backup::{self, wanted_store},
    error::{Failure, Result, failed},
    kube::{ObjectRef, cnpg::ClusterStatus, merge_params},
    names::FIELD_MANAGER,
    ui::{Event, PhaseId, human},
};

/// For so long an instance may go by what it read of the ObjectStore: the plugin's `DefaultTTLSeconds`, and one more.
const READ_ANEW_AFTER: Duration = Duration::from_secs(11);

/// Checks a bucket's Secrets: without them a database would never archive, and nothing but its log would say why.
///
/// # Errors
/// One is not there, or lacks a key.
pub async fn check_secret(cx: &Context, backup: &Backup) -> Result<()> {
    let BackupStore::Bucket { secret, ca, .. } = &backup.store else { return Ok(()) };
    let namespace = &cx.config.stack.namespace;
    let credentials = ("--backup-s3", secret, &[KEY_ID, SECRET_KEY][..]);
    let authority = ca.as_ref().map(|ca| ("--backup-s3-ca", ca, &[CA_KEY][..]));
    for (flag, secret, keys) in [credentials].into_iter().chain(authority) {
        match store::lacks(cx.kube().await?, namespace, secret, keys).await? {
            Some(lacking) if lacking.is_empty() => {}
            lacking => return Err(unusable(flag, namespace, secret, keys, lacking.as_deref()).into()),
        }
    }
    Ok(())
}

fn unusable(flag: &str, namespace: &str, secret: &str, keys: &[&str], lacking: Option<&[&str]>) -> Failure {
    let named = format!("Secret {namespace}/{secret}, which {flag} names,");
    let files: String = keys.iter().map(|key| format!(" --from-file={key}=FILE")).collect();
    let make = format!("kubectl -n {namespace} create secret generic {secret}{files}");
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
    let operator = kube.operator().await?;
    let is_asked_otherwise = (&used.secret, &used.region, &used.ca) != (&wanted.secret, &wanted.region, &wanted.ca);
    if (moved || is_asked_otherwise)
        && (operator.is_hidden || kube.get(&operator.plugin_reference()).await?.is_some())
        && let Some(held) = ask(cx, &wanted).await?
    {
        let cluster = cx.database().await?;
        let live = kube.get(&database::reference(namespace, &cluster)).await?;
        let ours = live.map(|live| ClusterStatus::of(&live).system_id);
        refuse_another(&held, &cluster, ours.as_deref(), &wanted)?;
    }
    Ok(moved)
}

/// Looks, before a new database is made, whether the bucket has another one's backups under its name: the two would be
/// one archive that nobody could restore.
///
/// # Errors
/// It has; or as [`is_new`].
pub async fn check_for_another(cx: &Context) -> Result<()> {
    let (kube, namespace, cluster) = (cx.kube().await?, &cx.config.stack.namespace, cx.database().await?);
    let Some(wanted) = wanted_store(cx).await?.filter(|wanted| !wanted.is_in_cluster()) else { return Ok(()) };
    // A database whose volumes were kept goes on with its own archive.
    if database::is_there(kube, namespace, &cluster).await? {
        return Ok(());
    }
    if kube.operator().await?.is_hidden {
        let text = format!(
            "whether {} has another database's backups is not asked beforehand: you may not look at the plugin",
            wanted.describe()
        );
        cx.reporter.send(Event::Warning { phase: PhaseId::Backup, text });
        return Ok(());
    }
    let held = ask(cx, &wanted).await?.unwrap_or_default();
    refuse_another(&held, &cluster, None, &wanted)
}

/// Refuses a store that holds what another database has archived under the name `server`. `ours`: the identifier of the
/// stack's own, if there is one already.
fn refuse_another(held: &Catalog, server: &str, ours: Option<&str>, store: &Store) -> Result<()> {
    let Some(there) = held.servers.get(server) else { return Ok(()) };
    let is_ours = |backup: &BaseBackup| ours.is_some() && backup.system_id.as_deref() == ours;
    if !there.backups.is_empty() && there.backups.iter().all(is_ours) {
        return Ok(());
    }
    let wal =
        there.wal.as_ref().map_or_else(String::new, |wal| format!(" and WAL up to {}", human::second(wal.archived)));
    let what = format!("{} base backups{wal}", there.backups.len());
    Err(failed(format!(
        "{} already has backups under the name {server}, which are not this stack's ({what}): two databases in one \
         archive could not be restored",
        store.describe()
    ))
    .remedy("name a folder of the stack's own: --backup-s3 ENDPOINT,BUCKET/FOLDER,SECRET")
    .remedy("or remove what is there, if nobody needs it any more")
    .into())
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

/// Asks what a bucket holds. The store in the cluster is not asked: it is stackctl's own, and may not run yet.
async fn ask(cx: &Context, wanted: &Store) -> Result<Option<Catalog>> {
    if wanted.is_in_cluster() {
        return Ok(None);
    }
    cx.doing(PhaseId::Backup, format!("asking whether {} can be used", wanted.describe()));
    wanted.catalog(cx.kube().await?, &cx.config.stack.namespace, cx.deadline).await.map(Some)
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
    fn a_bucket_with_another_database_under_the_same_name_is_refused() {
        let store = Store {
            endpoint: "https://s3".into(),
            destination: "s3://b".into(),
            secret: "keys".into(),
            region: None,
            ca: None,
            pull_secret: None,
            keep: None,
            noted: json!({}),
        };
        let held = |backups: &serde_json::Value| {
            let wal =
                json!({"first": "0", "last": "1", "segments": [], "stored": 1, "archived": "2026-11-24T11:05:00Z"});
            let text = json!({"servers": {"user-db": {"backups": backups, "wal": wal}}}).to_string();
            Catalog::parse(&text, "s", "x").unwrap()
        };
        let of = |id: &str| json!({"id": "1", "stored": 1, "systemid": id});
        for (backups, ours, is_refused) in [
            (json!([of("7")]), None, true),
            (json!([of("7")]), Some("8"), true),
            (json!([of("7"), of("8")]), Some("8"), true),
            (json!([of("8"), of("8")]), Some("8"), false),
            (json!([]), Some("8"), true),
        ] {
            let outcome = refuse_another(&held(&backups), "user-db", ours, &store);
            assert_eq!(outcome.is_err(), is_refused, "{backups} {ours:?}");
        }
        assert!(refuse_another(&held(&json!([])), "another", None, &store).is_ok());
        let refusal = refuse_another(&held(&json!([of("7")])), "user-db", None, &store).unwrap_err().to_string();
        assert!(refusal.contains("(1 base backups and WAL up to 2026-11-24T11:05:00Z)"), "{refusal}");
    }

    #[test]
    fn a_missing_secret_is_told_from_one_that_lacks_a_key() {
        let told = |lacking: Option<&[&str]>| {
            let error = unusable("--backup-s3", "team-a", "keys", &[KEY_ID, SECRET_KEY], lacking).into();
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
