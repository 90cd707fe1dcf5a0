//! The failover helper, which comes in the web app's image.

use futures::future::LocalBoxFuture;

use super::{Phase, part};
use crate::{assets::Part, cli::Optional, context::Context, error::Result, ui::PhaseId};

/// Installs the failover helper, or removes it where it is to be left out.
pub struct FailoverHelper;

impl FailoverHelper {
    fn is_left_out(cx: &Context) -> bool {
        cx.config.without.contains(&Optional::FailoverHelper)
    }
}

impl Phase for FailoverHelper {
    fn id(&self) -> PhaseId {
        PhaseId::FailoverHelper
    }

    fn title(&self) -> String {
        "Failover helper".into()
    }

    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId::Operator, PhaseId::Image]
    }

    fn run<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<String>> {
        Box::pin(async {
            let applied = part::apply(cx, self.id(), Part::FailoverHelper).await?;
            if FailoverHelper::is_left_out(cx) {
                return Ok("left out, as asked".into());
            }
            part::wait(cx, self.id(), &applied).await?;
            Ok(part::describe_changes(applied.changed))
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async {
            if FailoverHelper::is_left_out(cx) { Ok(Vec::new()) } else { part::plan(cx, Part::FailoverHelper).await }
        })
    }
}
