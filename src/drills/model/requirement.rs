//! What a drill stands on, and what a scenario needs of it.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, ResourceExt, api::ListParams};

use crate::{backup::Store, config::Target, drills::target::Stack, error::Result, tools::docker};

/// The label of the control plane's nodes.
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// A cluster, as far as faults are concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ground {
    /// Its nodes.
    pub nodes: Vec<String>,
    /// Those of the control plane, where they can be told.
    pub control_plane: Vec<String>,
    /// The nodes are containers of this machine's engine: a fault can be put in from outside.
    pub containers: bool,
    /// The database is backed up: what is lost can be restored.
    pub backups: bool,
}

impl Ground {
    /// Looks.
    ///
    /// # Errors
    /// The API's, or the engine's.
    pub async fn of(stack: &Stack, target: &Target) -> Result<Ground> {
        let all = Api::<Node>::all(stack.kube.client()).list(&ListParams::default()).await;
        let all = all.context("cannot list the nodes")?.items;
        let nodes: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
        let control_plane = all.iter().filter(|node| node.labels().contains_key(CONTROL_PLANE));
        let control_plane = control_plane.map(ResourceExt::name_any).collect();
        let containers = match target {
            // minikube's docker driver gives the nodes and their containers the same names.
            Target::Minikube(_) => docker::container_states(&nodes).await?.len() == nodes.len(),
            Target::Context(_) => false,
        };
        let backups = Store::read(&stack.kube, &stack.namespace).await?.is_some();
        Ok(Ground { nodes, control_plane, containers, backups })
    }
}

/// What a scenario needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it runs on every cluster.
    Nothing,
    /// The engine whose containers the nodes are: minikube on this machine.
    Containers,
    /// Three nodes: the quorum is to survive the loss of one.
    Nodes,
    /// Both.
    NodesInContainers,
    /// Backups: what is lost is to be restored.
    Backups,
}

/// How many nodes are several: with two, one of them may hold two of three instances.
const SEVERAL: usize = 3;

impl Needs {
    /// On which clusters it runs, in words.
    pub const fn title(self) -> &'static str {
        match self {
            Needs::Nothing => "any cluster",
            Needs::Containers => "minikube",
            Needs::Nodes => "any cluster of 3 nodes or more",
            Needs::NodesInContainers => "minikube with 3 nodes or more",
            Needs::Backups => "any cluster, with backups",
        }
    }

    /// What is lacking; `None`: it can run.
    pub fn lacking(self, ground: &Ground) -> Option<String> {
        let containers = matches!(self, Needs::Containers | Needs::NodesInContainers);
        if containers && !ground.containers {
            return Some("its nodes are not containers of this machine, as minikube's are".into());
        }
        let several = matches!(self, Needs::Nodes | Needs::NodesInContainers);
        if several && ground.nodes.len() < SEVERAL {
            return Some(format!("it takes {SEVERAL} nodes, and the cluster has {}", ground.nodes.len()));
        }
        if self == Needs::Backups && !ground.backups {
            return Some("the stack takes no backups".into());
        }
        None
    }

    /// Whether a node goes away, and what else is to stay must not be on it.
    pub const fn takes_a_node(self) -> bool {
        matches!(self, Needs::Nodes | Needs::NodesInContainers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cluster_lacks_is_said() {
        let ground = |nodes: usize, containers| Ground {
            nodes: vec!["n".into(); nodes],
            control_plane: vec!["n".into()],
            containers,
            backups: false,
        };
        for (needs, fits) in [
            (Needs::Nothing, [true, true, true]),
            (Needs::Containers, [true, false, true]),
            (Needs::Nodes, [false, true, true]),
            (Needs::NodesInContainers, [false, false, true]),
            (Needs::Backups, [false, false, false]),
        ] {
            let grounds = [ground(1, true), ground(3, false), ground(3, true)];
            assert_eq!(grounds.map(|ground| needs.lacking(&ground).is_none()), fits, "{needs:?}");
        }
    }
}
