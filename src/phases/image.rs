//! The images of the web app and of the backup sidecar: built from the embedded build contexts, or taken from a bundle, and
//! put where the cluster finds them. Building needs no cluster and runs beside its start.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::future::{LocalBoxFuture, try_join_all};

use super::{Need, Phase};
use crate::{
    assets::{self, ImageContext},
    bundle::cannot_write,
    config::Target,
    context::Context,
    desired::{
        sidecar_image,
        web_image::{placed, reference},
    },
    error::{Result, usage},
    tools::{
        docker,
        image::Identity,
        node::{self, ImageSource},
        profile::{self, Found},
        registry,
    },
    ui::{Event, PhaseId, State},
};

/// What the provider ids of nodes begin with that kind or k3d (k3s) has made.
const OF_KIND: [&str; 2] = ["kind://", "k3s://"];

/// An image that is made from what this binary carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// The web app's.
    Web,
    /// The backup sidecar's.
    Sidecar,
}

impl Own {
    const fn title(self) -> &'static str {
        match self {
            Own::Web => "Web image",
            Own::Sidecar => "Backup sidecar's image",
        }
    }

    /// The image's build context; `None` where this image has no use.
    fn context(self, cx: &Context) -> Result<Option<ImageContext>> {
        match self {
            Own::Web => {
                reference(&cx.config)?;
                Ok(Some(assets::image_context()))
            }
            Own::Sidecar => sidecar_image::context(cx),
        }
    }

    /// The image's name here and in the cluster.
    fn names(self, cx: &Context) -> Result<Option<(String, String)>> {
        Ok(self.context(cx)?.map(|context| {
            let image = context.image();
            (image.clone(), placed(&cx.config, image))
        }))
    }
}

/// Why an image is left out: only the sidecar's can be.
fn unused() -> Need {
    Need::Skip("the plugin's own is used, if any".into())
}

/// Nothing is built where nothing is pushed.
fn mirrored(reference: &str) -> Need {
    Need::Skip(format!("the mirror has it, if bundle push has put it there: {reference}"))
}

/// Makes an image on this machine.
#[derive(Debug)]
pub struct Build(pub Own);

impl Phase for Build {
    fn id(&self) -> PhaseId {
        match self.0 {
            Own::Web => PhaseId::Build,
            Own::Sidecar => PhaseId::SidecarBuild,
        }
    }

    fn title(&self) -> String {
        self.0.title().into()
    }

    fn after(&self) -> &'static [PhaseId] {
        &[PhaseId::Preflight]
    }

    fn needed<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Need>> {
        Box::pin(async move {
            let Some((image, reference)) = self.0.names(cx)? else { return Ok(unused()) };
            if cx.config.built_are_mirrored() {
                return Ok(mirrored(&reference));
            }
            if cx.bundle.as_ref().is_some_and(|bundle| bundle.built_image(&image).is_some()) {
                return Ok(Need::Skip(format!("{image} is in the bundle")));
            }
            Ok(match docker::image(&image).await? {
                Some(_) => Need::Skip(format!("{image} is built")),
                None => Need::Run,
            })
        })
    }

    fn run<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<String>> {
        let what = format!("building the {}", lower(self.0.title()));
        Box::pin(async move {
            let context = self.0.context(cx)?.context("this image has no use")?;
            cx.until_deadline(&what, build(cx, &context, self.id())).await
        })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            let names = self.0.names(cx)?;
            Ok(names
                .iter()
                .map(|(image, _)| format!("docker build --tag {image} from the embedded build context"))
                .collect())
        })
    }
}

/// Builds the image of `context` in this machine's engine.
///
/// # Errors
/// The build's failure.
pub async fn build(cx: &Context, context: &ImageContext, phase: PhaseId) -> Result<String> {
    let image = context.image();
    let folder = tempfile::Builder::new().prefix("stackctl-build-").tempdir();
    let folder = folder.map_err(|error| cannot_write(&std::env::temp_dir(), &error))?;
    context.write_to(folder.path())?;
    cx.doing(phase, format!("building {image}"));
    let timeout = cx.deadline.saturating_duration_since(Instant::now()) + Duration::from_secs(5);
    let builder = context.builder().filter(|_| cx.config.image_mirror.is_some());
    let builder = builder.map(|(argument, image)| (argument, cx.config.upstream_image(image)));
    docker::build(folder.path(), &image, builder.as_slice(), timeout, &mut |line| {
        if line.starts_with("Step ") || line.starts_with('#') {
            cx.doing(phase, format!("building {image}: {line}"));
        }
        cx.reporter.send(Event::Output { phase, line: line.into() });
    })
    .await
    .with_context(|| format!("cannot build {image}"))?;
    Ok(format!("{image} built"))
}

