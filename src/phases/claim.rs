//! The stack's namespace, and the lock in it: from here on no other `up` or `down` works on this stack.

use futures::future::BoxFuture;

use super::{Phase, part};
use crate::{assets::Part, context::Context, error::Result, ui::PhaseId};

/// Makes the namespace and takes the lock.
pub struct Claim;

impl Phase for Claim {
    fn id(&self) -> PhaseId {
        PhaseId::Claim
    }

    fn title(&self) -> String {
        "Namespace and lock".into()
    }

    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId::Cluster]
    }

    fn run<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<String>> {
        Box::pin(async {
            let applied = part::apply(cx, self.id(), Part::Base).await?;
            cx.lock().await?;
            Ok(part::describe_changes(applied.changed))
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async {
            let mut steps = part::plan(cx, Part::Base).await?;
            steps.insert(steps.len() - 1, "take the lock, so that no other stackctl works on this stack".into());
            Ok(steps)
        })
    }
}
