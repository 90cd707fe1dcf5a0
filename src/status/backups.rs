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
    ui::human,
};

const QUERY: &str = "select json_build_object(\
    'archived', to_char(last_archived_time at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
    'failing', coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false), \
    'waiting', (select count(*) from pg_ls_archive_statusdir() where name like '%.ready'), \
    'segment', pg_size_bytes(current_setting('wal_segment_size'))) from pg_stat_archiver";

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
    if !plugin_answers(kube, operator).await? {
        return Ok((Health::Unhealthy, without_plugin(operator)));
    }
    let text = database::query(kube, namespace, cluster, QUERY).await?;
    let archiver: Archiver = serde_json::from_str(&text).context("the database's answer cannot be read")?;
    let cause = match archiver.failing {
        true => {
            let primary = Overview::read(kube, namespace, cluster).await?.primary.unwrap_or_default();
            Some(cause::read(kube, namespace, &primary, &store).await?)
        }
        false => None,
    };
    let noted = store.noted.get(cluster).cloned().map(serde_json::from_value::<Noted>).transpose();
    let noted = noted.context("the ObjectStore's status cannot be read")?.unwrap_or_default();
    let first = noted.last_successful_backup_time.is_none() && under_way(kube, namespace).await?;
    let mut days = None;
    for side in Side::ALL {
        let secret = kube.get(&side.reference(&operator.namespace)).await?;
        let end = secret.as_ref().and_then(secrets::not_after);
        days = days.into_iter().chain(end.map(|end| secrets::days(Timestamp::now(), end))).min();
    }
    Ok(judge(&archiver, cause.as_ref(), &noted, first, days, Timestamp::now()))
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
        Archiver { archived: Some(at("2026-11-24T11:04:48Z")), failing, waiting: 3, segment: 16 << 20 }
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
