//! What is drilled: a Kubernetes cluster, a namespace in it, and the database that the app there uses.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use kube::{
    Api,
    api::{DynamicObject, Patch},
};
use serde_json::Value;

use crate::{
    database,
    error::{Result, failed},
    kube::{
        Kube,
        cnpg::{self, ClusterStatus},
        merge_params,
    },
    names::{DRILL_MANAGER, FIELD_MANAGER, MANAGED_BY},
};

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

impl DrillTarget {
    /// The API of CloudNativePG's clusters.
    pub fn clusters(&self) -> Api<DynamicObject> {
        cnpg::clusters(&self.kube, &self.namespace)
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
        let reference = cnpg::reference(&self.namespace, &self.database.get());
        let found = self.kube.get(&reference).await?;
        let cluster = found.ok_or_else(|| failed(format!("there is no {reference}")).remedy("stackctl up"))?;
        let owner = cluster.metadata.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY));
        if owner.map(String::as_str) != Some(FIELD_MANAGER) {
            return Err(failed(format!("{reference} was not installed by stackctl: a drill breaks only what it owns"))
                .remedy("install the stack with stackctl up, or name its namespace with --namespace")
                .into());
        }
        Ok(cluster)
    }

    /// Reads what the operator says of the database's Cluster.
    ///
    /// # Errors
    /// As [`DrillTarget::cluster`].
    pub async fn status(&self) -> Result<ClusterStatus> {
        Ok(ClusterStatus::of(&self.cluster().await?))
    }

    /// Reads which instance is the primary.
    ///
    /// # Errors
    /// As [`DrillTarget::cluster`]; none is at the moment.
    pub async fn primary(&self) -> Result<String> {
        let primary = self.status().await?.current_primary;
        primary.ok_or_else(|| failed("the database has no primary at the moment").into())
    }

    /// Lists every instance of the database but `primary`.
    ///
    /// # Errors
    /// As [`DrillTarget::cluster`].
    pub async fn standbys(&self, primary: &str) -> Result<Vec<String>> {
        let mut names = self.status().await?.instance_names;
        names.retain(|name| name != primary);
        Ok(names)
    }

    /// Changes the Cluster by a merge patch.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn patch(&self, patch: &Value) -> Result<()> {
        self.clusters()
            .patch(&self.database.get(), &merge_params(DRILL_MANAGER), &Patch::Merge(patch))
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
