//! The cluster: a minikube profile that is made, started or completed as needed, or one that the user
//! already has, which is only looked at.

mod delete;
mod heartbeat;
mod images;
mod marker;
mod remnants;
mod restarts;
mod services;
mod start;
mod state;
mod watch;

use std::collections::HashMap;

use futures::future::LocalBoxFuture;

pub use self::delete::{delete, deletion_plan};
use self::state::{ClusterState, ClusterStep, look};
use super::{Need, Phase};
use crate::{
    config::{Config, MinikubeTarget as Wanted, Target},
    context::Context,
    error::{Result, failed, one_line},
    tools::profile::{self, Found},
    ui::{Event, PhaseId},
};

/// The phase's id.
pub const ID: PhaseId = PhaseId::Cluster;

/// Brings the cluster up.
#[derive(Debug)]
pub struct Cluster;

impl Phase for Cluster {
    fn id(&self) -> PhaseId {
        ID
    }

    fn title(&self) -> String {
        "Kubernetes cluster".into()
    }

    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId::Preflight]
    }

    fn needed<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Need>> {
        Box::pin(async move {
            match &cx.config.target {
                Target::Context(name) => {
                    let version = cx.kube().await?.version().await?;
                    Ok(Need::Skip(format!("context {name}, Kubernetes {version}")))
                }
                Target::Minikube(wanted) => {
                    let state = look(cx, wanted).await?;
                    Ok(if state.todo.is_empty() { Need::Skip(state.summary()) } else { Need::Run })
                }
            }
        })
    }

    fn run<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<String>> {
        Box::pin(async move {
            match &cx.config.target {
                Target::Context(name) => Ok(format!("context {name}")),
                Target::Minikube(wanted) => {
                    // Before: a plain `down --cluster` removes what an interruption leaves, a plain `up` goes on from it.
                    keep_choices(cx, ID);
                    cx.until_deadline("starting the cluster", converge(cx, wanted)).await
                }
            }
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            match &cx.config.target {
                Target::Context(name) => Ok(vec![format!("use context {name}")]),
                Target::Minikube(wanted) => {
                    let state = look(cx, wanted).await?;
                    Ok(state.todo.iter().map(|step| start::describe(cx, wanted, step)).collect())
                }
            }
        })
    }
}

/// Whether `up` has to make the cluster, by minikube's files alone.
pub fn is_still_to_be_made(config: &Config) -> bool {
    let Target::Minikube(wanted) = &config.target else { return false };
    let found = profile::minikube_home().and_then(|home| profile::read(&home, &wanted.profile));
    matches!(found, Ok(Found::Absent | Found::HalfMade(_)))
}

/// Keeps on this machine what this `up` was told. That it cannot be kept stops nothing.
pub fn keep_choices(cx: &Context, phase: PhaseId) {
    if let Err(error) = cx.config.last_up.keep() {
        let text = format!("the next command will not remember this one's options: {}", one_line(&error));
        cx.reporter.send(Event::Warning { phase, text });
    }
}

/// Looks, does the first thing that is to be done, and looks again, until nothing is: an interruption at
/// any point leaves a state that the next run goes on from.
async fn converge(cx: &Context, wanted: &Wanted) -> Result<String> {
    let mut done: HashMap<ClusterStep, u32> = HashMap::new();
    loop {
        let state: ClusterState = look(cx, wanted).await?;
        let Some(step) = state.todo.first() else {
            marker::clear(cx, wanted);
            return Ok(state.summary());
        };
        let times = done.entry(step.clone()).or_default();
        *times += 1;
        // Nodes are added one by one; everything else has to work the first time.
        let limit = if *step == ClusterStep::AddNode { wanted.nodes } else { 1 };
        if *times > limit {
            return Err(failed(format!(
                "the cluster does not become complete: after it was done, this is still to be done: {}",
                start::describe(cx, wanted, step)
            ))
            .remedy("stackctl doctor")
            .into());
        }
        start::perform(cx, wanted, step).await?;
    }
}
