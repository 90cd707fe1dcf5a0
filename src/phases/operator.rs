//! The CloudNativePG operator, until its webhook answers.

use futures::future::BoxFuture;

use super::{Phase, part};
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

    fn run<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<String>> {
        Box::pin(async {
            let applied = part::apply(cx, self.id(), Part::Operator).await?;
            part::wait(cx, self.id(), &applied).await?;
            Ok(part::describe_changes(applied.changed))
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(part::plan(cx, Part::Operator))
    }
}
