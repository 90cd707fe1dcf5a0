//! The room that a cluster's nodes have: what may be asked for there, less what is asked for already.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    fmt,
    ops::{Add, AddAssign, Mul, Sub},
};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, api::ListParams};
use serde_json::Value;

use super::{Kube, quantity};
use crate::error::Result;

/// What a pod asks a node for.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd)]
pub struct Request {
    /// The processors, as a number.
    pub cpu: f64,
    /// Bytes of memory.
    pub memory: f64,
}

impl Request {
    /// The request in `spec.resources.requests` of a container, or of whatever else has `resources`.
    pub fn of_resources(resources: &Value) -> Request {
        let read = |name: &str| resources["requests"][name].as_str().and_then(quantity::parse).unwrap_or(0.0);
        Request { cpu: read("cpu"), memory: read("memory") }
    }

    /// The request of a pod, by its `spec`: what its containers ask for together, or the largest of those that run before
    /// them. One that runs beside them from the start (`restartPolicy: Always`) counts with them.
    pub fn of_pod(spec: &Value) -> Request {
        let (mut together, mut before) = (Request::default(), Request::default());
        for container in spec["initContainers"].as_array().into_iter().flatten() {
            let request = Request::of_resources(&container["resources"]);
            if container["restartPolicy"] == "Always" {
                together += request;
            } else {
                before = before.most(request + together);
            }
        }
        for container in spec["containers"].as_array().into_iter().flatten() {
            together += Request::of_resources(&container["resources"]);
        }
        together.most(before)
    }

    fn most(self, other: Request) -> Request {
        Request { cpu: self.cpu.max(other.cpu), memory: self.memory.max(other.memory) }
    }

    /// Whether it can be had of `free`.
    pub fn fits(self, free: Request) -> bool {
        // A billionth of a processor is nobody's.
        self.cpu <= free.cpu + 1e-9 && self.memory <= free.memory
    }
}

impl Add for Request {
    type Output = Request;

    fn add(self, other: Request) -> Request {
        Request { cpu: self.cpu + other.cpu, memory: self.memory + other.memory }
    }
}

impl AddAssign for Request {
    fn add_assign(&mut self, other: Request) {
        *self = *self + other;
    }
}

impl Sub for Request {
    type Output = Request;

    fn sub(self, other: Request) -> Request {
        Request { cpu: (self.cpu - other.cpu).max(0.0), memory: (self.memory - other.memory).max(0.0) }
    }
}

impl Mul<u32> for Request {
    type Output = Request;

    fn mul(self, times: u32) -> Request {
        Request { cpu: self.cpu * f64::from(times), memory: self.memory * f64::from(times) }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} CPUs and {:.1} GiB", self.cpu, self.memory / 1024_f64.powi(3))
    }
}

/// The pods of a namespace that have a label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodsOf {
    /// The namespace.
    pub namespace: String,
    /// The label.
    pub label: &'static str,
    /// The label's value.
    pub value: String,
}

impl PodsOf {
    fn has(&self, pod: &Pod) -> bool {
        let labels = pod.metadata.labels.as_ref();
        pod.metadata.namespace.as_ref() == Some(&self.namespace)
            && labels.and_then(|labels| labels.get(self.label)) == Some(&self.value)
    }
}

/// The room on the nodes that take pods of anybody's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Room {
    /// What is free, by the node's name.
    pub nodes: BTreeMap<String, Request>,
    /// Whether a node has not said yet what it has, or none is there yet: a cluster that was started moments ago.
    pub unknown: bool,
}

impl Room {
    /// Reads the nodes and all pods. Those that are to be `replaced` count as gone.
    ///
    /// # Errors
    /// The server does not answer or forbids it.
    pub async fn read(kube: &Kube, replaced: &[PodsOf]) -> Result<Room> {
        let (nodes, pods): (Api<Node>, Api<Pod>) = (Api::all(kube.client()), Api::all(kube.client()));
        let all = ListParams::default();
        let nodes = kube.call("read the nodes", || nodes.list(&all)).await?;
        let pods = kube.call("read the pods of every namespace", || pods.list(&all)).await?;
        Ok(Room::of(&nodes.items, &pods.items, replaced))
    }

