//! The health of every part, read from the cluster in a handful of requests made side by side.

mod backups;
mod parts;
mod text;

use serde::Serialize;

use crate::{
    context::Context,
    database::{self, Overview, Quorum, Standby, settings},
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

impl Member {
    /// Whether it is a standby that is ready, by what its pod says, and does not stream from the primary.
    fn is_apart(&self) -> bool {
        let streams = self.replication.as_ref().is_some_and(|seen| seen.state == "streaming");
        self.ready && self.role == "standby" && !streams
    }
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
    let (cluster, operator, database, helper, metrics, web, address, volumes, backups, monitoring, left) = tokio::join!(
        parts::cluster(kube),
        parts::operator(kube),
        database(cx, &name),
        parts::failover_helper(kube, namespace),
        parts::metrics(kube),
        parts::web(kube, namespace),
        parts::address(kube, namespace),
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
    let address = address.transpose().map(|address| ("address", address));
    let parts = lines
        .into_iter()
        .chain(address)
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
        let (replication, told, stale, zones) = tokio::join!(
            database::Replication::read(kube, namespace, cluster),
            database::told_rule(kube, namespace, cluster, primary),
            settings::stale(kube, namespace, cluster),
            kube.zones(),
        );
        let stale = stale.unwrap_or_default();
        // Who may not see nodes is shown no zones.
        let zones = zones.map(|zones| zones.of_nodes.clone()).unwrap_or_default();
        Ok::<_, anyhow::Error>((overview, pods, replication, told?, stale, zones))
    };
    let (overview, pods, replication, told, stale, zones) = match read.await {
        Ok(read) => read,
        Err(error) => return (Err(error), Vec::new()),
    };
    let standbys = replication.as_ref().map(|replication| replication.standbys.clone()).unwrap_or_default();
    let members: Vec<Member> = pods
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
    let replication = match replication {
        Ok(replication) => replication,
        Err(error) => {
            let detail = format!("{}; {}", overview.describe(), crate::error::one_line(&error));
            return (Ok((Health::Unhealthy, detail)), members);
        }
    };
    let mut apart: Vec<&str> =
        members.iter().filter(|member| member.is_apart()).map(|member| member.name.as_str()).collect();
    let primary = overview.primary.as_deref().unwrap_or_default();
    let diverged = async { database::diverged(cx.kube().await?, namespace, primary, &apart).await };
    // One that cannot be asked for stays among those that do not stream.
    let diverged = diverged.await.unwrap_or_default();
    apart.retain(|name| diverged.iter().all(|one| one.name != *name));
    let diverged = diverged.iter().map(|one| one.describe(namespace)).collect();
    let quorum = Quorum::judge(told, &replication.rule, primary);
    let seen = InstancesSay { synchronous: replication.synchronous(), quorum, stale, apart, diverged };
    let verdict = judge(&overview, &seen);
    (Ok(verdict), members)
}

/// What the instances say, beside what the operator says of them.
struct InstancesSay<'a> {
    /// The number of standbys that confirm commits.
    synchronous: usize,
    /// Whether the operator knows which those are.
    quorum: Quorum,
    /// The instances that have not read their configuration since it was changed.
    stale: Vec<String>,
    /// The standbys that are ready and do not stream from the primary, for a reason that is not known.
    apart: Vec<&'a str>,
    /// What is said of each standby that can never stream again.
    diverged: Vec<String>,
}

