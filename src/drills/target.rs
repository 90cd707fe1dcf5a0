//! The stack that is drilled: what it is, whether it is fit for a drill, and reading what it holds.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Node};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    actions::postgres,
    journal::local::Machine,
    model::{
        report::Environment,
        verdict::{FinalState, Instance},
    },
};
use crate::{
    backup::base,
    config::Config,
    database::{self, Lsn},
    error::{Result, failed, timed_out},
    kube::Kube,
};

/// The web app's Deployment and Service.
pub const WEB: &str = "user-app";
/// The database that is written to.
const DATABASE: &str = "app";
/// The field manager of a drill's own changes.
pub const MANAGER: &str = "stackctl-drill";
/// How long the stack may take to recover from a drill that was interrupted.
pub const SETTLE: Duration = Duration::from_secs(180);
/// How long the standbys may take to replay what the primary has.
const CATCH_UP: Duration = Duration::from_secs(60);
/// How long a base backup may take.
pub const BACKUP_WITHIN: Duration = Duration::from_secs(120);

/// The name of the CloudNativePG Cluster that the app uses. When a restored one takes its place, every copy of the
/// [`Stack`] is about that one.
#[derive(Debug, Clone)]
pub struct Name(Arc<RwLock<String>>);

impl Name {
    /// This name.
    pub fn new(name: impl Into<String>) -> Name {
        Name(Arc::new(RwLock::new(name.into())))
    }

    /// The name as it is now.
    pub fn get(&self) -> String {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another Cluster has taken the place.
    pub fn set(&self, name: impl Into<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = name.into();
    }
}

/// A stack in a cluster.
#[derive(Clone)]
pub struct Stack {
    /// The cluster.
    pub kube: Kube,
    /// The namespace of app and database.
    pub namespace: String,
    /// The database.
    pub database: Name,
    /// How the command was called: a lost database is restored by it.
    pub config: Config,
    /// Where this machine keeps the record of what it did past the API.
    pub machine: Machine,
}

/// A field of an object as text; empty when it is not there.
pub fn text<'a>(object: &'a DynamicObject, pointer: &str) -> &'a str {
    object.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A field of an object as a number; 0 when it is not there.
pub fn number(object: &DynamicObject, pointer: &str) -> usize {
    object.data.pointer(pointer).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
}

impl Stack {
    /// The API of CloudNativePG's clusters.
    pub fn clusters(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("postgresql.cnpg.io", "v1", "Cluster");
        Api::namespaced_with(self.kube.client(), &self.namespace, &ApiResource::from_gvk(&kind))
    }

