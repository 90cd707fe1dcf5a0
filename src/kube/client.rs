//! Connecting to a cluster, and the connection.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use kube::{
    Api, Client,
    api::DynamicObject,
    client::{Body, ClientBuilder},
    config::ExecConfig,
    core::Status,
};
use tokio::sync::{Mutex, OnceCell};
use tower::{Layer, Service};

use super::{
    ObjectRef,
    api_error::{self, Transport},
    deadline::Deadline,
    discovery::{Kinds, Resolved},
    kubeconfig::{self, ClusterRef},
    operator::CnpgOperator,
    rules::ContainerRules,
    zones::Zones,
};
use crate::{
    error::{Failure, Result, failed, timed_out},
    poll::Tries,
};

/// The first answer must come within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For how long a kind that is not served is not asked for again. Only a CustomResourceDefinition of somebody else's can
/// appear unnoticed: after one of ours the kinds are read anew.
const MOMENTS: Duration = Duration::from_secs(5);
/// No single request that is answered in one piece may take longer.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(35);

/// For how long a request that may be repeated is.
const RETRY_FOR: Duration = Duration::from_secs(20);

/// A connection to one cluster; cheap to clone.
#[derive(Clone)]
pub struct Kube {
    client: Client,
    requests: Arc<AtomicU64>,
    kinds: Arc<Kinds>,
    server: Arc<str>,
    pub(super) operator: Arc<OnceCell<CnpgOperator>>,
    /// Group and resource of what the user may not change in the whole cluster.
    pub(super) lacking_in_cluster: Arc<OnceCell<Vec<(&'static str, &'static str)>>>,
    /// What shows that NetworkPolicies are enforced.
    pub(super) policy_enforcer: Arc<OnceCell<Option<String>>>,
    pub(super) zones: Arc<OnceCell<Zones>>,
    pub(super) rules: Arc<Mutex<BTreeMap<String, ContainerRules>>>,
}

impl Kube {
    /// Connects: reads the kubeconfig and asks the server for the kinds that it knows, which takes two
    /// requests and proves that it is there and accepts the credentials.
    ///
    /// # Errors
    /// No kubeconfig (exit code 3), no such context (exit code 2, lists those there are), an unreachable
    /// server (exit code 1, or 5 when it does not answer within 10 s), a certificate that is not trusted,
    /// credentials that are not accepted.
    pub async fn connect(cluster: &ClusterRef) -> Result<Kube> {
        let config = configure(cluster)?;
        let exec = config.auth_info.exec.clone();
        let server: Arc<str> = config.cluster_url.to_string().trim_end_matches('/').into();
        let requests = Arc::new(AtomicU64::new(0));
        let client = ClientBuilder::try_from(config)
            .map_err(|error| match &error {
                kube::Error::Auth(error) => kubeconfig::credentials_failure(error, exec.as_ref(), &server),
                other => failed(format!("cannot set up the connection to {server}: {other}")),
            })?
            .with_layer(&Deadline(REQUEST_TIMEOUT))
            .with_layer(&Count(Arc::clone(&requests)))
            .build();
        let kinds = Arc::new(Kinds::default());
        let (operator, zones, rules) = (Arc::default(), Arc::default(), Arc::default());
        let (lacking_in_cluster, policy_enforcer) = (Arc::default(), Arc::default());
        let kube =
            Kube { client, requests, kinds, server, operator, lacking_in_cluster, policy_enforcer, zones, rules };
        match tokio::time::timeout(CONNECT_TIMEOUT, kube.kinds.load(&kube.client)).await {
            Ok(Ok(())) => Ok(kube),
            Ok(Err(error)) => Err(unreachable(&error, exec.as_ref(), &kube.server).into()),
            Err(_) => Err(silent(&kube.server).into()),
        }
    }

    /// The operator that serves the cluster's databases, if it was looked for already.
    pub fn known_operator(&self) -> Option<&CnpgOperator> {
        self.operator.get()
    }

