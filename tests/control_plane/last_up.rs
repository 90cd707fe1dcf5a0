//! What a stack on a cluster of the user's own was brought up with: kept once the cluster has taken it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use serde_json::json;

use crate::harness::{ControlPlane, create};

/// An engine that has every image and pushes it anywhere.
const DOCKER: &str = r#"#!/bin/sh
case "$1 $2" in
  "info --format") echo '{"ServerVersion":"27.0.1","NCPU":4,"MemTotal":17179869184,"DockerRootDir":"/","OSType":"linux","CgroupVersion":"2","OperatingSystem":"Debian"}' ;;
  "image inspect") echo '[{"Config":{"Entrypoint":["/user-app"]},"RootFS":{"Layers":["sha256:1"]}}]' ;;
esac
"#;

fn options(state: &Path) -> Vec<String> {
    let folders = fs::read_dir(state.join("stacks")).into_iter().flatten().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).unwrap().flatten());
    files.map(|file| fs::read_to_string(file.path()).unwrap().split_whitespace().collect()).collect()
}

#[tokio::test]
async fn a_stack_is_remembered_once_its_namespace_is_claimed() {
    // What `up` installs for the whole cluster is in nobody's way.
    let plane = ControlPlane::of_its_own();
    create(
        &plane.connect().await,
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "none",
            "metadata": {"name": "last-up", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        }),
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = plane.kubeconfig("admin-token", |_| {});
    fs::create_dir(folder.path().join("bin")).unwrap();
    fs::write(folder.path().join("bin/docker"), DOCKER).unwrap();
    fs::set_permissions(folder.path().join("bin/docker"), fs::Permissions::from_mode(0o755)).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stackctl"));
        command.args(["--context", "test", "--timeout", "1m"]).args(arguments).env_clear();
        command.env("KUBECONFIG", &kubeconfig).env("HOME", folder.path()).env("PATH", folder.path().join("bin"));
        // Upstream's manifests are fetched from nowhere.
        let output = command.env("HTTPS_PROXY", "http://127.0.0.1:9").output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let state = folder.path().join(".local/state/stackctl");

    let refused = run(&["up", "--registry", "registry.example.com/team", "--storage-class", "no-such"]);
    assert_eq!(options(&state), [""; 0], "nothing is kept of what was refused beforehand: {refused}");

    let first = run(&["up", "--registry", "registry.example.com/team", "--instances", "5", "--without", "backup"]);
    let kept = r#"{"options":{"instances":5,"registry":"registry.example.com/team","without":["backup"]}}"#;
    assert_eq!(options(&state), [kept], "{first}");

    let plan = run(&["up", "--dry-run"]);
    assert!(plan.contains("--instances 5, --registry registry.example.com/team, --without backup"), "{plan}");
    assert!(plan.contains("docker push registry.example.com/team/"), "{plan}");
}
