//! Doing what is to be done: making, starting and completing the minikube profile.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{ID, heartbeat, images, marker, remnants, restarts, services, state::ClusterStep, watch::Watch};
use crate::{
    assets,
    bundle::Bundle,
    config::MinikubeTarget as Wanted,
    context::Context,
    error::{Result, failed, timed_out},
    poll::Tries,
    tools::{
        docker,
        minikube::{Minikube, Said},
        profile::{self, Found},
    },
    ui::{Event, State as Shown},
};

/// The addon whose volumes work on every node and stay where their pod is.
const STORAGE_ADDON: &str = "storage-provisioner-rancher";

/// What a step does, for the plan.
pub fn describe(cx: &Context, wanted: &Wanted, step: &ClusterStep) -> String {
    let profile = &wanted.profile;
    match step {
        ClusterStep::Delete(why) => format!("delete the minikube profile {profile} ({why})"),
        ClusterStep::Make => match making(cx, wanted) {
            Ok(arguments) => format!("minikube start {}", arguments.join(" ")),
            Err(error) => format!("make the minikube profile {profile}: {error:#}"),
        },
        ClusterStep::Start(why) => format!("start the minikube profile {profile} ({why})"),
        ClusterStep::Wait(nodes) => format!("wait for {}", nodes.join(", ")),
        ClusterStep::Heartbeats(nodes) => {
            format!("have the kubelets of {} renew their Leases every 1.5 s", nodes.join(", "))
        }
        ClusterStep::Restarts(nodes) => {
            format!("have the kubelets of {} restart a container after a second at most", nodes.join(", "))
        }
        ClusterStep::Services => "have Services lead to a new pod after 0.1 s at most".into(),
        ClusterStep::Images(nodes) => format!("load the bundle's images into {}", nodes.join(", ")),
        ClusterStep::AddNode => format!("add a node to the minikube profile {profile}"),
        ClusterStep::Storage => format!("enable minikube's addon {STORAGE_ADDON}"),
        ClusterStep::UseContext => format!("make {profile} the current context of the kubeconfig"),
    }
}

/// Performs a step.
///
/// # Errors
/// What minikube, docker or the API say.
pub async fn perform(cx: &Context, wanted: &Wanted, step: &ClusterStep) -> Result<()> {
    if let ClusterStep::Wait(nodes) = step {
        return wait_for_nodes(cx, nodes).await;
    }
    if let ClusterStep::Heartbeats(nodes) = step {
        cx.doing(ID, "making dead nodes be noticed in seconds");
        return heartbeat::quicken(cx.kube().await?, nodes).await;
    }
    if let ClusterStep::Restarts(nodes) = step {
        cx.doing(ID, "making ended containers be restarted in a second");
        return restarts::quicken(cx.kube().await?, nodes).await;
    }
    if let ClusterStep::Images(nodes) = step {
        return images::bring(cx, nodes, left(cx)).await;
    }
    if *step == ClusterStep::Services {
        cx.doing(ID, "making Services lead to new pods at once");
        return services::quicken(cx.kube().await?).await;
    }
    if let ClusterStep::Delete(why) = step {
        cx.doing(ID, format!("deleting the profile {} ({why})", wanted.profile));
        // minikube alone would leave the helpers of an interrupted start.
        return remnants::clear(cx, wanted).await;
    }
    let minikube = Minikube::locate(cx, ID).await?;
    let mut verbose = |line: &str| cx.reporter.send(Event::Output { phase: ID, line: line.into() });
    match step {
        ClusterStep::Wait(_)
        | ClusterStep::Heartbeats(_)
        | ClusterStep::Restarts(_)
        | ClusterStep::Services
        | ClusterStep::Images(_)
        | ClusterStep::Delete(_) => Ok(()),
        ClusterStep::Make => {
            if let Some(bundle) = &cx.bundle {
                unpack(cx, bundle).await?;
            }
            marker::set(cx, wanted)?;
            start(cx, &minikube, &wanted.profile, &making(cx, wanted)?).await
        }
        ClusterStep::Start(why) => {
            cx.doing(ID, format!("starting the profile {} ({why})", wanted.profile));
            if let Found::Profile(profile) = profile::read(&profile::minikube_home()?, &wanted.profile)? {
                docker::unpause(&profile.containers()).await?;
            }
            start(cx, &minikube, &wanted.profile, &starting(wanted)).await
        }
        ClusterStep::AddNode => {
            cx.doing(ID, "adding a node");
            minikube.add_node(&wanted.profile, left(cx), &mut verbose).await
        }
        ClusterStep::Storage => {
            cx.doing(ID, "enabling the storage provisioner");
            let images = cx.bundle.as_deref().map(storage_images).transpose()?;
            minikube.enable_addon(&wanted.profile, STORAGE_ADDON, images.as_deref(), &mut verbose).await
        }
        ClusterStep::UseContext => minikube.use_context(&wanted.profile).await,
    }
}

/// Arguments of `minikube start` for a profile that is not there yet.
fn making(cx: &Context, wanted: &Wanted) -> Result<Vec<String>> {
    let mut arguments = starting(wanted);
    let pinned = assets::components()?.kubernetes.version;
    let kubernetes = cx.bundle.as_ref().map_or(pinned.as_str(), |bundle| bundle.kubernetes());
    arguments.push("--container-runtime=containerd".into());
    arguments.push(format!("--kubernetes-version={kubernetes}"));
    arguments.push(format!("--nodes={}", wanted.nodes));
    arguments.push(wanted.cpus.map_or("--cpus=max".into(), |cpus| format!("--cpus={cpus}")));
    arguments.push(format!("--memory={}mb", wanted.memory_mib));
    if wanted.nodes > 1 {
        arguments.extend(heartbeat::NOTICE_DEAD_NODES.map(|setting| format!("--extra-config={setting}")));
    }
    if let Some(bundle) = &cx.bundle {
        arguments.push(format!("--base-image={}", bundle.image("kicbase")?));
        let cni = if wanted.nodes > 1 { cni_file(cx)?.display().to_string() } else { "bridge".into() };
        arguments.push(format!("--cni={cni}"));
        if !bundle.has_preload() {
            arguments.push("--preload=false".into());
        }
    }
    Ok(arguments)
}

