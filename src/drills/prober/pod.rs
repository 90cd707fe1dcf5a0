//! The prober's pod: the web app's own image, credentials and restrictions, with another command.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Affinity, EnvVar, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec},
};
use kube::{
    api::{DeleteParams, ObjectMeta},
    runtime::{conditions::is_pod_running, wait::await_condition},
};

use stackctl_protocol::probe;

use crate::{
    drills::target::DrillTarget,
    error::{Result, failed, timed_out},
    kube::{post_params, request_failure},
    names::{APP_NAME, DRILL_MANAGER, WEB},
    poll,
};

/// The pod's name.
pub const NAME: &str = "stackctl-drill-prober";
/// The time within which the pod must run, and go.
const PATIENCE: Duration = Duration::from_secs(60);
/// The seconds after which the pod ends by itself, if nothing else ends it.
const LIFETIME: i64 = 3600;

/// Starts the prober, not on the nodes of `avoid`, and waits until it runs.
///
/// # Errors
/// There is no web app to take the image from, or the pod does not run within a minute.
pub async fn start(target: &DrillTarget, avoid: &[String]) -> Result<()> {
    let web = target.api::<Deployment>().get_opt(WEB).await?;
    let template = web.and_then(|web| web.spec?.template.spec);
    let template = template.ok_or_else(|| failed("there is no web app in the stack").remedy("stackctl up"))?;
    let pods = target.api::<Pod>();
    delete(target).await?;
    let labels = [(APP_NAME, NAME), ("app.kubernetes.io/component", "drill")];
    let pod = Pod {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        spec: Some(target.kube.fit_pod(&target.namespace, spec(template, avoid)?).await?),
        ..Pod::default()
    };
    pods.create(&post_params(DRILL_MANAGER), &pod)
        .await
        .map_err(|error| request_failure(&error, "start the prober"))?;
    let running = tokio::time::timeout(PATIENCE, await_condition(pods, NAME, is_pod_running())).await;
    running
        .map_err(|_| timed_out(format!("the prober's pod {NAME} does not run after {} s", PATIENCE.as_secs())))??;
    Ok(())
}

/// The prober's pod, from the one of the web app: its first container with another command.
fn spec(mut spec: PodSpec, avoid: &[String]) -> Result<PodSpec> {
    let mut container = spec.containers.into_iter().next().context("the web app has no container")?;
    container.name = "prober".into();
    container.args = Some(vec![probe::COMMAND.into()]);
    let web = EnvVar { name: probe::WEB_VARIABLE.into(), value: Some(format!("{WEB}:80")), ..EnvVar::default() };
    container.env.get_or_insert_default().push(web);
    (container.ports, container.lifecycle) = (None, None);
    (container.liveness_probe, container.readiness_probe, container.startup_probe) = (None, None, None);
    // The app's limits are for serving; the prober keeps what is not confirmed, which an outage makes more.
    container.resources = None;
    spec.containers = vec![container];
    (spec.init_containers, spec.topology_spread_constraints) = (None, None);
    spec.affinity = (!avoid.is_empty()).then(|| other_nodes_than(avoid));
    spec.restart_policy = Some("Never".into());
    spec.active_deadline_seconds = Some(LIFETIME);
    spec.termination_grace_period_seconds = Some(1);
    Ok(spec)
}

/// The affinity to every node but `nodes`.
fn other_nodes_than(nodes: &[String]) -> Affinity {
    let not = NodeSelectorRequirement {
        key: "kubernetes.io/hostname".into(),
        operator: "NotIn".into(),
        values: Some(nodes.to_vec()),
    };
    let term = NodeSelectorTerm { match_expressions: Some(vec![not]), ..NodeSelectorTerm::default() };
    let selector = NodeSelector { node_selector_terms: vec![term] };
    let required = Some(selector);
    let nodes =
        NodeAffinity { required_during_scheduling_ignored_during_execution: required, ..NodeAffinity::default() };
    Affinity { node_affinity: Some(nodes), ..Affinity::default() }
}

/// Removes the prober, if there is one, and waits until it is gone.
///
/// # Errors
/// The pod does not go within a minute.
pub async fn delete(target: &DrillTarget) -> Result<()> {
    let pods = target.api::<Pod>();
    let params = DeleteParams { grace_period_seconds: Some(1), ..DeleteParams::default() };
    match pods.delete(NAME, &params).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        Err(error) => return Err(error).context("cannot remove the prober"),
    }
    poll::until(PATIENCE, Duration::from_millis(300), "the prober's pod does not go", || async {
        Ok(pods.get_opt(NAME).await?.is_none().then_some(()))
    })
    .await
}
