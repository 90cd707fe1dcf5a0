//! `stackctl doctor` before anything is installed.

use serde_json::Value;

use crate::{sandbox::Sandbox, snapshot};

#[test]
fn a_machine_without_docker() {
    let sandbox = Sandbox::bare();
    let shown = sandbox.run(&["doctor"]);
    snapshot!(shown, @r#"
    exit code 3
    -- stdout
    This machine
      ✗ Docker engine       Docker is not installed: there is no docker command in PATH
          try: install Docker Engine: https://docs.docker.com/engine/install/
          try: or use a cluster that you already have: --context NAME
      · CPUs                cannot be told before the problem above is solved
      · memory              cannot be told before the problem above is solved
      · disk space          cannot be told before the problem above is solved
      ✓ minikube            not installed; 1.38.1 will be downloaded (1.38 or newer in PATH is used instead)
      ✓ kubeconfig          0 contexts
      ✓ local ports         127.0.0.1 can be listened on

    The cluster (minikube profile stackctl)
      · Kubernetes API      no cluster yet: stackctl up makes it
      · nodes               no cluster yet: stackctl up makes it
      · room on the nodes   no cluster yet: stackctl up makes it
      · permissions         no cluster yet: stackctl up makes it
      · pull secret         none is asked for
      · address             none is asked for
      · storage class       no cluster yet: stackctl up makes it
      · metrics API         no cluster yet: stackctl up makes it
      · monitoring          no cluster yet: stackctl up makes it
      · failover helper     no cluster yet: stackctl up makes it
      · interrupted drill   no cluster yet: stackctl up makes it
      · admission webhooks  no cluster yet: stackctl up makes it

    1 problem found.
    "#);
}

#[test]
fn json_tells_the_same() {
    let sandbox = Sandbox::with_docker().fake("minikube", r#"echo '{"minikubeVersion":"v1.30.0"}'"#);
    let output = sandbox.command(&["doctor", "--output", "json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let checks = report["checks"].as_array().unwrap();
    let status = |id: &str| &checks.iter().find(|check| check["id"] == id).unwrap()["status"];
    assert_eq!(status("engine"), "ok");
    assert_eq!(status("minikube"), "missing");
    assert_eq!(status("api"), "skipped");
}
