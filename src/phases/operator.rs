//! The CloudNativePG operator, until its webhook answers.

use futures::future::LocalBoxFuture;

use super::{Need, Phase, part};
use crate::{assets::Part, context::Context, error::Result, ui::PhaseId};

/// Installs upstream's release manifest.
pub struct Operator;

impl Phase for Operator {
    fn id(&self) -> PhaseId {
        PhaseId::Operator
    }

    fn title(&self) -> String {
        "CloudNativePG operator".into()
    }

    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId::Claim]
    }

    fn needed<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Need>> {
        Box::pin(async {
            let operator = cx.kube().await?.operator().await?;
            Ok(match operator.is_foreign {
                true => Need::Skip(format!("the cluster has its own: {}", operator.describe())),
                false => Need::Run,
            })
        })
    }

    fn run<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<String>> {
        Box::pin(async {
            let applied = part::apply(cx, self.id(), Part::Operator).await?;
            part::wait(cx, self.id(), &applied).await?;
            Ok(part::describe_changes(applied.changed))
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Vec<String>>> {
        Box::pin(part::plan(cx, Part::Operator))
    }
}
