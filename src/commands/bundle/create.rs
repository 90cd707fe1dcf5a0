//! `stackctl bundle create`: upstream's images and manifests in a folder, for clusters that are there already and have no
//! network. What minikube needs for a cluster of its own is not in it.

use std::path::Path;

use anyhow::Context as _;

use super::{Task, left, perform};
use crate::{
    assets::{self, Component, ImageContext},
    bundle::{BundleDraft, BundledComponent, ImageFile},
    cli::{CreateArgs, Global},
    config::{Config, ImageMirror, Options},
    context::Context,
    desired::sidecar_image,
    error::Result,
    fetch,
    phases::image,
    tools::{docker, registry},
    ui::{self, Event, PhaseId, State, Style},
};

const ID: PhaseId = PhaseId::Bundle;
/// The file with the images of upstream's.
const STACK_IMAGES: &str = "images/stack.tar";

/// Makes a bundle.
///
/// # Errors
/// A folder that holds something, a name that no mirror can have, or what the engine or the network says.
pub async fn run(global: &Global, args: &CreateArgs, style: Style) -> Result<u8> {
    let mut config = Config::load(global, &Options::default())?;
    // What an earlier up took from elsewhere is of no concern here.
    config.bundle = None;
    config.image_mirror = args.image_mirror.as_deref().map(ImageMirror::parse).transpose()?;
    let (reporter, screen) = ui::open(style);
    let cx = Context::new(config, reporter)?;
    let outcome = create(&cx, &args.dir).await;
    screen.close().await;
    outcome.map(|()| 0)
}

async fn create(cx: &Context, dir: &Path) -> Result<()> {
    let pinned = assets::components()?;
    let mut draft = BundleDraft::new(dir, &pinned.kubernetes.version)?;
    let upstreams: Vec<(String, String)> = pinned
        .components
        .iter()
        .filter_map(|component| Some((component.image.clone()?, cx.config.upstream_image(&component.pinned_image()?))))
        .collect();
    let dir = ui::quoted(&dir.display().to_string()).into_owned();
    let task = Task {
        phase: ID,
        command: "bundle create",
        target: dir.clone(),
        title: "Bundle of upstream's images".into(),
        images: upstreams.iter().flat_map(|(image, place)| [image.clone(), place.clone()]).collect(),
        next: (
            format!("stackctl bundle push --bundle {dir} --registry REGISTRY/PREFIX"),
            "where the registry is in reach".into(),
        ),
    };
    let work = async {
        for component in &pinned.components {
            add_component(cx, &mut draft, component).await?;
        }
        for (image, place) in &upstreams {
            pull(cx, image, place).await?;
        }
        let images: Vec<String> = upstreams.iter().map(|(image, _)| image.clone()).collect();
        save(cx, &mut draft, STACK_IMAGES, &images).await?;
        draft.add_stack_images(STACK_IMAGES, &images);
        let web = built(cx, &mut draft, "images/user-app.tar", &assets::image_context()).await?;
        let base = pinned.get(sidecar_image::COMPONENT).and_then(|component| component.image.as_deref());
        let sidecar = assets::sidecar_context(base.context("the sidecar's image is not pinned")?)?;
        let sidecar = built(cx, &mut draft, "images/backup-sidecar.tar", &sidecar).await?;
        draft.set_built_images(web, sidecar);
        let place = tokio::task::spawn_blocking(|| draft.finish()).await.context("stopped")??;
        Ok(format!("{} images in {}", images.len() + 2, place.display()))
    };
    perform(cx, task, work).await
}

async fn add_component(cx: &Context, draft: &mut BundleDraft, component: &Component) -> Result<()> {
    let Some(image) = &component.image else { return Ok(()) };
    let mut manifest = None;
    if let Some(upstreams) = &component.manifest {
        cx.doing(ID, format!("fetching {}", upstreams.url));
        let fetched = fetch::fetch(&cx.config.folders.cache, &upstreams.url, &upstreams.sha256, |_, _| {}).await?;
        let path = format!("manifests/{}-{}.yaml", component.name, component.version);
        let place = draft.place(&path)?;
        std::fs::copy(&fetched, &place).with_context(|| format!("cannot write {}", place.display()))?;
        draft.add_file(&path)?;
        manifest = Some(path);
    }
    draft.add_component(BundledComponent {
        name: component.name.clone(),
        version: component.version.clone(),
        image: Some(image.clone()),
        manifest,
        source: Some("upstream".into()),
    });
    Ok(())
}

/// Pulls an image from `place`, by its digest, and gives it the name that upstream has it under: what is saved is found by
/// that name, and a registry that gets it has another digest, as one platform is saved.
async fn pull(cx: &Context, image: &str, place: &str) -> Result<()> {
    let shown = |state, detail: &str| {
        cx.reporter.send(Event::Resource { phase: ID, resource: place.to_owned(), state, detail: detail.into() });
    };
    cx.doing(ID, format!("pulling {place}"));
    shown(State::Waiting, "pulling");
    registry::pull(place, left(cx), &mut |line| {
        cx.reporter.send(Event::Output { phase: ID, line: line.into() });
    })
    .await?;
    if image != place {
        docker::tag(place, image).await?;
    }
    shown(State::Ready, "pulled");
    Ok(())
}

/// Builds an image unless the engine has it, and saves it.
async fn built(cx: &Context, draft: &mut BundleDraft, path: &str, context: &ImageContext) -> Result<ImageFile> {
    let name = context.image();
    if docker::image(&name).await?.is_none() {
        image::build(cx, context, ID).await?;
    }
    save(cx, draft, path, std::slice::from_ref(&name)).await?;
    Ok(ImageFile { path: path.into(), image: name })
}

async fn save(cx: &Context, draft: &mut BundleDraft, path: &str, images: &[String]) -> Result<()> {
    cx.doing(ID, format!("saving {path}"));
    docker::save_to(images, &draft.place(path)?, left(cx)).await?;
    cx.doing(ID, format!("summing {path}"));
    tokio::task::block_in_place(|| draft.add_file(path))
}
