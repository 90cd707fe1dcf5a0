//! The web app's image: built from the embedded build context, or taken from a bundle, and put where the
//! cluster finds it. Building needs no cluster and runs beside its start.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::future::{LocalBoxFuture, try_join_all};

use super::{Need, Phase};
use crate::{
    assets,
    bundle::cannot_write,
    config::Target,
    context::Context,
    desired::web_image::reference,
    error::Result,
    tools::{
        docker,
        image::Identity,
        node::{self, ImageSource},
        profile::{self, Found},
    },
    ui::{Event, PhaseId, State},
};

/// Makes the image on this machine.
#[derive(Debug)]
pub struct Build;

impl Phase for Build {
    fn id(&self) -> PhaseId {
        PhaseId::Build
    }

    fn title(&self) -> String {
        "Web image".into()
    }

    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId::Preflight]
    }

    fn needed<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Need>> {
        Box::pin(async move {
            reference(&cx.config)?;
            let image = assets::image_context().image();
            if cx.bundle.as_ref().is_some_and(|bundle| bundle.web_image(&image).is_some()) {
                return Ok(Need::Skip(format!("{image} is in the bundle")));
            }
            Ok(match docker::image(&image).await? {
                Some(_) => Need::Skip(format!("{image} is built")),
                None => Need::Run,
            })
        })
    }

    fn run<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<String>> {
        Box::pin(cx.until_deadline("building the web image", build(cx)))
    }

    fn plan<'a>(&'a self, _: &'a Context) -> LocalBoxFuture<'a, Result<Vec<String>>> {
        let image = assets::image_context().image();
        Box::pin(async move { Ok(vec![format!("docker build --tag {image} from the embedded build context")]) })
    }
}

async fn build(cx: &Context) -> Result<String> {
    let context = assets::image_context();
    let image = context.image();
    let folder = tempfile::Builder::new().prefix("stackctl-build-").tempdir();
    let folder = folder.map_err(|error| cannot_write(&std::env::temp_dir(), &error))?;
    context.write_to(folder.path())?;
    cx.doing(PhaseId::Build, format!("building {image}"));
    let timeout = cx.deadline.saturating_duration_since(Instant::now()) + Duration::from_secs(5);
    docker::build(folder.path(), &image, timeout, &mut |line| {
        if line.starts_with("Step ") || line.starts_with('#') {
            cx.doing(PhaseId::Build, format!("building {image}: {line}"));
        }
        cx.reporter.send(Event::Output { phase: PhaseId::Build, line: line.into() });
    })
    .await
    .with_context(|| format!("cannot build {image}"))?;
    Ok(format!("{image} built"))
}

/// Puts the image into every node, or into the registry.
#[derive(Debug)]
pub struct Image;

impl Phase for Image {
    fn id(&self) -> PhaseId {
        PhaseId::Image
    }

    fn title(&self) -> String {
        "Web image in the cluster".into()
    }

    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId::Build, PhaseId::Cluster]
    }

    fn needed<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Need>> {
        Box::pin(async move {
            let image = reference(&cx.config)?;
            let nodes = match nodes(cx)? {
                Some(nodes) if !nodes.is_empty() => nodes,
                // Whether a registry still has an image is known by pushing it: what it has is not sent again.
                _ => return Ok(Need::Run),
            };
            let Some(made) = BuiltImage::find(cx, &image).await? else { return Ok(Need::Run) };
            let there = try_join_all(nodes.iter().map(|name| node::image(name, &image))).await?;
            let all = there.iter().all(|there| there.as_ref() == Some(&made.identity));
            Ok(if all { Need::Skip(format!("{image} is in {}", count(nodes.len()))) } else { Need::Run })
        })
    }

    fn run<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<String>> {
        Box::pin(cx.until_deadline("bringing the web image into the cluster", bring(cx)))
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            let image = reference(&cx.config)?;
            Ok(vec![match &cx.config.target {
                Target::Minikube(_) => format!("load {image} into every node"),
                Target::Context(_) => format!("docker push {image}"),
            }])
        })
    }
}

/// The image as it is on this machine.
struct BuiltImage {
    identity: Identity,
    file: Option<PathBuf>,
}

impl BuiltImage {
    async fn find(cx: &Context, image: &str) -> Result<Option<BuiltImage>> {
        let Some((bundle, path)) = cx
            .bundle
            .clone()
            .and_then(|bundle| bundle.web_image(image).map(|file| file.path.clone()).map(|p| (bundle, p)))
        else {
            return Ok(docker::image(image).await?.map(|identity| BuiltImage { identity, file: None }));
        };
        let image = image.to_owned();
        let read = move || {
            let file = bundle.verified(&path)?;
            Ok(Some(BuiltImage { identity: Identity::of_saved_image(&file, &image)?, file: Some(file) }))
        };
        tokio::task::spawn_blocking(read).await.context("stopped")?
    }
}

/// The nodes to load images into; `None`: not ours to load into.
fn nodes(cx: &Context) -> Result<Option<Vec<String>>> {
    let Target::Minikube(wanted) = &cx.config.target else { return Ok(None) };
    Ok(match profile::read(&profile::minikube_home()?, &wanted.profile)? {
        Found::Profile(profile) => Some(profile.containers()),
        Found::Absent | Found::HalfMade(_) => None,
    })
}

async fn bring(cx: &Context) -> Result<String> {
    let image = reference(&cx.config)?;
    match nodes(cx)? {
        None => push(cx, &image).await,
        Some(nodes) => load(cx, &image, &nodes).await,
    }
}

async fn load(cx: &Context, image: &str, nodes: &[String]) -> Result<String> {
    let made = BuiltImage::find(cx, image).await?.with_context(|| format!("{image} was not built"))?;
    let source = made.file.as_deref().map_or(ImageSource::Engine, ImageSource::File);
    let loads = nodes.iter().map(|name| {
        let made = &made;
        async move {
            let shown = |state, detail: &str| {
                let resource = format!("{image} in node {name}");
                cx.reporter.send(Event::Resource { phase: PhaseId::Image, resource, state, detail: detail.into() });
            };
            if node::image(name, image).await?.as_ref() == Some(&made.identity) {
                shown(State::Unchanged, "");
                return Ok::<_, anyhow::Error>(0);
            }
            shown(State::Waiting, "loading");
            node::load(name, image, source, &made.identity).await?;
            shown(State::Ready, "loaded");
            Ok(1)
        }
    });
    cx.doing(PhaseId::Image, format!("loading {image} into {}", count(nodes.len())));
    let loaded: usize = try_join_all(loads).await?.into_iter().sum();
    Ok(format!("{image} loaded into {}", count(loaded)))
}

async fn push(cx: &Context, reference: &str) -> Result<String> {
    let image = assets::image_context().image();
    if docker::image(&image).await?.is_none()
        && let Some(BuiltImage { file: Some(file), .. }) = BuiltImage::find(cx, &image).await?
    {
        docker::load(&file, Duration::from_secs(300)).await?;
    }
    docker::tag(&image, reference).await?;
    cx.doing(PhaseId::Image, format!("pushing {reference}"));
    let timeout = cx.deadline.saturating_duration_since(Instant::now()) + Duration::from_secs(5);
    docker::push(reference, timeout, &mut |line| {
        cx.reporter.send(Event::Output { phase: PhaseId::Image, line: line.into() });
    })
    .await?;
    Ok(format!("{reference} pushed"))
}

fn count(nodes: usize) -> String {
    if nodes == 1 { "1 node".into() } else { format!("{nodes} nodes") }
}
