//! Before anything is changed: the checks that could stop `up`.

use futures::future::LocalBoxFuture;

use super::Phase;
use crate::{
    assets,
    checks::{self, Before, Check, Status},
    config::Target,
    context::Context,
    desired::web_image,
    error::{Result, failed},
    tools::profile::{self, Found},
    ui::{Event, PhaseId},
};

const ID: PhaseId = PhaseId::Preflight;

/// Checks what `up` needs.
#[derive(Debug)]
pub struct Preflight;

impl Phase for Preflight {
    fn id(&self) -> PhaseId {
        ID
    }

    fn title(&self) -> String {
        "Preflight checks".into()
    }

    fn after(&self) -> &'static [PhaseId] {
        &[]
    }

    fn run<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<String>> {
        Box::pin(async move {
            // A cluster that the user already has needs a registry; that is known without looking.
            let image = web_image::reference(&cx.config)?;
            refuse_unmirrored(cx, &image)?;
            refuse_without_node(cx)?;
            let findings = checks::run(cx, chosen(cx)?).await;
            for finding in findings.iter().filter(|finding| finding.outcome.status == Status::Warning) {
                let remedies = finding.outcome.remedies.join("; ");
                let text = format!("{}: {} ({remedies})", finding.what, finding.outcome.detail);
                cx.reporter.send(Event::Warning { phase: ID, text });
            }
            match checks::failure(&findings) {
                Some(failure) => Err(failure.into()),
                None => Ok(format!("{} checks passed", findings.len())),
            }
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move { Ok(chosen(cx)?.iter().map(|check| format!("check {}", check.what)).collect()) })
    }
}

/// Refuses to take the web image from a mirror that a bundle without it was pushed to.
fn refuse_unmirrored(cx: &Context, image: &str) -> Result<()> {
    let Some(bundle) = cx.bundle.as_ref().filter(|_| cx.config.built_are_mirrored()) else { return Ok(()) };
    if bundle.built_image(&assets::image_context().image()).is_some() {
        return Ok(());
    }
    Err(failed(format!(
        "{image} is not in the mirror: the bundle {} was made for another stackctl",
        bundle.dir.display()
    ))
    .remedy("use the stackctl and the bundle of one release")
    .remedy("or have the image built and pushed by this one: --registry registry.example.com/team")
    .into())
}

/// Refuses to make a minikube cluster from a bundle that has none of its parts.
fn refuse_without_node(cx: &Context) -> Result<()> {
    let Target::Minikube(wanted) = &cx.config.target else { return Ok(()) };
    let Some(bundle) = cx.bundle.as_ref().filter(|bundle| bundle.component("kicbase").is_none()) else { return Ok(()) };
    if matches!(profile::read(&profile::minikube_home()?, &wanted.profile)?, Found::Profile(_)) {
        return Ok(());
    }
    Err(failed(format!(
        "the bundle {} is for clusters that are there already: it has no node for a minikube cluster",
        bundle.dir.display()
    ))
    .remedy("name the cluster, and where bundle push has put the images: --context NAME --image-mirror REGISTRY/PREFIX")
    .into())
}

fn chosen(cx: &Context) -> Result<Vec<&'static Check>> {
    let when = match &cx.config.target {
        Target::Context(_) => Before::Foreign,
        Target::Minikube(wanted) => match profile::read(&profile::minikube_home()?, &wanted.profile)? {
            Found::Profile(_) => Before::Always,
            Found::Absent | Found::HalfMade(_) => Before::Making,
        },
    };
    Ok(checks::all().filter(|check| check.before == Before::Always || check.before == when).collect())
}
