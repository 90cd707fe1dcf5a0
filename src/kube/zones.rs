//! The zones that a cluster's nodes are in.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;

/// The label of a node with its zone.
pub const ZONE: &str = "topology.kubernetes.io/zone";

/// The zones of the nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zones {
    /// The zone of each node that has one, by the node's name.
    pub of_nodes: BTreeMap<String, String>,
    /// How many nodes have none.
    without: usize,
}

impl Zones {
    /// The zones of these nodes.
    pub(super) fn of(nodes: &[Node]) -> Zones {
        let zone = |node: &Node| Some((node.name_any(), node.labels().get(ZONE)?.clone()));
        let of_nodes: BTreeMap<_, _> = nodes.iter().filter_map(zone).collect();
        Zones { without: nodes.len() - of_nodes.len(), of_nodes }
    }

    /// The number of nodes, in a zone or not.
    pub fn nodes(&self) -> usize {
        self.of_nodes.len() + self.without
    }

    /// Whether pods can be spread over zones: there are several, and every node is in one. The scheduler leaves nodes that
    /// lack the label of any constraint out of all of them, so that one node without a zone would undo the spreading over
    /// nodes, too.
    pub fn are_several(&self) -> bool {
        self.without == 0 && self.of_nodes.values().collect::<BTreeSet<_>>().len() > 1
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn zones(nodes: &[(&str, Option<&str>)]) -> Zones {
        let node = |(name, zone): &(&str, Option<&str>)| -> Node {
            let labels = zone.map(|zone| json!({ZONE: zone}));
            serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap()
        };
        Zones::of(&nodes.iter().map(node).collect::<Vec<_>>())
    }

    #[test]
    fn there_are_zones_to_spread_over_when_every_node_is_in_one_of_several() {
        assert!(zones(&[("a", Some("1")), ("b", Some("2")), ("c", Some("1"))]).are_several());
        assert!(!zones(&[("a", Some("1")), ("b", Some("1"))]).are_several());
        assert!(!zones(&[("a", Some("1")), ("b", Some("2")), ("c", None)]).are_several());
        assert!(!zones(&[("a", None)]).are_several() && !zones(&[]).are_several());
        assert_eq!(zones(&[("a", Some("1")), ("b", None)]).nodes(), 2);
        assert_eq!(zones(&[("a", Some("1")), ("b", None)]).of_nodes, [("a".to_owned(), "1".to_owned())].into());
    }
}
