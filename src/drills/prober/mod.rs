//! The CLI's side of the prober: its pod, the schedule of the writes, and the conversation in which they are handed
//! out and their outcomes come back.

mod conversation;
pub mod pod;
mod schedule;

pub use conversation::{Flow, Live, Place};
pub use schedule::Load;
