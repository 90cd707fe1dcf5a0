//! Whether WAL is archived, and what can be restored: as the cluster knows it, without asking the store, which may
//! be the one that does not answer.

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use serde::Deserialize;

use super::{Health, PartHealth};
use crate::{
    backup::{
        Cause, Store, cause,
        secrets::{self, Side},
    },
    database::{self, Overview},
    error::Result,
    kube::{Kube, ObjectRef, operator::CnpgOperator},
    names::POSTGRES,
    ui::human,
};

const QUERY: &str = "select json_build_object(\
    'archived', to_char(last_archived_time at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
    'failing', coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false), \
    'waiting', (select count(*) from pg_ls_archive_statusdir() where name like '%.ready'), \
    'segment', pg_size_bytes(current_setting('wal_segment_size')), \
    'history', (select json_build_object('file', f.name, 'waits', ready.name is not null) from pg_ls_waldir() f \
        left join pg_ls_archive_statusdir() done on done.name = f.name || '.done' \
        left join pg_ls_archive_statusdir() ready on ready.name = f.name || '.ready' \
        where f.name = left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || '.history' \
        and done.name is null and f.modification < now() - interval '1 min')) from pg_stat_archiver";

/// From so many days before its end on, a certificate is worth a word.
const ENDS_SOON: i64 = 365;

/// What the database says of its archive.
#[derive(Debug, Deserialize)]
struct Archiver {
    archived: Option<Timestamp>,
    failing: bool,
    /// Segments that are complete and not archived.
    waiting: u64,
    /// Bytes of one.
    segment: u64,
    /// The history of the timeline that the primary writes, where it is not archived a minute after it was made.
    history: Option<UnarchivedHistory>,
}

/// A timeline's history file that is not in the archive.
#[derive(Debug, Clone, Deserialize)]
struct UnarchivedHistory {
    /// The file's name.
    file: String,
    /// Whether the archiver is to take it; otherwise nobody ever does.
    waits: bool,
}

impl UnarchivedHistory {
    /// What follows from it, and what to do: an instance that is made or restored from the archive cannot follow the primary
    /// onto its timeline, and crashes again and again (<https://github.com/cloudnative-pg/cloudnative-pg/issues/11219>).
    fn describe(&self, namespace: &str, primary: &str) -> String {
        let UnarchivedHistory { file, waits } = self;
        let why = match waits {
            true => "the archiver has not taken it yet: stackctl logs database says why".to_owned(),
            false => format!(
                "it is not marked to be archived, and never will be; kubectl -n {namespace} exec {primary} -c {POSTGRES} -- \
                 sh -c 'touch \"$PGDATA/pg_wal/archive_status/{file}.ready\"' has it archived"
            ),
        };
        format!(
            "{file}, the history of the timeline that {primary} writes, is not in the archive: instances made from it \
                 could not follow, nor a restore reach what was written since the last failover; {why}"
        )
    }
}

/// What the plugin noted of this server.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Noted {
    first_recoverability_point: Option<Timestamp>,
    last_successful_backup_time: Option<Timestamp>,
    last_failed_backup_time: Option<Timestamp>,
}

pub async fn backups(kube: &Kube, namespace: &str, cluster: &str) -> PartHealth {
    let Some(store) = Store::read(kube, namespace).await? else {
        return Ok((Health::Healthy, "none are taken".into()));
    };
    let operator = kube.operator().await?;
    if !operator.is_hidden && !plugin_answers(kube, operator).await? {
        return Ok((Health::Unhealthy, without_plugin(operator)));
    }
    let text = database::query(kube, namespace, cluster, QUERY).await?;
    let archiver: Archiver = serde_json::from_str(&text).context("the database's answer cannot be read")?;
    let primary = match archiver.failing || archiver.history.is_some() {
        true => Overview::read(kube, namespace, cluster).await?.primary.unwrap_or_default(),
        false => String::new(),
    };
    let cause = match archiver.failing {
        true => Some(cause::read(kube, namespace, &primary, &store).await?),
        false => None,
    };
    let noted = store.noted.get(cluster).cloned().map(serde_json::from_value::<Noted>).transpose();
    let noted = noted.context("the ObjectStore's status cannot be read")?.unwrap_or_default();
    let first = noted.last_successful_backup_time.is_none() && under_way(kube, namespace).await?;
    let mut days = None;
    for side in Side::ALL.into_iter().filter(|_| !operator.plugin_is_foreign) {
        let secret = kube.get(&side.reference(&operator.namespace)).await?;
        let end = secret.as_ref().and_then(secrets::not_after);
        days = days.into_iter().chain(end.map(|end| secrets::days(Timestamp::now(), end))).min();
    }
    let judged = judge(&archiver, cause.as_ref(), &noted, first, days, Timestamp::now());
    Ok(add_history(judged, archiver.history.as_ref(), namespace, &primary))
}

