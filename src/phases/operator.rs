//! The CloudNativePG operator, until its webhook answers.

use futures::future::BoxFuture;

use super::{Phase, common};
use crate::{assets::Part, context::Context, error::Result};

/// Installs upstream's release manifest.
pub struct Operator;

impl Phase for Operator {
    fn id(&self) -> &'static str {
        "operator"
    }

    fn title(&self) -> String {
        "CloudNativePG operator".into()
    }

    fn after(&self) -> &'static [&'static str] {
        &["claim"]
    }

    fn run<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<String>> {
        Box::pin(async {
            let applied = common::apply(cx, self.id(), Part::Operator).await?;
            common::wait(cx, self.id(), &applied).await?;
            Ok(common::changes(applied.changed))
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(common::plan(cx, Part::Operator))
    }
}
