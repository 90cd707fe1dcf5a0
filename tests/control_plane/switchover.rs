//! `stackctl switchover` where nothing must be changed: the program itself, on a database whose status says so.

use std::process::{Command, Stdio};

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use stackctl::{database::switchover, kube::ObjectRef};

use crate::{
    drills::stack,
    harness::{Sandbox, control_plane, sandbox},
};

const HEALTHY: &str = "Cluster in healthy state";

async fn says(sandbox: &Sandbox, primary: &str, target: &str, phase: &str) {
    let status = json!({"status": {"phase": phase, "instances": 3, "readyInstances": 3, "currentPrimary": primary,
        "targetPrimary": target, "instanceNames": ["user-db-1", "user-db-2", "user-db-3"]}});
    let api = stackctl::kube::cnpg::clusters(&sandbox.kube, &sandbox.namespace);
    api.patch_status("user-db", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

/// Exit code, stdout and stderr.
fn switchover(sandbox: &Sandbox, arguments: &[&str]) -> (Option<i32>, String) {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_stackctl"));
    command.args(["--context", "test", "--namespace", &sandbox.namespace, "switchover", "--yes"]).args(arguments);
    command.env_clear().env("HOME", home.path()).stdin(Stdio::null());
    command.env("KUBECONFIG", control_plane().kubeconfig("admin-token", |_| {}));
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

async fn target(sandbox: &Sandbox, cluster: &ObjectRef) -> Value {
    sandbox.get(cluster).await.unwrap().data["status"]["targetPrimary"].clone()
}

/// Between a look and the request the operator may have chosen another one, which has what this one lacks.
#[tokio::test]
async fn nothing_is_asked_of_a_database_that_has_changed_since_it_was_looked_at() {
    let sandbox = sandbox("switchover-late").await;
    let folder = tempfile::tempdir().unwrap();
    let _journal = stack(&sandbox, &folder, "node-of-switchover-late").await;
    let cluster = sandbox.reference("postgresql.cnpg.io/v1", "Cluster", "user-db");
    says(&sandbox, "user-db-1", "user-db-1", HEALTHY).await;
    let version = async || sandbox.get(&cluster).await.unwrap().metadata.resource_version.unwrap();
    let seen = version().await;
    says(&sandbox, "user-db-1", "user-db-3", "Failing over").await;
    let ask = async |seen: &str| {
        let (kube, namespace) = (&sandbox.kube, &sandbox.namespace);
        switchover::ask(kube, namespace, "user-db", "user-db-2", "test", Some(seen)).await.unwrap()
    };
    assert!(!ask(&seen).await);
    assert_eq!(target(&sandbox, &cluster).await, "user-db-3", "the operator's choice was overruled");
    assert!(ask(&version().await).await);
    assert_eq!(target(&sandbox, &cluster).await, "user-db-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_asked_of_a_database_that_is_not_well() {
    let sandbox = sandbox("switchover").await;
    let folder = tempfile::tempdir().unwrap();
    let _journal = stack(&sandbox, &folder, "node-of-switchover").await;
    let cluster = sandbox.reference("postgresql.cnpg.io/v1", "Cluster", "user-db");

    says(&sandbox, "user-db-1", "user-db-2", "Failing over").await;
    let (code, told) = switchover(&sandbox, &["user-db-3"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("no primary that stays"), "{told}");

    says(&sandbox, "user-db-1", "user-db-1", "Waiting for the instances to become active").await;
    let (code, told) = switchover(&sandbox, &["user-db-2"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("3/3 instances are ready, Waiting for the instances"), "{told}");

    says(&sandbox, "user-db-1", "user-db-1", HEALTHY).await;
    let (code, told) = switchover(&sandbox, &["user-db-1"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("nothing to do (user-db-1 is the primary already)"), "{told}");

    // Its standbys cannot be asked: no instance runs here.
    let (code, told) = switchover(&sandbox, &[]);
    assert_eq!(code, Some(1), "{told}");
    assert_eq!(target(&sandbox, &cluster).await, "user-db-1", "{told}");
}