/// Whether a pod of the plugin is ready. Asked first: without one there may be no primary that could be asked.
async fn plugin_answers(kube: &Kube, operator: &CnpgOperator) -> Result<bool> {
    let plugins: Api<Deployment> = Api::namespaced(kube.client(), &operator.namespace);
    let plugin = plugins.get_opt(&operator.plugin).await.context("cannot read the plugin's Deployment")?;
    Ok(plugin.and_then(|plugin| plugin.status?.ready_replicas).unwrap_or(0) > 0)
}

fn without_plugin(operator: &CnpgOperator) -> String {
    let CnpgOperator { namespace, plugin, .. } = operator;
    format!(
        "no pod of the backup plugin is ready: until one is, the operator does nothing for the database, a failover \
         included; kubectl -n {namespace} describe deployment {plugin} shows why"
    )
}

fn add_history(
    (health, mut text): (Health, String),
    history: Option<&UnarchivedHistory>,
    namespace: &str,
    primary: &str,
) -> (Health, String) {
    let Some(history) = history else { return (health, text) };
    text.push_str(&format!("; {}", history.describe(namespace, primary)));
    (health.max(Health::Degraded), text)
}

fn judge(
    archiver: &Archiver,
    cause: Option<&Cause>,
    noted: &Noted,
    first_under_way: bool,
    days: Option<i64>,
    now: Timestamp,
) -> (Health, String) {
    let ago = |moment: Timestamp| format!("{} ago", human::age(now, moment));
    if archiver.failing {
        let since = match archiver.archived {
            Some(archived) => format!("WAL was last archived {}", ago(archived)),
            None => "WAL was never archived".into(),
        };
        let bytes = human::bytes(archiver.waiting * archiver.segment);
        let waiting = match archiver.waiting {
            1 => format!("1 segment ({bytes}) waits"),
            n => format!("{n} segments ({bytes}) wait"),
        };
        let what = cause.map_or("the cause is not known", |cause| &cause.what);
        let mut text = format!("{since}: {what}; the database goes on, {waiting} on its volume");
        if let Some(cause) = cause {
            text.push_str(&format!("; {}", cause.remedy));
        }
        return (Health::Degraded, text);
    }
    let wal = match archiver.archived {
        Some(archived) => format!("WAL archiving: ok, last segment {}", ago(archived)),
        None => "nothing was to be archived yet".into(),
    };
    let (base, well) = match (noted.last_successful_backup_time, noted.last_failed_backup_time) {
        (Some(done), Some(failed)) if failed > done => (format!("the base backup of {} failed", ago(failed)), false),
        (Some(done), _) => (format!("base backup {}", ago(done)), true),
        (None, _) if first_under_way => ("the first base backup is under way".into(), true),
        (None, Some(failed)) => (format!("the base backup of {} failed", ago(failed)), false),
        (None, None) => ("no base backup is known of yet (stackctl backup list asks the store itself)".into(), false),
    };
    let mut text = format!("{wal}, {base}");
    if let Some(first) = noted.first_recoverability_point {
        text.push_str(&format!(", restorable since {}", human::second(first)));
    }
    let ends = days.filter(|days| *days < ENDS_SOON);
    if let Some(days) = ends {
        text.push_str(&format!("; the plugin's certificate ends in {days} days: stackctl up renews it"));
    }
    (if well && ends.is_none() { Health::Healthy } else { Health::Degraded }, text)
}