fn lower(title: &str) -> String {
    let mut letters = title.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Puts an image into every node, or into the registry.
#[derive(Debug)]
pub struct Image(pub Own);

impl Phase for Image {
    fn id(&self) -> PhaseId {
        match self.0 {
            Own::Web => PhaseId::Image,
            Own::Sidecar => PhaseId::SidecarImage,
        }
    }

    fn title(&self) -> String {
        format!("{} in the cluster", self.0.title())
    }

    fn after(&self) -> &'static [PhaseId] {
        match self.0 {
            Own::Web => &[PhaseId::Build, PhaseId::Cluster],
            Own::Sidecar => &[PhaseId::SidecarBuild, PhaseId::Cluster],
        }
    }

    fn needed<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Need>> {
        Box::pin(async move {
            let Some((_, image)) = self.0.names(cx)? else { return Ok(unused()) };
            if cx.config.built_are_mirrored() {
                return Ok(mirrored(&image));
            }
            let nodes = match nodes(cx).await? {
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
        let what = format!("bringing the {} into the cluster", lower(self.0.title()));
        Box::pin(async move { cx.until_deadline(&what, bring(cx, self.0, self.id())).await })
    }

    fn plan<'a>(&'a self, cx: &'a Context) -> LocalBoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            let names = self.0.names(cx)?;
            let step = |(_, image): &(String, String)| match cx.config.loads_nodes() {
                true => format!("load {image} into every node"),
                false => format!("docker push {image}"),
            };
            Ok(names.iter().map(step).collect())
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
            .and_then(|bundle| bundle.built_image(image).map(|file| file.path.clone()).map(|p| (bundle, p)))
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
async fn nodes(cx: &Context) -> Result<Option<Vec<String>>> {
    match &cx.config.target {
        Target::Minikube(wanted) => Ok(match profile::read(&profile::minikube_home()?, &wanted.profile)? {
            Found::Profile(profile) => Some(profile.containers()),
            Found::Absent | Found::HalfMade(_) => None,
        }),
        Target::Context(name) if cx.config.loads_nodes() => nodes_of_kind(cx, name).await.map(Some),
        Target::Context(_) => Ok(None),
    }
}

/// The nodes of a cluster of kind or k3d, which are containers of the same names. A context may be called like theirs and be
/// another's: the nodes themselves tell who made them, and this machine's engine whether it has them.
async fn nodes_of_kind(cx: &Context, context: &str) -> Result<Vec<String>> {
    let providers = cx.kube().await?.node_providers().await?;
    let foreign = providers.iter().find(|(_, provider)| !OF_KIND.iter().any(|prefix| provider.starts_with(prefix)));
    let names: Vec<String> = providers.iter().map(|(name, _)| name.clone()).collect();
    let why = match foreign {
        Some((name, provider)) => Some(format!("node {name} is none of kind's or k3d's: its provider is {provider:?}")),
        None => {
            let states = docker::container_states(&names).await?;
            let absent = names.iter().find(|name| !states.contains_key(*name));
            absent.map(|name| format!("node {name} is no container of this machine's engine"))
        }
    };
    match why {
        None => Ok(names),
        Some(why) => {
            Err(usage(format!("context {context} needs a registry that its nodes can pull the web image from: {why}"))
                .remedy("name it: --registry registry.example.com/team")
                .into())
        }
    }
}

async fn bring(cx: &Context, own: Own, phase: PhaseId) -> Result<String> {
    let (image, reference) = own.names(cx)?.context("this image has no use")?;
    match nodes(cx).await? {
        None => push(cx, phase, &image, &reference).await,
        Some(nodes) => load(cx, phase, &image, &nodes).await,
    }
}

async fn load(cx: &Context, phase: PhaseId, image: &str, nodes: &[String]) -> Result<String> {
    let made = BuiltImage::find(cx, image).await?.with_context(|| format!("{image} was not built"))?;
    let source = made.file.as_deref().map_or(ImageSource::Engine, ImageSource::File);
    let loads = nodes.iter().map(|name| {
        let made = &made;
        async move {
            let shown = |state, detail: &str| {
                let resource = format!("{image} in node {name}");
                cx.reporter.send(Event::Resource { phase, resource, state, detail: detail.into() });
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
    cx.doing(phase, format!("loading {image} into {}", count(nodes.len())));
    let loaded: usize = try_join_all(loads).await?.into_iter().sum();
    Ok(format!("{image} loaded into {}", count(loaded)))
}

async fn push(cx: &Context, phase: PhaseId, image: &str, reference: &str) -> Result<String> {
    if docker::image(image).await?.is_none()
        && let Some(BuiltImage { file: Some(file), .. }) = BuiltImage::find(cx, image).await?
    {
        docker::load(&file, Duration::from_secs(300)).await?;
    }
    docker::tag(image, reference).await?;
    cx.doing(phase, format!("pushing {reference}"));
    let timeout = cx.deadline.saturating_duration_since(Instant::now()) + Duration::from_secs(5);
    registry::push(reference, timeout, &mut |line| {
        cx.reporter.send(Event::Output { phase, line: line.into() });
    })
    .await?;
    Ok(format!("{reference} pushed"))
}

fn count(nodes: usize) -> String {
    if nodes == 1 { "1 node".into() } else { format!("{nodes} nodes") }
}
