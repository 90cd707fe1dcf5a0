//! What counts as lost: decided by facts that were recorded before the fault, never by one answer of a live system.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::ListParams;
use serde::{Deserialize, Serialize};

use crate::{drills::target::DrillTarget, error::Result};

/// The operator's annotation of a claim: `initializing` until the instance's data is on it.
const CLAIM_STATUS: &str = "cnpg.io/pvcStatus";

/// A volume of a database, as it was before a fault. It is kept in the drill's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedVolume {
    /// The claim's name, which is that of the instance.
    pub claim: String,
    /// The claim's UID: a claim that is made later under the same name is another one.
    pub uid: String,
    /// The name of the PersistentVolume behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
}

/// A database with all its volumes, as it was before a fault. It is kept in the drill's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedDatabase {
    /// The Cluster's UID.
    pub cluster: String,
    /// Every volume that it had.
    pub volumes: Vec<RecordedVolume>,
}

/// A volume as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveVolume {
    /// The claim's name.
    pub claim: String,
    /// The claim's UID.
    pub uid: String,
    /// Whether its deletion was accepted: it cannot be taken back.
    pub is_leaving: bool,
    /// Whether the operator has not put any data on it yet.
    pub is_empty: bool,
}

/// What is known of the loss of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LossState {
    /// It has not begun, or nothing shows that it has: everything stays as it is.
    NotBegun,
    /// These claims live, with what is on them: nothing of the database is lost for good.
    Lives(Vec<String>),
    /// Every volume is gone, or its deletion was accepted.
    Complete,
}

/// Decides whether a database is lost. `recorded` is missing in a record that 8b80009 wrote: then only a database
/// without any volume counts as lost.
pub fn decide(recorded: Option<&RecordedDatabase>, begun: bool, live: &[LiveVolume]) -> LossState {
    let Some(recorded) = recorded else {
        return if live.is_empty() { LossState::Complete } else { LossState::NotBegun };
    };
    // A record of no volumes tells nothing of a loss.
    if !begun || recorded.volumes.is_empty() {
        return LossState::NotBegun;
    }
    let living: Vec<String> =
        recorded.volumes.iter().filter(|volume| lives(volume, live)).map(|volume| volume.claim.clone()).collect();
    if living.is_empty() { LossState::Complete } else { LossState::Lives(living) }
}

/// Decides whether an instance has lost its volume. Without a recorded one the claim under the instance's name counts,
/// unless the operator has made it since and has not filled it.
pub fn decide_instance(
    recorded: Option<&RecordedVolume>,
    begun: bool,
    instance: &str,
    live: &[LiveVolume],
) -> LossState {
    let lives = match recorded {
        Some(_) if !begun => return LossState::NotBegun,
        Some(recorded) => lives(recorded, live),
        None => live.iter().any(|now| now.claim == instance && !now.is_leaving && !now.is_empty),
    };
    if lives { LossState::Lives(vec![instance.to_owned()]) } else { LossState::Complete }
}

fn lives(recorded: &RecordedVolume, live: &[LiveVolume]) -> bool {
    live.iter().any(|now| now.uid == recorded.uid && !now.is_leaving)
}

/// Reads the volumes that a database has now.
///
/// # Errors
/// The API server refuses or does not answer.
pub async fn live_volumes(target: &DrillTarget, database: &str) -> Result<Vec<LiveVolume>> {
    Ok(claims(target, database).await?.into_iter().map(live).collect())
}

/// Reads what is to be recorded of a database before it is destroyed.
///
/// # Errors
/// As [`live_volumes`]; there is no such database, or it has no volumes.
pub async fn record(target: &DrillTarget) -> Result<RecordedDatabase> {
    let cluster = target.cluster().await?.metadata.uid.context("the Cluster has no UID")?;
    let volumes: Vec<RecordedVolume> =
        claims(target, &target.database.get()).await?.into_iter().filter_map(recorded).collect();
    anyhow::ensure!(!volumes.is_empty(), "the database has no volumes");
    Ok(RecordedDatabase { cluster, volumes })
}

/// Reads what is to be recorded of an instance's volume before it is destroyed.
///
/// # Errors
/// As [`record`].
pub async fn record_volume(target: &DrillTarget, instance: &str) -> Result<RecordedVolume> {
    let found = record(target).await?.volumes.into_iter().find(|volume| volume.claim == instance);
    found.with_context(|| format!("{instance} has no volume"))
}

