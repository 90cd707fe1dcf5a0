//! `stackctl switchover` where nothing must be changed: the program itself, on a database whose status says so.

use std::process::{Command, Stdio};

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use stackctl::{
    database::{Lsn, switchover},
    drills::actions::switchover::{promote, take_over},
    kube::{ObjectRef, cnpg::ClusterStatus},
};

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
    field(sandbox, cluster, "targetPrimary").await
}

async fn field(sandbox: &Sandbox, cluster: &ObjectRef, name: &str) -> Value {
    sandbox.get(cluster).await.unwrap().data["status"][name].clone()
}

/// Between a look and the request the operator may have chosen another one, which has what this one lacks.
#[tokio::test]
async fn what_was_judged_of_a_database_is_not_asked_of_one_that_has_changed_since() {
    let sandbox = sandbox("switchover-late").await;
    let folder = tempfile::tempdir().unwrap();
    let _journal = stack(&sandbox, &folder, "node-of-switchover-late").await;
    let cluster = sandbox.reference("postgresql.cnpg.io/v1", "Cluster", "user-db");
    says(&sandbox, "user-db-1", "user-db-1", HEALTHY).await;
    let ask = async |judge: &mut dyn FnMut(&ClusterStatus) -> Option<&'static str>, operator_acts: bool| {
        let mut acts = operator_acts;
        let judge = async |status: &ClusterStatus| {
            let judged = judge(status);
            if std::mem::take(&mut acts) {
                says(&sandbox, "user-db-1", "user-db-3", "Failing over").await;
            }
            Ok(judged.map(str::to_owned))
        };
        switchover::ask(&sandbox.kube, &sandbox.namespace, "user-db", "test", judge).await.unwrap()
    };
    let mut judged = Vec::new();
    let mut settled = |status: &ClusterStatus| {
        judged.push(status.target_primary.clone().unwrap());
        status.settled_primary().map(|_| "user-db-2")
    };
    assert_eq!(ask(&mut settled, true).await, None);
    assert_eq!(judged, ["user-db-1", "user-db-3"], "it was looked at anew");
    assert_eq!(target(&sandbox, &cluster).await, "user-db-3", "the operator's choice was overruled");
    assert_eq!(ask(&mut |_| Some("user-db-2"), false).await.as_deref(), Some("user-db-2"));
    assert_eq!(target(&sandbox, &cluster).await, "user-db-2");
}

#[tokio::test]
async fn a_drill_asks_for_no_primary_while_another_change_is_under_way() {
    let sandbox = sandbox("switchover-drill").await;
    let folder = tempfile::tempdir().unwrap();
    let journal = stack(&sandbox, &folder, "node-of-switchover-drill").await;
    let cluster = sandbox.reference("postgresql.cnpg.io/v1", "Cluster", "user-db");
    for (chosen, phase) in [("user-db-3", "Failing over"), ("pending", "Failing over")] {
        says(&sandbox, "user-db-1", chosen, phase).await;
        let refused = promote(&journal.target, "user-db-2").await.unwrap_err().to_string();
        assert!(refused.contains(&format!("from user-db-1 to {chosen} is under way")), "{refused}");
        assert_eq!(target(&sandbox, &cluster).await, chosen);
    }
    says(&sandbox, "user-db-1", "user-db-1", HEALTHY).await;
    promote(&journal.target, "user-db-1").await.unwrap();
    assert_eq!(field(&sandbox, &cluster, "phase").await, HEALTHY, "it is the primary already: nothing was asked");
    promote(&journal.target, "user-db-2").await.unwrap();
    assert_eq!(target(&sandbox, &cluster).await, "user-db-2");
}

/// The operator chooses one while the standbys are asked how far they are.
#[tokio::test]
async fn a_forced_failover_leaves_the_choice_to_an_operator_that_has_chosen() {
    let sandbox = sandbox("failover-drill").await;
    let folder = tempfile::tempdir().unwrap();
    let journal = stack(&sandbox, &folder, "node-of-failover-drill").await;
    let cluster = sandbox.reference("postgresql.cnpg.io/v1", "Cluster", "user-db");
    let replayed = async |standby: &str| -> anyhow::Result<Lsn> { Ok(Lsn(if standby == "user-db-2" { 9 } else { 5 })) };
    says(&sandbox, "user-db-1", "pending", "Failing over").await;
    let late = take_over(&journal.target, "user-db-1", async |standby| {
        if standby == "user-db-3" {
            says(&sandbox, "user-db-1", "user-db-3", "Failing over").await;
        }
        replayed(standby).await
    });
    let late = late.await.unwrap_err().to_string();
    assert!(late.contains("user-db-3 does not become the primary"), "{late}");
    assert_eq!(target(&sandbox, &cluster).await, "user-db-3", "the operator's choice was overruled");

    // Where it has chosen nobody, the one that has most is asked for.
    says(&sandbox, "user-db-1", "pending", "Failing over").await;
    let late = take_over(&journal.target, "user-db-1", replayed).await.unwrap_err().to_string();
    assert!(late.contains("user-db-2 does not become the primary"), "{late}");
    assert_eq!(target(&sandbox, &cluster).await, "user-db-2");
    says(&sandbox, "user-db-2", "user-db-2", HEALTHY).await;
    take_over(&journal.target, "user-db-1", async |_| panic!("nobody is asked: it has moved")).await.unwrap();
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
