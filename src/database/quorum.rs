//! What the operator goes by when it is to promote a standby without losing a commit.

use std::{collections::BTreeSet, fmt};

use serde_json::Value;

use super::query_on;
use crate::{
    error::Result,
    kube::{Kube, ObjectRef, exec},
};

/// The SQL query for the rule by which a primary confirms commits.
const RUNNING: &str = "select current_setting('synchronous_standby_names')";

/// How many of which standbys confirm a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRule {
    /// `any` or `first`.
    method: String,
    number: u64,
    standbys: BTreeSet<String>,
}

impl CommitRule {
    /// The rule of a `synchronous_standby_names` as the operator writes it, `ANY 1 ("db-2","db-3")`; none where no standby
    /// confirms commits. The primary's own name is in there, too, and counts for nothing.
    pub fn of_setting(setting: &str, primary: &str) -> Option<Self> {
        let (rule, names) = setting.trim().strip_suffix(')')?.split_once('(')?;
        let (method, number) = rule.trim().split_once(' ')?;
        let names = names.split(',').map(|name| name.trim().trim_matches('"').to_owned());
        Some(CommitRule {
            method: method.to_lowercase(),
            number: number.trim().parse().ok()?,
            standbys: names.filter(|name| name != primary).collect(),
        })
    }

    /// The rule of a FailoverQuorum; none where it was struck out, or is a former primary's.
    fn of_quorum(quorum: &Value, primary: &str) -> Option<Self> {
        let status = quorum.get("status")?;
        let number = status["standbyNumber"].as_u64().filter(|number| *number > 0)?;
        let names = status["standbyNames"].as_array().into_iter().flatten().filter_map(Value::as_str);
        (status["primary"].as_str() == Some(primary)).then(|| CommitRule {
            method: status["method"].as_str().unwrap_or_default().to_lowercase(),
            number,
            standbys: names.map(str::to_owned).collect(),
        })
    }
}

impl fmt::Display for CommitRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let standbys: Vec<&str> = self.standbys.iter().map(String::as_str).collect();
        write!(f, "{} {} of {}", self.method, self.number, standbys.join(", "))
    }
}

/// Whether the operator knows which standbys confirm the commits of a primary. The primary writes that down, in a
/// FailoverQuorum, and strikes it out around every change of its configuration: meanwhile nobody is promoted, and
/// should the primary be lost just then, that stays so until a human decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Quorum {
    /// It knows of none.
    Unknown,
    /// It goes by another rule than the primary: a standby that lacks commits may be promoted, or one refused that has all
    /// (<https://github.com/cloudnative-pg/cloudnative-pg/issues/11500>).
    Outdated {
        /// What the operator goes by.
        told: CommitRule,
        /// What the primary runs with, in words.
        runs: String,
    },
    /// It goes by the primary's rule.
    Known,
}

impl Quorum {
    /// Compares what the operator was told with a primary's running `synchronous_standby_names`.
    pub fn judge(told: Option<CommitRule>, running: &str, primary: &str) -> Self {
        let Some(told) = told else { return Quorum::Unknown };
        let runs = CommitRule::of_setting(running, primary);
        if runs.as_ref() == Some(&told) {
            return Quorum::Known;
        }
        Quorum::Outdated { told, runs: runs.map_or_else(|| "no standby".into(), |runs| runs.to_string()) }
    }
}

/// The rule that the operator was told for `primary`.
///
/// # Errors
/// The API server refuses or does not answer.
pub async fn told_rule(kube: &Kube, namespace: &str, cluster: &str, primary: &str) -> Result<Option<CommitRule>> {
    let reference = ObjectRef::namespaced("postgresql.cnpg.io/v1", "FailoverQuorum", namespace, cluster);
    Ok(kube.get(&reference).await?.and_then(|quorum| CommitRule::of_quorum(&quorum.data, primary)))
}

/// Whether the operator goes by the rule by which `primary` confirms commits, and so would promote the right standby.
///
/// # Errors
/// The API server refuses or does not answer; neither does the primary.
pub async fn quorum_is_known(kube: &Kube, namespace: &str, cluster: &str, primary: &str) -> Result<bool> {
    let told = told_rule(kube, namespace, cluster, primary).await?;
    if told.is_none() {
        return Ok(false);
    }
    let running = query_on(kube, namespace, primary, RUNNING, exec::DEFAULT_TIMEOUT).await?;
    Ok(Quorum::judge(told, &running, primary) == Quorum::Known)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(status: &Value, primary: &str) -> Option<CommitRule> {
        CommitRule::of_quorum(&json!({"status": status}), primary)
    }

    #[test]
    fn a_quorum_that_was_struck_out_or_is_of_a_former_primary_tells_nothing() {
        let status = json!({"method": "any", "standbyNumber": 1, "standbyNames": ["db-2", "db-3"], "primary": "db-1"});
        assert_eq!(told(&status, "db-1").unwrap().to_string(), "any 1 of db-2, db-3");
        assert_eq!(told(&status, "db-2"), None);
        assert_eq!(told(&json!({}), "db-1"), None);
        assert_eq!(CommitRule::of_quorum(&json!({}), "db-1"), None);
        let struck_out = json!({"method": "", "standbyNumber": 0, "standbyNames": null, "primary": ""});
        assert_eq!(told(&struck_out, "db-1"), None);
        assert_eq!(Quorum::judge(None, r#"ANY 1 ("db-2")"#, "db-1"), Quorum::Unknown);
    }

    #[test]
    fn a_quorum_of_another_rule_than_the_primary_runs_with_is_outdated() {
        let status = json!({"method": "any", "standbyNumber": 1, "standbyNames": ["db-3", "db-2"], "primary": "db-1"});
        let judged = |running: &str| Quorum::judge(told(&status, "db-1"), running, "db-1");
        assert_eq!(judged(r#"ANY 1 ("db-2","db-3","db-1")"#), Quorum::Known);
        for (running, runs) in [
            (r#"ANY 2 ("db-2","db-3","db-1")"#, "any 2 of db-2, db-3"),
            (r#"ANY 1 ("db-2","db-3","db-4","db-1")"#, "any 1 of db-2, db-3, db-4"),
            (r#"FIRST 1 ("db-2","db-3")"#, "first 1 of db-2, db-3"),
            ("", "no standby"),
        ] {
            let outdated = Quorum::Outdated { told: told(&status, "db-1").unwrap(), runs: runs.into() };
            assert_eq!(judged(running), outdated, "{running}");
        }
    }
}
