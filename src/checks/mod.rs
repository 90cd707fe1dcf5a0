//! Checks as data: what is looked at, how, and the remedy. `up` runs those that could stop it before it
//! changes anything; `doctor` runs them all.

mod cluster;
mod machine;
mod permissions;

use futures::future::{BoxFuture, join_all};
use serde::Serialize;

use crate::{
    config::Target,
    context::Context,
    error::{Failure, Kind, Result, is_forbidden, kind_of, one_line, remedies_of},
    tools::profile::{self, Found},
};

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// What this machine has.
    Machine,
    /// What the cluster has.
    Cluster,
}

impl Category {
    /// For headings.
    pub const fn title(self) -> &'static str {
        match self {
            Category::Machine => "This machine",
            Category::Cluster => "The cluster",
        }
    }
}

/// When a check matters to `up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Before everything.
    Always,
    /// Before a minikube cluster is made.
    Making,
    /// Before anything is put into a cluster that the user already has.
    Foreign,
    /// Only `doctor` asks.
    Never,
}

/// A check, in the order of a table's columns.
const fn check(
    category: Category,
    id: &'static str,
    what: &'static str,
    before: Before,
    needs: Option<&'static str>,
    run: CheckFunction,
) -> Check {
    Check { id, what, category, before, needs, run }
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// An outcome that is as it should be.
    Ok,
    /// It works, but not well.
    Warning,
    /// It does not work.
    Failed,
    /// This machine lacks it.
    Missing,
    /// Not to be told now, or of no concern here.
    Skipped,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckOutcome {
    /// How it ended.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<String>,
}

impl CheckOutcome {
    /// An outcome that is as it should be.
    pub fn ok(detail: impl Into<String>) -> Self {
        CheckOutcome { status: Status::Ok, detail: detail.into(), remedies: Vec::new() }
    }

    /// Works, but not well.
    pub fn warning(detail: impl Into<String>) -> Self {
        CheckOutcome { status: Status::Warning, ..CheckOutcome::ok(detail) }
    }

    /// Does not work.
    pub fn failed(detail: impl Into<String>) -> Self {
        CheckOutcome { status: Status::Failed, ..CheckOutcome::ok(detail) }
    }

    /// This machine lacks it.
    pub fn missing(detail: impl Into<String>) -> Self {
        CheckOutcome { status: Status::Missing, ..CheckOutcome::ok(detail) }
    }

    /// Of no concern here.
    pub fn skipped(detail: impl Into<String>) -> Self {
        CheckOutcome { status: Status::Skipped, ..CheckOutcome::ok(detail) }
    }

    /// Adds a remedy.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedies.push(remedy.into());
        self
    }

    /// Whether it stops `up`.
    pub fn stops(&self) -> bool {
        matches!(self.status, Status::Failed | Status::Missing)
    }
}

impl From<anyhow::Error> for CheckOutcome {
    fn from(error: anyhow::Error) -> Self {
        let status = if kind_of(&error) == Kind::Missing { Status::Missing } else { Status::Failed };
        CheckOutcome { status, detail: one_line(&error), remedies: remedies_of(&error) }
    }
}

type CheckFunction = for<'a> fn(&'a Context) -> BoxFuture<'a, Result<CheckOutcome>>;

/// A check.
pub struct Check {
    /// Short, unique and stable: in JSON.
    pub id: &'static str,
    /// What is looked at.
    pub what: &'static str,
    /// What it is about.
    pub category: Category,
    /// When it matters to `up`.
    pub before: Before,
    /// The check without whose success this one can tell nothing.
    needs: Option<&'static str>,
    run: CheckFunction,
}

/// A check and what it found.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// The check's id.
    pub id: &'static str,
    /// What was looked at.
    pub what: &'static str,
    /// What it is about.
    pub category: Category,
    /// What was found.
    #[serde(flatten)]
    pub outcome: CheckOutcome,
}

