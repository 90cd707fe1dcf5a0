//! The stack's namespace, and the lock in it: from here on no other `up` or `down` works on this stack.

use futures::future::BoxFuture;

use super::{Phase, common};
use crate::{assets::Part, context::Context, error::Result};

/// Makes the namespace and takes the lock.
pub struct Claim;

impl Phase for Claim {
    fn id(&self) -> &'static str {
        "claim"
    }

    fn title(&self) -> String {
        "Namespace and lock".into()
    }

    fn after(&self) -> &'static [&'static str] {
        &["cluster"]
    }

    fn run<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<String>> {
        Box::pin(async {
            let applied = common::apply(cx, self.id(), Part::Base).await?;
            cx.lock().await?;
            Ok(common::changes(applied.changed))
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async {
            let mut steps = common::plan(cx, Part::Base).await?;
            steps.insert(steps.len() - 1, "take the lock, so that no other stackctl works on this stack".into());
            Ok(steps)
        })
    }
}
