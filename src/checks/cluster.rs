//! What the cluster has to have.

use futures::FutureExt;

use super::{Before, Category, Check, CheckOutcome, check, not_yet, permissions};
use crate::{
    config::Target,
    context::Context,
    desired::{address, pull_secret, room::lack_of_room},
    error::{Result, one_line},
    kube::{DeadWebhook, ObjectRef, Readiness, readiness},
    leftovers::Leftovers,
    monitoring::{FULL_REMEDY, MonitoringOverview},
    names::{FAILOVER_HELPER, MONITORING_NAMESPACE},
};

/// The oldest Kubernetes that the stack's parts support.
const OLDEST_KUBERNETES: (u32, u32) = (1, 33);

const API: Option<&str> = Some("api");

const CLUSTER: Category = Category::Cluster;

/// The API groups of the kinds that `up` writes, and of those that are made of them.
const WRITTEN_GROUPS: [&str; 15] = [
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "autoscaling",
    "barmancloud.cnpg.io",
    "batch",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "monitoring.coreos.com",
    "networking.k8s.io",
    "policy",
    "postgresql.cnpg.io",
    "rbac.authorization.k8s.io",
];

/// The checks, in the order in which they are shown.
pub const CHECKS: &[Check] = &[
    check(CLUSTER, "api", "Kubernetes API", Before::Foreign, None, |cx| api(cx).boxed()),
    check(CLUSTER, "nodes", "nodes", Before::Never, API, |cx| nodes(cx).boxed()),
    check(CLUSTER, "room", "room on the nodes", Before::Never, API, |cx| room(cx).boxed()),
    check(CLUSTER, "permissions", "permissions", Before::Foreign, API, |cx| permissions::permissions(cx).boxed()),
    check(CLUSTER, "pull-secret", "pull secret", Before::Foreign, API, |cx| pull_secret(cx).boxed()),
    check(CLUSTER, "address", "address", Before::Always, API, |cx| address(cx).boxed()),
    check(CLUSTER, "storage", "storage class", Before::Foreign, API, |cx| storage(cx).boxed()),
    check(CLUSTER, "metrics", "metrics API", Before::Never, API, |cx| metrics(cx).boxed()),
    check(CLUSTER, "monitoring", "monitoring", Before::Never, API, |cx| monitoring(cx).boxed()),
    check(CLUSTER, "failover-helper", "failover helper", Before::Never, API, |cx| failover_helper(cx).boxed()),
    check(CLUSTER, "drill", "interrupted drill", Before::Never, API, |cx| leftovers(cx).boxed()),
    check(CLUSTER, "webhooks", "admission webhooks", Before::Foreign, API, |cx| webhooks(cx).boxed()),
];

async fn leftovers(cx: &Context) -> Result<CheckOutcome> {
    if let Some(outcome) = not_yet(cx)? {
        return Ok(outcome);
    }
    let left = Leftovers::read(cx.kube().await?, &cx.config.stack.namespace, &cx.database().await?).await?;
    Ok(match left.describe() {
        Some(told) => CheckOutcome::failed(told).remedy("stackctl up"),
        None => CheckOutcome::ok("none, and no instance is fenced"),
    })
}

async fn api(cx: &Context) -> Result<CheckOutcome> {
    if let Some(skipped) = not_yet(cx)? {
        return Ok(skipped);
    }
    let kube = match (cx.kube().await, &cx.config.target) {
        (Ok(kube), _) => kube,
        (Err(error), Target::Minikube(_)) => return Ok(CheckOutcome::from(error).remedy("stackctl up starts it")),
        (Err(error), Target::Context(_)) => return Err(error),
    };
    Ok(judge_version(&kube.version().await?, kube.server()))
}

fn judge_version(version: &str, server: &str) -> CheckOutcome {
    let mut numbers = version.trim_start_matches('v').split('.').map(|part| {
        // Some providers write the minor version as `33+`.
        part.trim_end_matches('+').parse::<u32>().unwrap_or(0)
    });
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let detail = format!("{version} at {server}");
    if found >= OLDEST_KUBERNETES {
        return CheckOutcome::ok(detail);
    }
    let (major, minor) = OLDEST_KUBERNETES;
    CheckOutcome::failed(format!("Kubernetes {detail} is too old: {major}.{minor} or newer is needed"))
        .remedy("upgrade the cluster, or use another one: --context NAME")
}

