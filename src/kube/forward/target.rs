//! The pods that are behind a Service's port.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{Api, api::ListParams};

use crate::{
    error::{Result, failed},
    kube::Kube,
};

/// For how long it is known which pods are ready.
const FRESH: Duration = Duration::from_millis(250);

/// Where connections lead to: a port of a Service.
pub struct ForwardTarget {
    kube: Kube,
    namespace: String,
    service: String,
    /// The name of the Service's port, by which its endpoints are found; empty for an only port without one.
    port: String,
    /// Pods take turns.
    next: AtomicUsize,
    /// Pods that connections went to.
    used: Mutex<BTreeSet<String>>,
    /// What was ready a moment ago. Asked for by one connection at a time: a page makes several at once.
    known: tokio::sync::Mutex<Option<Known>>,
}

type Pods = Vec<(String, u16)>;
type Known = (Instant, Pods);

impl ForwardTarget {
    /// Looks the Service up; `None` when there is none of that name.
    ///
    /// # Errors
    /// It has no such port, or the API server refuses.
    pub async fn find(kube: &Kube, namespace: &str, service: &str, port: u16) -> Result<Option<ForwardTarget>> {
        let api: Api<Service> = Api::namespaced(kube.client(), namespace);
        let doing = format!("read Service {namespace}/{service}");
        let Some(found) = kube.call(&doing, || api.get_opt(service)).await? else { return Ok(None) };
        let ports = found.spec.and_then(|spec| spec.ports).unwrap_or_default();
        let Some(named) = ports.iter().find(|one| one.port == i32::from(port)) else {
            let there: Vec<String> = ports.iter().map(|one| one.port.to_string()).collect();
            return Err(failed(format!("Service {namespace}/{service} has no port {port}"))
                .remedy(format!("it has these: {}", there.join(", ")))
                .into());
        };
        Ok(Some(ForwardTarget {
            kube: kube.clone(),
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            port: named.name.clone().unwrap_or_default(),
            next: AtomicUsize::new(0),
            used: Mutex::default(),
            known: tokio::sync::Mutex::default(),
        }))
    }

    /// Whether one of the pods behind the Service is ready.
    ///
    /// # Errors
    /// The API server does not answer or refuses.
    pub async fn has_ready_pod(&self) -> Result<bool> {
        Ok(!self.ready().await?.is_empty())
    }

    /// The pods behind the Service that are ready, each with the port that the Service's port means there.
    pub(super) async fn ready(&self) -> Result<Pods> {
        let mut known = self.known.lock().await;
        if let Some((at, pods)) = &*known
            && at.elapsed() < FRESH
            && !pods.is_empty()
        {
            return Ok(pods.clone());
        }
        let api: Api<EndpointSlice> = self.api();
        let params = ListParams::default().labels(&format!("kubernetes.io/service-name={}", self.service));
        let slices = self.kube.call("list the Service's endpoints", || api.list(&params)).await?;
        let pods = ready_pods(&slices.items, &self.port);
        *known = Some((Instant::now(), pods.clone()));
        Ok(pods)
    }

    /// What was known of pods is not true any more.
    pub(super) async fn forget(&self) {
        *self.known.lock().await = None;
    }

    /// The pods, another one first each time.
    pub(super) fn in_turn<'a>(&self, ready: &'a [(String, u16)]) -> impl Iterator<Item = &'a (String, u16)> {
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        (0..ready.len()).map(move |turn| &ready[(first + turn) % ready.len()])
    }

    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.kube.client(), &self.namespace)
    }

    /// For sentences: `Service user-app/user-app`.
    pub(super) fn describe(&self) -> String {
        format!("Service {}/{}", self.namespace, self.service)
    }

    /// Notes that connections go to `pod`; returns those that they went to and that are not ready any more.
    pub(super) fn moved(&self, pod: &str, ready: &[(String, u16)]) -> Vec<String> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<String> =
            used.iter().filter(|old| !ready.iter().any(|(name, _)| name == *old)).cloned().collect();
        used.retain(|old| !gone.contains(old));
        used.insert(pod.to_owned());
        gone
    }
}

fn ready_pods(slices: &[EndpointSlice], name: &str) -> Vec<(String, u16)> {
    let mut pods = Vec::new();
    for slice in slices {
        let mut ports = slice.ports.iter().flatten();
        let port = ports.find(|port| port.name.as_deref().unwrap_or("") == name).and_then(|port| port.port);
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { continue };
        for endpoint in &slice.endpoints {
            let ready = endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready.unwrap_or(true));
            let pod = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
            if let (true, Some(name)) = (ready, pod.and_then(|pod| pod.name.clone())) {
                pods.push((name, port));
            }
        }
    }
    // A dual-stack Service has each pod twice.
    pods.sort();
    pods.dedup();
    pods
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ready_pods_with_the_port_of_that_name() {
        let slice = |addresses: serde_json::Value, ports: serde_json::Value| -> EndpointSlice {
            serde_json::from_value(json!({"addressType": "IPv4", "endpoints": addresses, "ports": ports})).unwrap()
        };
        let pod = |name: &str, ready: bool| json!({"addresses": ["10.0.0.1"], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": name}});
        let ports = json!([{"name": "metrics", "port": 9090}, {"name": "http", "port": 8080}]);
        let slices = [
            slice(json!([pod("b", true), pod("a", true), pod("gone", false)]), ports.clone()),
            slice(json!([pod("a", true), {"addresses": ["192.0.2.1"]}]), ports),
            slice(json!([pod("other", true)]), json!([{"name": "grpc", "port": 1}])),
        ];
        assert_eq!(ready_pods(&slices, "http"), [("a".to_owned(), 8080), ("b".to_owned(), 8080)]);
        assert!(ready_pods(&slices, "none").is_empty());
        let unnamed = [slice(json!([pod("a", true)]), json!([{"name": "", "port": 5432}]))];
        assert_eq!(ready_pods(&unnamed, ""), [("a".to_owned(), 5432)]);
    }
}
