//! The number of a workload's pods, and what an autoscaler goes by.

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, MetricSpec, MetricStatus};
use kube::api::Patch;
use serde_json::json;

use super::{Kube, ObjectRef, merge_params};
use crate::error::Result;

/// Sets how many pods a workload has, through its scale subresource. `manager` is written down as the one that
/// set it; applying the workload without `spec.replicas` leaves the number alone.
///
/// # Errors
/// The object is not there or cannot be scaled; the server's refusal.
pub async fn scale(kube: &Kube, object: &ObjectRef, replicas: i64, manager: &str) -> Result<()> {
    let api = kube.api(object).await?;
    let params = merge_params(manager);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    kube.call(&format!("scale {object}"), || api.patch_scale(&object.name, &params, &patch)).await?;
    Ok(())
}

/// The CPU that an autoscaler sees and aims at, in percent of what the pods, or the one container that it goes by, request.
pub fn cpu_percent(autoscaler: &HorizontalPodAutoscaler) -> (Option<i32>, Option<i32>) {
    let current = |metric: &MetricStatus| {
        let container = metric.container_resource.as_ref().map(|resource| &resource.current);
        container.or(metric.resource.as_ref().map(|resource| &resource.current))?.average_utilization
    };
    let target = |metric: &MetricSpec| {
        let container = metric.container_resource.as_ref().map(|resource| &resource.target);
        container.or(metric.resource.as_ref().map(|resource| &resource.target))?.average_utilization
    };
    let status = autoscaler.status.as_ref().and_then(|status| status.current_metrics.as_ref()?.first());
    let spec = autoscaler.spec.as_ref().and_then(|spec| spec.metrics.as_ref()?.first());
    (status.and_then(current), spec.and_then(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_autoscaler_goes_by_one_container_or_by_the_whole_pod() {
        for kind in ["resource", "containerResource"] {
            let of = |what: &str, value| json!([{"type": "x", kind: {"name": "cpu", "container": "c", what: value}}]);
            let autoscaler = json!({
                "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"},
                    "metrics": of("target", json!({"type": "Utilization", "averageUtilization": 70}))},
                "status": {"conditions": [], "desiredReplicas": 2,
                    "currentMetrics": of("current", json!({"averageUtilization": 5}))},
            });
            let autoscaler = serde_json::from_value(autoscaler).unwrap();
            assert_eq!(cpu_percent(&autoscaler), (Some(5), Some(70)), "{kind}");
        }
        assert_eq!(cpu_percent(&HorizontalPodAutoscaler::default()), (None, None));
    }
}
