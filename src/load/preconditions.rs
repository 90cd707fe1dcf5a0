//! The conditions that must hold before a load is sent: the stack can take it, and the app allows one client so much.

use std::time::Duration;

use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::HorizontalPodAutoscaler,
    core::v1::{EnvVar, PodSpec},
};
use kube::Api;

use super::{LoadPlan, sender};
use crate::{
    context::Context,
    error::{Kind, Result, failed, kind_of, one_line, usage},
    kube::metrics,
    names::{WEB, selector},
    poll,
};

/// The seconds over which the app counts the requests of a client.
const WINDOW: f64 = 10.0;
/// The share of the load that changes something: see `user-app load`.
const WRITES: f64 = 0.1;
/// The time within which new pods must have metrics: they have none for a scrape or two of 15 s.
const FIRST_METRICS: Duration = Duration::from_secs(60);
/// The pause between two questions for the metrics.
const PAUSE: Duration = Duration::from_secs(2);

/// Makes sure that the load can be sent; nothing is changed.
///
/// # Errors
/// The web app or its autoscaler is not there or not ready, another load is being sent, the metrics API is not what it
/// should be, or the rate is more than the app allows one client (exit code 2).
pub async fn ensure_sendable(cx: &Context, plan: &LoadPlan) -> Result<()> {
    let client = cx.kube().await?.client();
    let namespace = &cx.config.stack.namespace;
    let (deployments, autoscalers): (Api<Deployment>, Api<HorizontalPodAutoscaler>) =
        (Api::namespaced(client.clone(), namespace), Api::namespaced(client, namespace));
    let absent = |what: &str| {
        let on = cx.config.target.describe();
        failed(format!("there is no {what} {namespace}/{WEB} on {on}")).remedy("stackctl up installs it")
    };
    let web = deployments.get_opt(WEB).await?.ok_or_else(|| absent("Deployment"))?;
    autoscalers.get_opt(WEB).await?.ok_or_else(|| absent("HorizontalPodAutoscaler"))?;
    if let Some(most) = web.spec.and_then(|spec| spec.template.spec).and_then(|pods| max_rate_of_client(&pods))
        && plan.rate > most
    {
        return Err(usage(format!("--rate {} is more than the app takes from one client: {most}", plan.rate))
            .remedy("a lower --rate; the limits are RATE_LIMIT_READS and RATE_LIMIT_WRITES of the Deployment")
            .into());
    }
    if web.status.and_then(|status| status.ready_replicas).unwrap_or(0) == 0 {
        return Err(failed("no pod of the web app is ready").remedy("stackctl status shows why").into());
    }
    sender::ensure_no_other_load(cx.kube().await?, namespace).await?;
    ensure_metrics_of_pods(cx, namespace).await
}

/// Waits until the metrics API tells what the pods use: the autoscaler sees nothing else.
async fn ensure_metrics_of_pods(cx: &Context, namespace: &str) -> Result<()> {
    let (kube, selector) = (cx.kube().await?, selector(WEB));
    let late = "the metrics API tells nothing of the web app's pods";
    let answers = || async {
        if !metrics::cpu_of_pods(kube, namespace, &selector).await?.is_empty() {
            return Ok(Some(()));
        }
        cx.doing(super::PHASE, "waiting for the first metrics of the pods");
        Ok(None)
    };
    poll::until(FIRST_METRICS, PAUSE, late, answers).await.map_err(|error| match kind_of(&error) {
        // The load is refused, as for every other reason.
        Kind::Timeout => {
            failed(one_line(&error)).remedy("stackctl logs autoscaling; kubectl top pods must list them").into()
        }
        _ => error,
    })
}

/// The requests a second that the app takes from one client at most, by its own settings.
fn max_rate_of_client(pods: &PodSpec) -> Option<f64> {
    let env = pods.containers.first()?.env.as_deref().unwrap_or_default();
    let limit = |name: &str| {
        let found = env.iter().find(|EnvVar { name: found, .. }| found == name)?;
        // 0: no limit.
        found.value.as_ref()?.parse::<f64>().ok().filter(|limit| *limit > 0.0)
    };
    let writes = limit("RATE_LIMIT_WRITES").map(|limit| limit / WINDOW / WRITES);
    let reads = limit("RATE_LIMIT_READS").map(|limit| limit / WINDOW / (1.0 - WRITES));
    [writes, reads].into_iter().flatten().reduce(f64::min).map(f64::floor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrower_limit_decides() {
        let pods = |env: serde_json::Value| -> PodSpec {
            serde_json::from_value(serde_json::json!({"containers": [{"name": "a", "env": env}]})).unwrap()
        };
        let both = |writes: &str, reads: &str| {
            pods(
                serde_json::json!([{"name": "RATE_LIMIT_WRITES", "value": writes}, {"name": "RATE_LIMIT_READS", "value": reads}]),
            )
        };
        assert_eq!(max_rate_of_client(&both("5000", "50000")), Some(5000.0));
        assert_eq!(max_rate_of_client(&both("5000", "9000")), Some(1000.0));
        assert_eq!(max_rate_of_client(&both("0", "9000")), Some(1000.0));
        assert_eq!(max_rate_of_client(&pods(serde_json::json!([]))), None);
    }
}
