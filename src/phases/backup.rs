//! Backups: the plugin that the database's Cluster names, and the store. They come before the database, which the
//! operator leaves alone while it names a plugin that does not answer; the store itself need not be ready by then.

use std::time::{Duration, Instant};

use futures::future::LocalBoxFuture;

use super::{Need, Phase, bucket, part};
use crate::{
    assets::Part,
    backup::{STORE, secrets::Side},
    config::BackupStore,
    context::Context,
    desired::backup::{describe, wanted},
    error::Result,
    kube::ObjectRef,
    names::{OPERATOR_NAMESPACE, PULL_SECRET_COPY},
    poll,
    ui::{Event, PhaseId},
};

const ID: PhaseId = PhaseId::Backup;
/// The operator's phase runs beside this one and makes the namespace first of all.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Installs the plugin and the store.
pub struct Backups;

impl Phase for Backups {
    fn id(&self) -> PhaseId {
        ID
    }

    fn title(&self) -> String {
        "Backups".into()
    }

    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId::Claim, PhaseId::SidecarImage]
    }

    fn needed<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Need>> {
        let asked = cx.config.backup.is_some();
        Box::pin(async move { Ok(if asked { Need::Run } else { Need::Skip("as asked".into()) }) })
    }

    fn run<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<String>> {
        Box::pin(async {
            let Some(backup) = wanted(cx) else {
                let text = "backups are left out: the bundle does not hold what they need".into();
                cx.reporter.send(Event::Warning { phase: ID, text });
                return Ok("left out".into());
            };
            bucket::check_secret(cx, backup).await?;
            let moved = bucket::is_new(cx).await?;
            let operator = cx.kube().await?.operator().await?;
            if !operator.is_hidden {
                namespace(cx).await?;
            }
            let mut applied = part::apply(cx, ID, Part::Backup).await?;
            // The store need not be ready by then; a plugin of somebody else's is waited for all the same.
            let plugin = operator.plugin_reference();
            applied.refs = if operator.is_hidden { Vec::new() } else { vec![plugin.clone()] };
            applied.ready.retain(|(object, _)| *object == plugin);
            part::wait(cx, ID, &applied).await?;
            bucket::check_for_another(cx).await?;
            if moved {
                bucket::begin_anew(cx).await?;
            }
            Ok(format!("{}, {}", describe(backup), part::describe_changes(applied.changed)))
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async {
            let mut steps = part::plan(cx, Part::Backup).await?;
            let wait = steps.pop();
            if let Some(backup) = wanted(cx).filter(|backup| matches!(backup.store, BackupStore::Bucket { .. })) {
                steps.insert(0, format!("ask whether {} can be used, if it is new to the stack", describe(backup)));
            }
            for side in Side::ALL {
                let namespace = cx.known_operator().map_or(OPERATOR_NAMESPACE, |operator| &operator.namespace);
                steps.push(format!("make {}, unless it is there", side.reference(namespace)));
            }
            if wanted(cx).is_some_and(|backup| matches!(backup.store, BackupStore::InCluster { .. })) {
                let namespace = &cx.config.stack.namespace;
                steps.push(format!("make Secret {namespace}/{STORE} with credentials, unless it is there"));
            }
            steps.extend(wait);
            Ok(steps)
        })
    }
}

/// Waits for the operator's namespace and, if one is asked for, for the Secret in it by which the plugin's image may be pulled:
/// without it a registry's refusal would pass for the last word.
async fn namespace(cx: &Context) -> Result<()> {
    let operator = cx.kube().await?.operator().await?;
    let awaited = match cx.config.stack.pull_secret {
        Some(_) if !operator.is_foreign => ObjectRef::namespaced("v1", "Secret", &operator.namespace, PULL_SECRET_COPY),
        _ => ObjectRef::cluster("v1", "Namespace", &operator.namespace),
    };
    let limit = cx.deadline.saturating_duration_since(Instant::now());
    poll::until(limit, LOOK_EVERY, &format!("{awaited}, which is the operator's part, does not appear"), || async {
        cx.doing(ID, format!("waiting for {awaited}"));
        Ok(cx.kube().await?.get(&awaited).await?.map(drop))
    })
    .await
}
