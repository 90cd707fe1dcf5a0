//! `stackctl down --cluster` with fake tools.

use crate::sandbox::Sandbox;

/// One node, which is paused until it is told to go on, and there until minikube deletes it.
const DOCKER: &str = r#"
case "$1 $2" in
  "info --format") echo "$ENGINE" ;;
  "container ls") [ -e "$HOME/deleted" ] || echo "stackctl stackctl" ;;
  "container inspect") [ -e "$HOME/runs" ] && echo "/stackctl running" || echo "/stackctl paused" ;;
  "unpause stackctl") : > "$HOME/runs" ;;
  "volume ls" | "network ls") ;;
  *) echo "unexpected: docker $*" >&2; exit 64 ;;
esac"#;

const MINIKUBE: &str = r#"
case "$1" in
  version) echo '{"minikubeVersion":"v1.38.1"}' ;;
  delete) [ -e "$HOME/runs" ] || { echo "the node does not answer" >&2; exit 1; }; : > "$HOME/deleted" ;;
  *) echo "unexpected: minikube $*" >&2; exit 64 ;;
esac"#;

#[test]
fn a_paused_node_goes_on_before_minikube_deletes_it() {
    let sandbox = Sandbox::bare().fake("docker", DOCKER).fake("minikube", MINIKUBE);
    sandbox.profile("docker", "containerd");
    let said = sandbox.run(&["down", "--cluster", "--yes"]);
    assert!(said.starts_with("exit code 0"), "{said}");
    let calls = sandbox.calls();
    let at = |call: &str| calls.iter().position(|made| made.starts_with(call));
    let (unpause, delete) = (at("docker unpause stackctl").unwrap(), at("minikube delete").unwrap());
    assert!(unpause < delete, "{calls:#?}");
}
