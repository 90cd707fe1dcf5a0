//! Failover drills: break the stack on purpose, watch it recover, and judge what it promised.
//!
//! Writes flow at a fixed rate while the fault is in, each recorded in a `model::ledger` outside the cluster
//! before it is sent. After full redundancy is back every instance is read, and the `model::verdict` compares
//! what was acknowledged with what is there.
//!
//! A fault is recorded in the cluster before it is put in: `journal::Journal::recover` undoes it after the run,
//! after Ctrl-C, and after a crash when the next drill begins.
//!
//! Imports go one way: `model` ← `target` ← `actions` ← `undo` ← `journal` ← `scenarios` ← `runner`.

pub mod actions;
pub(crate) mod environment;
mod final_state;
pub mod journal;
mod live_view;
pub(crate) mod model;
mod observer;
pub(crate) mod preconditions;
mod prober;
pub(crate) mod runner;
pub(crate) mod scenarios;
pub mod target;
pub mod undo;
