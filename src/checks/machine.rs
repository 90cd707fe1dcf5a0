//! What this machine has to have.

use std::path::Path;

use anyhow::Context as _;
use futures::FutureExt;

use super::{Before, Category, Check, CheckOutcome, check};
use crate::{
    assets,
    config::{MinikubeTarget as Wanted, Target},
    context::Context,
    error::Result,
    kube::{ClusterRef, contexts},
    tools::{
        docker,
        minikube::{Minikube, OLDEST},
        profile,
    },
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// kubeadm refuses fewer.
const LEAST_CPUS: u32 = 2;
/// minikube refuses less.
const LEAST_MEMORY_MIB: u64 = 1800;
/// Node image, container images and volumes of a stack with little data.
const LEAST_DISK: u64 = 6 * GIB;
/// Where it stays comfortable.
const GOOD_DISK: u64 = 15 * GIB;
/// kubelet, containerd and systemd of each node watch files; with fewer they fail with "too many open files".
const LEAST_INOTIFY: [(&str, u64); 2] = [("max_user_instances", 128), ("max_user_watches", 65_536)];

const ENGINE: Option<&str> = Some("engine");

const MACHINE: Category = Category::Machine;

/// The checks, in the order in which they are shown.
pub const CHECKS: &[Check] = &[
    check(MACHINE, "engine", "Docker engine", Before::Always, None, |cx| engine(cx).boxed()),
    check(MACHINE, "cpus", "CPUs", Before::Making, ENGINE, |cx| cpus(cx).boxed()),
    check(MACHINE, "memory", "memory", Before::Making, ENGINE, |cx| memory(cx).boxed()),
    check(MACHINE, "disk", "disk space", Before::Making, ENGINE, |_| disk().boxed()),
    check(MACHINE, "inotify", "inotify limits", Before::Making, None, |cx| inotify(cx).boxed()),
    check(MACHINE, "minikube", "minikube", Before::Making, None, |cx| minikube(cx).boxed()),
    check(MACHINE, "kubeconfig", "kubeconfig", Before::Always, None, |cx| kubeconfig(cx).boxed()),
    check(MACHINE, "ports", "local ports", Before::Never, None, |_| ports().boxed()),
];

fn wanted(cx: &Context) -> std::result::Result<&Wanted, CheckOutcome> {
    match &cx.config.target {
        Target::Minikube(wanted) => Ok(wanted),
        Target::Context(name) => Err(CheckOutcome::skipped(format!("context {name} runs elsewhere"))),
    }
}

async fn engine(cx: &Context) -> Result<CheckOutcome> {
    if cx.config.built_are_mirrored() {
        return Ok(CheckOutcome::skipped("nothing is built or pushed: the mirror has every image"));
    }
    let engine = docker::engine().await?;
    if engine.os_type == "windows" {
        return Ok(CheckOutcome::missing("the Docker engine runs Windows containers")
            .remedy("switch it to Linux containers (Docker Desktop's menu)"));
    }
    Ok(CheckOutcome::ok(format!("{} answers", engine.server_version)))
}

async fn cpus(cx: &Context) -> Result<CheckOutcome> {
    let wanted = match wanted(cx) {
        Ok(wanted) => wanted,
        Err(skipped) => return Ok(skipped),
    };
    let has = docker::engine().await?.cpus;
    Ok(judge_cpus(has, wanted.cpus))
}

fn judge_cpus(has: u32, wanted: Option<u32>) -> CheckOutcome {
    if has < LEAST_CPUS {
        return CheckOutcome::missing(format!("the Docker engine has {has} CPU, Kubernetes needs {LEAST_CPUS}"))
            .remedy("give the machine (or Docker Desktop) more CPUs");
    }
    match wanted {
        Some(wanted) if wanted < LEAST_CPUS => {
            CheckOutcome::failed(format!("--cpus {wanted} is too little: Kubernetes needs {LEAST_CPUS}"))
                .remedy(format!("--cpus {LEAST_CPUS}"))
        }
        Some(wanted) if wanted > has => {
            CheckOutcome::failed(format!("--cpus {wanted} is more than the Docker engine has: {has}"))
                .remedy(format!("--cpus {has} or less"))
        }
        _ => CheckOutcome::ok(format!("{has}")),
    }
}

async fn memory(cx: &Context) -> Result<CheckOutcome> {
    let wanted = match wanted(cx) {
        Ok(wanted) => wanted,
        Err(skipped) => return Ok(skipped),
    };
    Ok(judge_memory(docker::engine().await?.mem_total / MIB, wanted.memory_mib, wanted.nodes))
}

fn judge_memory(has_mib: u64, each_mib: u64, nodes: u32) -> CheckOutcome {
    if each_mib < LEAST_MEMORY_MIB {
        return CheckOutcome::failed(format!("--memory {each_mib}Mi is too little: a node needs {LEAST_MEMORY_MIB}Mi"))
            .remedy("--memory 4Gi");
    }
    let all_mib = each_mib * u64::from(nodes);
    let has = gib(has_mib * MIB);
    if all_mib > has_mib {
        let many = if nodes == 1 { "one node".into() } else { format!("{nodes} nodes") };
        let outcome = CheckOutcome::missing(format!("{many} of {each_mib}Mi need more than the engine has: {has}"));
        let share = has_mib / u64::from(nodes);
        return match (share / 1024, has_mib / each_mib) {
            (gib @ 2.., _) => outcome.remedy(format!("give each node less: --memory {gib}Gi")),
            (_, fewer @ 1..) => outcome.remedy(format!("use fewer nodes: --nodes {fewer}")),
            _ => outcome.remedy("give the engine more memory"),
        };
    }
    CheckOutcome::ok(format!("{has}, {} of it for the cluster", gib(all_mib * MIB)))
}

async fn disk() -> Result<CheckOutcome> {
    let engine = docker::engine().await?;
    let root = Path::new(&engine.docker_root_dir);
    // An engine in a virtual machine has a disk of its own, which can't be seen from here.
    let root = if root.is_dir() { root.to_owned() } else { profile::minikube_home()? };
    // The folder itself may not have been made yet: what counts is the disk below.
    let there = root.ancestors().find(|folder| folder.exists()).context("there is no folder at all")?;
    let stat = rustix::fs::statvfs(there).with_context(|| format!("cannot look at {}", there.display()))?;
    Ok(judge_disk(stat.f_bavail * stat.f_frsize, &root))
}

fn judge_disk(free: u64, root: &Path) -> CheckOutcome {
    let detail = format!("{} free for {}", gib(free), root.display());
    let remedy = "free some: docker system df shows what Docker uses, docker system prune removes what is unused";
    if free < LEAST_DISK {
        return CheckOutcome::missing(format!("{detail}, {} are needed", gib(LEAST_DISK))).remedy(remedy);
    }
    if free < GOOD_DISK {
        return CheckOutcome::warning(format!("{detail}, {} are better", gib(GOOD_DISK))).remedy(remedy);
    }
    CheckOutcome::ok(detail)
}

async fn inotify(cx: &Context) -> Result<CheckOutcome> {
    let wanted = match wanted(cx) {
        Ok(wanted) => wanted,
        Err(skipped) => return Ok(skipped),
    };
    let read = |name: &str| -> Option<u64> {
        std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?.trim().parse().ok()
    };
    let found = LEAST_INOTIFY.map(|(name, least)| (name, least * u64::from(wanted.nodes), read(name)));
    Ok(judge_inotify(&found))
}

fn judge_inotify(found: &[(&str, u64, Option<u64>)]) -> CheckOutcome {
    let mut low = Vec::new();
    let mut values = Vec::new();
    for (name, least, value) in found {
        let Some(value) = value else { return CheckOutcome::skipped("this system has none") };
        values.push(format!("{name} {value}"));
        if value < least {
            low.push((name, least));
        }
    }
    if low.is_empty() {
        return CheckOutcome::ok(values.join(", "));
    }
    let settings: Vec<String> = low.iter().map(|(name, least)| format!("fs.inotify.{name}={}", *least * 4)).collect();
    CheckOutcome::warning(format!("low: {} (nodes may fail with \"too many open files\")", values.join(", ")))
        .remedy(format!("sudo sysctl {}", settings.join(" ")))
}

async fn minikube(cx: &Context) -> Result<CheckOutcome> {
    if let Err(skipped) = wanted(cx) {
        return Ok(skipped);
    }
    if let Some(minikube) = Minikube::find(cx).await? {
        return Ok(CheckOutcome::ok(format!("{} ({})", minikube.version, minikube.origin)));
    }
    let pinned = assets::components()?;
    let pinned = pinned.get("minikube").context("minikube is not pinned")?;
    let (major, minor) = OLDEST;
    Ok(CheckOutcome::ok(format!(
        "not installed; {} will be downloaded ({major}.{minor} or newer in PATH is used instead)",
        pinned.version
    )))
}

async fn kubeconfig(cx: &Context) -> Result<CheckOutcome> {
    let (names, current) = contexts(&ClusterRef { kubeconfig: cx.config.kubeconfig.clone(), context: None })?;
    let count = if names.len() == 1 { "1 context".into() } else { format!("{} contexts", names.len()) };
    Ok(CheckOutcome::ok(match current {
        Some(current) => format!("{count}, current: {current}"),
        None => count,
    }))
}

async fn ports() -> Result<CheckOutcome> {
    match std::net::TcpListener::bind(("127.0.0.1", 0)) {
        Ok(_) => Ok(CheckOutcome::ok("127.0.0.1 can be listened on")),
        Err(error) => Ok(CheckOutcome::missing(format!("cannot listen on 127.0.0.1: {error}"))
            .remedy("bring the loopback interface up: sudo ip link set lo up")),
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / GIB as f64)
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};

    #[test]
    fn cpus_are_judged() {
        assert_eq!(judge_cpus(1, None).status, Status::Missing);
        assert_eq!(judge_cpus(4, Some(1)).status, Status::Failed);
        assert_eq!(judge_cpus(4, Some(8)).status, Status::Failed);
        assert_eq!(judge_cpus(4, Some(4)).status, Status::Ok);
        assert_eq!(judge_cpus(2, None).status, Status::Ok);
    }

    #[test]
    fn memory_is_judged_for_all_nodes_together() {
        assert_eq!(judge_memory(8192, 4096, 1).status, Status::Ok);
        assert_eq!(judge_memory(8192, 4096, 3).status, Status::Missing);
        assert_eq!(judge_memory(8192, 4096, 3).remedies, ["give each node less: --memory 2Gi"]);
        assert_eq!(judge_memory(8192, 4096, 9).remedies, ["use fewer nodes: --nodes 2"]);
        assert_eq!(judge_memory(3000, 4096, 2).remedies, ["give the engine more memory"]);
        assert_eq!(judge_memory(8192, 1000, 1).status, Status::Failed);
    }

    #[test]
    fn disk_and_inotify_are_judged() {
        let root = Path::new("/var/lib/docker");
        assert_eq!(judge_disk(GIB, root).status, Status::Missing);
        assert_eq!(judge_disk(10 * GIB, root).status, Status::Warning);
        assert_eq!(judge_disk(100 * GIB, root).status, Status::Ok);
        let low = judge_inotify(&[("max_user_instances", 384, Some(128)), ("max_user_watches", 10, Some(10))]);
        assert_eq!(low.status, Status::Warning);
        assert_eq!(low.remedies, ["sudo sysctl fs.inotify.max_user_instances=1536"]);
        assert_eq!(judge_inotify(&[("max_user_instances", 1, None)]).status, Status::Skipped);
    }
}
