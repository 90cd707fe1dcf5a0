//! Monitoring as it runs in the cluster: which of its parts are there and ready, and whether Prometheus stores what it
//! scrapes.

use anyhow::Context as _;
use serde_json::Value;

use crate::{
    assets::monitoring::NAMESPACE,
    error::Result,
    kube::{Kube, ObjectRef, Readiness, explain, readiness},
};

/// Its workloads: kind and name. Grafana may be left out.
const WORKLOADS: [(&str, &str); 3] =
    [("StatefulSet", "prometheus"), ("Deployment", "kube-state-metrics"), ("Deployment", "grafana")];
/// A target that Prometheus asks every 15 s was asked at least this recently, in seconds.
const FRESH: f64 = 90.0;
/// The kernel's words for a full volume.
const FULL: &str = "no space left on device";

/// What there is of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitoringOverview {
    /// Names of those that are ready.
    pub ready: Vec<&'static str>,
    /// Those that are not.
    pub waiting: Vec<Waiting>,
    /// Why Prometheus does not store what it scrapes.
    pub storage: Option<String>,
}

/// A part that is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The part's name.
    pub name: &'static str,
    /// In a few words, e.g. `ErrImagePull`.
    pub reason: String,
    /// All that is known.
    pub why: String,
}

impl MonitoringOverview {
    /// The state of monitoring; `None` when none of it is installed.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub async fn read(kube: &Kube) -> Result<Option<Self>> {
        let mut overview = MonitoringOverview { ready: Vec::new(), waiting: Vec::new(), storage: None };
        for (kind, name) in WORKLOADS {
            let object = ObjectRef::namespaced("apps/v1", kind, NAMESPACE, &format!("monitoring-{name}"));
            let Some(live) = kube.get(&object).await? else { continue };
            match readiness(&live).unwrap_or_else(|| Readiness::Ready(String::new())) {
                Readiness::Ready(_) => overview.ready.push(name),
                Readiness::Progressing(detail) => {
                    let problems = explain(kube, &object).await?;
                    let full = problems.iter().flat_map(|problem| &problem.last_log).any(|line| is_full(line));
                    if full && name == "prometheus" {
                        overview.storage = Some("its volume is full: it cannot start".into());
                    }
                    overview.waiting.push(match problems.first() {
                        Some(problem) => Waiting { name, reason: problem.reason.clone(), why: problem.sentence() },
                        None => Waiting { name, reason: detail.clone(), why: detail },
                    });
                }
                Readiness::Failed { reason, message } => {
                    overview.waiting.push(Waiting { name, why: format!("{reason}: {message}"), reason });
                }
            }
        }
        if overview.ready.is_empty() && overview.waiting.is_empty() {
            return Ok(None);
        }
        if overview.ready.contains(&"prometheus") {
            overview.storage = storage(kube).await?;
        }
        Ok(Some(overview))
    }

    /// In one line.
    pub fn describe(&self) -> String {
        let mut parts = Vec::new();
        if !self.ready.is_empty() {
            parts.push(format!("{} ready", self.ready.join(", ")));
        }
        parts.extend(self.waiting.iter().map(|part| format!("{} not ready ({})", part.name, part.reason)));
        if let Some(storage) = &self.storage {
            parts.push(format!("Prometheus stores nothing: {storage}"));
        }
        if !self.has("grafana") {
            parts.push("no Grafana (the bundle that it was installed from does not hold it)".into());
        }
        parts.join("; ")
    }

    /// Whether that part is installed.
    pub fn has(&self, name: &str) -> bool {
        self.ready.contains(&name) || self.waiting.iter().any(|part| part.name == name)
    }

    /// Everything that is installed runs, and Prometheus stores.
    pub fn healthy(&self) -> bool {
        self.waiting.is_empty() && self.storage.is_none()
    }
}

/// What to do about a volume of Prometheus' that is full.
pub const FULL_REMEDY: &str = "make room where its volume lies (on minikube: docker system df, the machine's disk), or \
     begin with an empty one: kubectl -n monitoring delete pvc data-monitoring-prometheus-0 --wait=false, then \
     kubectl -n monitoring delete pod monitoring-prometheus-0 (what was recorded is lost)";

