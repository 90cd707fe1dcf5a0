//! Whether the log is archived, and what can be restored: as the cluster knows it, without asking the store, which may
//! be the one that does not answer.

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::Pod,
};
use kube::{
    Api,
    api::{DynamicObject, ListParams, LogParams},
};
use serde::Deserialize;

use super::{Health, Verdict};
use crate::{
    backup::{
        PLUGIN_DEPLOYMENT, PLUGIN_NAMESPACE, STORE, Store,
        secrets::{self, Side},
    },
    database::{self, Overview},
    error::Result,
    kube::{Kube, ObjectRef},
    ui::human,
};

const QUERY: &str = "select json_build_object(\
    'archived', to_char(last_archived_time at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
    'failing', coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false), \
    'waiting', (select count(*) from pg_ls_archive_statusdir() where name like '%.ready'), \
    'segment', pg_size_bytes(current_setting('wal_segment_size'))) from pg_stat_archiver";

/// The container that archives.
const SIDECAR: &str = "plugin-barman-cloud";
/// Lines of the sidecar's log in which the cause of a failing archive is looked for.
const LINES: i64 = 80;
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

pub async fn backups(kube: &Kube, namespace: &str, cluster: &str) -> Verdict {
    let Some(store) = Store::read(kube, namespace).await? else {
        return Ok((Health::Healthy, "none are taken".into()));
    };
    if !plugin_answers(kube).await? {
        return Ok((Health::Unhealthy, without_plugin()));
    }
    let text = database::query(kube, namespace, cluster, QUERY).await?;
    let archiver: Archiver = serde_json::from_str(&text).context("the database's answer cannot be read")?;
    let cause = if archiver.failing { Some(cause(kube, namespace, cluster, &store).await?) } else { None };
    let noted = store.noted.get(cluster).cloned().map(serde_json::from_value::<Noted>).transpose();
    let noted = noted.context("the ObjectStore's status cannot be read")?.unwrap_or_default();
    let first = noted.last_successful_backup_time.is_none() && under_way(kube, namespace).await?;
    let mut days = None;
    for side in Side::ALL {
        let secret = kube.get(&side.reference()).await?;
        let end = secret.as_ref().and_then(secrets::not_after);
        days = days.into_iter().chain(end.map(|end| secrets::days(Timestamp::now(), end))).min();
    }
    Ok(judge(&archiver, cause.as_deref(), &noted, first, days, Timestamp::now()))
}

/// Whether a pod of the plugin is ready. Asked first: without one there may be no primary that could be asked.
async fn plugin_answers(kube: &Kube) -> Result<bool> {
    let plugins: Api<Deployment> = Api::namespaced(kube.client(), PLUGIN_NAMESPACE);
    let plugin = plugins.get_opt(PLUGIN_DEPLOYMENT).await.context("cannot read the plugin's Deployment")?;
    Ok(plugin.and_then(|plugin| plugin.status?.ready_replicas).unwrap_or(0) > 0)
}

fn without_plugin() -> String {
    format!(
        "no pod of the backup plugin is ready: until one is, the operator does nothing for the database, a failover \
         included; kubectl -n {PLUGIN_NAMESPACE} describe deployment {PLUGIN_DEPLOYMENT} shows why"
    )
}

