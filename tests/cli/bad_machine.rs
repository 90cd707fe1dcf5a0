//! A machine that lacks something, or has something of another kind: one error, the remedy, the exit
//! code, and everything left as it was.

use crate::{sandbox::Sandbox, snapshot};

#[test]
fn without_docker() {
    let sandbox = Sandbox::bare();
    snapshot!(sandbox.run(&["up", "--quiet"]), @r#"
    exit code 3
    -- stderr
    [preflight] Preflight checks: FAILED after [TIME]
    error: Preflight checks failed: Docker is not installed: there is no docker command in PATH
      try: install Docker Engine: https://docs.docker.com/engine/install/
      try: or use a cluster that you already have: --context NAME
    "#);
}

#[test]
fn without_permission_on_the_engine() {
    let sandbox = Sandbox::bare().fake(
        "docker",
        r#"echo '{"ServerErrors":["permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: Get \"http://%2Fvar%2Frun%2Fdocker.sock/v1.47/info\": dial unix /var/run/docker.sock: connect: permission denied"]}'; exit 1"#,
    );
    snapshot!(sandbox.run(&["up", "--quiet"]), @r#"
    exit code 3
    -- stderr
    [preflight] Preflight checks: FAILED after [TIME]
    error: Preflight checks failed: the Docker engine refuses you: permission denied on its socket
      try: add yourself to its group, then log in again: sudo usermod -aG docker $USER
      try: or for this shell only: newgrp docker
    "#);
}

#[test]
fn with_the_engine_down() {
    let sandbox = Sandbox::bare().fake(
        "docker",
        "echo 'Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?' >&2; exit 1",
    );
    snapshot!(sandbox.run(&["up", "--quiet"]), @r#"
    exit code 3
    -- stderr
    [preflight] Preflight checks: FAILED after [TIME]
    error: Preflight checks failed: no Docker engine answers: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?
      try: start it: sudo systemctl start docker (or start Docker Desktop)
    "#);
}

#[test]
fn with_an_engine_that_is_too_small() {
    let sandbox = Sandbox::with_docker().fake("minikube", r#"echo '{"minikubeVersion":"v1.38.1"}'"#);
    snapshot!(sandbox.run(&["up", "--quiet", "--nodes", "9", "--cpus", "64"]), @r#"
    exit code 3
    -- stderr
    [preflight] Preflight checks: FAILED after [TIME]
    error: Preflight checks failed: --cpus 64 is more than the Docker engine has: 4; 9 nodes of 4096Mi need more than the engine has: [SIZE]
      try: --cpus 4 or less
      try: use fewer nodes: --nodes 4
    "#);
    assert!(!sandbox.calls().iter().any(|call| call.starts_with("minikube start")), "{:?}", sandbox.calls());
}

#[test]
fn with_a_minikube_that_is_too_old() {
    let sandbox = Sandbox::with_docker().fake("minikube", r#"echo '{"minikubeVersion":"v1.30.1"}'"#);
    snapshot!(sandbox.run(&["up", "--quiet"]), @r#"
    exit code 3
    -- stderr
    [preflight] Preflight checks: FAILED after [TIME]
    error: Preflight checks failed: minikube 1.30.1 ([DIR]/bin/minikube) is too old: 1.38 or newer is needed
      try: update it: https://minikube.sigs.k8s.io/docs/start/
      try: or take it out of PATH: stackctl then downloads the release that it was tested with
    "#);
}

#[test]
fn with_something_else_called_minikube() {
    let sandbox = Sandbox::with_docker().fake("minikube", "echo hello");
    snapshot!(sandbox.run(&["up", "--quiet"]), @r#"
    exit code 3
    -- stderr
    [preflight] Preflight checks: FAILED after [TIME]
    error: Preflight checks failed: [DIR]/bin/minikube does not tell its version: is it minikube?
      try: install minikube: https://minikube.sigs.k8s.io/docs/start/
    "#);
}

#[test]
fn with_a_profile_of_another_driver() {
    let sandbox = Sandbox::with_docker().fake("minikube", "exit 64");
    let config = sandbox.profile("virtualbox", "docker");
    let before = std::fs::read(&config).unwrap();
    snapshot!(sandbox.run(&["up", "--quiet"]), @r#"
    exit code 1
    -- stderr
    [cluster] Kubernetes cluster: FAILED after [TIME]
    error: Kubernetes cluster failed: the minikube profile stackctl exists and uses the driver virtualbox, stackctl works with docker
      try: use another profile: --profile NAME
      try: or, if you do not need it: minikube delete --profile stackctl
    "#);
    assert_eq!(std::fs::read(&config).unwrap(), before);
    assert!(!sandbox.calls().iter().any(|call| call.starts_with("minikube")), "{:?}", sandbox.calls());
}

#[test]
fn with_a_profile_of_another_container_runtime() {
    let sandbox = Sandbox::with_docker().fake("minikube", "exit 64");
    sandbox.profile("docker", "cri-o");
    snapshot!(sandbox.run(&["up", "--quiet"]), @r#"
    exit code 1
    -- stderr
    [cluster] Kubernetes cluster: FAILED after [TIME]
    error: Kubernetes cluster failed: the minikube profile stackctl exists and uses the container runtime cri-o, stackctl works with containerd
      try: use another profile: --profile NAME
      try: or, if you do not need it: minikube delete --profile stackctl
    "#);
}

#[test]
fn when_minikube_gives_up_its_reason_and_advice_are_shown() {
    let sandbox = Sandbox::with_docker().fake(
        "minikube",
        r#"case "$1" in
        version) echo '{"minikubeVersion":"v1.38.1"}' ;;
        start)
            echo '{"type":"io.k8s.sigs.minikube.step","data":{"currentstep":"8","message":"Creating container","totalsteps":"19"}}'
            echo '{"type":"io.k8s.sigs.minikube.error","data":{"message":"should not be used with root privileges"}}'
            echo '{"type":"io.k8s.sigs.minikube.error","data":{"advice":"Run minikube delete","exitcode":"80","message":"Failed to start host: no room","name":"GUEST_PROVISION"}}'
            echo 'unrelated noise' >&2
            exit 80 ;;
        esac"#,
    );
    snapshot!(sandbox.run(&["up", "--quiet"]), @r#"
    exit code 1
    -- stderr
    [cluster] Kubernetes cluster: FAILED after [TIME]
    error: Kubernetes cluster failed: the minikube cluster did not start: `minikube start` failed (exit status: 80): minikube: Failed to start host: no room
      try: stackctl doctor
      try: Run minikube delete
    "#);
}

#[test]
fn when_minikube_dies_without_a_reason_its_last_lines_are_shown() {
    let sandbox = Sandbox::with_docker().fake(
        "minikube",
        r#"case "$1" in
        version) echo '{"minikubeVersion":"v1.38.1"}' ;;
        start) echo 'panic: something' >&2; exit 2 ;;
        esac"#,
    );
    snapshot!(sandbox.run(&["up", "--quiet"]), @r#"
    exit code 1
    -- stderr
    [cluster] Kubernetes cluster: FAILED after [TIME]
    error: Kubernetes cluster failed: the minikube cluster did not start: `minikube start` failed (exit status: 2): minikube (exit status: 2) said:
    panic: something
      try: stackctl doctor
    "#);
}

#[test]
fn when_the_image_does_not_build_its_last_lines_are_shown() {
    let sandbox = Sandbox::bare().fake(
        "docker",
        r#"case "$1 $2" in
        "info --format") echo "$ENGINE" ;;
        "image inspect") echo "Error response from daemon: No such image: $3" >&2; exit 1 ;;
        "buildx version") echo "github.com/docker/buildx v0.20.0" ;;
        "build --network") case "$*" in
            *user-app:*) echo "Step 5/9 : RUN cargo build"; echo "error: linking failed" >&2; exit 1 ;;
            *) while :; do :; done ;;
            esac ;;
        esac"#,
    );
    let sandbox = sandbox.fake(
        "minikube",
        r#"case "$1" in
        version) echo '{"minikubeVersion":"v1.38.1"}' ;;
        start) while :; do :; done ;;
        esac"#,
    );
    snapshot!(sandbox.run(&["up", "--quiet"]), @r#"
    exit code 1
    -- stderr
    [build] Web image: FAILED after [TIME]
    error: Web image failed: cannot build user-app:[DIGEST]: `docker build` failed (exit status: 1):
        error: linking failed
    "#);
}

#[test]
fn with_a_configuration_that_is_not_valid() {
    let sandbox = Sandbox::with_docker();
    sandbox.write("home/.config/stackctl/config.toml", "instances = \"three\"\n");
    snapshot!(sandbox.run(&["up", "--quiet"]), @r#"
    exit code 2
    -- stderr
    error: the configuration [DIR]/home/.config/stackctl/config.toml is not valid: TOML parse error at line 1, column 13
      |
    1 | instances = "three"
      |             ^^^^^^^
    invalid type: string "three", expected u32
    "#);
    assert!(sandbox.calls().is_empty());
}

/// minikube leaves such a file behind when its last cluster is deleted.
#[test]
fn a_dry_run_with_a_kubeconfig_that_has_no_context_plans_the_whole_stack() {
    let sandbox = Sandbox::with_docker().fake("minikube", r#"echo '{"minikubeVersion":"v1.38.1"}'"#);
    sandbox.write("home/.kube/config", "apiVersion: v1\nkind: Config\nclusters: null\ncontexts: null\nusers: null\n");
    let mut command = sandbox.command(&["up", "--dry-run", "--without", "backup"]);
    // What is behind the lock is in upstream's manifests, which nobody shall fetch here.
    let output = command.env("HTTPS_PROXY", "http://127.0.0.1:9").output().unwrap();
    let shown = sandbox.shown(&output);
    assert!(shown.contains("take the lock"), "{shown}");
    assert!(!shown.contains("no context"), "{shown}");
}
