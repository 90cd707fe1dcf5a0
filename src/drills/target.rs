//! What is drilled: a Kubernetes cluster, a namespace in it, and the database that the app there uses.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::Value;

use crate::{
    database,
    error::{Result, failed},
    kube::Kube,
};

/// The web app's Deployment and Service.
pub const WEB: &str = "user-app";
/// The operator's namespace.
pub const OPERATOR_NAMESPACE: &str = "cnpg-system";
/// The operator's Deployment.
pub const OPERATOR: &str = "cnpg-controller-manager";
/// The label of the operator's pods.
pub const OPERATOR_PODS: &str = "app.kubernetes.io/name=cloudnative-pg";
/// The field manager of a drill's own changes.
pub const MANAGER: &str = "stackctl-drill";

/// The time within which a drill's own query is answered: it never waits for long; what waits is broken.
const QUERY_TIMEOUT: Duration = Duration::from_secs(30);

/// The name of the CloudNativePG Cluster that the app uses. When a restored one takes its place, every copy of the
/// [`DrillTarget`] is about that one.
#[derive(Debug, Clone)]
pub struct CurrentDatabase(Arc<RwLock<String>>);

impl CurrentDatabase {
    /// The database that the app uses at first.
    pub fn new(name: impl Into<String>) -> CurrentDatabase {
        CurrentDatabase(Arc::new(RwLock::new(name.into())))
    }

    /// The database's name as it is now.
    pub fn get(&self) -> String {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that another Cluster has taken the place.
    pub fn set(&self, name: impl Into<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = name.into();
    }
}

/// The stack that is drilled.
#[derive(Clone)]
pub struct DrillTarget {
    /// The Kubernetes cluster.
    pub kube: Kube,
    /// The namespace of app and database.
    pub namespace: String,
    /// The database.
    pub database: CurrentDatabase,
}

/// A field of an object as text; empty when it is not there.
pub fn text<'a>(object: &'a DynamicObject, pointer: &str) -> &'a str {
    object.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A field of an object as a number; 0 when it is not there.
pub fn number(object: &DynamicObject, pointer: &str) -> usize {
    object.data.pointer(pointer).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
}

impl DrillTarget {
    /// The API of CloudNativePG's clusters.
    pub fn clusters(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("postgresql.cnpg.io", "v1", "Cluster");
        Api::namespaced_with(self.kube.client(), &self.namespace, &ApiResource::from_gvk(&kind))
    }

    /// An API of the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.kube.client(), &self.namespace)
    }

    /// Reads the database's Cluster.
    ///
    /// # Errors
    /// There is none, or stackctl did not install it.
    pub async fn cluster(&self) -> Result<DynamicObject> {
        let reference = database::reference(&self.namespace, &self.database.get());
        let found = self.kube.get(&reference).await?;
        let cluster = found.ok_or_else(|| failed(format!("there is no {reference}")).remedy("stackctl up"))?;
        let owner = cluster.metadata.labels.as_ref().and_then(|labels| labels.get("app.kubernetes.io/managed-by"));
        if owner.map(String::as_str) != Some("stackctl") {
            return Err(failed(format!("{reference} was not installed by stackctl: a drill breaks only what it owns"))
                .remedy("install the stack with stackctl up, or name its namespace with --namespace")
                .into());
        }
        Ok(cluster)
    }

    /// Reads which instance the operator's status names the primary; empty when it names none.
    ///
    /// # Errors
    /// As [`DrillTarget::cluster`].
    pub async fn current_primary(&self) -> Result<String> {
        Ok(text(&self.cluster().await?, "/status/currentPrimary").to_owned())
    }

    /// Lists every instance of the database but `primary`.
    ///
    /// # Errors
    /// As [`DrillTarget::cluster`].
    pub async fn standbys(&self, primary: &str) -> Result<Vec<String>> {
        let cluster = self.cluster().await?;
        let all = cluster.data.pointer("/status/instanceNames").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(all.iter().filter_map(Value::as_str).filter(|name| *name != primary).map(str::to_owned).collect())
    }

    /// Changes the Cluster by a merge patch.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn patch(&self, patch: &Value) -> Result<()> {
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        self.clusters()
            .patch(&self.database.get(), &params, &Patch::Merge(patch))
            .await
            .context("cannot change the Cluster")?;
        Ok(())
    }

    /// Runs SQL as the superuser in an instance. Returns lines of values separated by `|`.
    ///
    /// # Errors
    /// The instance does not answer, or the statement fails.
    pub async fn psql(&self, instance: &str, sql: &str) -> Result<String> {
        database::query_on(&self.kube, &self.namespace, instance, sql, QUERY_TIMEOUT).await
    }
}
