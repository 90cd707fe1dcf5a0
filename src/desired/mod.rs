//! What should be in the cluster: the embedded and upstream's own manifests with the user's settings, completed by what
//! the cluster has already.

pub mod address;
pub mod backup;
mod current;
pub mod major;
pub mod monitoring;
mod network;
mod operator;
pub mod origin;
pub mod picked_up;
pub mod priority;
pub mod pull_secret;
pub mod render;
pub mod room;
pub mod rules;
pub mod scope;
pub mod sidecar_image;
mod sizes;
mod user_ids;
pub mod volumes;
pub mod web_image;
mod zones;

use anyhow::Context as _;
use kube::core::DynamicObject;

use current::of_cluster;
pub use current::patch_to_follow;
use major::KeptImage;
use render::{Images, render};

use crate::{
    assets::{self, Part},
    backup::restored,
    cli::Optional,
    context::Context,
    database,
    error::{Result, failed},
    fetch,
    kube::ObjectRef,
    names::DATABASE,
    part::Scope,
};

/// The images by the names that manifests use: pinned or the bundle's, by the names that the mirror has them under, or made
/// from what this binary carries.
///
/// # Errors
/// Only if an embedded file is broken.
pub fn images(cx: &Context) -> Result<Images> {
    let pinned = assets::components()?;
    let image = |name: &str| {
        let of_bundle = || cx.bundle.as_ref()?.component(name)?.image.clone();
        let image = of_bundle().or_else(|| pinned.get(name)?.pinned_image())?;
        Some(cx.config.upstream_image(&image))
    };
    let images = Images::new(&pinned, image, web_image::name(&cx.config));
    Ok(match sidecar_image::context(cx)? {
        Some(context) => images.with(sidecar_image::COMPONENT, web_image::placed(&cx.config, context.image())),
        None => images,
    })
}

/// The objects of `part` as the manifests have them, ready to apply; nothing is asked of the cluster.
///
/// # Errors
/// Upstream's manifest can be neither found in the bundle nor fetched.
pub async fn embedded(cx: &Context, part: Part) -> Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    let wanted = backup::wanted(cx);
    match part {
        Part::Operator => {
            objects.extend(assets::parse(&release_manifest(cx, "cnpg-operator").await?, "the operator's manifest")?);
        }
        Part::Backup if wanted.is_some() => {
            let text = release_manifest(cx, "plugin-barman-cloud").await?;
            objects.extend(backup::upstream(assets::parse(&text, "the plugin's manifest")?));
        }
        _ => {}
    }
    let mut ours = part.embedded()?;
    of_cluster(&mut ours, &cx.known_database());
    objects.extend(ours);
    address::add(part, &mut objects, cx.config.address.as_ref())?;
    let stack = &cx.config.stack;
    let mut objects = render(part, objects, stack, &images(cx)?);
    backup::finish(part, &mut objects, wanted, stack.storage_class.as_deref());
    network::finish(network::are_wanted(cx), wanted, &mut objects);
    if user_ids::are_asked_to_be_left_out(&cx.config) {
        user_ids::leave_out(&mut objects);
    }
    place(cx, part, &mut objects);
    Ok(objects)
}

/// The objects of `part` that should be in this cluster: those of the manifests, completed by what depends on the cluster
/// that there is, such as what it has a use for and Secrets that are made once and then kept.
///
/// # Errors
/// Upstream's manifest can be neither found in the bundle nor fetched, or the cluster does not answer.
pub async fn desired(cx: &Context, part: Part) -> Result<Vec<DynamicObject>> {
    // Which database the manifests are about, and which operator.
    cx.inventory().await?;
    let kube = cx.kube().await?;
    kube.operator().await?;
    kube.policy_enforcer(&cx.config.stack.namespace).await?;
    let mut objects = match part {
        Part::FailoverHelper if cx.config.without.contains(&Optional::FailoverHelper) => Vec::new(),
        Part::Database => database_objects(cx).await?,
        Part::Backup => backup::objects(cx).await?,
        Part::Monitoring => monitoring::objects(cx).await?,
        Part::Restored => restored_clusters(cx).await?,
        _ => embedded(cx, part).await?,
    };
    address::complete(cx, part, &mut objects).await?;
    if cx.kube().await?.is_confined().await? {
        scope::retain(&mut objects, Scope::Namespace, &cx.config.stack.namespace);
    }
    pull_secret::add_copies(cx, part, &mut objects).await?;
    if part != Part::Restored {
        rules::fit(cx, &mut objects).await?;
        zones::spread(cx, &mut objects).await;
        operator::double(cx, part, &mut objects).await;
        network::complete(cx, part, &mut objects).await;
        if cx.kube().await?.gives_user_ids() {
            user_ids::leave_out(&mut objects);
        }
    }
    Ok(objects)
}

