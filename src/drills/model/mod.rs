//! What a drill records, measures and judges. Nothing in here knows of Kubernetes.

pub mod clock;
pub mod criteria;
#[cfg(test)]
mod criteria_tests;
pub mod events;
pub mod expectation;
pub mod history;
pub mod ledger;
pub mod report;
pub mod requirement;
pub mod store;
pub mod times;
pub mod verdict;
#[cfg(test)]
mod verdict_tests;