/// Of a cluster that is still to be made nothing can be told.
fn not_yet(cx: &Context) -> Result<Option<CheckOutcome>> {
    let Target::Minikube(wanted) = &cx.config.target else { return Ok(None) };
    let there = profile::read(&profile::minikube_home()?, &wanted.profile)?;
    Ok((!matches!(there, Found::Profile(_))).then(|| CheckOutcome::skipped("no cluster yet: stackctl up makes it")))
}

/// Every check, in the order in which they are shown.
pub fn all() -> impl Iterator<Item = &'static Check> {
    machine::CHECKS.iter().chain(cluster::CHECKS)
}

/// Runs these side by side, those that need another's success after it; the findings come in their order.
pub async fn run(cx: &Context, checks: impl IntoIterator<Item = &'static Check>) -> Vec<Finding> {
    let checks: Vec<&Check> = checks.into_iter().collect();
    let one = |check: &'static Check| async move {
        let outcome = (check.run)(cx).await.unwrap_or_else(|error| match is_forbidden(&error) {
            // What the user lacks is the check of permissions' to tell.
            true => CheckOutcome::skipped("cannot be told: you may not look"),
            false => CheckOutcome::from(error),
        });
        Finding { id: check.id, what: check.what, category: check.category, outcome }
    };
    let mut findings = join_all(checks.iter().copied().filter(|check| check.needs.is_none()).map(one)).await;
    // Without this an obstacle would be reported, and a deadline waited for, once for each of them.
    let (can, cannot): (Vec<&Check>, Vec<&Check>) =
        checks.iter().copied().filter(|check| check.needs.is_some()).partition(|check| {
            !findings.iter().any(|finding| check.needs == Some(finding.id) && finding.outcome.stops())
        });
    findings.extend(join_all(can.into_iter().map(one)).await);
    findings.extend(cannot.into_iter().map(|check| {
        let outcome = CheckOutcome::skipped("cannot be told before the problem above is solved");
        Finding { id: check.id, what: check.what, category: check.category, outcome }
    }));
    findings.sort_by_key(|finding| checks.iter().position(|check| check.id == finding.id));
    findings
}

/// The findings as one failure; `None` when nothing stops.
pub fn failure(findings: &[Finding]) -> Option<Failure> {
    let stopping: Vec<&Finding> = findings.iter().filter(|finding| finding.outcome.stops()).collect();
    if stopping.is_empty() {
        return None;
    }
    let missing = stopping.iter().any(|finding| finding.outcome.status == Status::Missing);
    let kind = if missing { Kind::Missing } else { Kind::Failed };
    let mut details: Vec<&str> = Vec::new();
    let mut failure = Failure::new(kind, "");
    for finding in stopping {
        // Several checks meet the same obstacle, such as an engine that is not running.
        if !details.contains(&finding.outcome.detail.as_str()) {
            details.push(&finding.outcome.detail);
        }
        for remedy in &finding.outcome.remedies {
            if !failure.remedies.contains(remedy) {
                failure.remedies.push(remedy.clone());
            }
        }
    }
    failure.message = details.join("; ");
    Some(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(id: &'static str, outcome: CheckOutcome) -> Finding {
        Finding { id, what: id, category: Category::Machine, outcome }
    }

    #[test]
    fn ids_are_unique() {
        let mut ids: Vec<_> = all().map(|check| check.id).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }

    #[test]
    fn what_is_needed_is_there_and_needs_nothing_itself() {
        for need in all().filter_map(|check| check.needs) {
            assert!(all().any(|check| check.id == need && check.needs.is_none()), "{need}");
        }
    }

    #[test]
    fn failures_are_joined_without_repetition_and_missing_wins() {
        assert!(
            failure(&[finding("a", CheckOutcome::warning("slow")), finding("b", CheckOutcome::skipped("later"))])
                .is_none()
        );
        let engine = || CheckOutcome::missing("no engine").remedy("start it");
        let failure =
            failure(&[finding("a", engine()), finding("b", engine()), finding("c", CheckOutcome::failed("full"))])
                .unwrap();
        assert_eq!(failure.kind, Kind::Missing);
        assert_eq!(failure.message, "no engine; full");
        assert_eq!(failure.remedies, ["start it"]);
    }
}
