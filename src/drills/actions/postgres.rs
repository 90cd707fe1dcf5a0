//! PostgreSQL on the instances: its processes, its settings, and whether it runs.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt as _, api::ListParams};
use serde_json::{Value, json};

use crate::{
    drills::target::DrillTarget,
    error::Result,
    kube::{
        cnpg::{self, ClusterStatus},
        exec,
    },
    names::POSTGRES,
};

pub use crate::names::FENCING;

/// How long a command in an instance's container may take.
const COMMAND: Duration = Duration::from_secs(15);

/// Sets the Cluster's synchronous replication; `null` turns it off.
///
/// # Errors
/// The API's refusal.
pub async fn set_synchronous(target: &DrillTarget, synchronous: &Value) -> Result<()> {
    target.patch(&json!({"spec": {"postgresql": {"synchronous": synchronous}}})).await
}

/// Stops PostgreSQL on instances.
///
/// # Errors
/// The API's refusal.
pub async fn fence(target: &DrillTarget, instances: &[String]) -> Result<()> {
    let fenced = serde_json::to_string(instances)?;
    target.patch(&json!({"metadata": {"annotations": {FENCING: fenced}}})).await
}

/// Lets PostgreSQL run on every instance.
///
/// # Errors
/// The API's refusal.
pub async fn unfence(target: &DrillTarget) -> Result<()> {
    target.patch(&json!({"metadata": {"annotations": {FENCING: null}}})).await
}

/// Asks for a restart of every instance, as `kubectl cnpg restart` does.
///
/// # Errors
/// The API's refusal.
pub async fn restart(target: &DrillTarget) -> Result<()> {
    let now = jiff::Timestamp::now().to_string();
    target.patch(&json!({"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": now}}})).await
}

/// A shell script that puts PostgreSQL's processes into `all`: the postmaster, from the first line of its pid file, and its children in front of it.
const PROCESSES: &str = "p=$(head -n1 \"$PGDATA/postmaster.pid\") || exit 0; all=$(for f in /proc/[0-9]*/stat; do \
     set -- $(cat \"$f\" 2>/dev/null); [ \"$4\" = \"$p\" ] && echo \"$1\"; done; echo \"$p\")";

/// Sends a signal to every PostgreSQL process of an instance.
///
/// # Errors
/// As [`run_script`].
pub async fn signal(target: &DrillTarget, instance: &str, signal: &str) -> Result<()> {
    run_script(target, instance, &format!("{PROCESSES}; kill -{signal} $all 2>/dev/null; true")).await.map(drop)
}

/// Stops every PostgreSQL process of an instance where it is. After `limit` they are killed, should nobody have ended it
/// before: the pod itself sees to it, which cannot tell whether it has another primary by then (see [`thaw`]).
///
/// # Errors
/// As [`run_script`].
pub async fn freeze(target: &DrillTarget, instance: &str, limit: Duration) -> Result<()> {
    let script = format!(
        "{PROCESSES}; setsid sh -c 'sleep {}; {END_STOPPED}' $all >/dev/null 2>&1 </dev/null & \
         kill -STOP $all 2>/dev/null; true",
        limit.as_secs()
    );
    run_script(target, instance, &script).await.map(drop)
}

/// A shell script, with processes as its name and arguments, that kills those that stand still.
const END_STOPPED: &str = "for one in $0 $*; do \
     grep -q \"^State:[[:space:]]*T\" /proc/$one/status && kill -KILL $one; done; true";

/// Ends that processes of any instance stand still: those of the primary go on. On an instance in whose place another one is
/// to be the primary they are killed: going on, it would complete a segment of its timeline beyond the point at which the new
/// one forks off, archive it when it starts again, and a standby that restores that segment can never follow the new
/// primary (`docs/upstream/former-primary-archives-past-the-fork.md`).
///
/// # Errors
/// As [`run_script`]; the Cluster or the pods can't be read.
pub async fn thaw(target: &DrillTarget) -> Result<()> {
    let primary = ClusterStatus::of(&target.cluster().await?).target_primary;
    // A pod that is gone, or was made again, has nothing that stands still.
    let instances = ListParams::default().labels(&cnpg::instances(&target.database.get()));
    for pod in target.api::<Pod>().list(&instances).await.context("cannot list the instances")?.items {
        let running = pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
        if !running || pod.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let name = pod.name_any();
        if primary.as_ref().is_none_or(|primary| *primary == name) {
            signal(target, &name, "CONT").await?;
        } else {
            let script = format!("{PROCESSES}; sh -c '{END_STOPPED}' $all");
            run_script(target, &name, &script).await?;
        }
    }
    Ok(())
}

/// Runs a shell script in an instance's container and returns what it printed.
///
/// # Errors
/// The container does not answer, or the script fails.
pub async fn run_script(target: &DrillTarget, instance: &str, script: &str) -> Result<String> {
    exec::run(&target.kube, &target.namespace, instance, POSTGRES, &["sh", "-c", script], COMMAND).await
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn sleeping() -> Child {
        Command::new("sleep").arg("60").spawn().expect("sleep starts")
    }

    #[test]
    fn what_stands_still_is_ended_and_what_goes_on_is_not() {
        let (mut stopped, mut running) = (sleeping(), sleeping());
        let ids = [stopped.id().to_string(), running.id().to_string()];
        let run = |script: &str| Command::new("sh").args(["-c", script]).args(&ids).status().unwrap();
        assert!(run("kill -STOP $0 && until grep -q '^State:.T' /proc/$0/status; do sleep 0.02; done").success());
        assert!(run(END_STOPPED).success());
        assert_eq!(stopped.wait().unwrap().code(), None, "killed");
        assert!(running.try_wait().unwrap().is_none());
        running.kill().unwrap();
        running.wait().unwrap();
    }
}
