//! What a scenario needs of a cluster, and what a cluster has of it.

use std::collections::{BTreeMap, BTreeSet};

/// What a cluster allows, as far as faults are concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterCapabilities {
    /// The cluster's nodes.
    pub nodes: Vec<String>,
    /// The nodes of the control plane, where they can be told.
    pub control_plane: Vec<String>,
    /// The zone of each node that is in one, by the node's name.
    pub zones: BTreeMap<String, String>,
    /// The nodes are containers of this machine's engine: a fault can be put in from outside.
    pub nodes_are_containers: bool,
    /// The database is backed up: what is lost can be restored.
    pub has_backups: bool,
    /// The operator is somebody else's, and serves other people's databases.
    pub operator_is_foreign: bool,
}

/// What a scenario needs of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// Nothing: it runs on every cluster.
    Nothing,
    /// The engine whose containers the nodes are: minikube on this machine.
    Containers,
    /// Three nodes: the quorum is to survive the loss of one.
    Nodes,
    /// Both.
    NodesInContainers,
    /// Three zones, all of whose nodes are containers of the engine: the quorum is to survive the loss of one.
    ZonesInContainers,
    /// Backups: what is lost is to be restored.
    Backups,
    /// An operator of stackctl's own: it is stopped, for every database that it serves.
    OwnOperator,
}

/// The least number of nodes of which one may go: with two, one of them may hold two of three instances.
const SEVERAL: usize = 3;

impl ClusterCapabilities {
    /// The nodes that are lost with a node's zone: all of that zone, or the node alone where it is in none.
    pub fn zone_of(&self, node: &str) -> Vec<String> {
        let Some(zone) = self.zones.get(node) else { return vec![node.to_owned()] };
        self.zones.iter().filter(|(_, other)| *other == zone).map(|(node, _)| node.clone()).collect()
    }

    fn zones(&self) -> usize {
        self.zones.values().collect::<BTreeSet<_>>().len()
    }
}

impl Requirement {
    /// The clusters that meet the requirement, in words.
    pub const fn title(self) -> &'static str {
        match self {
            Requirement::Nothing => "any cluster",
            Requirement::Containers => "minikube",
            Requirement::Nodes => "any cluster of 3 nodes or more",
            Requirement::NodesInContainers => "minikube with 3 nodes or more",
            Requirement::ZonesInContainers => "minikube with 3 nodes or more, in 3 zones or more",
            Requirement::Backups => "any cluster, with backups",
            Requirement::OwnOperator => "any cluster whose operator stackctl installed",
        }
    }

    /// Why the cluster does not meet it; `None`: the scenario can run.
    pub fn unmet(self, cluster: &ClusterCapabilities) -> Option<String> {
        let containers =
            matches!(self, Requirement::Containers | Requirement::NodesInContainers | Requirement::ZonesInContainers);
        if containers && !cluster.nodes_are_containers {
            return Some("its nodes are not containers of this machine, as minikube's are".into());
        }
        let several = matches!(self, Requirement::Nodes | Requirement::NodesInContainers);
        if several && cluster.nodes.len() < SEVERAL {
            return Some(format!("it takes {SEVERAL} nodes, and the cluster has {}", cluster.nodes.len()));
        }
        if self == Requirement::ZonesInContainers
            && (cluster.zones() < SEVERAL || cluster.zones.len() < cluster.nodes.len())
        {
            return Some(format!(
                "it takes {SEVERAL} zones with every node in one, and {} of {} nodes are in {} (kubectl label node NODE \
                 topology.kubernetes.io/zone=ZONE puts one there)",
                cluster.zones.len(),
                cluster.nodes.len(),
                cluster.zones()
            ));
        }
        if self == Requirement::Backups && !cluster.has_backups {
            return Some("the stack takes no backups".into());
        }
        if self == Requirement::OwnOperator && cluster.operator_is_foreign {
            return Some("the operator is somebody else's, and other databases need it".into());
        }
        None
    }

    /// Whether the fault takes a node away: what is to stay must not be on it.
    pub const fn loses_a_node(self) -> bool {
        matches!(self, Requirement::Nodes | Requirement::NodesInContainers | Requirement::ZonesInContainers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cluster_lacks_is_said() {
        let cluster = |nodes: usize, containers| ClusterCapabilities {
            nodes: vec!["n".into(); nodes],
            control_plane: vec!["n".into()],
            zones: BTreeMap::new(),
            nodes_are_containers: containers,
            has_backups: false,
            operator_is_foreign: true,
        };
        for (requirement, fits) in [
            (Requirement::Nothing, [true, true, true]),
            (Requirement::Containers, [true, false, true]),
            (Requirement::Nodes, [false, true, true]),
            (Requirement::NodesInContainers, [false, false, true]),
            (Requirement::ZonesInContainers, [false, false, false]),
            (Requirement::Backups, [false, false, false]),
            (Requirement::OwnOperator, [false, false, false]),
        ] {
            let clusters = [cluster(1, true), cluster(3, false), cluster(3, true)];
            assert_eq!(clusters.map(|cluster| requirement.unmet(&cluster).is_none()), fits, "{requirement:?}");
        }
    }

    #[test]
    fn the_loss_of_a_zone_takes_three_with_every_node_in_one() {
        let cluster = |zones: &[(&str, &str)]| ClusterCapabilities {
            nodes: ["a", "b", "c", "d"].map(str::to_owned).into(),
            nodes_are_containers: true,
            zones: zones.iter().map(|(node, zone)| ((*node).to_owned(), (*zone).to_owned())).collect(),
            ..ClusterCapabilities::default()
        };
        let spread = cluster(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "2")]);
        assert_eq!(Requirement::ZonesInContainers.unmet(&spread), None);
        assert_eq!((spread.zone_of("b"), spread.zone_of("a")), (vec!["b".into(), "d".into()], vec!["a".into()]));
        assert_eq!(cluster(&[]).zone_of("a"), ["a"], "without zones a node stands for itself");
        for (zones, said) in [
            (&[("a", "1"), ("b", "2"), ("c", "3")][..], "3 of 4 nodes are in 3"),
            (&[("a", "1"), ("b", "2"), ("c", "1"), ("d", "2")], "4 of 4 nodes are in 2"),
        ] {
            let unmet = Requirement::ZonesInContainers.unmet(&cluster(zones)).unwrap();
            assert!(unmet.contains(said), "{unmet}");
        }
        let elsewhere = ClusterCapabilities { nodes_are_containers: false, ..spread };
        assert!(Requirement::ZonesInContainers.unmet(&elsewhere).is_some());
    }
}
