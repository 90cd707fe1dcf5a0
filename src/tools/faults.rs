//! Faults in minikube's nodes, put in and undone from outside, through the engine whose containers they are:
//! no API server is asked. Everything that undoes may be done twice.

use std::time::Duration;

use super::docker;
use crate::error::{Result, failed};

/// No step here takes long; a node that does not answer is broken.
const LIMIT: Duration = Duration::from_secs(30);

/// Where the kubelet looks for the control plane's pods.
const API_SERVER: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
/// Where the API server's manifest waits meanwhile.
const ASIDE: &str = "/etc/kubernetes/stackctl-drill-kube-apiserver.yaml";
/// The chain of packet filter rules that cuts a node off.
const CHAIN: &str = "STACKCTL-DRILL";
/// The name of the file system of bounded size, where file systems are listed.
pub const BOUNDED: &str = "stackctl-drill";
/// The process that undoes a fault after its time.
const WATCHDOG: &str = "/run/stackctl-drill-watchdog";

/// Runs a shell script in a node and returns what it printed.
///
/// # Errors
/// The node does not answer, or the script's failure with what it said.
async fn script(node: &str, text: &str) -> Result<String> {
    let output = docker::exec(node, ["sh", "-c", text]).timeout(LIMIT).output().await?;
    if output.status.success() {
        return Ok(output.stdout.trim().to_owned());
    }
    Err(failed(format!("the node {node} does not do what the drill asks: {}", output.tail())).into())
}

/// A shell command that finds the main process of a pod's container.
fn find_process(namespace: &str, pod: &str, container: &str) -> String {
    format!(
        "id=$(crictl ps -q --label io.kubernetes.pod.namespace={namespace} --label io.kubernetes.pod.name={pod} \
         --label io.kubernetes.container.name={container}) && [ -n \"$id\" ]"
    )
}

/// Kills a container's main process, and with it every other one, by SIGKILL.
///
/// # Errors
/// The node does not answer, or has no such container.
pub async fn kill_container(node: &str, namespace: &str, pod: &str, container: &str) -> Result<()> {
    let find = find_process(namespace, pod, container);
    let kill = "kill -KILL \"$(crictl inspect -o go-template --template '{{.info.pid}}' \"$id\")\"";
    script(node, &format!("{find} && {kill}")).await.map(drop)
}

/// The lines by which minikube told a node where the control plane is. The engine writes the file anew whenever
/// the container starts, and a node without them finds nobody.
///
/// # Errors
/// As [`script`].
pub async fn hosts(node: &str) -> Result<Vec<String>> {
    let lines = script(node, "grep -F .minikube.internal /etc/hosts").await?;
    Ok(lines.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect())
}

/// Starts a node that was killed.
///
/// # Errors
/// The engine's, or as [`script`].
pub async fn start_node(node: &str, hosts: &[String]) -> Result<()> {
    docker::start(node).await?;
    for line in hosts {
        // Written in place: the engine has the file mounted, and it can't be replaced.
        script(node, &format!("grep -qxF '{line}' /etc/hosts || echo '{line}' >>/etc/hosts")).await?;
    }
    Ok(())
}

/// Runs a command in a container, by the node's own means; `None`: the container does not run.
///
/// # Errors
/// The node does not answer.
pub async fn in_container(
    node: &str,
    namespace: &str,
    pod: &str,
    container: &str,
    command: &str,
) -> Result<Option<String>> {
    let find = find_process(namespace, pod, container);
    let output = docker::exec(node, ["sh", "-c", &format!("{find} && crictl exec \"$id\" {command} 2>&1")])
        .timeout(LIMIT)
        .output()
        .await?;
    Ok(output.status.success().then_some(output.stdout))
}

/// Stops the API server of a control plane node for at most `limit`.
///
/// # Errors
/// As [`script`].
pub async fn stop_api_server(node: &str, limit: Duration) -> Result<()> {
    let watch = watchdog(limit, &restoring());
    let stop = format!("mv {API_SERVER} {ASIDE} && {{ {watch}; }}; pkill -KILL -x kube-apiserver; [ -f {ASIDE} ]");
    script(node, &stop).await.map(drop)
}

