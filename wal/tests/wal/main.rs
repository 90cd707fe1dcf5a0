//! The two programs as they are: run, and watched from the other side of the network.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod fake;
mod faults;
mod handover;
mod interchange;
mod programs;
mod rules;
mod versity;
