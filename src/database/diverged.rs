//! Standbys that have replayed WAL which is not the primary's, and so can never follow it again.
//!
//! The primary's timeline left an older one at some position (a promotion). A standby that replayed that older timeline past
//! it cannot come back: *requested starting point … is not in this server's history*, again and again, while its pod is ready
//! and the operator calls the database healthy (docs/upstream/former-primary-archives-past-the-fork.md).

use anyhow::Context as _;
use futures::future;
use serde::Deserialize;

use super::{Fork, HISTORY, Lsn, forks, query_on};
use crate::{
    error::Result,
    kube::{Kube, exec},
};

/// SQL: the control file's word of how far recovery must come at least, as WAL up to there is in the data already. It may be
/// behind what was replayed until the next restartpoint (`checkpoint_timeout` after the last), and is never ahead of it.
const RECOVERED: &str = "select json_build_object('timeline', min_recovery_end_timeline, 'position', min_recovery_end_lsn) \
                         from pg_control_recovery()";

/// How far a standby's data came, and on which timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
struct Recovered {
    timeline: u32,
    position: Lsn,
}

/// A standby whose data is not a former state of the primary's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diverged {
    /// The name of the standby's pod.
    pub name: String,
    /// The timeline that its data is on.
    pub timeline: u32,
    /// The position up to which it has that timeline's WAL, at least.
    pub position: Lsn,
    /// The position at which the primary's history left that timeline.
    pub fork: Lsn,
}

impl Diverged {
    /// The standby of that name, if the primary's history says that its data came past a fork.
    fn of(name: &str, recovered: Recovered, history: &[Fork]) -> Option<Diverged> {
        let Recovered { timeline, position } = recovered;
        let fork = history.iter().find(|fork| fork.parent == timeline)?.at;
        (position > fork).then(|| Diverged { name: name.to_owned(), timeline, position, fork })
    }

    /// What it is, and what to do; its claims and its pod have the operator's label for an instance.
    pub fn describe(&self, namespace: &str) -> String {
        let Diverged { name, timeline, position, fork } = self;
        format!(
            "{name} can never follow the primary again: it has WAL of timeline {timeline} up to {position}, and the primary \
             left that timeline at {fork}; kubectl -n {namespace} delete pvc,pod -l cnpg.io/instanceName={name} has the \
             operator make another instance from the primary"
        )
    }
}

/// Which of the instances named can never follow the primary again, of those that answer.
///
/// # Errors
/// The primary does not answer, or its timeline's history cannot be read.
pub async fn diverged(kube: &Kube, namespace: &str, primary: &str, instances: &[&str]) -> Result<Vec<Diverged>> {
    if instances.is_empty() {
        return Ok(Vec::new());
    }
    let history = query_on(kube, namespace, primary, HISTORY, exec::DEFAULT_TIMEOUT).await;
    let history =
        forks(&history.with_context(|| format!("cannot ask the primary {primary} for its timeline's history"))?)?;
    let asked = instances.iter().map(async |name| {
        let answer = query_on(kube, namespace, name, RECOVERED, exec::DEFAULT_TIMEOUT).await.ok()?;
        Diverged::of(name, serde_json::from_str(&answer).ok()?, &history)
    });
    Ok(future::join_all(asked).await.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The primary writes timeline 27; the story of docs/upstream/former-primary-archives-past-the-fork.md.
    fn history() -> Vec<Fork> {
        forks("25\t0/D3000000\tno recovery target specified\n26\t0/E4148F08\tno recovery target specified\n").unwrap()
    }

    fn of(timeline: u32, position: &str) -> Option<Diverged> {
        Diverged::of("db-3", Recovered { timeline, position: position.parse().unwrap() }, &history())
    }

    #[test]
    fn whoever_replayed_a_timeline_past_its_fork_has_diverged() {
        let diverged = of(26, "0/E5000000").unwrap();
        let said = diverged.describe("team-a");
        assert!(
            said.starts_with("db-3 can never follow the primary again: it has WAL of timeline 26 up to 0/E5000000"),
            "{said}"
        );
        assert!(said.contains(
            "left that timeline at 0/E4148F08; kubectl -n team-a delete pvc,pod -l cnpg.io/instanceName=db-3"
        ));
        assert!(of(25, "0/D3000028").is_some(), "an older fork counts as well");
    }

    #[test]
    fn whoever_can_still_follow_has_not() {
        for (timeline, position) in [
            (27, "0/E6000000"),
            (26, "0/E4148F08"),
            (26, "0/E4000000"),
            (25, "0/D3000000"),
            // Recovery has a promoted instance's control file say nothing.
            (0, "0/0"),
        ] {
            assert_eq!(of(timeline, position), None, "{timeline} {position}");
        }
    }
}
