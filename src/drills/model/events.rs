//! What is seen in the cluster while a drill runs, on the run's clock.

use serde::{Deserialize, Serialize};

use super::history::Micros;

/// An event of a drill: something that was seen in the cluster, or done to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrillEvent {
    /// The time when the CLI learned of it.
    pub at: Micros,
    /// The kind of event.
    pub kind: EventKind,
    /// The event in words, e.g. `user-db-2`.
    pub text: String,
}

/// The kinds of events, in the order in which a failover goes through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The drill began to write.
    Started,
    /// The fault is in.
    Injected,
    /// The primary's pod is no longer ready, is being deleted, or is gone.
    PrimaryUnhealthy,
    /// The operator found that no standby in reach is sure to have every acknowledged write.
    PromotionRefused,
    /// The operator named another instance to be the primary.
    TargetChosen,
    /// That instance holds the Lease of the primary.
    LeaseTaken,
    /// PostgreSQL there has ended its recovery and begun a new timeline.
    Promoted,
    /// The operator's status names it the primary.
    CurrentPrimary,
    /// The EndpointSlice of the `-rw` Service points to it.
    EndpointMoved,
    /// Every instance is ready and streams again.
    RedundancyRestored,
    /// It was so, and did not stay so.
    RedundancyLost,
    /// The fault was undone by the drill.
    Undone,
    /// Anything else that explains what is seen.
    Note,
}

impl EventKind {
    /// The phrase in reports.
    pub const fn title(self) -> &'static str {
        match self {
            EventKind::Started => "writes started",
            EventKind::Injected => "fault injected",
            EventKind::PrimaryUnhealthy => "primary seen unhealthy",
            EventKind::PromotionRefused => "promotion refused",
            EventKind::TargetChosen => "target chosen",
            EventKind::LeaseTaken => "lease taken",
            EventKind::Promoted => "promoted",
            EventKind::CurrentPrimary => "currentPrimary set",
            EventKind::EndpointMoved => "endpoint moved",
            EventKind::RedundancyRestored => "redundancy restored",
            EventKind::RedundancyLost => "redundancy lost again",
            EventKind::Undone => "fault undone",
            EventKind::Note => "note",
        }
    }
}
