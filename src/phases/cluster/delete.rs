//! Deleting the minikube cluster so that nothing of it is left, whatever state it is in.

use super::{
    marker,
    remnants::{self, clear},
    state::refuse_foreign,
};
use crate::{
    config::{MinikubeTarget as Wanted, Target},
    context::Context,
    error::{Result, usage},
    tools::profile::{self, Found},
};

/// What [`delete`] would delete, one thing a line; empty when there is nothing of the profile.
///
/// # Errors
/// A profile that is not one of ours, an engine that does not answer, `--context`.
pub async fn deletion_plan(cx: &Context) -> Result<Vec<String>> {
    let wanted = minikube(cx)?;
    refuse_others(wanted)?;
    Ok(remnants::find(cx, &wanted.profile).await?.iter().map(ToString::to_string).collect())
}

/// Deletes the profile with all that belongs to it, and makes sure that nothing is left.
///
/// # Errors
/// As [`deletion_plan`], and what could not be deleted, with minikube's own reason.
pub async fn delete(cx: &Context) -> Result<String> {
    let wanted = minikube(cx)?;
    let profile = &wanted.profile;
    refuse_others(wanted)?;
    if remnants::find(cx, profile).await?.is_empty() {
        marker::clear(cx, wanted);
        return Ok(format!("there is no minikube profile {profile}"));
    }
    clear(cx, wanted).await?;
    Ok(format!("minikube profile {profile} deleted"))
}

fn minikube(cx: &Context) -> Result<&Wanted> {
    match &cx.config.target {
        Target::Minikube(wanted) => Ok(wanted),
        Target::Context(name) => {
            Err(usage(format!("the cluster of context {name} is yours: stackctl does not delete it")).into())
        }
    }
}

fn refuse_others(wanted: &Wanted) -> Result<()> {
    match profile::read(&profile::minikube_home()?, &wanted.profile)? {
        Found::Profile(profile) => refuse_foreign(&profile),
        Found::Absent | Found::HalfMade(_) => Ok(()),
    }
}