fn judge(overview: &Overview, seen: &InstancesSay<'_>) -> (Health, String) {
    let InstancesSay { synchronous, quorum, stale, apart, diverged } = seen;
    let mut detail = format!("{}, {synchronous} synchronous standbys, {}", overview.describe(), overview.phase);
    match quorum {
        Quorum::Known => {}
        Quorum::Unknown => detail.push_str(
            "; nobody would be promoted now: the operator does not know which standbys confirm commits (it does again \
             a few seconds after a change; if not, stackctl logs operator and stackctl logs database say why)",
        ),
        Quorum::Outdated { told, runs } => detail.push_str(&format!(
            "; a failover now may promote the wrong standby, or none: the operator goes by commits that {told} confirm, and \
             {runs} confirm them (it knows better a few seconds after a change; if not, stackctl up has it told again)",
        )),
    }
    if !stale.is_empty() {
        detail.push_str("; has not read its configuration since it was changed: ");
        detail.push_str(&stale.join(", "));
        detail.push_str(" (stackctl up makes it)");
    }
    if !apart.is_empty() {
        detail.push_str("; ready, and yet does not stream from the primary: ");
        detail.push_str(&apart.join(", "));
        detail.push_str(" (stackctl logs database says why)");
    }
    for said in diverged {
        detail.push_str("; ");
        detail.push_str(said);
    }
    // Instances may serve while the operator can do nothing for them, a failover included.
    let reconciled = overview.phase == HEALTHY;
    let health = if overview.primary.is_none() || *synchronous == 0 {
        Health::Unhealthy
    } else if overview.healthy()
        && reconciled
        && *quorum == Quorum::Known
        && stale.is_empty()
        && apart.is_empty()
        && diverged.is_empty()
    {
        Health::Healthy
    } else {
        Health::Degraded
    };
    (health, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::CommitRule;

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

    const WELL: InstancesSay<'_> = InstancesSay {
        synchronous: 2,
        quorum: Quorum::Known,
        stale: Vec::new(),
        apart: Vec::new(),
        diverged: Vec::new(),
    };

    #[test]
    fn a_missing_instance_degrades_and_no_synchronous_standby_is_unhealthy() {
        assert_eq!(judge(&overview(3), &WELL).0, Health::Healthy);
        assert_eq!(judge(&overview(2), &InstancesSay { synchronous: 1, ..WELL }).0, Health::Degraded);
        assert_eq!(judge(&overview(3), &InstancesSay { synchronous: 0, ..WELL }).0, Health::Unhealthy);
    }

    #[test]
    fn a_database_that_the_operator_cannot_reconcile_is_not_healthy() {
        let phase = "Cluster cannot proceed to reconciliation due to an unknown plugin being required";
        let blocked = Overview { phase: phase.into(), ..overview(3) };
        let (health, detail) = judge(&blocked, &WELL);
        assert!(health == Health::Degraded && detail.contains("unknown plugin"), "{detail}");
    }

    #[test]
    fn what_the_operator_calls_healthy_and_is_not_degrades() {
        let unread = InstancesSay { stale: vec!["user-db-2".into()], ..WELL };
        // <https://github.com/cloudnative-pg/cloudnative-pg/issues/10419>: a standby that restores again and again.
        let restoring = InstancesSay { synchronous: 1, apart: vec!["user-db-3"], ..WELL };
        let told = r#"ANY 1 ("user-db-2")"#;
        let told = CommitRule::of_setting(told, "user-db-1");
        let outdated = Quorum::judge(told, r#"ANY 1 ("user-db-2","user-db-3","user-db-1")"#, "user-db-1");
        for (seen, said) in [
            (unread, "has not read its configuration since it was changed: user-db-2 (stackctl up"),
            (restoring, "ready, and yet does not stream from the primary: user-db-3 (stackctl logs database"),
            (
                InstancesSay { synchronous: 1, diverged: vec!["user-db-3 can never follow".into()], ..WELL },
                "1 synchronous standbys, Cluster in healthy state; user-db-3 can never follow",
            ),
            (InstancesSay { quorum: Quorum::Unknown, ..WELL }, "nobody would be promoted now"),
            (
                InstancesSay { quorum: outdated, ..WELL },
                "the operator goes by commits that any 1 of user-db-2 confirm, and any 1 of user-db-2, user-db-3 confirm",
            ),
        ] {
            let (health, detail) = judge(&overview(3), &seen);
            assert_eq!(health, Health::Degraded);
            assert!(detail.contains(said), "{detail}");
        }
    }
}
