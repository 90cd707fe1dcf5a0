//! The steps of `up`, one file each, and the [`Phase`] trait that they share.
//!
//! A phase knows its title, what it comes after, whether it is needed, how to do it and how to show what
//! it would do. Doing it twice does nothing the second time; after an interruption it goes on.
//! Phases send [`Event`](crate::ui::Event)s and never print.

pub mod autoscaling;
pub mod backup;
mod bucket;
pub mod claim;
pub mod cluster;
pub mod database;
pub mod failover_helper;
pub mod image;
pub mod monitoring;
pub mod operator;
pub mod part;
pub mod preflight;
mod runner;
mod sidecar;
pub mod verify;
pub mod web;

pub use runner::{plan, run};

use futures::future::LocalBoxFuture;

use crate::{context::Context, error::Result, ui::PhaseId};

/// Whether a phase has anything to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Run it.
    Run,
    /// Leave it out; the reason is shown.
    Skip(String),
}

/// One step of `up`.
pub trait Phase: Send + Sync {
    /// The phase's id, which no other phase of `up` has.
    fn id(&self) -> PhaseId;

    /// The title that the user reads, e.g. `PostgreSQL, 3 instances`.
    fn title(&self) -> String;

    /// The ids of the phases that must have ended well before this one starts; others run beside it.
    fn after(&self) -> &'static [PhaseId];

    /// Whether there is anything to do. Asked when its turn comes.
    fn needed<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Need>> {
        let _ = cx;
        Box::pin(async { Ok(Need::Run) })
    }

    /// Does it and waits until it holds; the text is the outcome in one line.
    fn run<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<String>>;

    /// What [`Phase::run`] would do, one line a step, changing nothing.
    fn plan<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Vec<String>>>;
}