async fn nodes(cx: &Context) -> Result<CheckOutcome> {
    if let Some(skipped) = not_yet(cx)? {
        return Ok(skipped);
    }
    let nodes = cx.kube().await?.nodes().await?;
    let unready: Vec<&str> = nodes.iter().filter(|(_, ready)| !ready).map(|(name, _)| name.as_str()).collect();
    if unready.is_empty() {
        return Ok(CheckOutcome::ok(format!("{} ready", nodes.len())));
    }
    Ok(CheckOutcome::failed(format!("not ready: {}", unready.join(", ")))
        .remedy(format!("kubectl describe node {} shows why", unready[0])))
}

async fn room(cx: &Context) -> Result<CheckOutcome> {
    if let Some(skipped) = not_yet(cx)? {
        return Ok(skipped);
    }
    Ok(match lack_of_room(cx).await {
        Ok(Some(lack)) => CheckOutcome::from(anyhow::Error::from(lack)),
        Ok(None) => CheckOutcome::ok("enough for what is not there yet"),
        // It cannot be told.
        Err(error) => CheckOutcome::skipped(one_line(&error)),
    })
}

async fn pull_secret(cx: &Context) -> Result<CheckOutcome> {
    let Some(name) = &cx.config.stack.pull_secret else { return Ok(CheckOutcome::skipped("none is asked for")) };
    if let Some(skipped) = not_yet(cx)? {
        return Ok(skipped);
    }
    Ok(match pull_secret::lack(cx).await? {
        Some(lack) => CheckOutcome::from(anyhow::Error::from(lack)),
        None => CheckOutcome::ok(name),
    })
}

async fn address(cx: &Context) -> Result<CheckOutcome> {
    if cx.config.address.is_none() {
        return Ok(CheckOutcome::skipped("none is asked for"));
    }
    if not_yet(cx)?.is_some() {
        return Ok(CheckOutcome::failed("--host needs an ingress controller, and the cluster is still to be made")
            .remedy("stackctl up without --host makes it; install an ingress controller there, then use --host"));
    }
    // A cluster of minikube's may have been stopped: then it is asked once it runs, and nothing was changed until then.
    if matches!(cx.config.target, Target::Minikube(_)) && cx.kube().await.is_err() {
        return Ok(CheckOutcome::skipped("told as soon as the cluster answers"));
    }
    Ok(address::check(cx).await?.map_or_else(|| CheckOutcome::skipped("none is asked for"), CheckOutcome::ok))
}

async fn storage(cx: &Context) -> Result<CheckOutcome> {
    if let Some(skipped) = not_yet(cx)? {
        return Ok(skipped);
    }
    let kube = cx.kube().await?;
    if let Some(name) = &cx.config.stack.storage_class {
        let class = ObjectRef {
            api_version: "storage.k8s.io/v1".into(),
            kind: "StorageClass".into(),
            namespace: None,
            name: name.clone(),
        };
        return Ok(match kube.get(&class).await? {
            Some(_) => CheckOutcome::ok(name),
            None => CheckOutcome::failed(format!("there is no StorageClass {name}"))
                .remedy("kubectl get storageclass lists those there are"),
        });
    }
    Ok(match kube.default_storage_class().await? {
        Some(name) => CheckOutcome::ok(format!("{name} is the default")),
        None => CheckOutcome::failed("the cluster has no default StorageClass: the database would get no volumes")
            .remedy("name one: --storage-class NAME (kubectl get storageclass lists them)"),
    })
}