/// Arguments of `minikube start` for any profile of ours. minikube keeps the rest from the first time.
fn starting(wanted: &Wanted) -> Vec<String> {
    let mut arguments = vec![
        format!("--profile={}", wanted.profile),
        "--driver=docker".into(),
        // No question, and no addon that was not asked for: the stock provisioner's volumes do not follow
        // pods to other nodes.
        "--interactive=false".into(),
        "--install-addons=false".into(),
        // What else has to be there is waited for by the phases that need it.
        "--wait=apiserver".into(),
    ];
    if !wanted.use_context {
        arguments.push("--keep-context".into());
    }
    if rustix::process::geteuid().is_root() {
        // minikube refuses the docker driver for root without it.
        arguments.push("--force".into());
    }
    arguments
}

/// A network plugin that routes between nodes, for bundles: minikube's own one needs an image that they do
/// not hold. minikube reads the file at every start of the profile.
fn cni_file(cx: &Context) -> Result<PathBuf> {
    let text = assets::file("cluster/cni-nodes.yaml").context("cluster/cni-nodes.yaml is not embedded")?;
    let path = cx.config.folders.state.join("cni-nodes.yaml");
    marker::write(&path, text)?;
    Ok(path)
}

fn storage_images(bundle: &Bundle) -> Result<String> {
    let (provisioner, helper) = (bundle.image("local-path-provisioner")?, bundle.image("busybox")?);
    Ok(format!("LocalPathProvisioner={provisioner},Helper={helper}"))
}

/// Puts what the bundle holds where minikube and the engine look for it.
async fn unpack(cx: &Context, bundle: &Arc<Bundle>) -> Result<()> {
    cx.doing(ID, "checking the bundle");
    let home = profile::minikube_home()?;
    let for_minikube = bundle.clone();
    let files = tokio::task::spawn_blocking(move || for_minikube.install_into_minikube_home(&home));
    let images = async {
        for file in bundle.engine_images() {
            if docker::image(&file.image).await?.is_none() {
                let (bundle, path) = (bundle.clone(), file.path.clone());
                let path = tokio::task::spawn_blocking(move || bundle.verified(&path)).await.context("stopped")??;
                docker::load(&path, left(cx)).await?;
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    let (replaced, loaded) = tokio::join!(files, images);
    loaded?;
    for path in replaced.context("stopped")?? {
        let text = format!("replaced {}, which had another content, by the bundle's", path.display());
        cx.reporter.send(Event::Warning { phase: ID, text });
    }
    Ok(())
}

async fn start(cx: &Context, minikube: &Minikube, profile: &str, arguments: &[String]) -> Result<()> {
    cx.doing(ID, format!("minikube {} ({})", minikube.version, minikube.origin));
    let watch = Watch::new();
    let mut said = |said: &Said| match said {
        Said::Step { number, total, message } => {
            let text = format!("{message} ({number}/{total})");
            watch.step(&text);
            cx.doing(ID, text);
        }
        Said::Note(line) => cx.reporter.send(Event::Output { phase: ID, line: line.clone() }),
        Said::Log(line) => watch.note(line),
        Said::Progress => watch.progress(),
        // It is in the error that follows.
        Said::Error { .. } => {}
    };
    let started = tokio::select! {
        started = minikube.start(arguments, left(cx), &mut said) => started,
        // What minikube did so far is ended with it; the next run deletes it.
        reason = watch.standstill(cx, profile) => Err(reason.into()),
    };
    started.map_err(|error| match cx.bundle {
        Some(_) => error,
        None => error.context(failed("the minikube cluster did not start").remedy("stackctl doctor")),
    })
}

async fn wait_for_nodes(cx: &Context, unready: &[String]) -> Result<()> {
    cx.doing(ID, format!("waiting for {}", unready.join(", ")));
    // A node is ready seconds after its kubelet; one that takes minutes has a reason to be shown.
    let deadline = cx.deadline.min(Instant::now() + Duration::from_secs(180));
    let shown = |name: &str, state, detail: &str| {
        let resource = format!("Node {name}");
        cx.reporter.send(Event::Resource { phase: ID, resource, state, detail: detail.into() });
    };
    for name in unready {
        shown(name, Shown::Waiting, "not ready");
    }
    let (mut waiting, mut tries) = (unready.to_vec(), Tries::until(deadline, Duration::from_millis(300)));
    loop {
        let nodes = cx.kube().await?.nodes().await?;
        waiting.retain(|name| {
            let ready = nodes.iter().any(|(node, ready)| node == name && *ready);
            if ready {
                shown(name, Shown::Ready, "");
            }
            !ready
        });
        if waiting.is_empty() {
            return Ok(());
        }
        if !tries.another().await {
            return Err(timed_out(format!("not ready: node {}", waiting.join(", ")))
                .remedy(format!("docker exec {} journalctl -u kubelet -n 50 shows why", waiting[0]))
                .into());
        }
    }
}

fn left(cx: &Context) -> Duration {
    // The command's own deadline ends the wait with a better message: this one is only the backstop.
    cx.deadline.saturating_duration_since(Instant::now()) + Duration::from_secs(5)
}