async fn database_objects(cx: &Context) -> Result<Vec<DynamicObject>> {
    refuse_lost(cx).await?;
    let mut objects = embedded(cx, Part::Database).await?;
    for object in &mut objects {
        let reference = ObjectRef::of(object)?;
        if reference.kind == "Cluster"
            && let Some(live) = cx.kube().await?.get(&reference).await?
        {
            if reference.name != DATABASE {
                restored::keep_origin(object, &live);
            }
            if let Some(kept) = KeptImage::of(object, &live) {
                kept.put_into(object);
            }
        }
    }
    Ok(objects)
}

/// Refuses to make a database anew that took the place of a former one: under its name there would be an empty one.
async fn refuse_lost(cx: &Context) -> Result<()> {
    let (kube, namespace, name) = (cx.kube().await?, &cx.config.stack.namespace, cx.database().await?);
    if name == DATABASE || database::is_there(kube, namespace, &name).await? {
        return Ok(());
    }
    Err(failed(format!(
        "the database {name}, which the app uses, is gone with its volumes: it is not made anew, empty"
    ))
    .remedy("stackctl restore brings back what its backups hold (stackctl backup list shows them)")
    .remedy("or begin with an empty one: stackctl down, then stackctl up")
    .into())
}

/// The restored Clusters of the inventory, which are wanted as they are.
async fn restored_clusters(cx: &Context) -> Result<Vec<DynamicObject>> {
    let (kube, inventory) = (cx.kube().await?, cx.inventory().await?);
    let mut objects = Vec::new();
    for entry in inventory.entries(Part::Restored.name()) {
        let Some(mut object) = kube.get(&entry.object).await? else { continue };
        // Fields that no manifest may have.
        object.metadata.managed_fields = None;
        object.metadata.resource_version = None;
        object.data = serde_json::json!({"spec": object.data["spec"]});
        objects.push(object);
    }
    Ok(objects)
}

/// The objects to apply for one that is in no manifest, as one of `part`.
///
/// # Errors
/// Only if an embedded file is broken.
pub fn labelled(cx: &Context, part: Part, object: DynamicObject) -> Result<Vec<DynamicObject>> {
    let mut objects = render(part, vec![object], &cx.config.stack, &images(cx)?);
    place(cx, part, &mut objects);
    Ok(objects)
}

/// Puts the objects where the operator is, as far as it is known.
fn place(cx: &Context, part: Part, objects: &mut Vec<DynamicObject>) {
    if let Some(there) = cx.known_operator() {
        operator::adapt(part, objects, there);
    }
}

/// Whether the image of `component` is to be had: from the bundle, or without one from its registry.
pub fn bundle_has_image(cx: &Context, component: &str) -> bool {
    cx.bundle.as_ref().is_none_or(|bundle| bundle.component(component).is_some_and(|found| found.image.is_some()))
}

/// The text of a component's own release manifest: from the bundle, or downloaded once and cached; verified either way.
async fn release_manifest(cx: &Context, component: &str) -> Result<String> {
    let path = match &cx.bundle {
        Some(bundle) => {
            let manifest = bundle.component(component).and_then(|component| component.manifest.as_deref());
            bundle.verified(manifest.with_context(|| format!("the bundle has no manifest of {component}"))?)?
        }
        None => {
            let components = assets::components()?;
            let manifest = components.get(component).and_then(|component| component.manifest.as_ref());
            let manifest = manifest.with_context(|| format!("{component} has no manifest"))?;
            fetch::fetch(&cx.config.folders.cache, &manifest.url, &manifest.sha256, |_, _| {}).await?
        }
    };
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
