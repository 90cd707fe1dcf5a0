//! A command that is told to end, or that loses its lock, and `down --cluster` beside somebody's work: the program itself.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use kube::api::{Patch, PatchParams};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use stackctl::{
    drills::{
        actions::postgres,
        journal::{DrillRecord, Journal, LocalJournal},
        undo::Undo,
    },
    kube::Lock,
};
use tokio::sync::watch;

use crate::{
    drills::stack,
    harness::{Sandbox, control_plane, sandbox},
};

/// The lock of a stack.
const LOCK: &str = "stackctl";

async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The program in a home folder of its own, where the control plane is the cluster of context and profile `test`.
fn stackctl(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stackctl"));
    command.args(arguments).env_clear().env("HOME", home).env("PATH", home.join("bin")).stdin(Stdio::null());
    command.env("KUBECONFIG", control_plane().kubeconfig("admin-token", |_| {}));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn state(home: &Path) -> std::path::PathBuf {
    home.join(".local/state/stackctl")
}

async fn ended(mut child: Child) -> Output {
    wait_until("it does not end", async || child.try_wait().unwrap().is_some()).await;
    child.wait_with_output().unwrap()
}

/// A drill that was interrupted while every instance was fenced, and the next one, which is at undoing it: it will not come
/// to an end, for there is no instance that could run again.
async fn undoing(sandbox: &Sandbox, home: &tempfile::TempDir) -> Child {
    let journal = stack(sandbox, home, &format!("node-of-{}", sandbox.namespace)).await;
    let journal = Journal { local: LocalJournal::new(&state(home.path()), "test"), ..journal };
    let record = DrillRecord { run: "r1".into(), scenario: "control".into(), undo: vec![Undo::Unfence] };
    journal.begin(&record).await.unwrap();
    postgres::fence(&journal.target, &["*".to_owned()]).await.unwrap();
    // Its process ends, and with it its hold on the record.
    drop(journal);
    let arguments = ["--context", "test", "--namespace", &sandbox.namespace, "failover-drill", "--yes"];
    let child = stackctl(home.path(), &arguments).spawn().unwrap();
    let cluster = sandbox.reference("postgresql.cnpg.io/v1", "Cluster", "user-db");
    wait_until("it does not begin to undo", async || {
        let annotations = sandbox.get(&cluster).await.unwrap().metadata.annotations.unwrap_or_default();
        !annotations.contains_key(postgres::FENCING)
    })
    .await;
    child
}

fn tell(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
}

async fn has_record(sandbox: &Sandbox) -> bool {
    sandbox.get(&sandbox.reference("v1", "ConfigMap", "stackctl-drill")).await.is_some()
}

#[tokio::test]
async fn the_second_signal_ends_an_undo_and_says_what_is_left() {
    for (name, signal) in [("undo-sigint", Signal::INT), ("undo-sigterm", Signal::TERM)] {
        let sandbox = sandbox(name).await;
        let home = tempfile::tempdir().unwrap();
        let child = undoing(&sandbox, &home).await;
        tell(&child, signal);
        // It goes on undoing: that takes a second signal, not time.
        tokio::time::sleep(Duration::from_secs(2)).await;
        tell(&child, signal);
        let began = Instant::now();
        let output = ended(child).await;
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{said}");
        let left = "PostgreSQL runs on every instance again";
        assert!(said.contains(&format!("the drill is being undone ({left}); a second Ctrl-C ends that")), "{said}");
        assert!(said.contains(&format!("left to undo: {left}")), "{said}");
        assert!(said.contains(&format!("ConfigMap {}/stackctl-drill", sandbox.namespace)), "{said}");
        assert!(said.contains("running-test.json"), "{said}");
        // Who comes next finds the record, and no lock in the way.
        assert!(has_record(&sandbox).await);
        let lease = sandbox.reference("coordination.k8s.io/v1", "Lease", LOCK);
        assert!(sandbox.get(&lease).await.is_none(), "the lock is given back");
    }
}

#[tokio::test]
async fn a_drill_whose_lock_somebody_else_has_leaves_everything_to_them() {
    let sandbox = sandbox("lock-lost").await;
    let home = tempfile::tempdir().unwrap();
    let child = undoing(&sandbox, &home).await;
    let lease = sandbox.reference("coordination.k8s.io/v1", "Lease", LOCK);
    let api = sandbox.kube.api(&lease).await.unwrap();
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
    let spec = json!({"spec": {"holderIdentity": "bob@desk, process 7", "renewTime": now, "acquireTime": now}});
    api.patch(LOCK, &PatchParams::default(), &Patch::Merge(spec)).await.unwrap();

    let output = ended(child).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("bob@desk, process 7 took over"), "{said}");
    let lease = sandbox.get(&lease).await.expect("bob's lock");
    assert_eq!(lease.data["spec"]["holderIdentity"], "bob@desk, process 7");
    assert!(has_record(&sandbox).await, "bob undoes it");
}

/// An engine with the profile's node, and a minikube that would delete it; what they are called with is in `calls`.
fn tools(home: &Path) {
    let log = format!("echo \"$0 $*\" >> '{}'", home.join("calls").display());
    let docker = r#"case "$1 $2" in
      "info --format") echo '{"ServerVersion":"27.0.1","NCPU":4,"MemTotal":17179869184,"DockerRootDir":"/nowhere","OSType":"linux","CgroupVersion":"2","OperatingSystem":"Debian"}' ;;
      "container ls") echo "test test" ;;
      "container inspect") echo "/test running" ;;
      "volume ls" | "network ls") ;;
      *) exit 64 ;;
    esac"#;
    let minikube = r#"case "$1" in version) echo '{"minikubeVersion":"v1.38.1"}' ;; *) exit 64 ;; esac"#;
    fs::create_dir(home.join("bin")).unwrap();
    for (name, script) in [("docker", docker), ("minikube", minikube)] {
        let path = home.join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{log}\n{script}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let profile: Value = json!({"Name": "test", "Driver": "docker", "Nodes": [{"Name": ""}], "KubernetesConfig": {
        "KubernetesVersion": "v1.35.4", "ContainerRuntime": "containerd", "CNI": ""}});
    let folder = home.join(".minikube/profiles/test");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.json"), profile.to_string()).unwrap();
}

#[tokio::test]
async fn a_cluster_is_not_deleted_while_somebody_works_on_it() {
    let sandbox = sandbox("down-cluster").await;
    let home = tempfile::tempdir().unwrap();
    tools(home.path());
    let arguments = ["--profile", "test", "--namespace", &sandbox.namespace, "down", "--cluster", "--yes"];
    let refused = || {
        let output = stackctl(home.path(), &arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let calls = fs::read_to_string(home.path().join("calls")).unwrap_or_default();
        assert!(!calls.contains("minikube delete"), "{calls}");
        said
    };
    // On another machine: they hold the Lease.
    let lost = watch::Sender::new(None);
    let lock = Lock::acquire(&sandbox.kube, &sandbox.namespace, LOCK, "bob@desk, process 7", &lost).await.unwrap();
    let said = refused();
    assert!(said.contains("bob@desk, process 7"), "{said}");
    lock.close().await;

    // On this one, where minikube itself would make a mess of two.
    fs::create_dir_all(state(home.path())).unwrap();
    let file = fs::File::create(state(home.path()).join("test.lock")).unwrap();
    file.try_lock().unwrap();
    let said = refused();
    assert!(said.contains("another stackctl on this machine is working on minikube profile test"), "{said}");
}
