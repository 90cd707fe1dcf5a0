//! The health of every part, read from the cluster in a handful of requests made side by side.

mod backups;
mod parts;
mod text;

use serde::Serialize;

use crate::{
    context::Context,
    database::{self, Overview, Standby, settings},
    error::Result,
    kube::cnpg::HEALTHY,
    leftovers::Leftovers,
    names::FAILOVER_HELPER,
};

/// How a part is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be.
    Healthy,
    /// It works, but not as it should.
    Degraded,
    /// It does not work, or it is not there.
    Unhealthy,
}

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct Line {
    /// What it is, e.g. `operator`.
    pub part: String,
    /// How it is.
    pub health: Health,
    /// The details in one line.
    pub detail: String,
}

/// A database instance.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct Member {
    /// The name of the instance's pod.
    pub name: String,
    /// `primary` or `standby`.
    pub role: String,
    /// The node that it runs on.
    pub node: Option<String>,
    /// The zone of that node, where nodes are in zones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Whether its pod is ready.
    pub ready: bool,
    /// What the primary says of a standby; absent when it does not stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication: Option<Standby>,
}

/// The whole status.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct Report {
    /// What was looked at.
    pub target: String,
    /// One line a part.
    pub parts: Vec<Line>,
    /// The database's instances.
    pub instances: Vec<Member>,
}

impl Report {
    /// Every part is healthy.
    pub fn healthy(&self) -> bool {
        self.parts.iter().all(|line| line.health == Health::Healthy)
    }

    /// For people.
    pub fn text(&self, color: bool) -> String {
        text::render(self, color)
    }
}

/// Reads the status.
///
/// # Errors
/// Only when the cluster cannot be reached at all; a part that is missing or broken is a line.
pub async fn read(cx: &Context) -> Result<Report> {
    let kube = cx.kube().await?;
    let (namespace, name) = (&cx.config.stack.namespace, cx.database().await?);
    let (cluster, operator, database, helper, metrics, web, volumes, backups, monitoring, left) = tokio::join!(
        parts::cluster(kube),
        parts::operator(kube),
        database(cx, &name),
        parts::failover_helper(kube, namespace),
        parts::metrics(kube),
        parts::web(kube, namespace),
        parts::volumes(kube, namespace, &name),
        backups::backups(kube, namespace, &name),
        parts::monitoring(kube),
        Leftovers::read(kube, namespace, &name),
    );
    let (database, instances) = database;
    let lines = [
        ("cluster", cluster),
        ("operator", operator),
        ("database", database),
        (FAILOVER_HELPER, helper),
        ("volumes", volumes),
        ("backups", backups),
        ("metrics", metrics),
        ("web", web),
        ("monitoring", monitoring),
    ];
    let left = match left.map(|left| left.describe()) {
        Ok(Some(told)) => Some(("drill", Ok((Health::Unhealthy, told)))),
        Ok(None) => None,
        Err(error) => Some(("drill", Err(error))),
    };
    let parts = lines
        .into_iter()
        .chain(left)
        .map(|(part, outcome)| {
            let (health, detail) = outcome.unwrap_or_else(|error| (Health::Unhealthy, crate::error::one_line(&error)));
            Line { part: part.into(), health, detail }
        })
        .collect();
    Ok(Report { target: cx.config.target.describe(), parts, instances })
}

type PartHealth = Result<(Health, String)>;

