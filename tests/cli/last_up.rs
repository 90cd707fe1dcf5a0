//! What a stack was brought up from is remembered: later commands need not be told it again.

use std::fs;

use sha2::{Digest as _, Sha256};

use crate::sandbox::Sandbox;

/// A node is there from when the test says so until minikube deletes it.
const DOCKER: &str = r#"
case "$1 $2" in
  "info --format") echo "$ENGINE" ;;
  "image inspect") echo '[{"Config":{"Entrypoint":["/user-app"]},"RootFS":{"Layers":["sha256:1"]}}]' ;;
  "container ls") [ -e "$HOME/made" ] && [ ! -e "$HOME/deleted" ] && echo "stackctl stackctl" ;;
  "container inspect") [ -e "$HOME/made" ] && echo "/stackctl running" ;;
  "volume ls" | "network ls") ;;
  *) echo "unexpected: docker $*" >&2; exit 64 ;;
esac
exit 0"#;

/// The bundle's minikube, the only one of this machine: it begins to make a cluster, and never gets far.
const MINIKUBE: &str = r#"#!/bin/sh
echo "minikube $*" >> "$HOME/minikube.calls"
case "$1" in
  version) echo '{"minikubeVersion":"v1.38.1"}' ;;
  start) echo "the image is broken" >&2; exit 80 ;;
  delete) : > "$HOME/deleted" ;;
  *) exit 64 ;;
esac
"#;

/// A bundle in a folder of this name; returns its path.
fn bundle(sandbox: &Sandbox, name: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let minikube = sandbox.write(&format!("{name}/tools/minikube"), MINIKUBE);
    fs::set_permissions(minikube, fs::Permissions::from_mode(0o755)).unwrap();
    let sum: String = Sha256::digest(MINIKUBE).iter().map(|byte| format!("{byte:02x}")).collect();
    let platform = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    let index = format!(
        r#"{{"schema":1,"platform":"{platform}","kubernetes":"v1.35.4",
        "components":[{{"name":"kicbase","image":"stackctl.local/kicbase:1"}}],
        "files":[{{"path":"tools/minikube","sha256":"{sum}","size":{}}}]}}"#,
        MINIKUBE.len()
    );
    sandbox.write(&format!("{name}/bundle.json"), &index);
    sandbox.path().join(name).display().to_string()
}

fn records(sandbox: &Sandbox) -> Vec<String> {
    let folder = sandbox.home().join(".local/state/stackctl/stacks");
    let mut found = Vec::new();
    for cluster in fs::read_dir(folder).into_iter().flatten().flatten() {
        let files = fs::read_dir(cluster.path()).unwrap().flatten();
        found.extend(files.map(|file| format!("{}/{}", name(&cluster), name(&file))));
    }
    found.sort();
    found
}

fn name(entry: &fs::DirEntry) -> String {
    entry.file_name().into_string().unwrap()
}

#[test]
fn a_bundle_need_not_be_named_again_to_go_on_and_to_remove_what_an_up_left() {
    let sandbox = Sandbox::bare().fake("docker", DOCKER);
    let bundle = bundle(&sandbox, "bundle");
    let first = sandbox.run(&["up", "--bundle", &bundle, "--instances", "5", "--memory", "3Gi"]);
    assert!(first.contains("the image is broken") && !first.contains("from the last up"), "{first}");
    assert_eq!(records(&sandbox), ["stackctl/cluster.json", "stackctl/stack-user-app.json"]);

    let again = sandbox.run(&["up"]);
    let told = "from the last up of this stack: --bundle [DIR]/bundle, --instances 5, --memory 3Gi";
    assert!(again.contains(told) && again.contains("the image is broken"), "{again}");
    let calls = fs::read_to_string(sandbox.home().join("minikube.calls")).unwrap();
    assert_eq!(calls.matches("--memory=3072").count(), 2, "{calls}");

    sandbox.profile("docker", "containerd");
    sandbox.write("home/made", "");
    let down = sandbox.run(&["down", "--cluster", "--yes"]);
    assert!(down.starts_with("exit code 0") && sandbox.home().join("deleted").exists(), "{down}");
    assert_eq!(records(&sandbox), [""; 0]);
}

#[test]
fn what_is_asked_for_beats_what_is_remembered_and_can_drop_it() {
    let sandbox = Sandbox::bare().fake("docker", DOCKER);
    let (one, other) = (bundle(&sandbox, "one"), bundle(&sandbox, "other"));
    sandbox.run(&["up", "--bundle", &one, "--without", "monitoring"]);
    let second = sandbox.run(&["up", "--bundle", &other]);
    assert!(second.contains("from the last up of this stack: --without monitoring"), "{second}");
    let third = sandbox.run(&["up", "--forget", "without", "--dry-run"]);
    assert!(third.contains("from the last up of this stack: --bundle [DIR]/other ("), "{third}");
    let environment = sandbox.command(&["up", "--dry-run"]).env("STACKCTL_BUNDLE", &one).output().unwrap();
    let environment = sandbox.shown(&environment);
    assert!(environment.contains("from the last up of this stack: --without monitoring ("), "{environment}");
    let unchanged = sandbox.run(&["up", "--dry-run"]);
    assert!(unchanged.contains("--bundle [DIR]/other, --without monitoring"), "a dry run keeps nothing: {unchanged}");
    let all = sandbox.run(&["up", "--forget", "all", "--bundle", &one, "--dry-run"]);
    assert!(!all.contains("from the last up"), "{all}");
}

#[test]
fn a_remembered_bundle_that_is_gone_is_named_with_what_to_do() {
    let sandbox = Sandbox::bare().fake("docker", DOCKER);
    let bundle = bundle(&sandbox, "bundle");
    sandbox.run(&["up", "--bundle", &bundle]);
    fs::remove_dir_all(&bundle).unwrap();
    for command in [&["up"][..], &["up", "--dry-run"], &["diff"], &["render", "--part", "web"]] {
        let said = sandbox.run(command);
        assert!(said.starts_with("exit code 3") && said.contains("no bundle in [DIR]/bundle"), "{said}");
        assert!(said.contains("stackctl up --bundle DIR") && said.contains("stackctl up --forget bundle"), "{said}");
    }
    let goes_on = sandbox.run(&["doctor"]);
    assert!(
        goes_on.contains("warning: the bundle of the last up is not used") && goes_on.contains("engine"),
        "{goes_on}"
    );
    let quiet = sandbox.run(&["psql"]);
    assert!(!quiet.contains("bundle"), "{quiet}");
}

#[test]
fn a_record_that_is_broken_is_told_and_breaks_nothing() {
    let sandbox = Sandbox::with_docker();
    let path = ".local/state/stackctl/stacks/stackctl/stack-user-app.json";
    for text in ["{", r#"{"options":{"instances":99}}"#, r#"{"options":{"registry":"Not A Registry"}}"#] {
        sandbox.write(&format!("home/{path}"), text);
        let said = sandbox.run(&["render", "--part", "web"]);
        assert!(said.starts_with("exit code 0") && said.contains("is ignored"), "{text}: {said}");
    }
    // What somebody asks for is still checked.
    let said = sandbox.run(&["render", "--part", "web", "--instances", "98"]);
    assert!(said.starts_with("exit code 2") && said.contains("98"), "{said}");
}