    fn of(nodes: &[Node], pods: &[Pod], replaced: &[PodsOf]) -> Room {
        let mut free: BTreeMap<String, Request> = nodes
            .iter()
            .filter(|node| takes_pods(node))
            .filter_map(|node| Some((node.metadata.name.clone()?, allocatable(node))))
            .collect();
        for pod in pods.iter().filter(|pod| !replaced.iter().any(|one| one.has(pod))) {
            let (Some(spec), status) = (&pod.spec, pod.status.as_ref()) else { continue };
            let phase = status.and_then(|status| status.phase.as_deref());
            let there = spec.node_name.as_ref().and_then(|node| free.get_mut(node));
            if let (Some(free), false) = (there, matches!(phase, Some("Succeeded" | "Failed"))) {
                let spec = serde_json::to_value(spec).unwrap_or_default();
                *free = *free - Request::of_pod(&spec);
            }
        }
        let has_said = |node: &Node| node.status.as_ref().is_some_and(|status| status.allocatable.is_some());
        Room { nodes: free, unknown: nodes.is_empty() || !nodes.iter().all(has_said) }
    }

    /// What is free on all nodes together.
    pub fn total(&self) -> Request {
        self.nodes.values().fold(Request::default(), |sum, node| sum + *node)
    }

    /// Places pods, the largest first, and returns those that find no place: with each on the node that has most left, or
    /// on the one that has least, whichever leaves fewer.
    pub fn place(&self, mut pods: Vec<Request>) -> Vec<Request> {
        pods.sort_by(|a, b| order(b, a));
        let spread = self.place_by(&pods, |a, b| order(b, a));
        let packed = self.place_by(&pods, order);
        if spread.len() <= packed.len() { spread } else { packed }
    }

    fn place_by(&self, pods: &[Request], preferred: fn(&Request, &Request) -> Ordering) -> Vec<Request> {
        let mut free: Vec<Request> = self.nodes.values().copied().collect();
        let mut left = pods.to_vec();
        left.retain(|pod| {
            let best = free.iter_mut().filter(|node| pod.fits(**node)).min_by(|a, b| preferred(a, b));
            best.map(|node| *node = *node - *pod).is_none()
        });
        left
    }
}

fn order(a: &Request, b: &Request) -> Ordering {
    a.partial_cmp(b).unwrap_or(Ordering::Equal)
}

/// The taints of a node that is starting: they go by themselves, within seconds.
const STARTING: [&str; 2] = ["node.kubernetes.io/not-ready", "node.cloudprovider.kubernetes.io/uninitialized"];