/// Brings the API server back.
///
/// # Errors
/// As [`script`].
pub async fn start_api_server(node: &str) -> Result<()> {
    script(node, &format!("{}; {}; [ -f {API_SERVER} ]", restoring(), no_watchdog())).await.map(drop)
}

fn restoring() -> String {
    format!("[ ! -f {ASIDE} ] || mv {ASIDE} {API_SERVER}")
}

/// Cuts a node off from everything but its own pods, for at most `limit`.
///
/// # Errors
/// As [`script`].
pub async fn isolate(node: &str, limit: Duration) -> Result<()> {
    let cut = format!(
        "iptables -w 5 -N {CHAIN} && iptables -w 5 -A {CHAIN} -j DROP && {{ {}; }}; \
         for rule in \"INPUT 1 -i\" \"OUTPUT 1 -o\" \"FORWARD 1 -i\" \"FORWARD 1 -o\"; do \
         iptables -w 5 -I $rule eth0 -j {CHAIN} || exit 1; done",
        watchdog(limit, &rejoining())
    );
    script(node, &cut).await.map(drop)
}

/// Lets the node reach the others again.
///
/// # Errors
/// As [`script`].
pub async fn rejoin(node: &str) -> Result<()> {
    script(node, &format!("{}; {}", rejoining(), no_watchdog())).await.map(drop)
}

fn rejoining() -> String {
    format!(
        "for rule in \"INPUT -i\" \"OUTPUT -o\" \"FORWARD -i\" \"FORWARD -o\"; do \
         while iptables -w 5 -D $rule eth0 -j {CHAIN} 2>/dev/null; do :; done; done; \
         iptables -w 5 -F {CHAIN} 2>/dev/null; iptables -w 5 -X {CHAIN} 2>/dev/null; true"
    )
}

/// Shell: the node itself undoes the fault after `limit`, should nobody else, not even this machine.
fn watchdog(limit: Duration, undo: &str) -> String {
    format!(
        "setsid sh -c 'sleep {}; rm -f {WATCHDOG}; {undo}' >/dev/null 2>&1 </dev/null & echo $! >{WATCHDOG}",
        limit.as_secs()
    )
}

/// Shell: it is not needed any more, and must not meddle with the next drill.
fn no_watchdog() -> String {
    format!("[ ! -f {WATCHDOG} ] || {{ kill -TERM -\"$(cat {WATCHDOG})\" 2>/dev/null; rm -f {WATCHDOG}; }}")
}

/// Mounts a file system of `mebibytes` in memory on a node's folder, for everybody to write to.
///
/// # Errors
/// As [`script`].
pub async fn mount_bounded(node: &str, folder: &str, mebibytes: u32) -> Result<()> {
    let mount = format!(
        "mkdir -p {folder} && {{ mountpoint -q {folder} || \
         mount -t tmpfs -o size={mebibytes}m,mode=0777 {BOUNDED} {folder}; }}"
    );
    script(node, &mount).await.map(drop)
}

/// Takes it away again.
///
/// # Errors
/// As [`script`]; that it is still in use among them.
pub async fn unmount(node: &str, folder: &str) -> Result<()> {
    let take = format!("! mountpoint -q {folder} || umount {folder}; [ ! -d {folder} ] || rmdir {folder}");
    script(node, &take).await.map(drop)
}

/// Fills the file system of a folder to the last byte.
///
/// # Errors
/// As [`script`].
pub async fn fill(node: &str, folder: &str) -> Result<()> {
    let filler = filler(folder);
    // Only ever a file system of its own: never the disk of the node, which is that of this machine.
    let fill =
        format!("mountpoint -q {folder} && {{ dd if=/dev/zero of={filler} bs=64k 2>/dev/null; [ -s {filler} ]; }}");
    script(node, &fill).await.map(drop)
}

/// Makes room again.
///
/// # Errors
/// As [`script`].
pub async fn make_room(node: &str, folder: &str) -> Result<()> {
    script(node, &format!("rm -f {}", filler(folder))).await.map(drop)
}

fn filler(folder: &str) -> String {
    format!("{folder}/stackctl-drill-filler")
}
