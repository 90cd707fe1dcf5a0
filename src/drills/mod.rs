//! Failover drills: break the stack on purpose, watch it recover, and judge what it promised.
//!
//! Writes flow at a fixed rate while the fault is in, each recorded in a [`ledger`] outside the cluster
//! before it is sent. After full redundancy is back every instance is read, and the [`verdict`] compares
//! what was acknowledged with what is there.
//!
//! A fault is recorded in the cluster before it is put in: [`record::recover`] undoes it after the run, after
//! Ctrl-C, and after a crash when the next drill begins.

mod access;
mod bounded_volume;
mod clock;
mod criteria;
pub mod engine;
pub mod events;
pub mod ground;
pub mod history;
pub mod ledger;
mod live;
mod observer;
mod pod;
mod prober;
pub mod record;
pub mod report;
pub mod scenarios;
mod schedule;
pub mod stack;
pub mod store;
pub mod times;
pub mod verdict;
#[cfg(test)]
mod verdict_tests;
