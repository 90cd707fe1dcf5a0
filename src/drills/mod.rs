//! Failover drills: break the stack on purpose, watch it recover, and judge what it promised.
//!
//! Writes flow at a fixed rate while the fault is in, each recorded in a [`ledger`] outside the cluster
//! before it is sent. After full redundancy is back every instance is read, and the [`verdict`] compares
//! what was acknowledged with what is there.

pub mod events;
pub mod history;
pub mod ledger;
pub mod report;
pub mod store;
pub mod times;
pub mod verdict;
#[cfg(test)]
mod verdict_tests;
