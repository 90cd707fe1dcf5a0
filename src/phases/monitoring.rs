//! Prometheus, kube-state-metrics and Grafana. Installed last and not waited for: what users came for is ready before.

use futures::future::BoxFuture;
use kube::core::DynamicObject;

use super::{
    Need, Phase,
    common::{self, holds},
};
use crate::{
    assets::{
        Part,
        monitoring::{GRAFANA_LOGIN, NAMESPACE, PROMETHEUS_OPERATOR, grafana_login},
    },
    cli::Optional,
    context::Context,
    error::Result,
    kube::ObjectRef,
    random,
    ui::Event,
};

const ID: &str = "monitoring";

/// Grafana's component, and what the names of its objects begin with.
const GRAFANA: (&str, &str) = ("grafana", "monitoring-grafana");

/// Installs monitoring.
pub struct Monitoring;

impl Phase for Monitoring {
    fn id(&self) -> &'static str {
        ID
    }

    fn title(&self) -> String {
        "Monitoring".into()
    }

    fn after(&self) -> &'static [&'static str] {
        // Not beside what users wait for: it would take their CPU.
        &["verify"]
    }

    fn needed<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Need>> {
        Box::pin(async move {
            let Reach { ours, operator } = reach(cx).await?;
            Ok(match (ours, operator) {
                (_, true) | (Ok(()), _) => Need::Run,
                (Err(why), false) => Need::Skip(why),
            })
        })
    }

    fn run<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<String>> {
        Box::pin(async {
            if let Err(why) = reach(cx).await?.ours {
                tell(cx, format!("only monitors and rules for the cluster's own Prometheus are installed: {why}"));
            } else if !holds(cx, GRAFANA.0) {
                tell(cx, "Grafana is left out: the bundle does not hold it".into());
            }
            let applied = common::apply(cx, ID, Part::Monitoring).await?;
            Ok(common::changes(applied.changed))
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async {
            let mut steps = Vec::new();
            for object in common::objects(cx, Part::Monitoring).await?.iter().filter(|object| fits(cx, object)) {
                steps.push(format!("apply {}", ObjectRef::of(object)?));
            }
            if holds(cx, GRAFANA.0) {
                steps.push(format!("make Secret {NAMESPACE}/{GRAFANA_LOGIN} with a password, unless it is there"));
            }
            steps.push("not wait until they are ready".into());
            Ok(steps)
        })
    }
}

/// What of monitoring can be installed here.
struct Reach {
    /// Our own, or why not.
    ours: std::result::Result<(), String>,
    /// The cluster has a Prometheus operator.
    operator: bool,
}

async fn reach(cx: &Context) -> Result<Reach> {
    let kube = cx.kube().await?;
    let operator = kube.knows(&format!("{PROMETHEUS_OPERATOR}/v1"), "PodMonitor").await?;
    let missing = ["prometheus", "kube-state-metrics"].into_iter().find(|component| !holds(cx, component));
    if let Some(component) = missing {
        return Ok(Reach { ours: Err(format!("the bundle does not hold {component}")), operator });
    }
    // Its Pod Security level and its labels are its owner's: what runs there might not start again under ours.
    let there = kube.get(&ObjectRef::cluster("v1", "Namespace", NAMESPACE)).await?;
    let labels = there.map(|namespace| namespace.metadata.labels.unwrap_or_default());
    let foreign =
        labels.is_some_and(|labels| labels.get("app.kubernetes.io/managed-by").is_none_or(|by| by != "stackctl"));
    let ours = if foreign {
        Err(format!("the cluster has a namespace {NAMESPACE} that stackctl did not make"))
    } else {
        Ok(())
    };
    Ok(Reach { ours, operator })
}

/// The objects that `up` would apply to this cluster; none when monitoring is left out.
///
/// # Errors
/// The cluster does not answer.
pub async fn objects(cx: &Context) -> Result<Vec<DynamicObject>> {
    if cx.config.without.contains(&Optional::Monitoring) {
        return Ok(Vec::new());
    }
    let Reach { ours, operator } = reach(cx).await?;
    let mut objects = Vec::new();
    for object in common::objects(cx, Part::Monitoring).await? {
        let wanted = if is_operators(&object) { operator } else { ours.is_ok() && fits(cx, &object) };
        if wanted {
            objects.push(object);
        }
    }
    if ours.is_ok() && holds(cx, GRAFANA.0) {
        let login = ObjectRef::namespaced("v1", "Secret", NAMESPACE, GRAFANA_LOGIN);
        let there = cx.kube().await?.get(&login).await?;
        objects.extend(common::labelled(cx, Part::Monitoring, grafana_login(there.as_ref(), password)?)?);
    }
    Ok(objects)
}

/// Whether the image that an object needs is to be had, and its kind without a Prometheus operator.
fn fits(cx: &Context, object: &DynamicObject) -> bool {
    let of_grafana = object.metadata.name.as_deref().is_some_and(|name| name.starts_with(GRAFANA.1));
    !is_operators(object) && (!of_grafana || holds(cx, GRAFANA.0))
}

fn is_operators(object: &DynamicObject) -> bool {
    object.types.as_ref().is_some_and(|types| types.api_version.starts_with(PROMETHEUS_OPERATOR))
}

fn tell(cx: &Context, text: String) {
    cx.reporter.send(Event::Warning { phase: ID.into(), text });
}

/// 20 characters of 64: 120 bits.
fn password() -> Result<String> {
    random::secret("a password for Grafana", random::BASE64URL, 20)
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