    /// The client itself.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The API server's address, e.g. `https://192.0.2.1:6443`.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// How many HTTP requests this connection has sent.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The server's version, e.g. `v1.35.4`.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn version(&self) -> Result<String> {
        let info = self.call("read the version", || self.client.apiserver_version()).await?;
        Ok(info.git_version)
    }

    /// The API of the object's kind, in the object's namespace if it is a namespaced kind.
    ///
    /// # Errors
    /// A kind that the cluster does not know, even after asking it again.
    pub async fn api(&self, object: &ObjectRef) -> Result<Api<DynamicObject>> {
        let resolved = self.resolve(object).await?;
        Ok(self.api_of(&resolved, object.namespace.as_deref()))
    }

    /// The object as it is now; `None` when there is none, also when its kind is unknown.
    ///
    /// # Errors
    /// The server does not answer or forbids it.
    pub async fn get(&self, object: &ObjectRef) -> Result<Option<DynamicObject>> {
        if !self.knows(&object.api_version, &object.kind).await? {
            return Ok(None);
        }
        let api = self.api(object).await?;
        self.call(&format!("read {object}"), || api.get_opt(&object.name)).await
    }

    /// Whether the cluster serves this kind, e.g. `("postgresql.cnpg.io/v1", "Cluster")`. A kind that it did not serve
    /// moments ago is not asked for again: who waits for one to appear is told so a few seconds later.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn knows(&self, api_version: &str, kind: &str) -> Result<bool> {
        if self.kinds.get(api_version, kind).is_some() {
            return Ok(true);
        }
        if self.kinds.age() > MOMENTS {
            self.refresh().await?;
        }
        Ok(self.kinds.get(api_version, kind).is_some())
    }

    /// Whether the cluster gives the pods of a namespace user ids of its own and refuses others, as OpenShift does by its
    /// SecurityContextConstraints. Goes by the kinds that were there at the last look.
    pub fn gives_user_ids(&self) -> bool {
        self.kinds.get("security.openshift.io/v1", "SecurityContextConstraints").is_some()
    }

    /// How the cluster serves an object's kind; asks again when it is not known.
    pub(super) async fn resolve(&self, object: &ObjectRef) -> Result<Resolved> {
        if let Some(resolved) = self.kinds.get(&object.api_version, &object.kind) {
            return Ok(resolved);
        }
        self.refresh().await?;
        self.kinds.get(&object.api_version, &object.kind).ok_or_else(|| {
            failed(format!(
                "the cluster does not know the kind {} of {} that {object} is of",
                object.kind, object.api_version
            ))
            .remedy("install what defines it (a CustomResourceDefinition or an aggregated API), or use a newer cluster")
            .into()
        })
    }

    pub(super) fn known(&self, object: &ObjectRef) -> Option<Resolved> {
        self.kinds.get(&object.api_version, &object.kind)
    }

    /// Asks the server again for the kinds that it knows.
    pub(super) async fn refresh(&self) -> Result<()> {
        self.call("list the API's kinds", || self.kinds.load(&self.client)).await
    }

    pub(super) fn api_of(&self, resolved: &Resolved, namespace: Option<&str>) -> Api<DynamicObject> {
        if resolved.namespaced {
            Api::namespaced_with(self.client.clone(), namespace.unwrap_or("default"), &resolved.resource)
        } else {
            Api::all_with(self.client.clone(), &resolved.resource)
        }
    }

    /// One request that may be repeated: a server that restarts or is overloaded is asked again for a while.
    pub(super) async fn call<T, Fut>(&self, doing: &str, make: impl Fn() -> Fut) -> Result<T>
    where
        Fut: Future<Output = kube::Result<T>>,
    {
        let mut tries = Tries::within(RETRY_FOR, Duration::from_millis(100)).slower(Duration::from_secs(2));
        loop {
            let error = match tokio::time::timeout(REQUEST_TIMEOUT, make()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error,
                Err(_) => return Err(timed_out(format!("cannot {doing}: {} does not answer", self.server)).into()),
            };
            tracing::debug!("cannot {doing}: {error}");
            if !api_error::transient(&error) || !tries.another().await {
                return Err(api_error::failure(&error, doing).into());
            }
        }
    }

    /// Like [`Kube::call`], with the server's refusal handed out for the caller to look at.
    pub(super) async fn attempt<T, Fut>(
        &self,
        doing: &str,
        make: impl Fn() -> Fut,
    ) -> Result<std::result::Result<T, Box<Status>>>
    where
        Fut: Future<Output = kube::Result<T>>,
    {
        self.call(doing, || async {
            match make().await {
                Ok(value) => Ok(Ok(value)),
                Err(kube::Error::Api(status)) if !api_error::transient_status(&status) => Ok(Err(status)),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// One request with a time limit, sent once.
    pub(super) async fn bounded<T>(&self, doing: &str, request: impl Future<Output = kube::Result<T>>) -> Result<T> {
        match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(api_error::failure(&error, doing).into()),
            Err(_) => Err(timed_out(format!("cannot {doing}: {} does not answer", self.server)).into()),
        }
    }
}

/// The settings of the connection, with our own limits.
fn configure(cluster: &ClusterRef) -> Result<kube::Config> {
    let mut config = kubeconfig::configure(cluster)?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // Its policy sleeps up to minutes without a word; what is worth repeating is repeated by us, with a deadline.
    config.default_retry = false;
    Ok(config)
}

fn silent(server: &str) -> Failure {
    timed_out(format!("the API server at {server} does not answer within {} s", CONNECT_TIMEOUT.as_secs()))
        .remedy("check that the cluster runs and that this machine reaches it (VPN, firewall)")
}

fn unreachable(error: &kube::Error, exec: Option<&ExecConfig>, server: &str) -> Failure {
    let Some((kind, why)) = api_error::transport(error) else {
        return match error {
            kube::Error::Api(status) => api_error::status_failure(status, &format!("use the API server at {server}")),
            kube::Error::Auth(error) => kubeconfig::credentials_failure(error, exec, server),
            other => failed(format!("cannot use the API server at {server}: {other}")),
        };
    };
    match kind {
        Transport::Refused => failed(format!("the API server at {server} is not running: {why}")).remedy(
            "start the cluster (stackctl up starts its minikube profile), or check the address in the kubeconfig",
        ),
        Transport::TimedOut => silent(server),
        Transport::NoSuchHost => failed(format!("the name of the API server {server} does not resolve: {why}"))
            .remedy("check the address in the kubeconfig, and this machine's DNS or VPN"),
        Transport::Tls => failed(format!("the connection to {server} is not secure: {why}"))
            .remedy("the kubeconfig's certificate-authority must be the one that signed the server's certificate"),
        Transport::Broken => failed(format!("the connection to {server} broke: {why}"))
            .remedy("check that the address in the kubeconfig is that of an API server, and that it runs"),
    }
}

/// Counts requests as they are sent.
struct Count(Arc<AtomicU64>);

impl<S> Layer<S> for Count {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, requests: Arc::clone(&self.0) }
    }
}

struct Counted<S> {
    inner: S,
    requests: Arc<AtomicU64>,
}

impl<S: Service<http::Request<Body>>> Service<http::Request<Body>> for Counted<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<std::result::Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> S::Future {
        self.requests.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(method = %request.method(), path = %request.uri(), "request");
        self.inner.call(request)
    }
}
