//! Before anything is changed: the checks that could stop `up`.

use futures::future::LocalBoxFuture;

use super::Phase;
use crate::{
    checks::{self, Before, Check, Status},
    config::Target,
    context::Context,
    desired::web_image,
    error::Result,
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
            web_image::reference(&cx.config)?;
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
