//! What a drill has changed and must not stay, and how it is undone.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    actions::{
        loss::{RecordedDatabase, RecordedVolume},
        nodes, operator, postgres,
        restore::{self, LostDatabase},
        switchover::{self, LostPrimary},
        volumes::BoundedVolume,
    },
    target::DrillTarget,
};
use crate::{config::Config, error::Result, tools::faults};

/// A change that a drill has made and that must not stay. Undoing twice does no harm.
///
/// It is kept in the drill's record, which another version may have written: names and fields stay as they are, and
/// `tests/compat` holds them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "undo", rename_all = "snake_case")]
pub enum Undo {
    /// Scale a Deployment back.
    Scale {
        /// The Deployment's namespace.
        namespace: String,
        /// The Deployment's name.
        name: String,
        /// The number of pods that it had.
        replicas: i32,
    },
    /// Give the Cluster its synchronous replication back.
    Synchronous {
        /// `spec.postgresql.synchronous` as it was.
        value: Value,
    },
    /// Let PostgreSQL run on every instance.
    Unfence,
    /// Have a standby take over, if the primary is gone with its volume.
    #[serde(rename = "take_over")]
    ForceFailover {
        /// The primary before the fault.
        from: String,
        /// The primary's volume before the fault; unknown in a record of 8b80009.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recorded: Option<RecordedVolume>,
        /// Whether its deletion was about to be asked for.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        begun: bool,
    },
    /// Let the processes of the primary go on, and end those of any other instance that stand still.
    Continue,
    /// Let pods be scheduled to a node again.
    Uncordon {
        /// The node's name.
        node: String,
    },
    /// Bring the API server of a node back.
    ApiServer {
        /// The node's name, which is that of its container.
        node: String,
    },
    /// Let a node reach the others.
    Rejoin {
        /// The node's name, which is that of its container.
        node: String,
    },
    /// Start a node.
    StartNode {
        /// The node's name, which is that of its container.
        node: String,
        /// The lines on other hosts that the node knows: the engine forgets them.
        hosts: Vec<String>,
    },
    /// Make room on the volume of bounded size.
    MakeRoom {
        /// The volume.
        volume: BoundedVolume,
    },
    /// Replace the instance on the volume of bounded size, and remove the volume.
    BoundedVolume {
        /// The volume.
        volume: BoundedVolume,
    },
    /// Restore the database that is lost, and have the app use it.
    Restore {
        /// The database that is lost.
        lost: String,
        /// The new database's name.
        name: String,
        /// The database that is lost, as it was before the fault; unknown in a record of 8b80009.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recorded: Option<RecordedDatabase>,
        /// Whether its deletion was about to be asked for.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        begun: bool,
    },
}

impl Undo {
    /// Whether undoing takes minutes: an instance is made anew, or a database.
    pub fn is_slow(&self) -> bool {
        matches!(
            self,
            Undo::BoundedVolume { .. } | Undo::ForceFailover { .. } | Undo::Restore { .. } | Undo::Synchronous { .. }
        )
    }

    /// Says what undoing does, for people.
    pub fn describe(&self) -> String {
        match self {
            Undo::Scale { namespace, name, replicas } => {
                format!("Deployment {namespace}/{name} back to {replicas} pods")
            }
            Undo::Synchronous { .. } => "synchronous replication on again".into(),
            Undo::Unfence => "PostgreSQL runs on every instance again".into(),
            Undo::ForceFailover { from, .. } => format!("a standby takes over if {from} has lost its volume"),
            Undo::Continue => "no process of any instance stands still".into(),
            Undo::Uncordon { node } => format!("pods may come to node {node} again"),
            Undo::ApiServer { node } => format!("the API server of node {node} runs again"),
            Undo::Rejoin { node } => format!("node {node} reaches the others again"),
            Undo::StartNode { node, .. } => format!("node {node} runs again"),
            Undo::MakeRoom { volume } => format!("room on the volume of {}", volume.instance),
            Undo::BoundedVolume { volume } => format!("{} on an ordinary volume again", volume.instance),
            Undo::Restore { lost, name, .. } => {
                format!("{name} restored in the place of {lost}, if {lost} was destroyed")
            }
        }
    }