    /// An API of this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.kube.client(), &self.namespace)
    }

    /// The database's Cluster.
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

    /// SQL as the superuser in an instance.
    ///
    /// # Errors
    /// As [`postgres::psql`].
    pub async fn psql(&self, pod: &str, sql: &str) -> Result<String> {
        postgres::psql(&self.kube, &self.namespace, pod, DATABASE, sql).await
    }

    /// Checks that the stack is in the state that a drill must start from. Returns the primary.
    ///
    /// # Errors
    /// What is amiss.
    pub async fn fit(&self) -> Result<String> {
        let cluster = self.cluster().await?;
        let (instances, ready) = (number(&cluster, "/spec/instances"), number(&cluster, "/status/readyInstances"));
        let (primary, target) = (text(&cluster, "/status/currentPrimary"), text(&cluster, "/status/targetPrimary"));
        let refuse = |why: String| Err(failed(format!("the stack is not fit for a drill: {why}")).into());
        if instances < 3 {
            return refuse(format!("{instances} instances can't lose one and stay redundant: it takes 3"));
        }
        if ready != instances || primary != target || text(&cluster, "/status/phase") != "Cluster in healthy state" {
            return refuse(format!("{ready}/{instances} instances are ready, {}", text(&cluster, "/status/phase")));
        }
        let streaming = self.streaming(primary).await?;
        if streaming != instances - 1 {
            return refuse(format!("{streaming} of {} standbys stream as synchronous candidates", instances - 1));
        }
        if !self.quorum_is_known(primary).await? {
            return refuse(
                "the operator does not know how many standbys confirm a commit, and would not promote".into(),
            );
        }
        let weak = self
            .psql(
                primary,
                "SELECT string_agg(s, ', ') FROM (SELECT unnest(setconfig) s FROM pg_db_role_setting UNION ALL \
                 SELECT 'synchronous_commit=' || current_setting('synchronous_commit')) q \
                 WHERE s LIKE 'synchronous_commit=%' AND s NOT IN ('synchronous_commit=on', \
                 'synchronous_commit=remote_apply')",
            )
            .await?;
        if !weak.trim().is_empty() {
            return refuse(format!("commits do not wait for a standby: {}", weak.trim()));
        }
        let web = self.api::<Deployment>().get_opt(WEB).await?.and_then(|web| web.status);
        let pods = web.and_then(|status| status.ready_replicas).unwrap_or(0);
        if pods < 2 {
            return refuse(format!("{pods} pods of the web app are ready: it takes 2"));
        }
        Ok(primary.to_owned())
    }

    /// As [`database::quorum_is_known`].
    ///
    /// # Errors
    /// As there.
    pub async fn quorum_is_known(&self, primary: &str) -> Result<bool> {
        database::quorum_is_known(&self.kube, &self.namespace, &self.database.get(), primary).await
    }

    /// As [`Stack::fit`], but gives the stack time to become so: [`SETTLE`].
    ///
    /// # Errors
    /// What is still amiss at the end, as a timeout.
    pub async fn settled(&self) -> Result<String> {
        let deadline = Instant::now() + SETTLE;
        loop {
            match self.fit().await {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(500)).await,
                other => return other.with_context(|| timed_out(format!("gave up after {} s", SETTLE.as_secs()))),
            }
        }
    }

    /// Takes a base backup.
    ///
    /// # Errors
    /// As [`base::take`].
    pub async fn back_up(&self) -> Result<()> {
        base::take(&self.kube, &self.namespace, &self.database.get(), BACKUP_WITHIN).await
    }

    /// Standbys that stream and count for the synchronous quorum.
    ///
    /// # Errors
    /// As [`Stack::psql`].
    pub async fn streaming(&self, primary: &str) -> Result<usize> {
        let sql =
            "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state IN ('quorum', 'sync')";
        Ok(self.psql(primary, sql).await?.trim().parse()?)
    }

    /// Makes the SQL stream's table, owned by the app's role. Without a unique key: doubling must be possible
    /// to be looked for.
    ///
    /// # Errors
    /// As [`Stack::psql`].
    pub async fn prepare(&self, primary: &str) -> Result<()> {
        let sql = "DROP SCHEMA IF EXISTS stackctl_drill CASCADE; \
                   CREATE SCHEMA stackctl_drill AUTHORIZATION app; \
                   CREATE TABLE stackctl_drill.writes (run text NOT NULL, key bigint NOT NULL); \
                   ALTER TABLE stackctl_drill.writes OWNER TO app";
        self.psql(primary, sql).await.map(drop)
    }

    /// Removes every row of a run.
    ///
    /// # Errors
    /// As [`Stack::psql`].
    pub async fn clean(&self, primary: &str, run: &str) -> Result<()> {
        let sql = format!(
            "DROP SCHEMA IF EXISTS stackctl_drill CASCADE; \
             DELETE FROM users WHERE email LIKE '{run}-%@drill.invalid'; \
             DELETE FROM idempotency_keys WHERE key LIKE '{run}-%'"
        );
        self.psql(primary, &sql).await.map(drop)
    }

    /// Reads what every instance holds of a run, after the standbys have replayed all that the primary has.
    ///
    /// # Errors
    /// An instance that can't be read, or a standby that does not catch up.
    pub async fn read(&self, run: &str) -> Result<FinalState> {
        let cluster = self.cluster().await?;
        let primary = text(&cluster, "/status/currentPrimary").to_owned();
        let names =
            cluster.data.pointer("/status/instanceNames").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut names: Vec<String> = names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
        names.sort_by_key(|name| *name != primary);
        let end: Lsn = self.psql(&primary, "SELECT pg_current_wal_flush_lsn()").await?.trim().parse()?;
        let mut instances = Vec::new();
        for name in names {
            if name != primary {
                self.caught_up(&name, end).await?;
            }
            instances.push(Instance { rows: self.rows(&name, run).await?, name });
        }
        let forks = database::forks(&self.psql(&primary, database::HISTORY).await?)?;
        Ok(FinalState { instances, forks })
    }

    async fn caught_up(&self, standby: &str, end: Lsn) -> Result<()> {
        let deadline = Instant::now() + CATCH_UP;
        loop {
            let replayed: Lsn = self.psql(standby, "SELECT pg_last_wal_replay_lsn()").await?.trim().parse()?;
            if replayed >= end {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(
                    timed_out(format!("{standby} has replayed up to {replayed}, the primary is at {end}")).into()
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn rows(&self, instance: &str, run: &str) -> Result<BTreeMap<u64, u32>> {
        let sql = format!(
            "SELECT key, count(*) FROM stackctl_drill.writes WHERE run = '{run}' GROUP BY key \
             UNION ALL SELECT substr(name, {})::bigint, count(*) FROM users \
             WHERE email LIKE '{run}-%@drill.invalid' GROUP BY 1",
            run.len() + 2
        );
        let mut rows = BTreeMap::new();
        for line in self.psql(instance, &sql).await?.lines() {
            let (key, count) = line.split_once('|').with_context(|| format!("{instance} answers {line:?}"))?;
            *rows.entry(key.parse()?).or_insert(0) += count.parse::<u32>()?;
        }
        Ok(rows)
    }

    /// Where a drill runs, for its report.
    ///
    /// # Errors
    /// The API's.
    pub async fn environment(&self, target: String, primary: &str) -> Result<Environment> {
        let cluster = self.cluster().await?;
        let nodes = Api::<Node>::all(self.kube.client()).list(&ListParams::default()).await?.items.len();
        let operators: Api<Deployment> = Api::namespaced(self.kube.client(), super::scenarios::OPERATOR_NAMESPACE);
        let operator = operators.get_opt(super::scenarios::OPERATOR).await?;
        let operator = operator.and_then(|d| d.spec?.template.spec?.containers.first()?.image.clone());
        let web = self.api::<Deployment>().get(WEB).await?.status.and_then(|status| status.ready_replicas);
        let settings = self
            .psql(
                primary,
                "SELECT name || ' = ' || setting || coalesce(unit, '') FROM pg_settings WHERE name IN \
                 ('synchronous_standby_names', 'synchronous_commit', 'wal_retrieve_retry_interval', \
                 'wal_receiver_timeout', 'wal_sender_timeout', 'checkpoint_timeout', 'max_wal_size') ORDER BY 1",
            )
            .await?;
        let mut settings: Vec<String> = settings.lines().map(str::to_owned).collect();
        for field in ["primaryLease", "failoverDelay", "smartShutdownTimeout", "switchoverDelay", "stopDelay"] {
            if let Some(value) = cluster.data.pointer(&format!("/spec/{field}")) {
                settings.push(format!("{field} = {value}"));
            }
        }
        Ok(Environment {
            stackctl: env!("CARGO_PKG_VERSION").into(),
            target,
            kubernetes: self.kube.version().await?,
            nodes,
            operator: operator.unwrap_or_default(),
            postgresql: text(&cluster, "/status/image").into(),
            instances: number(&cluster, "/spec/instances"),
            web_pods: web.and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
            settings,
        })
    }
}