async fn database(cx: &Context, cluster: &str) -> (PartHealth, Vec<Member>) {
    let namespace = &cx.config.stack.namespace;
    let read = async {
        let kube = cx.kube().await?;
        let overview = Overview::read(kube, namespace, cluster).await?;
        let pods = parts::instances(kube, namespace, cluster).await?;
        // Without a primary there is nobody to ask: the overview says so already.
        let primary = overview.primary.as_deref().unwrap_or_default();
        let (replication, quorum, stale, zones) = tokio::join!(
            database::Replication::read(kube, namespace, cluster),
            database::quorum_is_known(kube, namespace, cluster, primary),
            settings::stale(kube, namespace, cluster),
            kube.zones(),
        );
        let stale = stale.unwrap_or_default();
        // Who may not see nodes is shown no zones.
        let zones = zones.map(|zones| zones.of_nodes.clone()).unwrap_or_default();
        Ok::<_, anyhow::Error>((overview, pods, replication, quorum?, stale, zones))
    };
    let (overview, pods, replication, quorum, stale, zones) = match read.await {
        Ok(read) => read,
        Err(error) => return (Err(error), Vec::new()),
    };
    let standbys = replication.as_ref().map(|replication| replication.standbys.clone()).unwrap_or_default();
    let members = pods
        .into_iter()
        .map(|pod| {
            let primary = overview.primary.as_deref() == Some(&pod.name);
            Member {
                role: if primary { "primary" } else { "standby" }.into(),
                replication: standbys.iter().find(|standby| standby.name == pod.name).cloned(),
                ready: pod.ready,
                zone: pod.node.as_ref().and_then(|node| zones.get(node).cloned()),
                node: pod.node,
                name: pod.name,
            }
        })
        .collect();
    let verdict = replication.map_or_else(
        |error| (Health::Unhealthy, format!("{}; {}", overview.describe(), crate::error::one_line(&error))),
        |replication| judge(&overview, replication.synchronous(), quorum, &stale),
    );
    (Ok(verdict), members)
}

/// `quorum`: whether the operator knows which standbys confirm commits.
/// `stale`: the instances that have not read their configuration since it was changed.
fn judge(overview: &Overview, synchronous: usize, quorum: bool, stale: &[String]) -> (Health, String) {
    let mut detail = format!("{}, {synchronous} synchronous standbys, {}", overview.describe(), overview.phase);
    if !quorum {
        detail.push_str(
            "; nobody would be promoted now: the operator does not know which standbys confirm commits (it does again \
             a few seconds after a change; if not, stackctl logs operator and stackctl logs database say why)",
        );
    }
    if !stale.is_empty() {
        detail.push_str("; has not read its configuration since it was changed: ");
        detail.push_str(&stale.join(", "));
        detail.push_str(" (stackctl up makes it)");
    }
    // Instances may serve while the operator can do nothing for them, a failover included.
    let reconciled = overview.phase == HEALTHY;
    let health = if overview.primary.is_none() || synchronous == 0 {
        Health::Unhealthy
    } else if overview.healthy() && reconciled && quorum && stale.is_empty() {
        Health::Healthy
    } else {
        Health::Degraded
    };
    (health, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_the_json_that_8b80009_wrote() {
        let text = include_str!("../../tests/compat/8b80009/status.json");
        let before: serde_json::Value = serde_json::from_str(text).unwrap();
        let report: Report = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&report).unwrap(), before);
        assert!(report.healthy());
    }

    fn overview(ready: u64) -> Overview {
        Overview {
            phase: "Cluster in healthy state".into(),
            instances: 3,
            ready,
            primary: Some("user-db-1".into()),
            target_primary: Some("user-db-1".into()),
            members: Vec::new(),
        }
    }

    #[test]
    fn a_missing_instance_degrades_and_no_synchronous_standby_is_unhealthy() {
        assert_eq!(judge(&overview(3), 2, true, &[]).0, Health::Healthy);
        assert_eq!(judge(&overview(2), 1, true, &[]).0, Health::Degraded);
        assert_eq!(judge(&overview(3), 0, true, &[]).0, Health::Unhealthy);
    }

    #[test]
    fn a_database_that_the_operator_cannot_reconcile_is_not_healthy() {
        let phase = "Cluster cannot proceed to reconciliation due to an unknown plugin being required";
        let blocked = Overview { phase: phase.into(), ..overview(3) };
        let (health, detail) = judge(&blocked, 2, true, &[]);
        assert!(health == Health::Degraded && detail.contains("unknown plugin"), "{detail}");
    }

    #[test]
    fn an_operator_that_would_promote_nobody_degrades() {
        let (health, detail) = judge(&overview(3), 2, true, &["user-db-2".into()]);
        assert_eq!(health, Health::Degraded);
        assert!(
            detail.contains("has not read its configuration since it was changed: user-db-2 (stackctl up"),
            "{detail}"
        );
        let (health, detail) = judge(&overview(3), 2, false, &[]);
        assert_eq!(health, Health::Degraded);
        assert!(detail.contains("nobody would be promoted now"), "{detail}");
    }
}