    /// Marks that the deletion is about to be asked for that this undoes; returns whether it undoes one. Without the mark
    /// nothing counts as lost.
    pub fn mark_begun(&mut self) -> bool {
        match self {
            Undo::ForceFailover { begun, .. } | Undo::Restore { begun, .. } => {
                *begun = true;
                true
            }
            _ => false,
        }
    }
}

/// Undoes a change if that needs no API server; any other is left to [`undo`].
///
/// # Errors
/// The container engine's, or the node's.
pub async fn undo_without_api_server(change: &Undo) -> Result<()> {
    match change {
        Undo::ApiServer { node } => faults::start_api_server(node).await,
        Undo::Rejoin { node } => faults::rejoin(node).await,
        Undo::StartNode { node, hosts } => faults::start_node(node, hosts).await,
        Undo::MakeRoom { volume } => volume.make_room().await,
        _ => Ok(()),
    }
}

/// Undoes a change.
///
/// # Errors
/// The API's, that of a command in a pod, or the container engine's.
pub async fn undo(target: &DrillTarget, config: &Config, change: &Undo) -> Result<()> {
    match change {
        Undo::Scale { namespace, name, replicas } => operator::scale(target, namespace, name, *replicas).await,
        Undo::Synchronous { value } => postgres::set_synchronous(target, value).await,
        Undo::Unfence => postgres::unfence(target).await,
        Undo::ForceFailover { from, recorded, begun } => {
            let lost = LostPrimary { instance: from, recorded: recorded.as_ref(), begun: *begun };
            switchover::force_failover(target, &lost).await
        }
        Undo::Continue => postgres::thaw(target).await,
        Undo::Uncordon { node } => nodes::cordon(target, node, false).await,
        Undo::BoundedVolume { volume } => volume.remove(target).await,
        Undo::Restore { lost, name, recorded, begun } => {
            let lost = LostDatabase { database: lost, name, recorded: recorded.as_ref(), begun: *begun };
            restore::restore(target, config, &lost, &|_| {}).await
        }
        Undo::ApiServer { .. } | Undo::Rejoin { .. } | Undo::StartNode { .. } | Undo::MakeRoom { .. } => {
            undo_without_api_server(change).await
        }
    }
}

/// Undoes changes, the latest first, each by `undo_one`; `on_undone` is called once, after the last of them, and not
/// at all where there is none.
///
/// # Errors
/// That of the first change that can't be undone; those before it in time are left.
pub async fn undo_latest_first(
    changes: &[Undo],
    mut undo_one: impl AsyncFnMut(&Undo) -> Result<()>,
    on_undone: impl FnOnce(),
) -> Result<()> {
    for change in changes.iter().rev() {
        undo_one(change).await?;
    }
    if !changes.is_empty() {
        on_undone();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::error::failed;

    fn changes() -> [Undo; 3] {
        [Undo::Unfence, Undo::ForceFailover { from: "user-db-1".into(), recorded: None, begun: false }, Undo::Continue]
    }

    /// What happens, in its order, while `changes` are undone; the one named `broken` can't be.
    async fn undone(changes: &[Undo], broken: Option<&Undo>) -> Vec<String> {
        let happened = RefCell::new(Vec::new());
        let undo_one = async |change: &Undo| {
            happened.borrow_mut().push(format!("{change:?}"));
            if Some(change) == broken { Err(failed("it stays").into()) } else { Ok(()) }
        };
        let outcome = undo_latest_first(changes, undo_one, || happened.borrow_mut().push("undone".into())).await;
        assert_eq!(outcome.is_err(), broken.is_some());
        happened.into_inner()
    }

    #[tokio::test]
    async fn a_fault_counts_as_undone_once_after_the_last_of_its_undos() {
        let expected =
            ["Continue", "ForceFailover { from: \"user-db-1\", recorded: None, begun: false }", "Unfence", "undone"];
        assert_eq!(undone(&changes(), None).await, expected);
    }

    #[tokio::test]
    async fn a_fault_that_can_not_be_undone_wholly_does_not_count_as_undone() {
        let expected = ["Continue", "ForceFailover { from: \"user-db-1\", recorded: None, begun: false }", "Unfence"];
        assert_eq!(undone(&changes(), Some(&Undo::Unfence)).await, expected);
    }

    #[tokio::test]
    async fn where_there_is_nothing_to_undo_nothing_is_said() {
        assert!(undone(&[], None).await.is_empty());
    }
}
