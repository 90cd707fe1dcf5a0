//! What there is of the minikube cluster, and what is to be done about it.

use crate::{
    config::MinikubeTarget as Wanted,
    context::Context,
    error::{Result, failed},
    kube::{ClusterRef, contexts},
    tools::{
        docker,
        profile::{self, Found, Profile},
    },
};

use super::{heartbeat, images, marker, remnants, restarts, services};

const INTERRUPTED: &str = "an earlier run was interrupted while it was made";

/// Something to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ClusterStep {
    /// Delete what an interrupted run left; it never held anything.
    Delete(String),
    /// Make the profile.
    Make,
    /// Start the profile, which is there; the reason.
    Start(String),
    /// Have these nodes say more often that they are there.
    Heartbeats(Vec<String>),
    /// Have these nodes restart a container soon, also one that ends again and again.
    Restarts(Vec<String>),
    /// Have Services lead to a new pod at once.
    Services,
    /// Put the bundle's images into these nodes, which were made from another one.
    Images(Vec<String>),
    /// Wait until these nodes are ready.
    Wait(Vec<String>),
    /// Add a node.
    AddNode,
    /// Install the storage provisioner.
    Storage,
    /// Make it the kubeconfig's current context.
    UseContext,
}

/// The state of the cluster.
#[derive(Debug, PartialEq, Eq)]
pub struct ClusterState {
    /// What is to be done.
    pub todo: Vec<ClusterStep>,
    kubernetes: String,
    nodes: usize,
}

impl ClusterState {
    /// One line on a cluster that is up.
    pub fn summary(&self) -> String {
        let nodes = if self.nodes == 1 { "1 node".into() } else { format!("{} nodes", self.nodes) };
        format!("Kubernetes {}, {nodes}", self.kubernetes)
    }
}

/// Looks at minikube's files, the containers and the API, without starting minikube.
///
/// # Errors
/// A profile of that name that is not one of ours, an engine that does not answer.
pub async fn look(cx: &Context, wanted: &Wanted) -> Result<ClusterState> {
    let mut making = vec![ClusterStep::Make, ClusterStep::Storage];
    making.extend(wanted.use_context.then_some(ClusterStep::UseContext));
    let absent = |mut todo: Vec<ClusterStep>| {
        todo.extend(making.clone());
        ClusterState { todo, kubernetes: String::new(), nodes: 0 }
    };
    let profile = match profile::read(&profile::minikube_home()?, &wanted.profile)? {
        Found::Absent => {
            // A helper of an interrupted start can outlive it, and would be in the way of the next.
            let left = marker::is_set(cx, wanted) && remnants::is_anything_left(cx, wanted).await?;
            return Ok(absent(if left { vec![ClusterStep::Delete(INTERRUPTED.into())] } else { Vec::new() }));
        }
        Found::HalfMade(why) => return Ok(absent(vec![ClusterStep::Delete(why)])),
        Found::Profile(profile) => profile,
    };
    refuse_foreign(&profile)?;

    let containers = profile.containers();
    let states = docker::container_states(&containers).await?;
    let stopped = containers.iter().find(|name| states.get(*name).map(String::as_str) != Some("running"));
    let why = match stopped {
        Some(name) => Some(format!("{name} is {}", states.get(name).map_or("not there", String::as_str))),
        None => unanswering(cx, wanted, &containers).await?,
    };
    let kubernetes = profile.kubernetes_config.kubernetes_version.clone();
    let nodes = containers.len();
    if let Some(why) = why {
        // Nothing was ever in a cluster whose control plane did not come up in the run that began to make it.
        let unfinished = marker::is_set(cx, wanted) && !in_kubeconfig(cx, wanted)?;
        if unfinished {
            return Ok(absent(vec![ClusterStep::Delete(INTERRUPTED.into())]));
        }
        let mut todo = vec![ClusterStep::Start(why)];
        todo.extend(wanted.use_context.then_some(ClusterStep::UseContext));
        return Ok(ClusterState { todo, kubernetes, nodes });
    }

    let mut todo = Vec::new();
    let kube = cx.kube().await?;
    let slow = restarts::slow(kube, &containers).await;
    todo.extend((!slow.is_empty()).then_some(ClusterStep::Restarts(slow)));
    if nodes > 1 {
        let slow = heartbeat::slow(kube, &containers).await?;
        todo.extend((!slow.is_empty()).then_some(ClusterStep::Heartbeats(slow)));
    }
    todo.extend(services::are_slow(kube).await?.then_some(ClusterStep::Services));
    let lacking = images::lacking(cx, &containers).await?;
    todo.extend((!lacking.is_empty()).then_some(ClusterStep::Images(lacking)));
    let unready = kube.nodes().await?.into_iter().filter(|(_, ready)| !ready).map(|(name, _)| name);
    let unready: Vec<String> = unready.collect();
    if !unready.is_empty() {
        todo.push(ClusterStep::Wait(unready));
    }
    let missing = (wanted.nodes as usize).saturating_sub(nodes);
    if missing > 0 && profile.kubernetes_config.cni == "bridge" {
        return Err(failed(format!(
            "the minikube profile {} was made with one node and a network that cannot reach others",
            profile.name
        ))
        .remedy(format!("make it anew: stackctl down --cluster, then stackctl up --nodes {}", wanted.nodes))
        .into());
    }
    todo.extend(std::iter::repeat_n(ClusterStep::AddNode, missing));
    if kube.default_storage_class().await?.is_none() {
        todo.push(ClusterStep::Storage);
    }
    if wanted.use_context && contexts(&kubeconfig(cx))?.1.as_deref() != Some(&wanted.profile) {
        todo.push(ClusterStep::UseContext);
    }
    Ok(ClusterState { todo, kubernetes, nodes })
}

/// # Errors
/// A profile that we could not work with: it is the user's, and stays as it is.
pub(super) fn refuse_foreign(profile: &Profile) -> Result<()> {
    let refuse = |what: String| {
        Err(failed(format!("the minikube profile {} exists and {what}", profile.name))
            .remedy("use another profile: --profile NAME")
            .remedy(format!("or, if you do not need it: minikube delete --profile {}", profile.name))
            .into())
    };
    if profile.driver != "docker" {
        return refuse(format!("uses the driver {}, stackctl works with docker", profile.driver));
    }
    let runtime = &profile.kubernetes_config.container_runtime;
    if runtime != "containerd" {
        return refuse(format!("uses the container runtime {runtime}, stackctl works with containerd"));
    }
    Ok(())
}

/// Why a cluster whose containers all run can't be used; `None`: it can.
async fn unanswering(cx: &Context, wanted: &Wanted, containers: &[String]) -> Result<Option<String>> {
    if !in_kubeconfig(cx, wanted)? {
        return Ok(Some("it is not in the kubeconfig".into()));
    }
    let joined = async { cx.kube().await?.nodes().await }.await;
    Ok(match joined {
        Ok(nodes) => {
            let absent = containers.iter().find(|container| !nodes.iter().any(|(name, _)| name == *container));
            absent.map(|name| format!("the node {name} has not joined"))
        }
        Err(error) => Some(format!("its API server does not answer ({})", error.root_cause())),
    })
}

fn in_kubeconfig(cx: &Context, wanted: &Wanted) -> Result<bool> {
    Ok(contexts(&kubeconfig(cx))?.0.contains(&wanted.profile))
}

fn kubeconfig(cx: &Context) -> ClusterRef {
    ClusterRef { kubeconfig: cx.config.kubeconfig.clone(), context: None }
}
