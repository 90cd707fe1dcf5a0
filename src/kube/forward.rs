//! A port of this machine that leads to a Service in the cluster.
//!
//! Each connection goes to one of the pods that are ready at that moment, so it survives their replacement:
//! what is open to a pod that goes breaks, and the next connection finds another one.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api,
    api::{ListParams, Portforwarder},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::{Kube, client::REQUEST_TIMEOUT};
use crate::error::{Failure, Result, failed, usage};

/// For how long a connection waits for a pod to become ready.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(300);

/// What is told while forwarding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForwardEvent {
    /// A connection goes to this pod.
    Connected {
        /// The pod's name.
        pod: String,
    },
    /// A connection came to nothing or broke, for this reason; the next one is tried anew.
    Failed(String),
}

/// A local port that leads into the cluster until it is dropped; open connections end with it.
#[derive(Debug)]
pub struct Forwarder {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Forwarder {
    /// Where to connect to: 127.0.0.1 and the port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Listens on 127.0.0.1, on `local` or a free port, and leads each connection to port `service_port` of the
/// Service.
///
/// # Errors
/// The local port is taken or may not be used (exit code 2); there is no such Service, or it has no such port.
pub async fn forward(
    kube: &Kube,
    namespace: &str,
    service: &str,
    service_port: u16,
    local: Option<u16>,
    on: impl Fn(ForwardEvent) + Send + Sync + 'static,
) -> Result<Forwarder> {
    let port = port_name(kube, namespace, service, service_port).await?;
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, local.unwrap_or(0)));
    let listener = TcpListener::bind(wanted).await.map_err(|error| cannot_listen(wanted, &error))?;
    let address = listener.local_addr()?;
    let target = Arc::new(Target {
        kube: kube.clone(),
        namespace: namespace.to_owned(),
        service: service.to_owned(),
        port,
        next: AtomicUsize::new(0),
        on: Box::new(on),
    });
    Ok(Forwarder { address, accepting: tokio::spawn(accept(listener, target)) })
}

/// The name of the Service's port, by which its endpoints are found; empty for an only port without one.
async fn port_name(kube: &Kube, namespace: &str, service: &str, port: u16) -> Result<String> {
    let api: Api<Service> = Api::namespaced(kube.client(), namespace);
    let doing = format!("read Service {namespace}/{service}");
    let Some(found) = kube.call(&doing, || api.get_opt(service)).await? else {
        return Err(failed(format!("there is no Service {namespace}/{service}")).into());
    };
    let ports = found.spec.and_then(|spec| spec.ports).unwrap_or_default();
    match ports.iter().find(|one| one.port == i32::from(port)) {
        Some(one) => Ok(one.name.clone().unwrap_or_default()),
        None => {
            let there: Vec<String> = ports.iter().map(|one| one.port.to_string()).collect();
            Err(failed(format!("Service {namespace}/{service} has no port {port}"))
                .remedy(format!("it has these: {}", there.join(", ")))
                .into())
        }
    }
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> Failure {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => usage(format!("port {port} of this machine is in use by another program"))
            .remedy("name another port, or none: then a free one is taken"),
        io::ErrorKind::PermissionDenied => usage(format!("the user may not listen on port {port}"))
            .remedy("name a port above 1023, or none: then a free one is taken"),
        _ => failed(format!("cannot listen on {address}: {error}")),
    }
}

struct Target {
    kube: Kube,
    namespace: String,
    service: String,
    port: String,
    /// Pods take turns.
    next: AtomicUsize,
    on: Box<dyn Fn(ForwardEvent) + Send + Sync>,
}

async fn accept(listener: TcpListener, target: Arc<Target>) {
    // The connections end with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let target = Arc::clone(&target);
                    connections.spawn(async move {
                        if let Err(why) = target.serve(stream).await {
                            (target.on)(ForwardEvent::Failed(why));
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors: some are free again when connections end.
                    (target.on)(ForwardEvent::Failed(error.to_string()));
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Target {
    async fn serve(&self, mut local: TcpStream) -> std::result::Result<(), String> {
        let (pod, port, connection) = self.connect().await?;
        let mut connection = Connection(connection);
        let Some(mut remote) = connection.0.take_stream(port) else { return Err("no stream to the pod".into()) };
        let problem = connection.0.take_error(port);
        (self.on)(ForwardEvent::Connected { pod: pod.clone() });
        let refused = async {
            match problem {
                Some(problem) => match problem.await {
                    Some(why) => why,
                    // It ends without a word when the connection does: the copying says how.
                    None => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            copied = tokio::io::copy_bidirectional(&mut local, &mut remote) => match copied {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("the connection to pod {pod} broke: {error}")),
            },
            why = refused => Err(format!("pod {pod} does not take the connection: {}", why.trim())),
        }
    }

    /// A connection to a ready pod; waits for one.
    async fn connect(&self) -> std::result::Result<(String, u16, Portforwarder), String> {
        let give_up = Instant::now() + PATIENCE;
        let pods: Api<Pod> = Api::namespaced(self.kube.client(), &self.namespace);
        let mut why = format!("Service {}/{} has no ready pod", self.namespace, self.service);
        loop {
            let ready = match self.ready().await {
                Ok(ready) => ready,
                Err(error) => {
                    why = crate::error::one_line(&error);
                    Vec::new()
                }
            };
            let first = self.next.fetch_add(1, Ordering::Relaxed);
            for turn in 0..ready.len() {
                let (pod, port) = &ready[(first + turn) % ready.len()];
                match timeout(REQUEST_TIMEOUT, pods.portforward(pod, &[*port])).await {
                    Ok(Ok(connection)) => return Ok((pod.clone(), *port, connection)),
                    Ok(Err(error)) => why = format!("cannot reach pod {pod}: {error}"),
                    Err(_) => why = format!("cannot reach pod {pod}: the API server does not answer"),
                }
            }
            if Instant::now() + PAUSE >= give_up {
                return Err(why);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The pods behind the Service that are ready, each with the port that the Service's port means there.
    async fn ready(&self) -> Result<Vec<(String, u16)>> {
        let api: Api<EndpointSlice> = Api::namespaced(self.kube.client(), &self.namespace);
        let params = ListParams::default().labels(&format!("kubernetes.io/service-name={}", self.service));
        let slices = self.kube.call("list the Service's endpoints", || api.list(&params)).await?;
        Ok(ready_pods(&slices.items, &self.port))
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

/// Ends the connection to the pod when dropped; by itself it goes on in the background.
struct Connection(Portforwarder);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
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

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let error = TcpListener::bind(address).await.unwrap_err();
        let failure = cannot_listen(address, &error);
        assert_eq!(failure.kind.exit_code(), 2);
        assert!(failure.message.contains(&address.port().to_string()) && failure.message.contains("in use"));
    }
}