/// Whether a base backup is being taken, or about to be.
async fn under_way(kube: &Kube, namespace: &str) -> Result<bool> {
    let any = ObjectRef::namespaced("postgresql.cnpg.io/v1", "Backup", namespace, "");
    let list = kube.api(&any).await?.list(&ListParams::default()).await.context("cannot list the base backups")?;
    let phase = |object: &DynamicObject| {
        object.data.pointer("/status/phase").and_then(|phase| phase.as_str().map(str::to_owned))
    };
    Ok(list.items.iter().any(|backup| !matches!(phase(backup).as_deref(), Some("completed" | "failed"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn now() -> Timestamp {
        at("2026-11-24T11:05:00Z")
    }

    fn archiver(failing: bool) -> Archiver {
        Archiver { archived: Some(at("2026-11-24T11:04:48Z")), failing, waiting: 3, segment: 16 << 20, history: None }
    }

    fn noted() -> Noted {
        Noted {
            first_recoverability_point: Some(at("2026-11-20T03:00:07Z")),
            last_successful_backup_time: Some(at("2026-11-24T03:00:00Z")),
            last_failed_backup_time: None,
        }
    }

    #[test]
    fn a_working_archive_tells_its_ages() {
        let (health, text) = judge(&archiver(false), None, &noted(), false, Some(1800), now());
        assert_eq!(health, Health::Healthy);
        assert_eq!(
            text,
            "WAL archiving: ok, last segment 12s ago, base backup 8h5m ago, restorable since 2026-11-20T03:00:07Z"
        );
    }

    #[test]
    fn a_failing_archive_tells_why_and_that_the_database_goes_on() {
        let cause = Cause { what: "the store is full".into(), remedy: "make room".into() };
        let judged = |archiver: &Archiver| judge(archiver, Some(&cause), &noted(), false, Some(1800), now());
        let (health, text) = judged(&archiver(true));
        assert_eq!(health, Health::Degraded);
        let wanted = "WAL was last archived 12s ago: the store is full; the database goes on, \
                      3 segments (48.0 MiB) wait on its volume; make room";
        assert_eq!(text, wanted);
        let (_, text) = judged(&Archiver { waiting: 1, ..archiver(true) });
        assert!(text.contains("1 segment (16.0 MiB) waits on its volume"), "{text}");
    }

    #[test]
    fn a_timeline_whose_history_is_not_archived_degrades_an_archive_that_works() {
        let judged = || judge(&archiver(false), None, &noted(), false, Some(1800), now());
        assert_eq!(add_history(judged(), None, "app", "db-2"), judged());
        let forgotten: UnarchivedHistory =
            serde_json::from_str(r#"{"file":"00000003.history","waits":false}"#).unwrap();
        let (health, text) = add_history(judged(), Some(&forgotten), "app", "db-2");
        assert_eq!(health, Health::Degraded);
        let remedy = "kubectl -n app exec db-2 -c postgres -- \
                      sh -c 'touch \"$PGDATA/pg_wal/archive_status/00000003.history.ready\"' has it archived";
        assert!(text.contains("00000003.history, the history of the timeline that db-2 writes"), "{text}");
        assert!(text.ends_with(remedy), "{text}");
        let (health, text) =
            add_history(judged(), Some(&UnarchivedHistory { waits: true, ..forgotten }), "app", "db-2");
        assert!(health == Health::Degraded && text.ends_with("stackctl logs database says why"), "{text}");
    }

    #[test]
    fn what_needs_a_look_degrades() {
        let judged = |noted: &Noted, days: i64| judge(&archiver(false), None, noted, false, Some(days), now());
        let (health, text) = judged(&Noted::default(), 1800);
        assert!(health == Health::Degraded && text.contains("no base backup is known of yet"), "{text}");
        let failed = Noted { last_failed_backup_time: Some(at("2026-11-24T11:00:00Z")), ..noted() };
        let (health, text) = judged(&failed, 1800);
        assert!(health == Health::Degraded && text.contains("the base backup of 5m0s ago failed"), "{text}");
        let (health, text) = judged(&noted(), 300);
        assert!(health == Health::Degraded && text.contains("ends in 300 days"), "{text}");
    }
}
