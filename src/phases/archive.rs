//! The first segment of the log in the store: from then on the archive is known to work. A store that does not is a
//! warning, not a failure: the database serves without it.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;

use super::{Need, Phase, backup, common};
use crate::{
    backup::{STORE, recovery, restored},
    config::BackupStore,
    context::Context,
    database::CLUSTER,
    error::{Result, one_line},
    kube::{ObjectRef, wait_ready},
    ui::Event,
};

const ID: &str = "archive";
/// How long the store is given to start.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// Has the database archive its log, unless it does.
pub struct Archive;

impl Phase for Archive {
    fn id(&self) -> &'static str {
        ID
    }

    fn title(&self) -> String {
        "Archive of the log".into()
    }

    fn after(&self) -> &'static [&'static str] {
        &["database"]
    }

    fn needed<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<Need>> {
        Box::pin(async {
            if backup::wanted(cx).is_none() {
                return Ok(Need::Skip("there are no backups".into()));
            }
            let cluster = restored::reference(&cx.config.stack.namespace, CLUSTER);
            let archives = cx.kube().await?.get(&cluster).await?.is_some_and(|found| {
                let conditions = found.data.pointer("/status/conditions").and_then(|all| all.as_array());
                conditions
                    .into_iter()
                    .flatten()
                    .any(|one| one["type"] == "ContinuousArchiving" && one["status"] == "True")
            });
            Ok(if archives { Need::Skip("it works".into()) } else { Need::Run })
        })
    }

    fn run<'a>(&'a self, cx: &'a Context) -> BoxFuture<'a, Result<String>> {
        Box::pin(async {
            match first(cx).await {
                Ok(()) => Ok("the first segment is in the store".into()),
                Err(error) => {
                    let text =
                        format!("the log is not archived yet, the database serves all the same: {}", one_line(&error));
                    cx.reporter.send(Event::Warning { phase: ID.into(), text });
                    Ok("not yet".into())
                }
            }
        })
    }

    fn plan<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async { Ok(vec!["have the database archive a segment of its log, and wait for it".into()]) })
    }
}

async fn first(cx: &Context) -> Result<()> {
    if backup::wanted(cx).is_some_and(|backup| matches!(backup.store, BackupStore::InCluster { .. })) {
        let store = ObjectRef::namespaced("apps/v1", "StatefulSet", &cx.config.stack.namespace, STORE);
        let deadline = cx.deadline.min(Instant::now() + READY_WITHIN);
        wait_ready(cx.kube().await?, &[store], deadline, &common::observer(&cx.reporter, ID)).await?;
    }
    recovery::archive_now(cx, ID).await
}
