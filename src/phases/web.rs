//! The user app. Its pods wait for the database by themselves, so they are started beside it: as soon as the
//! operator has made the Secrets that they mount. Without those the kubelet would try again only after pauses
//! that double each time.

use futures::future::LocalBoxFuture;

use super::{Phase, part};
use crate::{
    assets::Part,
    context::Context,
    database, desired,
    error::Result,
    kube::{self, ObjectRef, wait_ready},
    ui::PhaseId,
};

/// Who sets the first number of pods; from then on it is the autoscaler's.
const FIRST_REPLICAS: &str = "stackctl-first-replicas";

/// Installs the user app, with its Service, HorizontalPodAutoscaler and PodDisruptionBudget.
pub struct Web;

impl Phase for Web {
    fn id(&self) -> PhaseId {
        PhaseId::Web
    }

    fn title(&self) -> String {
        "User app".into()
    }

    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId::Operator, PhaseId::Image]
    }

    fn run<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<String>> {
        Box::pin(async {
            cx.doing(self.id(), "waiting for the database's Secrets");
            let namespace = &cx.config.stack.namespace;
            let secrets = database::app_secrets(&cx.database().await?);
            let secrets = secrets.map(|name| ObjectRef::namespaced("v1", "Secret", namespace, &name));
            wait_ready(cx.kube().await?, &secrets, cx.deadline, &|_| {}).await?;
            let applied = part::apply(cx, self.id(), Part::Web).await?;
            start_with_enough(cx, &applied.created).await?;
            part::wait(cx, self.id(), &applied).await?;
            Ok(part::describe_changes(applied.changed))
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Vec<String>>> {
        Box::pin(part::plan(cx, Part::Web))
    }
}

/// The manifest leaves the number of pods to the autoscaler, which looks every 15 s only: until then a new
/// Deployment would have one.
async fn start_with_enough(cx: &Context, created: &[ObjectRef]) -> Result<()> {
    let Some(deployment) = created.iter().find(|object| object.kind == "Deployment") else { return Ok(()) };
    let objects = desired::embedded(cx, Part::Web).await?;
    let least = objects.iter().find_map(|object| object.data.pointer("/spec/minReplicas")?.as_i64());
    match least {
        Some(least) => kube::scale(cx.kube().await?, deployment, least, FIRST_REPLICAS).await,
        None => Ok(()),
    }
}
