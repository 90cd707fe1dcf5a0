//! What the test asks the cluster itself, beside stackctl's own commands.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kube::{
    Api,
    api::{DynamicObject, ListParams, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use stackctl::kube::{ClusterRef, Inventory, Kube, ObjectRef};

use crate::cli::Stackctl;

const NAMESPACE: &str = "user-app";

/// Asks for a page on a connection of its own; the status of the answer.
pub fn http_status(address: &str, path: &str) -> u16 {
    let mut socket = TcpStream::connect(address).expect("the port takes connections");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a time limit");
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    let status = answer.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("{path}: {answer}"))
}

/// A name that nothing has yet, also where the same step ran before.
pub fn unique(name: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is right");
    format!("{name}-{}", now.as_millis())
}

/// An address that no user has yet.
pub fn mail(name: &str) -> String {
    format!("{}@example.org", unique(name))
}

/// A connection of the test's own.
pub struct Objects {
    runtime: tokio::runtime::Runtime,
    kube: Kube,
    /// The inventory as it was when the stack was up.
    listed: Vec<ObjectRef>,
}

impl Objects {
    pub fn connect(stackctl: &Stackctl) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let cluster = ClusterRef { kubeconfig: None, context: Some(stackctl.profile().into()) };
        let kube = runtime.block_on(Kube::connect(&cluster)).expect("the cluster answers");
        let inventory = runtime.block_on(Inventory::load(&kube, NAMESPACE)).expect("the inventory can be read");
        let parts = ["base", "operator", "backup", "database", "failover-helper", "autoscaling", "web", "monitoring"];
        let listed = parts.iter().flat_map(|part| inventory.entries(part)).map(|entry| entry.object).collect();
        Objects { runtime, kube, listed }
    }

    /// Sends a request to the app through its Service and returns the body.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> kube::Result<Value> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/services/user-app:80/proxy{path}");
        let mut request = http::Request::builder().method(method).uri(path).header("content-type", "application/json");
        if let Some(user) = body {
            let email = user["email"].as_str().unwrap_or_default();
            request = request.header("idempotency-key", format!("cluster-test-{}-{email}", std::process::id()));
        }
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let request = request.body(body).expect("a valid request");
        self.runtime.block_on(self.kube.client().request(request))
    }

    /// Registers a user and returns the id.
    pub fn register(&self, name: &str, email: &str) -> String {
        let user = json!({"name": name, "email": email, "gender": null});
        let created = self.ask("POST", "/api/v1/users", Some(&user)).expect("the user is registered");
        created["id"].as_str().map_or_else(|| created["id"].to_string(), str::to_owned)
    }

    /// Reads the list of users so many times.
    pub fn ask_users(&self, times: u32) {
        for _ in 0..times {
            self.ask("GET", "/api/v1/users?limit=1", None).expect("the app answers");
        }
    }

    /// Prometheus' answer to an instant query; null while it does not answer.
    pub fn prometheus(&self, expr: &str) -> Value {
        let expr: String = expr
            .bytes()
            .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).into() } else { format!("%{byte:02X}") })
            .collect();
        let path = "/api/v1/namespaces/monitoring/services/monitoring-prometheus:9090/proxy/api/v1/query";
        let request = http::Request::get(format!("{path}?query={expr}")).body(Vec::new()).expect("a valid request");
        match self.runtime.block_on(self.kube.client().request(request)) {
            Ok(answer) => answer,
            Err(kube::Error::Api(status)) if status.code == 503 => Value::Null,
            Err(error) => panic!("Prometheus refuses {expr}: {error}"),
        }
    }

    /// The user's name, if there is such a user.
    pub fn user(&self, id: &str) -> Option<String> {
        match self.ask("GET", &format!("/api/v1/users/{id}"), None) {
            Ok(user) => user["name"].as_str().map(str::to_owned),
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("the app does not answer: {error}"),
        }
    }

    /// Every object of the inventory with its resourceVersion. What the cluster itself writes into while
    /// nothing happens (statuses with time stamps) is told apart by the generation: see below.
    pub fn versions(&self) -> BTreeMap<String, String> {
        let read = |object: &ObjectRef| {
            let found = self.runtime.block_on(self.kube.get(object)).expect("the object can be read");
            let found = found.unwrap_or_else(|| panic!("{object} is in the inventory but not in the cluster"));
            // stackctl's own entry in managedFields changes whenever stackctl changes the object; the
            // resourceVersion also moves with every status that a controller writes.
            let ours = found
                .metadata
                .managed_fields
                .unwrap_or_default()
                .into_iter()
                .find(|entry| entry.manager.as_deref() == Some("stackctl") && entry.subresource.is_none());
            let written_by_controllers = [
                "APIService",
                "Cluster",
                "Deployment",
                "HorizontalPodAutoscaler",
                "ObjectStore",
                "PodDisruptionBudget",
                "ScheduledBackup",
                "StatefulSet",
            ];
            let version = if written_by_controllers.contains(&object.kind.as_str()) {
                format!("{:?} {:?}", found.metadata.generation, ours.and_then(|entry| entry.time))
            } else {
                found.metadata.resource_version.unwrap_or_default()
            };
            (object.to_string(), version)
        };
        self.listed.iter().map(read).collect()
    }

    /// Changes the app's PodDisruptionBudget as someone else would, by hand.
    pub fn scale_budget(&self, max_unavailable: i32) {
        let object = ObjectRef::namespaced("policy/v1", "PodDisruptionBudget", NAMESPACE, "user-app");
        let api = self.runtime.block_on(self.kube.api(&object)).expect("the kind is known");
        let patch = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "user-app"},
            "spec": {"maxUnavailable": max_unavailable},
        });
        let params = PatchParams::apply("by-hand").force();
        self.runtime.block_on(api.patch("user-app", &params, &Patch::Apply(patch))).expect("the budget can be changed");
    }

    /// Stops the store of backups, or starts it again.
    pub fn scale_store(&self, replicas: u32) {
        let object = ObjectRef::namespaced("apps/v1", "StatefulSet", NAMESPACE, "backup-store");
        let api = self.runtime.block_on(self.kube.api(&object)).expect("the kind is known");
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let params = PatchParams::default();
        self.runtime.block_on(api.patch("backup-store", &params, &patch)).expect("the store can be scaled");
    }

    /// What is still there of the inventory, and whatever else carries stackctl's label.
    pub fn remaining(&self) -> Vec<String> {
        let mut left: Vec<String> = Vec::new();
        for object in &self.listed {
            // The kinds themselves are gone with the CRDs.
            if matches!(self.runtime.block_on(self.kube.get(object)), Ok(Some(_))) {
                left.push(object.to_string());
            }
        }
        for (group, version, kind) in [("", "v1", "Namespace"), ("rbac.authorization.k8s.io", "v1", "ClusterRole")] {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> = Api::all_with(self.kube.client(), &resource);
            let selector = ListParams::default().labels("app.kubernetes.io/managed-by=stackctl");
            let found = self.runtime.block_on(api.list(&selector)).expect("objects can be listed");
            left.extend(
                found.items.into_iter().filter_map(|object| object.metadata.name).map(|name| format!("{kind} {name}")),
            );
        }
        left
    }
}
