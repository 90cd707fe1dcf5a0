//! What each part's objects say of it.

use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{Node, PersistentVolumeClaim, Pod},
};
use kube::{Api, api::ListParams};

use super::{Health, PartHealth};
use crate::{
    address::PublicAddress,
    database,
    error::{Result, is_forbidden},
    kube::{Kube, Readiness, cpu_percent, metrics::api_service, readiness},
    monitoring::MonitoringOverview,
    names::FAILOVER_HELPER,
};

/// A database instance's pod.
pub struct InstancePod {
    pub name: String,
    pub node: Option<String>,
    pub ready: bool,
}

pub async fn cluster(kube: &Kube) -> PartHealth {
    let api: Api<Node> = Api::all(kube.client());
    let all = ListParams::default();
    let (version, nodes) = tokio::join!(kube.version(), api.list(&all));
    let nodes = match nodes {
        Ok(nodes) => nodes.items,
        Err(kube::Error::Api(status)) if status.code == 403 => {
            return Ok((Health::Healthy, format!("Kubernetes {}; you may not look at its nodes", version?)));
        }
        Err(error) => return Err(error.into()),
    };
    let ready = nodes.iter().filter(|node| {
        condition(node.status.as_ref().and_then(|s| s.conditions.as_deref()), |c| (&c.type_, &c.status))
    });
    let ready = ready.count();
    let health = if ready == nodes.len() { Health::Healthy } else { Health::Degraded };
    Ok((health, format!("Kubernetes {}, {ready}/{} nodes ready", version?, nodes.len())))
}

pub async fn operator(kube: &Kube) -> PartHealth {
    let operator = kube.operator().await?;
    if operator.is_hidden {
        return Ok((Health::Healthy, operator.describe()));
    }
    let api: Api<Deployment> = Api::namespaced(kube.client(), &operator.namespace);
    let (health, mut detail) = deployment(api.get_opt(&operator.deployment).await?);
    if operator.is_foreign {
        detail.push_str(&format!(", somebody else's: {}", operator.describe()));
    }
    Ok((health, detail))
}

/// A database without it fails over all the same, only later: nothing is unhealthy for it.
pub async fn failover_helper(kube: &Kube, namespace: &str) -> PartHealth {
    let api: Api<Deployment> = Api::namespaced(kube.client(), namespace);
    Ok(match api.get_opt(FAILOVER_HELPER).await? {
        None => (Health::Healthy, "not installed".into()),
        found => {
            let (health, detail) = deployment(found);
            (health.min(Health::Degraded), detail)
        }
    })
}

pub async fn metrics(kube: &Kube) -> PartHealth {
    let nobody = || (Health::Unhealthy, "nothing serves the metrics API: the autoscaler is blind".into());
    let service = match kube.get(&api_service()).await {
        Ok(Some(service)) => service,
        Ok(None) => return Ok(nobody()),
        Err(error) if is_forbidden(&error) => {
            let served = (Health::Healthy, "the metrics API is served".to_owned());
            return Ok(if kube.serves_metrics().await? { served } else { nobody() });
        }
        Err(error) => return Err(error),
    };
    Ok(match readiness(&service) {
        None | Some(Readiness::Ready(_)) => (Health::Healthy, "the metrics API is served".into()),
        Some(Readiness::Progressing(why)) => (Health::Unhealthy, why),
        Some(Readiness::Failed { reason, message }) => (Health::Unhealthy, format!("{reason}: {message}")),
    })
}

pub async fn web(kube: &Kube, namespace: &str) -> PartHealth {
    let deployments: Api<Deployment> = Api::namespaced(kube.client(), namespace);
    let autoscalers: Api<HorizontalPodAutoscaler> = Api::namespaced(kube.client(), namespace);
    let (app, autoscaler) = tokio::join!(deployments.get_opt("user-app"), autoscalers.get_opt("user-app"));
    let (health, mut detail) = deployment(app?);
    match autoscaler? {
        Some(autoscaler) => detail.push_str(&describe_autoscaler(&autoscaler)),
        None => detail.push_str(", no autoscaler"),
    }
    Ok((health, detail))
}

/// The app's address for the outside; `None` where it has none.
pub async fn address(kube: &Kube, namespace: &str) -> Result<Option<(Health, String)>> {
    let address = PublicAddress::read(kube, namespace).await?;
    Ok(address.map(|address| {
        let health = if address.lack.is_none() { Health::Healthy } else { Health::Degraded };
        (health, address.describe())
    }))
}

pub async fn volumes(kube: &Kube, namespace: &str, cluster: &str) -> PartHealth {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(kube.client(), namespace);
    let selector = ListParams::default().labels(&format!("cnpg.io/cluster={cluster}"));
    let claims = api.list(&selector).await?.items;
    let bound = claims.iter().filter(|claim| claim.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Bound"));
    let bound = bound.count();
    let health = if bound == claims.len() && bound > 0 { Health::Healthy } else { Health::Unhealthy };
    Ok((health, format!("{bound}/{} bound", claims.len())))
}

pub async fn monitoring(kube: &Kube) -> PartHealth {
    let overview = match MonitoringOverview::read(kube).await {
        Err(error) if is_forbidden(&error) => {
            return Ok((Health::Healthy, "the cluster's own, at which you may not look".into()));
        }
        overview => overview?,
    };
    Ok(match overview {
        // It may be left out.
        None => (Health::Healthy, "not installed".into()),
        Some(overview) => {
            let health = if overview.healthy() { Health::Healthy } else { Health::Degraded };
            (health, overview.describe())
        }
    })
}

pub async fn instances(kube: &Kube, namespace: &str, cluster: &str) -> Result<Vec<InstancePod>> {
    let api: Api<Pod> = Api::namespaced(kube.client(), namespace);
    let pods = api.list(&ListParams::default().labels(&database::instances(cluster))).await?.items;
    Ok(pods
        .into_iter()
        .map(|pod| InstancePod {
            ready: condition(pod.status.as_ref().and_then(|s| s.conditions.as_deref()), |c| (&c.type_, &c.status)),
            node: pod.spec.and_then(|spec| spec.node_name),
            name: pod.metadata.name.unwrap_or_default(),
        })
        .collect())
}

/// Whether the `Ready` condition is true; nodes and pods have types of their own for the same thing.
fn condition<C>(conditions: Option<&[C]>, of: impl Fn(&C) -> (&String, &String)) -> bool {
    conditions.unwrap_or_default().iter().map(of).any(|(kind, status)| kind == "Ready" && status == "True")
}

fn deployment(deployment: Option<Deployment>) -> (Health, String) {
    let Some(deployment) = deployment else { return (Health::Unhealthy, "not installed".into()) };
    let status = deployment.status.unwrap_or_default();
    let wanted = deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let available = status.available_replicas.unwrap_or(0);
    let health = match available {
        0 => Health::Unhealthy,
        available if available < wanted => Health::Degraded,
        _ => Health::Healthy,
    };
    (health, format!("{available}/{wanted} pods available"))
}

fn describe_autoscaler(autoscaler: &HorizontalPodAutoscaler) -> String {
    let spec = autoscaler.spec.as_ref();
    let min = spec.and_then(|spec| spec.min_replicas).unwrap_or(1);
    let max = spec.map_or(0, |spec| spec.max_replicas);
    let (current, target) = cpu_percent(autoscaler);
    let shown = |value: Option<i32>| value.map_or_else(|| "unknown".into(), |value| format!("{value} %"));
    format!(", autoscaler {min} to {max}, CPU {} of {}", shown(current), shown(target))
}