/// Whether pods come to a node that tolerate nothing, now or when it has started.
fn takes_pods(node: &Node) -> bool {
    let Some(spec) = &node.spec else { return true };
    let stays = |key: &str| !STARTING.contains(&key);
    let mut taints = spec.taints.iter().flatten();
    !spec.unschedulable.unwrap_or(false)
        && !taints.any(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute") && stays(&taint.key))
}

fn allocatable(node: &Node) -> Request {
    let of = |name: &str| {
        let amount = node.status.as_ref()?.allocatable.as_ref()?.get(name)?;
        quantity::parse(&amount.0)
    };
    Request { cpu: of("cpu").unwrap_or(0.0), memory: of("memory").unwrap_or(0.0) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, cpu: &str, spec: &Value) -> Node {
        let node =
            json!({"metadata": {"name": name}, "spec": spec, "status": {"allocatable": {"cpu": cpu, "memory": "4Gi"}}});
        serde_json::from_value(node).unwrap()
    }

    fn pod(node: &str, phase: &str, cpu: &str) -> Pod {
        let spec = json!({"nodeName": node, "containers": [{"name": "a", "resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}}]});
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec, "status": {"phase": phase}})).unwrap()
    }

    fn cpus(cpu: f64) -> Request {
        Request { cpu, memory: 0.0 }
    }

    #[test]
    fn a_pod_asks_for_its_containers_together_or_for_the_largest_before_them() {
        let container = |cpu: &str| json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
        let beside = json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}});
        let spec = json!({"initContainers": [beside, container("600m")], "containers": [container("100m"), container("200m"), {"name": "none"}]});
        assert!((Request::of_pod(&spec).cpu - 0.65).abs() < 1e-9);
        let spec = json!({"initContainers": [beside, container("10m")], "containers": [container("100m")]});
        assert!((Request::of_pod(&spec).cpu - 0.15).abs() < 1e-9);
    }

    #[test]
    fn what_runs_is_taken_from_what_may_be_asked_for() {
        let tainted = json!({"taints": [{"key": "k", "effect": "NoSchedule"}]});
        let soft = json!({"taints": [{"key": "k", "effect": "PreferNoSchedule"}]});
        let nodes = [node("a", "2", &soft), node("b", "2", &json!({"unschedulable": true})), node("c", "2", &tainted)];
        let pods = [
            pod("a", "Running", "500m"),
            pod("a", "Succeeded", "1"),
            pod("c", "Running", "1"),
            pod("a", "Pending", "250m"),
        ];
        let room = Room::of(&nodes, &pods, &[]);
        assert_eq!(room.nodes.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(room.total(), Request { cpu: 1.25, memory: 2.0 * 1024_f64.powi(3) });
        assert_eq!(room.total().to_string(), "1.25 CPUs and 2.0 GiB");
    }

    #[test]
    fn a_node_that_is_starting_counts_and_one_that_has_not_said_what_it_has_leaves_it_open() {
        let starting = json!({"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]});
        let room = Room::of(&[node("a", "2", &starting)], &[], &[]);
        assert_eq!((room.nodes.len(), room.unknown), (1, false));
        let silent: Node = serde_json::from_value(json!({"metadata": {"name": "b"}, "status": {}})).unwrap();
        assert!(Room::of(&[node("a", "2", &starting), silent], &[], &[]).unknown);
        assert!(Room::of(&[], &[], &[]).unknown, "none has come yet");
    }

    #[test]
    fn what_is_to_be_replaced_counts_as_gone() {
        let nodes = [node("a", "2", &json!({}))];
        let mut pods = [pod("a", "Running", "500m"), pod("a", "Running", "250m")];
        for (pod, namespace) in pods.iter_mut().zip(["team-a", "team-b"]) {
            pod.metadata.namespace = Some(namespace.into());
            pod.metadata.labels = Some([("cnpg.io/cluster".to_owned(), "db".to_owned())].into());
        }
        let replaced = PodsOf { namespace: "team-a".into(), label: "cnpg.io/cluster", value: "db".into() };
        let free = |replaced: &[PodsOf]| Room::of(&nodes, &pods, replaced).total().cpu;
        assert!((free(&[]) - 1.25).abs() < 1e-9);
        assert!((free(std::slice::from_ref(&replaced)) - 1.75).abs() < 1e-9);
        assert!((free(&[PodsOf { value: "other".into(), ..replaced }]) - 1.25).abs() < 1e-9);
    }

    #[test]
    fn a_pod_finds_no_place_when_no_single_node_has_room_for_it() {
        let of = |a: f64, b: f64| Room {
            nodes: [("a".to_owned(), cpus(a)), ("b".to_owned(), cpus(b))].into(),
            unknown: false,
        };
        let room = of(1.0, 0.5);
        assert_eq!(room.place(vec![cpus(0.4), cpus(0.4), cpus(0.4)]), []);
        assert_eq!(room.place(vec![cpus(1.1), cpus(0.2)]), [cpus(1.1)]);
        assert_eq!(room.place(vec![cpus(0.9); 2]), [cpus(0.9)]);
        let room = of(1.0, 0.6);
        assert_eq!(room.place(vec![cpus(0.5), cpus(0.6), cpus(0.5)]), [], "packed, all find one");
    }
}