fn is_full(line: &str) -> bool {
    line.to_lowercase().contains(FULL)
}

/// Why Prometheus does not store what it scrapes, if it does not.
async fn storage(kube: &Kube) -> Result<Option<String>> {
    let service = format!("/api/v1/namespaces/{NAMESPACE}/services/monitoring-prometheus:9090/proxy");
    let query = |path: String| async move {
        let request = http::Request::get(path).body(Vec::new())?;
        kube.client().request_text(request).await.context("Prometheus does not answer through its Service")
    };
    // Age of the youngest sample of all, by Prometheus' own clock.
    let answer = query(format!("{service}/api/v1/query?query=time()-max(timestamp(up))")).await?;
    if youngest(&answer)?.is_some_and(|age| age < FRESH) {
        return Ok(None);
    }
    let metrics = query(format!("{service}/metrics")).await?;
    Ok(judge(&metrics))
}

/// The only value of an answer to a query; `None` when there is none.
fn youngest(answer: &str) -> Result<Option<f64>> {
    let answer: Value = serde_json::from_str(answer).context("Prometheus answers with something that is no JSON")?;
    let value = answer.pointer("/data/result/0/value/1").and_then(Value::as_str);
    Ok(value.and_then(|value| value.parse().ok()))
}

/// What Prometheus' own metrics, read from it directly, say when it has no fresh samples.
fn judge(metrics: &str) -> Option<String> {
    let number = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
    };
    if number("prometheus_tsdb_wal_writes_failed_total") > 0.0 {
        return Some("it cannot write to its volume, which is full or broken".into());
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
    // Just started: the first scrapes are still to come.
    if now - number("process_start_time_seconds") < FRESH {
        return None;
    }
    Some("it has scraped no target for more than a minute: stackctl logs prometheus says why".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overview(ready: &[&'static str], waiting: &[(&'static str, &str)], storage: Option<&str>) -> MonitoringOverview {
        MonitoringOverview {
            ready: ready.to_vec(),
            waiting: waiting
                .iter()
                .map(|(name, reason)| Waiting { name, reason: (*reason).to_owned(), why: "all of it".into() })
                .collect(),
            storage: storage.map(str::to_owned),
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let all = overview(&["prometheus", "kube-state-metrics", "grafana"], &[], None);
        assert!(all.healthy());
        assert_eq!(all.describe(), "prometheus, kube-state-metrics, grafana ready");
        let starting = overview(&["prometheus"], &[("grafana", "0/1 pods ready")], None);
        assert!(!starting.healthy());
        assert_eq!(starting.describe(), "prometheus ready; grafana not ready (0/1 pods ready)");
        let full = overview(&["prometheus", "grafana"], &[], Some("its volume is full"));
        assert!(!full.healthy() && full.describe().contains("stores nothing: its volume is full"));
        assert!(overview(&["prometheus"], &[], None).describe().contains("no Grafana"));
    }

    #[test]
    fn a_full_volume_is_told_from_a_start() {
        let metrics = |failed: u32, started: f64| {
            format!(
                "# TYPE x counter\nprometheus_tsdb_wal_writes_failed_total {failed}\nprocess_start_time_seconds {started:e}\n"
            )
        };
        assert!(judge(&metrics(3, 1.0)).unwrap().contains("full"));
        assert!(judge(&metrics(0, 1.0)).unwrap().contains("no target"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        assert_eq!(judge(&metrics(0, now - 5.0)), None);
        assert!(is_full("err=\"open /prometheus/wal: No space left on device\""));
    }

    #[test]
    fn the_age_of_the_youngest_sample_is_read() {
        let answer =
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"3.5"]}]}}"#;
        assert_eq!(youngest(answer).unwrap(), Some(3.5));
        let none = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
        assert_eq!(youngest(none).unwrap(), None);
        assert!(youngest("<html>").is_err());
    }
}
