//! metrics-server, on clusters that serve no resource metrics yet.

use futures::future::LocalBoxFuture;

use super::{Need, Phase, part};
use crate::{assets::Part, context::Context, error::Result, kube::metrics::api_service, ui::PhaseId};

/// Installs metrics-server.
pub struct Autoscaling;

impl Phase for Autoscaling {
    fn id(&self) -> PhaseId {
        PhaseId::Autoscaling
    }

    fn title(&self) -> String {
        "metrics-server".into()
    }

    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId::Claim]
    }

    fn needed<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Need>> {
        Box::pin(async {
            let kube = cx.kube().await?;
            if kube.is_confined().await? {
                return Ok(Need::Skip(of_administrators(kube.serves_metrics().await?).into()));
            }
            let Some(service) = kube.get(&api_service()).await? else { return Ok(Need::Run) };
            let labels = service.metadata.labels.unwrap_or_default();
            let ours = labels.get("app.kubernetes.io/managed-by").is_some_and(|manager| manager == "stackctl");
            Ok(if ours { Need::Run } else { Need::Skip("the cluster has its own".into()) })
        })
    }

    fn run<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<String>> {
        Box::pin(async {
            let applied = part::apply(cx, self.id(), Part::Autoscaling).await?;
            part::wait(cx, self.id(), &applied).await?;
            Ok(part::describe_changes(applied.changed))
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Vec<String>>> {
        Box::pin(part::plan(cx, Part::Autoscaling))
    }
}

/// What is said to whoever cannot install it.
const fn of_administrators(is_served: bool) -> &'static str {
    if is_served { "the cluster has its own" } else { "none, and you may not install it: the app is not scaled" }
}