async fn metrics(cx: &Context) -> Result<CheckOutcome> {
    if let Some(skipped) = not_yet(cx)? {
        return Ok(skipped);
    }
    Ok(match cx.kube().await?.api_service("v1beta1.metrics.k8s.io").await? {
        None => CheckOutcome::skipped("not there: stackctl up installs it"),
        Some((true, _)) => CheckOutcome::ok("it answers"),
        Some((false, why)) => CheckOutcome::failed(format!("it does not answer: {why}"))
            .remedy("kubectl -n kube-system logs deployment/metrics-server shows why"),
    })
}

async fn monitoring(cx: &Context) -> Result<CheckOutcome> {
    if let Some(skipped) = not_yet(cx)? {
        return Ok(skipped);
    }
    let Some(overview) = MonitoringOverview::read(cx.kube().await?).await? else {
        return Ok(CheckOutcome::skipped(
            "not installed: stackctl up installs it, unless it is told --without monitoring",
        ));
    };
    let detail = overview.describe();
    if overview.storage.is_some() {
        return Ok(CheckOutcome::failed(detail).remedy(FULL_REMEDY));
    }
    let Some(part) = overview.waiting.first() else { return Ok(CheckOutcome::ok(detail)) };
    // It starts after everything else, and nothing that users need depends on it.
    Ok(CheckOutcome::warning(part.why.clone())
        .remedy(format!("wait a minute; then stackctl logs {} says why", part.name)))
}

async fn failover_helper(cx: &Context) -> Result<CheckOutcome> {
    if let Some(skipped) = not_yet(cx)? {
        return Ok(skipped);
    }
    let deployment = ObjectRef::namespaced("apps/v1", "Deployment", &cx.config.stack.namespace, FAILOVER_HELPER);
    let Some(found) = cx.kube().await?.get(&deployment).await? else {
        return Ok(CheckOutcome::skipped(
            "not installed: stackctl up installs it, unless it is told --without failover-helper",
        ));
    };
    Ok(match readiness(&found) {
        None | Some(Readiness::Ready(_)) => CheckOutcome::ok("it watches"),
        Some(Readiness::Progressing(why) | Readiness::Failed { message: why, .. }) => {
            CheckOutcome::warning(format!("{why}: a failover takes as long as the operator needs"))
                .remedy("stackctl logs failover-helper says why")
        }
    })
}

async fn webhooks(cx: &Context) -> Result<CheckOutcome> {
    if let Some(skipped) = not_yet(cx)? {
        return Ok(skipped);
    }
    let operator = &cx.kube().await?.operator().await?.namespace;
    let namespaces = [&cx.config.stack.namespace, operator, MONITORING_NAMESPACE, "kube-system"];
    let dead = cx.kube().await?.dead_webhooks(&WRITTEN_GROUPS, &namespaces).await?;
    let named = |all: &[&DeadWebhook]| {
        let all: Vec<String> =
            all.iter().map(|one| format!("{} (Service {})", one.configuration, one.service)).collect();
        all.join(", ")
    };
    let (in_the_way, others): (Vec<&DeadWebhook>, Vec<&DeadWebhook>) = dead.iter().partition(|one| one.concerns_us);
    let Some(first) = in_the_way.first() else {
        return Ok(match others.as_slice() {
            [] => CheckOutcome::ok("all answer"),
            others => {
                CheckOutcome::ok(format!("nobody answers for {}, which watches nothing of this stack", named(others)))
            }
        });
    };
    let namespace = first.service.split('/').next().unwrap_or(&first.service);
    Ok(CheckOutcome::failed(format!("nobody answers for {}: what they watch cannot be written", named(&in_the_way)))
        .remedy(format!("kubectl -n {namespace} get pods shows whose pods are not ready"))
        .remedy(format!("or, if its owner is gone, delete the webhook configuration {}", first.configuration)))
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};

    #[test]
    fn versions_are_judged_also_those_of_providers() {
        for (version, status) in [
            ("v1.35.4", Status::Ok),
            ("v1.33.0-eks-abc", Status::Ok),
            ("v1.33+.1", Status::Ok),
            ("v1.32.9", Status::Failed),
            ("v2.0.0", Status::Ok),
            ("unknown", Status::Failed),
        ] {
            assert_eq!(judge_version(version, "https://x").status, status, "{version}");
        }
    }
}