async fn claims(target: &DrillTarget, database: &str) -> Result<Vec<PersistentVolumeClaim>> {
    let of_the_database = ListParams::default().labels(&format!("cnpg.io/cluster={database}"));
    let listed = target.api::<PersistentVolumeClaim>().list(&of_the_database).await;
    Ok(listed.with_context(|| format!("cannot list the volumes of {database}"))?.items)
}

fn recorded(claim: PersistentVolumeClaim) -> Option<RecordedVolume> {
    let volume = claim.spec.and_then(|spec| spec.volume_name);
    Some(RecordedVolume { claim: claim.metadata.name?, uid: claim.metadata.uid?, volume })
}

fn live(claim: PersistentVolumeClaim) -> LiveVolume {
    let status = claim.metadata.annotations.as_ref().and_then(|annotations| annotations.get(CLAIM_STATUS));
    LiveVolume {
        is_leaving: claim.metadata.deletion_timestamp.is_some(),
        is_empty: status.is_some_and(|status| status == "initializing"),
        claim: claim.metadata.name.unwrap_or_default(),
        uid: claim.metadata.uid.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(claim: &str, uid: &str) -> LiveVolume {
        LiveVolume { claim: claim.into(), uid: uid.into(), is_leaving: false, is_empty: false }
    }

    fn leaving(claim: &str, uid: &str) -> LiveVolume {
        LiveVolume { is_leaving: true, ..now(claim, uid) }
    }

    fn was(claim: &str, uid: &str) -> RecordedVolume {
        RecordedVolume { claim: claim.into(), uid: uid.into(), volume: None }
    }

    #[test]
    fn a_database_is_lost_only_when_its_deletion_has_begun_and_no_recorded_volume_lives() {
        let recorded = RecordedDatabase { cluster: "c".into(), volumes: vec![was("db-1", "1"), was("db-2", "2")] };
        let nothing = RecordedDatabase { cluster: "c".into(), volumes: Vec::new() };
        let living = |names: &[&str]| LossState::Lives(names.iter().map(|&name| name.to_owned()).collect());
        let cases = [
            (Some(&recorded), false, vec![now("db-1", "1"), now("db-2", "2")], LossState::NotBegun),
            // Whatever the cluster says: it was not the drill.
            (Some(&recorded), false, vec![], LossState::NotBegun),
            (Some(&recorded), true, vec![now("db-1", "1"), now("db-2", "2")], living(&["db-1", "db-2"])),
            (Some(&recorded), true, vec![leaving("db-1", "1"), now("db-2", "2")], living(&["db-2"])),
            (Some(&recorded), true, vec![leaving("db-1", "1")], LossState::Complete),
            // Made anew by the operator.
            (Some(&recorded), true, vec![now("db-1", "7"), now("db-3", "8")], LossState::Complete),
            (Some(&recorded), true, vec![], LossState::Complete),
            (Some(&nothing), true, vec![], LossState::NotBegun),
            // A record of 8b80009.
            (None, false, vec![now("db-1", "1")], LossState::NotBegun),
            (None, false, vec![leaving("db-1", "1")], LossState::NotBegun),
            (None, false, vec![], LossState::Complete),
        ];
        for (recorded, begun, live, expected) in cases {
            assert_eq!(decide(recorded, begun, &live), expected, "{recorded:?}, begun {begun}, {live:?}");
        }
    }

    #[test]
    fn an_instance_whose_recorded_volume_lives_is_never_passed_over() {
        let recorded = was("db-1", "1");
        let lives = || LossState::Lives(vec!["db-1".into()]);
        let empty = || LiveVolume { is_empty: true, ..now("db-1", "7") };
        let cases = [
            (Some(&recorded), false, vec![], LossState::NotBegun),
            (Some(&recorded), true, vec![now("db-1", "1")], lives()),
            (Some(&recorded), true, vec![leaving("db-1", "1")], LossState::Complete),
            (Some(&recorded), true, vec![now("db-1", "7")], LossState::Complete),
            (None, false, vec![now("db-1", "1")], lives()),
            (None, false, vec![empty()], LossState::Complete),
            (None, false, vec![leaving("db-1", "1")], LossState::Complete),
            (None, false, vec![now("db-2", "2")], LossState::Complete),
        ];
        for (recorded, begun, live, expected) in cases {
            assert_eq!(decide_instance(recorded, begun, "db-1", &live), expected, "{recorded:?} {begun} {live:?}");
        }
    }
}
