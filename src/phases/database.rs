//! The PostgreSQL cluster: one primary, synchronous standbys.

use futures::future::BoxFuture;

use super::{Phase, common, sidecar};
use crate::{assets::Part, context::Context, database, error::Result, kube::keep_data};

/// Installs the database and waits for every instance.
pub struct Database {
    /// How many instances are asked for; for the title.
    pub instances: u32,
}

impl Phase for Database {
    fn id(&self) -> &'static str {
        "database"
    }

    fn title(&self) -> String {
        format!("PostgreSQL, {} instances", self.instances)
    }

    fn after(&self) -> &'static [&'static str] {
        &["operator", "backup"]
    }

    fn run<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<String>> {
        Box::pin(async {
            // An interrupted `down --keep-data` leaves it stopped and half removed.
            let kube = cx.kube().await?;
            let (namespace, cluster) = (&cx.config.stack.namespace, cx.database().await?);
            keep_data::wake(kube, namespace, &cluster, cx.deadline).await?;
            let mut applied = common::apply(cx, self.id(), Part::Database).await?;
            common::wait(cx, self.id(), &applied).await?;
            if sidecar::settle(cx, self.id(), &cluster).await? {
                applied.ready.clear();
                common::wait(cx, self.id(), &applied).await?;
            }
            let overview = database::Overview::read(kube, namespace, &cluster).await?;
            Ok(format!("{}, {}", overview.describe(), common::changes(applied.changed)))
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(common::plan(cx, Part::Database))
    }
}
