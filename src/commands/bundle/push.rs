//! `stackctl bundle push`: a bundle's images in a registry.
//!
//! They go through the Docker engine, as those that `up --registry` builds: it has the logins, the credential helpers, the
//! proxies and the certificate authorities that a company's registry asks for, and registries without TLS that somebody
//! has allowed there.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use anyhow::Context as _;

use super::{Task, left, perform};
use crate::{
    bundle::Bundle,
    cli::{Global, PushArgs},
    commands::configured::configured,
    config::{ImageMirror, Options, Target, parse_registry},
    context::Context,
    error::{Result, usage},
    tools::{docker, registry},
    ui::{self, Event, PhaseId, State, Style},
};

const ID: PhaseId = PhaseId::Push;

/// An image on its way.
#[derive(Debug, PartialEq, Eq)]
struct PushedImage {
    /// The file in the bundle.
    file: String,
    /// The image's name in it.
    image: String,
    /// The name in the registry, as `up --image-mirror` asks for it.
    place: String,
}

/// Pushes the images of a bundle to a registry.
///
/// # Errors
/// A name that no registry can have, no bundle or one without images for a registry, or what the engine or the registry says.
pub async fn run(global: &Global, args: &PushArgs, style: Style) -> Result<u8> {
    let registry = parse_registry("--registry", &args.registry)?;
    let config = configured(global, &Options { source: Some(&args.source), ..Options::default() })?;
    let (reporter, screen) = ui::open(style);
    let cx = Context::new(config, reporter)?;
    let outcome = match &cx.bundle {
        Some(bundle) => push_all(&cx, bundle, &registry).await,
        None => Err(usage("no bundle is named").remedy("name it: --bundle DIR").into()),
    };
    screen.close().await;
    outcome.map(|()| 0)
}

async fn push_all(cx: &Context, bundle: &Arc<Bundle>, registry: &str) -> Result<()> {
    let images = images(bundle, registry)?;
    let task = Task {
        phase: ID,
        command: "bundle push",
        target: registry.to_owned(),
        title: format!("Images of the bundle to {registry}"),
        images: images.iter().flat_map(|image| [image.image.clone(), image.place.clone()]).collect(),
        next: (up(cx, bundle, registry), "on a cluster whose nodes reach the registry".into()),
    };
    let work = async {
        load(cx, bundle, &images).await?;
        for image in &images {
            push_one(cx, image).await?;
        }
        Ok(format!("{} images pushed", images.len()))
    };
    perform(cx, task, work).await
}

/// The command that takes the images from there.
fn up(cx: &Context, bundle: &Bundle, registry: &str) -> String {
    let context = if matches!(cx.config.target, Target::Context(_)) { "" } else { " --context NAME" };
    let dir = bundle.dir.display().to_string();
    let command = format!("stackctl up{context} --bundle {} --image-mirror {registry}", ui::quoted(&dir));
    ui::with_target(&command).into_owned()
}

/// What is pushed, and by which names.
fn images(bundle: &Bundle, registry: &str) -> Result<Vec<PushedImage>> {
    let mirror = ImageMirror::at(registry);
    let upstreams = bundle.stack_images()?.iter().map(|file| (file, mirror.place(&file.image)));
    let built = bundle.built_images().map(|file| (file, format!("{registry}/{}", file.image)));
    let pushed = upstreams.chain(built).map(|(file, place)| PushedImage {
        file: file.path.clone(),
        image: file.image.clone(),
        place,
    });
    Ok(pushed.collect())
}

async fn load(cx: &Context, bundle: &Arc<Bundle>, images: &[PushedImage]) -> Result<()> {
    let files: BTreeSet<&str> = images.iter().map(|image| image.file.as_str()).collect();
    for file in files {
        cx.doing(ID, format!("checking {file}"));
        let (bundle, path) = (bundle.clone(), file.to_owned());
        let place: Result<PathBuf> =
            tokio::task::spawn_blocking(move || bundle.verified(&path)).await.context("stopped")?;
        cx.doing(ID, format!("loading {file} into this machine's engine"));
        docker::load(&place?, left(cx)).await?;
    }
    Ok(())
}

async fn push_one(cx: &Context, PushedImage { image, place, .. }: &PushedImage) -> Result<()> {
    let shown = |state, detail: &str| {
        cx.reporter.send(Event::Resource { phase: ID, resource: place.clone(), state, detail: detail.into() });
    };
    docker::tag(image, place).await?;
    cx.doing(ID, format!("pushing {place}"));
    shown(State::Waiting, "pushing");
    registry::push(place, left(cx), &mut |line| {
        cx.reporter.send(Event::Output { phase: ID, line: line.into() });
    })
    .await?;
    shown(State::Ready, "pushed");
    Ok(())
}
