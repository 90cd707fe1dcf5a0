//! What the user may do, and what a user of one namespace needs to find in the cluster.

use super::{CheckOutcome, not_yet};
use crate::{
    assets::monitoring::NAMESPACE,
    config::{Entrance, IMAGE_MIRROR_FLAG},
    context::Context,
    desired::backup::wanted,
    error::Result,
    kube::{Right, cnpg},
    names::{OPERATOR_NAMESPACE, PRIORITY_CLASS},
};

/// Whether the user may do what `up` does. Who may install nothing of the whole cluster has to find it there.
///
/// # Errors
/// The API server does not answer.
pub async fn permissions(cx: &Context) -> Result<CheckOutcome> {
    if let Some(skipped) = not_yet(cx)? {
        return Ok(skipped);
    }
    let kube = cx.kube().await?;
    let namespace = cx.config.stack.namespace.as_str();
    let in_cluster = kube.lacking_in_cluster().await?;
    let is_confined = !in_cluster.is_empty();
    let mut rights: Vec<Right> =
        IN_NAMESPACE.map(|(verb, group, resource)| in_namespace(verb, group, resource, namespace)).into();
    match cx.config.address.as_ref().map(|address| &address.entrance) {
        Some(Entrance::Ingress { .. }) => {
            rights.push(in_namespace("patch", "networking.k8s.io", "ingresses", namespace));
        }
        Some(Entrance::Gateway { .. }) => {
            rights.push(in_namespace("patch", "gateway.networking.k8s.io", "httproutes", namespace));
        }
        None => {}
    }
    if !is_confined {
        rights.push(in_namespace("patch", "apps", "statefulsets", NAMESPACE));
        if cx.config.stack.pull_secret.is_some() {
            let others = [OPERATOR_NAMESPACE, NAMESPACE, "kube-system"];
            rights.extend(others.map(|other| in_namespace("patch", "", "secrets", other)));
        }
        if cx.config.stack.priority_class.as_deref() == Some(PRIORITY_CLASS) {
            let (group, resource) = ("scheduling.k8s.io", PRIORITY_CLASSES);
            rights.push(Right { verb: "patch", group, resource, namespace: None });
        }
    }
    let lacking = kube.lacking(&rights).await?;
    let mut lacks = Vec::new();
    if !lacking.is_empty() {
        lacks.push(format!("you may not {}", all_shown(&lacking)));
    }
    if is_confined {
        lacks.extend(unprepared(cx).await?);
    }
    Ok(match (lacks.as_slice(), is_confined) {
        ([], false) => CheckOutcome::ok("all that are needed"),
        ([], true) => CheckOutcome::ok(format!(
            "all that are needed in namespace {namespace}; what is of the whole cluster is its administrators'"
        )),
        (_, false) => {
            let failed = CheckOutcome::failed(lacks.join("; "))
                .remedy("use credentials that may (cluster-admin has every right), or let an administrator run stackctl up");
            match lacking.iter().all(|right| right.resource == PRIORITY_CLASSES) {
                true => failed.remedy("or do without that class: stackctl up --priority-class none"),
                false => failed,
            }
        }
        (_, true) => CheckOutcome::failed(format!(
            "you may not {}, and so install nothing of the whole cluster; {}",
            all_shown(&in_cluster),
            lacks.join("; ")
        ))
            .remedy(format!("have an administrator of the cluster prepare it: {}", preparation(cx)))
            .remedy(format!(
                "and have him give you the role: kubectl -n {namespace} create rolebinding stackctl --clusterrole admin --user YOU"
            )),
    })
}

/// The command by which an administrator applies what a stack of this configuration needs of the whole cluster.
fn preparation(cx: &Context) -> String {
    let config = &cx.config;
    let mirror = config.image_mirror.as_ref().map(|mirror| format!(" {IMAGE_MIRROR_FLAG} {mirror}"));
    let registry = config.registry.as_ref().map(|registry| format!(" --registry {registry}"));
    format!(
        "stackctl --context {} --namespace {} render --scope cluster{}{} | kubectl apply --server-side -f -",
        config.target.context(),
        config.stack.namespace,
        mirror.unwrap_or_default(),
        registry.unwrap_or_default()
    )
}

/// What has to be in the cluster for a stack of whoever may install nothing there, and is not.
async fn unprepared(cx: &Context) -> Result<Option<String>> {
    let kube = cx.kube().await?;
    let mut missing = Vec::new();
    if !kube.knows(cnpg::API_VERSION, "Cluster").await? {
        missing.push("the databases of CloudNativePG");
    }
    if wanted(cx).is_some() && !kube.knows("barmancloud.cnpg.io/v1", "ObjectStore").await? {
        missing.push("the places for backups of its barman-cloud plugin");
    }
    if !kube.serves_metrics().await? {
        missing.push("the metrics of pods");
    }
    Ok((!missing.is_empty()).then(|| format!("the cluster lacks {}", missing.join(", "))))
}

const PRIORITY_CLASSES: &str = "priorityclasses";

/// What `up` does in the stack's namespace.
const IN_NAMESPACE: [(&str, &str, &str); 15] = [
    ("patch", "apps", "deployments"),
    ("patch", "", "services"),
    ("patch", "", "configmaps"),
    ("get", "", "secrets"),
    ("patch", "", "secrets"),
    ("patch", "rbac.authorization.k8s.io", "roles"),
    ("patch", "autoscaling", "horizontalpodautoscalers"),
    ("patch", "policy", "poddisruptionbudgets"),
    ("patch", "coordination.k8s.io", "leases"),
    ("create", "", "pods/exec"),
    ("patch", "postgresql.cnpg.io", "clusters"),
    ("patch", "barmancloud.cnpg.io", "objectstores"),
    ("patch", "", "persistentvolumeclaims"),
    ("create", "batch", "jobs"),
    ("patch", "networking.k8s.io", "networkpolicies"),
];

const fn in_namespace<'a>(verb: &'a str, group: &'a str, resource: &'a str, namespace: &'a str) -> Right<'a> {
    Right { verb, group, resource, namespace: Some(namespace) }
}

fn all_shown(rights: &[Right]) -> String {
    rights.iter().map(shown).collect::<Vec<_>>().join(", ")
}

fn shown(right: &Right) -> String {
    let group = if right.group.is_empty() { String::new() } else { format!(".{}", right.group) };
    let place = right.namespace.map(|name| format!(" in {name}")).unwrap_or_default();
    format!("{} {}{group}{place}", right.verb, right.resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_read_well() {
        let right = Right { verb: "patch", group: "apps", resource: "deployments", namespace: Some("user-app") };
        assert_eq!(shown(&right), "patch deployments.apps in user-app");
        assert_eq!(shown(&Right { group: "", namespace: None, ..right }), "patch deployments");
    }
}
