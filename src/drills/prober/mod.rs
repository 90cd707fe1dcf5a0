//! The CLI's side of the prober: its pod, the schedule of the writes, and the conversation in which they are handed
//! out and their outcomes come back. The messages are those of [`stackctl_protocol::probe`].

mod conversation;
mod live_counts;
pub mod pod;
mod schedule;
mod wire;

pub use conversation::{ProberPod, ProberSession};
pub use live_counts::LiveCounts;
pub use schedule::WriteSchedule;
