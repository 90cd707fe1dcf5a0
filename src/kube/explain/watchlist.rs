//! Keeps track of problems over time: each is told once, and what lasts too long is final.

use std::time::{Duration, Instant};

use super::Problem;
use crate::kube::ObjectRef;

/// The reason of a database that its operator says it can do nothing for. It said so once: a cause that has gone since is
/// seen when it looks again, which it does within half a minute.
pub(super) const STUCK: &str = "ClusterStuck";

/// A problem that has not been seen for so long is over; crash loops and pulls come and go.
const FORGET: Duration = Duration::from_secs(45);

#[derive(Debug)]
struct WatchedProblem {
    of: ObjectRef,
    problem: Problem,
    first: Instant,
    last: Instant,
    told: bool,
}

/// The problems of one wait.
#[derive(Debug, Default)]
pub(in crate::kube) struct Watchlist(Vec<WatchedProblem>);

impl Watchlist {
    /// Takes in what was found for the object `of`, and returns what is to be told: what is new, and has lasted
    /// for long enough where such a problem often passes by itself.
    pub fn update(&mut self, of: &ObjectRef, problems: Vec<Problem>) -> Vec<Problem> {
        let now = Instant::now();
        let mut new = Vec::new();
        for problem in problems {
            let known = self.0.iter_mut().position(|entry| {
                entry.problem.object == problem.object && family(&entry.problem.reason) == family(&problem.reason)
            });
            let at = known.unwrap_or_else(|| {
                let problem = problem.clone();
                self.0.push(WatchedProblem { of: of.clone(), problem, first: now, last: now, told: false });
                self.0.len() - 1
            });
            let entry = &mut self.0[at];
            entry.last = now;
            // What ends in a crash loop, or turns out to be final, is worth a second word.
            let worse = (problem.fatal && !entry.problem.fatal)
                || (problem.reason == "CrashLoopBackOff" && entry.problem.reason != problem.reason);
            if worse || (!entry.told && now.duration_since(entry.first) >= settles(&problem.reason)) {
                entry.told = true;
                new.push(problem.clone());
            }
            entry.problem = problem;
        }
        self.0.retain(|entry| now.duration_since(entry.last) < FORGET);
        new
    }

    /// The object is ready: its problems are over.
    pub fn forget(&mut self, of: &ObjectRef) {
        self.0.retain(|entry| entry.of != *of);
    }

    /// A problem that ends the wait: one that is final, or one that has lasted for too long. `waited` is
    /// how long the wait has lasted: what the first look finds may be left over from before.
    pub fn fatal(&self, waited: Duration) -> Option<&Problem> {
        let entry = self.0.iter().find(|entry| {
            let lasted = entry.last.duration_since(entry.first);
            (entry.problem.fatal && waited > Duration::from_secs(8))
                || patience(&entry.problem.reason).is_some_and(|patience| lasted > patience)
        })?;
        Some(&entry.problem)
    }

    /// All that stand.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter().map(|entry| &entry.problem)
    }
}

/// Reasons between which one and the same problem goes to and fro.
fn family(reason: &str) -> &str {
    match reason {
        "ErrImagePull" | "ImagePullBackOff" => "image",
        "CrashLoopBackOff" | "Error" | "OOMKilled" | "StartError" | "BackOff" => "crash",
        "NotReady" | "Unhealthy" | "SlowStart" => "probe",
        "Unschedulable" | "FailedScheduling" => "schedule",
        "MissingEndpoints" | "FailedDiscoveryCheck" | "EndpointsNotFound" => "api",
        STUCK | "ClusterBlocked" => "operator",
        other => other,
    }
}

/// How long a problem must have lasted before it is told. A pod is often made a moment before the volume that it
/// names, and the scheduler then says so at once. An autoscaler complains until the CPU of new pods has been
/// measured twice, which takes metrics-server two of its rounds of 15 s, and the autoscaler looks every 15 s.
fn settles(reason: &str) -> Duration {
    match family(reason) {
        "schedule" => Duration::from_secs(6),
        // Usual for seconds in every start: a probe before the server listens, an API before its pods answer, an operator
        // that has not seen its plugin yet.
        "probe" | "api" | "operator" => Duration::from_secs(20),
        "FailedGetResourceMetric" => Duration::from_secs(50),
        _ => Duration::ZERO,
    }
}

/// How long a problem may last that might pass by itself; `None`: until the deadline.
fn patience(reason: &str) -> Option<Duration> {
    let seconds = match reason {
        "ErrImagePull" | "ImagePullBackOff" => 45,
        "FailedCreate" => 45,
        "CreateContainerConfigError" => 60,
        STUCK => 60,
        "CrashLoopBackOff" => 120,
        "Unschedulable" => 150,
        _ => return None,
    };
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(reason: &str) -> Problem {
        Problem::new(ObjectRef::namespaced("v1", "Pod", "a", "b"), reason, "m")
    }

    #[test]
    fn each_problem_is_told_once() {
        let of = ObjectRef::namespaced("apps/v1", "Deployment", "a", "b");
        let mut list = Watchlist::default();
        assert_eq!(list.update(&of, vec![problem("ErrImagePull")]).len(), 1);
        assert_eq!(list.update(&of, vec![problem("ImagePullBackOff")]).len(), 0);
        assert_eq!(list.update(&of, vec![problem("ErrImagePull").fatal()]).len(), 1, "now it is final");
        assert_eq!(list.update(&of, vec![problem("ErrImagePull").fatal()]).len(), 0);
        list.forget(&of);
        assert_eq!(list.problems().count(), 0);
    }

    #[test]
    fn what_passes_in_a_moment_is_not_told() {
        let of = ObjectRef::namespaced("postgresql.cnpg.io/v1", "Cluster", "a", "b");
        let mut list = Watchlist::default();
        assert_eq!(list.update(&of, vec![problem("Unschedulable")]).len(), 0);
        list.0[0].first -= Duration::from_secs(7);
        assert_eq!(list.update(&of, vec![problem("FailedScheduling")]).len(), 1, "it lasts");
        assert_eq!(list.update(&of, vec![problem("Unschedulable")]).len(), 0, "it was told");
    }

    #[test]
    fn a_database_that_its_operator_has_given_up_on_is_believed_when_that_lasts() {
        let of = ObjectRef::namespaced("postgresql.cnpg.io/v1", "Cluster", "a", "b");
        let mut list = Watchlist::default();
        assert_eq!(list.update(&of, vec![problem(STUCK)]).len(), 0, "it may be of before the last change");
        assert!(list.fatal(Duration::from_secs(600)).is_none());
        list.0[0].first -= Duration::from_secs(61);
        assert_eq!(list.update(&of, vec![problem(STUCK)]).len(), 1, "it lasts");
        assert!(list.fatal(Duration::from_secs(61)).is_some());
    }

    #[test]
    fn final_ones_end_the_wait_after_a_first_look() {
        let of = ObjectRef::namespaced("apps/v1", "Deployment", "a", "b");
        let mut list = Watchlist::default();
        list.update(&of, vec![problem("ErrImageNeverPull").fatal()]);
        assert!(list.fatal(Duration::from_secs(3)).is_none());
        assert!(list.fatal(Duration::from_secs(9)).is_some());
    }
}
