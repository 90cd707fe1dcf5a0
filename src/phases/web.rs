//! The user app.

use futures::future::BoxFuture;

use super::{Phase, common};
use crate::{assets::Part, context::Context, error::Result};

/// Installs the user app, with its Service, HorizontalPodAutoscaler and PodDisruptionBudget.
pub struct Web;

impl Phase for Web {
    fn id(&self) -> &'static str {
        "web"
    }

    fn title(&self) -> String {
        "User app".into()
    }

    fn after(&self) -> &'static [&'static str] {
        &["database", "image"]
    }

    fn run<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<String>> {
        Box::pin(async {
            let applied = common::apply(cx, self.id(), Part::Web).await?;
            common::wait(cx, self.id(), &applied.refs).await?;
            Ok(common::changes(applied.changed))
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(common::plan(cx, Part::Web))
    }
}