fn judge(
    archiver: &Archiver,
    cause: Option<&str>,
    noted: &Noted,
    first_under_way: bool,
    days: Option<i64>,
    now: Timestamp,
) -> (Health, String) {
    let ago = |moment: Timestamp| format!("{} ago", human::age(now, moment));
    if archiver.failing {
        let since = match archiver.archived {
            Some(archived) => format!("the log was last archived {}", ago(archived)),
            None => "the log was never archived".into(),
        };
        let bytes = human::bytes(archiver.waiting * archiver.segment);
        let text = format!(
            "{since}: {}; the database goes on, {} segments ({bytes}) wait on its volume",
            cause.unwrap_or("the cause is not known"),
            archiver.waiting
        );
        return (Health::Degraded, text);
    }
    let log = match archiver.archived {
        Some(archived) => format!("log archived {}", ago(archived)),
        None => "nothing was to be archived yet".into(),
    };
    let (base, well) = match (noted.last_successful_backup_time, noted.last_failed_backup_time) {
        (Some(done), Some(failed)) if failed > done => (format!("the base backup of {} failed", ago(failed)), false),
        (Some(done), _) => (format!("base backup {}", ago(done)), true),
        (None, _) if first_under_way => ("the first base backup is under way".into(), true),
        (None, Some(failed)) => (format!("the base backup of {} failed", ago(failed)), false),
        (None, None) => ("no base backup yet: nothing can be restored".into(), false),
    };
    let mut text = format!("{log}, {base}");
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

/// Why the log is not archived, in words.
async fn cause(kube: &Kube, namespace: &str, cluster: &str, store: &Store) -> Result<String> {
    if store.secret == STORE {
        let stores: Api<StatefulSet> = Api::namespaced(kube.client(), namespace);
        let ready = stores.get_opt(STORE).await?.and_then(|found| found.status?.ready_replicas).unwrap_or(0);
        if ready == 0 {
            return Ok("the store in the cluster does not run".into());
        }
    }
    let primary = Overview::read(kube, namespace, cluster).await?.primary.unwrap_or_default();
    let params = LogParams { container: Some(SIDECAR.into()), tail_lines: Some(LINES), ..LogParams::default() };
    let pods: Api<Pod> = Api::namespaced(kube.client(), namespace);
    let log = pods.logs(&primary, &params).await.with_context(|| format!("cannot read the log of {primary}"))?;
    let found = log.lines().rev().find_map(|line| in_words(line, store));
    Ok(found.unwrap_or_else(|| format!("kubectl -n {namespace} logs {primary} -c {SIDECAR} tells why")))
}

/// What a line of the sidecar's log means, if it is one of the known ones.
fn in_words(line: &str, store: &Store) -> Option<String> {
    let any = |words: &[&str]| words.iter().any(|word| line.contains(word));
    if any(&["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "(403)"]) {
        Some(format!("the store refuses the credentials of Secret {}", store.secret))
    } else if any(&["NoSuchBucket", "(404)"]) {
        Some(format!("the bucket of {} is not there", store.destination))
    } else if any(&["no space left", "No space left", "QuotaExceeded", "InsufficientStorage"]) {
        Some("the store is full".into())
    } else if any(&["Expected empty archive"]) {
        Some(format!("{} has the log of another database under this name already", store.destination))
    } else if any(&["Could not connect", "EndpointConnectionError", "Connect timeout", "Read timeout", "closed before"])
    {
        Some(format!("the store at {} does not answer", store.endpoint))
    } else if line.contains("secrets") && line.contains("not found") {
        Some(format!("the Secret {} is not there", store.secret))
    } else {
        None
    }
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
        assert_eq!(text, "log archived 12s ago, base backup 8h5m ago, restorable since 2026-11-20T03:00:07Z");
    }

    #[test]
    fn a_failing_archive_tells_why_and_that_the_database_goes_on() {
        let (health, text) =
            judge(&archiver(true), Some("the store does not answer"), &noted(), false, Some(1800), now());
        assert_eq!(health, Health::Degraded);
        let wanted = "the log was last archived 12s ago: the store does not answer; the database goes on, \
                      3 segments (48.0 MiB) wait on its volume";
        assert_eq!(text, wanted);
    }

    #[test]
    fn what_needs_a_look_degrades() {
        let judged = |noted: &Noted, days: i64| judge(&archiver(false), None, noted, false, Some(days), now());
        let (health, text) = judged(&Noted::default(), 1800);
        assert!(health == Health::Degraded && text.contains("nothing can be restored"), "{text}");
        let failed = Noted { last_failed_backup_time: Some(at("2026-11-24T11:00:00Z")), ..noted() };
        let (health, text) = judged(&failed, 1800);
        assert!(health == Health::Degraded && text.contains("the base backup of 5m0s ago failed"), "{text}");
        let (health, text) = judged(&noted(), 300);
        assert!(health == Health::Degraded && text.contains("ends in 300 days"), "{text}");
    }

    #[test]
    fn causes_are_put_into_words() {
        let store = Store {
            endpoint: "http://s:7070".into(),
            destination: "s3://b/".into(),
            secret: "keys".into(),
            keep: None,
            noted: serde_json::Value::Null,
        };
        let words = |line: &str| in_words(line, &store).unwrap_or_default();
        assert!(
            words("An error occurred (403) when calling the HeadBucket operation: Forbidden").contains("Secret keys")
        );
        assert!(words("botocore: Could not connect to the endpoint URL").contains("does not answer"));
        assert!(words("WAL archive check failed: Expected empty archive").contains("another database"));
        assert_eq!(words("Backup completed"), "");
    }
}
