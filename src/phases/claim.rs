//! The stack's namespace, and the lock in it: from here on no other `up` or `down` works on this stack.

use anyhow::Context as _;
use futures::future::LocalBoxFuture;

use super::{Need, Phase, cluster, part};
use crate::{
    assets::{self, Part},
    config::Target,
    context::Context,
    desired::{address, origin::Origin, priority, pull_secret, room::lack_of_room, rules, volumes::unfit_volume},
    error::{Failure, Result, one_line},
    kube::operator::Version,
    ui::{Event, PhaseId},
};

/// Makes the namespace and takes the lock.
pub struct Claim {
    /// What is done first of all under the lock. The command gives it: what a drill has left is undone here, and phases
    /// know nothing of drills.
    pub first: fn(&Context) -> LocalBoxFuture<'_, Result<()>>,
}

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

    /// Always, unless the cluster is one that cannot have the stack. Where the cluster is still to be made nobody asks.
    fn needed<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Need>> {
        Box::pin(async {
            refuse_foreign_operator(cx).await?;
            // On a minikube cluster this is the first moment at which it can be there.
            if let Some(lack) = pull_secret::lack(cx).await? {
                return Err(lack.into());
            }
            address::check(cx).await?;
            if let Some(lack) = priority::lack(cx).await? {
                return Err(lack.into());
            }
            refuse_downgrade(cx).await?;
            tell_changed_origin(cx).await?;
            refuse(unfit_volume(cx).await)?;
            refuse(rules::refusal(cx).await)?;
            refuse_without_room(cx).await?;
            Ok(Need::Run)
        })
    }

    fn run<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<String>> {
        Box::pin(async {
            let applied = part::apply(cx, self.id(), Part::Base).await?;
            cx.lock().await?;
            // Once more: a newer stackctl may have been at work until the lock was free.
            refuse_downgrade(cx).await?;
            cluster::keep_choices(cx, self.id());
            (self.first)(cx).await?;
            cx.inventory().await?.note_origin(&Origin::of(cx)?.note()?).await?;
            Ok(part::describe_changes(applied.changed))
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async {
            let mut steps = part::plan(cx, Part::Base).await?;
            steps.insert(steps.len() - 1, "take the lock, so that no other stackctl works on this stack".into());
            Ok(steps)
        })
    }
}

/// Refuses a stack that a newer stackctl made, unless that was asked for.
async fn refuse_downgrade(cx: &Context) -> Result<()> {
    let there = made_by(cx).await?;
    let refusal = match there {
        Some(there) if !cx.config.allow_downgrade => Origin::of(cx)?.too_old_for(&there),
        _ => None,
    };
    refusal.map_or(Ok(()), |refusal| Err(refusal.into()))
}

/// Tells what this run changes of the stack because it takes it from another source.
async fn tell_changed_origin(cx: &Context) -> Result<()> {
    let Some(there) = made_by(cx).await? else { return Ok(()) };
    let ours = Origin::of(cx)?;
    let changes = ours.changes_from(&there);
    if ours.source != there.source && !changes.is_empty() {
        let text = format!("the stack came from {}; from {} come: {}", there.source, ours.source, changes.join(", "));
        cx.reporter.send(Event::Warning { phase: PhaseId::Claim, text });
    }
    Ok(())
}

/// Refuses what cannot be, as far as that can be told.
fn refuse(found: Result<Option<Failure>>) -> Result<()> {
    match found {
        Ok(Some(failure)) => Err(failure.into()),
        Ok(None) => Ok(()),
        // Whatever is in the way of telling it is told by the phase that needs it.
        Err(error) => {
            tracing::debug!("whether the cluster allows it cannot be told: {}", one_line(&error));
            Ok(())
        }
    }
}

/// Refuses a cluster that cannot hold the stack. One that is not ours may grow by itself: there it is told.
async fn refuse_without_room(cx: &Context) -> Result<()> {
    let lack = match lack_of_room(cx).await {
        Ok(Some(lack)) => lack,
        Ok(None) => return Ok(()),
        // Whatever is in the way of telling it is told by the phase that needs it.
        Err(error) => {
            tracing::debug!("whether there is room cannot be told: {}", one_line(&error));
            return Ok(());
        }
    };
    if matches!(cx.config.target, Target::Minikube(_)) {
        return Err(lack.into());
    }
    let text = format!("{lack} (unless the cluster grows by itself)");
    cx.reporter.send(Event::Warning { phase: PhaseId::Claim, text });
    Ok(())
}

async fn made_by(cx: &Context) -> Result<Option<Origin>> {
    Ok(cx.inventory().await?.origin().as_deref().and_then(Origin::parse))
}

/// Looks, before anything is changed, whether the cluster has an operator of somebody else's that cannot serve the stack.
async fn refuse_foreign_operator(cx: &Context) -> Result<()> {
    let components = assets::components()?;
    let pinned = components.get("cnpg-operator").and_then(|one| Version::parse(&one.version));
    let pinned = pinned.context("the operator's pinned version cannot be read")?;
    let kube = cx.kube().await?;
    let operator = kube.operator().await?;
    match operator.unfit(&cx.config.stack.namespace, pinned) {
        Some(refusal) => Err(refusal.into()),
        None => operator.refuse_remnants(kube).await,
    }
}
