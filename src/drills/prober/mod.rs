//! The CLI's side of the prober: its pod, the schedule of the writes, and the conversation in which they are handed
//! out and their outcomes come back. The messages are those of [`stackctl_protocol::probe`].

mod conversation;
pub mod pod;
mod schedule;
mod wire;

pub use conversation::{LiveCounts, ProberPod, ProberSession};
pub use schedule::WriteSchedule;
