//! Prometheus, kube-state-metrics and Grafana. Installed last and not waited for: what users came for is ready before.

use futures::future::LocalBoxFuture;

use super::{Need, Phase, part};
use crate::{
    assets::{
        Part,
        monitoring::{GRAFANA_LOGIN, NAMESPACE},
    },
    context::Context,
    desired::{
        self, bundle_has_image,
        monitoring::{GRAFANA, Installable, can_be_installed, installable},
        picked_up, pull_secret,
    },
    error::Result,
    kube::ObjectRef,
    ui::{Event, PhaseId},
};

const ID: PhaseId = PhaseId::Monitoring;

/// Installs monitoring.
pub struct Monitoring;

impl Phase for Monitoring {
    fn id(&self) -> PhaseId {
        ID
    }

    fn title(&self) -> String {
        "Monitoring".into()
    }

    fn after(&self) -> &'static [PhaseId] {
        // Not beside what users wait for: it would take their CPU.
        &[PhaseId::Verify]
    }

    fn needed<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Need>> {
        Box::pin(async move {
            let Installable { ours, operator } = installable(cx).await?;
            Ok(match (ours, operator) {
                (_, true) | (Ok(()), _) => Need::Run,
                (Err(why), false) => Need::Skip(why),
            })
        })
    }

    fn run<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<String>> {
        Box::pin(async {
            let Installable { ours, operator } = installable(cx).await?;
            if let Err(why) = &ours {
                tell(cx, format!("only monitors and rules for the cluster's own Prometheus are installed: {why}"));
            } else if !bundle_has_image(cx, GRAFANA.0) {
                tell(cx, "Grafana is left out: the bundle does not hold it".into());
            }
            if operator {
                let mut objects = desired::embedded(cx, Part::Monitoring).await?;
                picked_up::label(cx, &mut objects).await?.into_iter().for_each(|missed| tell(cx, missed));
            }
            if ours.is_ok() {
                desired::volumes::grow_prometheus(cx).await?;
            }
            let applied = part::apply(cx, ID, Part::Monitoring).await?;
            Ok(part::describe_changes(applied.changed))
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async {
            let mut steps = Vec::new();
            let objects = desired::embedded(cx, Part::Monitoring).await?;
            for object in objects.iter().filter(|object| can_be_installed(cx, object)) {
                steps.push(format!("apply {}", ObjectRef::of(object)?));
            }
            steps.extend(pull_secret::plan(cx, Part::Monitoring, &objects));
            if bundle_has_image(cx, GRAFANA.0) {
                steps.push(format!("make Secret {NAMESPACE}/{GRAFANA_LOGIN} with a password, unless it is there"));
            }
            steps.push("not wait until they are ready".into());
            Ok(steps)
        })
    }
}

fn tell(cx: &Context, text: String) {
    cx.reporter.send(Event::Warning { phase: ID, text });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::Reporter;

    #[tokio::test]
    async fn a_plan_without_a_cluster_names_no_kind_that_most_clusters_lack() {
        let steps = Monitoring.plan(&Context::for_tests(Reporter::discard())).await.unwrap();
        assert!(steps.iter().any(|step| step == "apply StatefulSet monitoring/monitoring-prometheus"), "{steps:?}");
        assert!(steps.iter().any(|step| step.contains("monitoring-grafana-admin")), "{steps:?}");
        assert!(!steps.iter().any(|step| step.contains("PodMonitor")), "{steps:?}");
    }
}
