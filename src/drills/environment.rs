//! Where a drill runs: what its report says of the cluster, and what the cluster allows.

use anyhow::Context as _;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Node};
use kube::{Api, ResourceExt, api::ListParams};

use super::{
    model::{report::Environment, requirement::ClusterCapabilities},
    target::DrillTarget,
};
use crate::{
    backup::Store,
    config::Target,
    error::Result,
    kube::{cnpg::ClusterStatus, zones::ZONE},
    names::WEB,
    tools::docker,
};

/// The label of the control plane's nodes.
const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";

/// The SQL query for the settings of the database that decide on its failover.
const SETTINGS: &str = "SELECT name || ' = ' || setting || coalesce(unit, '') FROM pg_settings WHERE name IN \
     ('synchronous_standby_names', 'synchronous_commit', 'wal_retrieve_retry_interval', \
     'wal_receiver_timeout', 'wal_sender_timeout', 'checkpoint_timeout', 'max_wal_size') ORDER BY 1";

/// The fields of the Cluster that decide on its failover.
const FIELDS: [&str; 5] = ["primaryLease", "failoverDelay", "smartShutdownTimeout", "switchoverDelay", "stopDelay"];

/// Describes where a drill runs, for its report. `cluster`: the Kubernetes cluster in words.
///
/// # Errors
/// The API's.
pub async fn describe(target: &DrillTarget, cluster: String, primary: &str) -> Result<Environment> {
    let database = target.cluster().await?;
    let nodes = nodes(target).await?.len();
    let there = target.kube.operator().await?;
    let operators: Api<Deployment> = Api::namespaced(target.kube.client(), &there.namespace);
    let operator = if there.is_hidden { None } else { operators.get_opt(&there.deployment).await? };
    let operator = operator.and_then(|found| found.spec?.template.spec?.containers.first()?.image.clone());
    let web = target.api::<Deployment>().get(WEB).await?.status.and_then(|status| status.ready_replicas);
    let settings = target.psql(primary, SETTINGS).await?;
    let mut settings: Vec<String> = settings.lines().map(str::to_owned).collect();
    for field in FIELDS {
        if let Some(value) = database.data.pointer(&format!("/spec/{field}")) {
            settings.push(format!("{field} = {value}"));
        }
    }
    let status = ClusterStatus::of(&database);
    Ok(Environment {
        stackctl: env!("CARGO_PKG_VERSION").into(),
        target: cluster,
        kubernetes: target.kube.version().await?,
        nodes,
        operator: operator.unwrap_or_default(),
        postgresql: status.image,
        instances: status.wanted,
        web_pods: web.and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
        settings,
    })
}

/// Finds out what the cluster allows.
///
/// # Errors
/// The API's, or the container engine's.
pub async fn capabilities(target: &DrillTarget, cluster: &Target) -> Result<ClusterCapabilities> {
    let all = nodes(target).await?;
    let nodes: Vec<String> = all.iter().map(ResourceExt::name_any).collect();
    let control_plane = all.iter().filter(|node| node.labels().contains_key(CONTROL_PLANE));
    let control_plane = control_plane.map(ResourceExt::name_any).collect();
    let nodes_are_containers = match cluster {
        // minikube's docker driver gives the nodes and their containers the same names.
        Target::Minikube(_) => docker::container_states(&nodes).await?.len() == nodes.len(),
        Target::Context(_) => false,
    };
    let has_backups = Store::read(&target.kube, &target.namespace).await?.is_some();
    let operator_is_foreign = target.kube.operator().await?.is_foreign;
    let zone = |node: &Node| Some((node.name_any(), node.labels().get(ZONE)?.clone()));
    let zones = all.iter().filter_map(zone).collect();
    Ok(ClusterCapabilities { nodes, control_plane, zones, nodes_are_containers, has_backups, operator_is_foreign })
}

/// The nodes, as far as the user may see them.
async fn nodes(target: &DrillTarget) -> Result<Vec<Node>> {
    match Api::<Node>::all(target.kube.client()).list(&ListParams::default()).await {
        Ok(nodes) => Ok(nodes.items),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Vec::new()),
        Err(error) => Err(error).context("cannot list the nodes"),
    }
}
