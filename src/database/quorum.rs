//! What the operator goes by when it is to promote a standby without losing a commit.

use serde_json::Value;

use crate::{
    error::Result,
    kube::{Kube, ObjectRef},
};

/// Whether the operator knows which standbys confirm the commits of `primary`. The primary writes that down, in a
/// FailoverQuorum, and strikes it out around every change of its configuration: meanwhile nobody is promoted, and
/// should the primary be lost just then, that stays so until a human decides.
///
/// # Errors
/// The API server refuses or does not answer.
pub async fn quorum_is_known(kube: &Kube, namespace: &str, cluster: &str, primary: &str) -> Result<bool> {
    let reference = ObjectRef::namespaced("postgresql.cnpg.io/v1", "FailoverQuorum", namespace, cluster);
    Ok(kube.get(&reference).await?.is_some_and(|quorum| tells(&quorum.data, primary)))
}

fn tells(quorum: &Value, primary: &str) -> bool {
    quorum.pointer("/status/standbyNumber").and_then(Value::as_u64).unwrap_or(0) > 0
        && quorum.pointer("/status/primary").and_then(Value::as_str) == Some(primary)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_quorum_that_was_struck_out_or_is_of_a_former_primary_tells_nothing() {
        let status = json!({"method": "any", "standbyNumber": 1, "standbyNames": ["db-2", "db-3"], "primary": "db-1"});
        assert!(tells(&json!({"status": status}), "db-1"));
        assert!(!tells(&json!({"status": status}), "db-2"));
        assert!(!tells(&json!({"status": {}}), "db-1") && !tells(&json!({}), "db-1"));
        let struck_out = json!({"method": "", "standbyNumber": 0, "standbyNames": null, "primary": ""});
        assert!(!tells(&json!({"status": struck_out}), "db-1"));
    }
}
