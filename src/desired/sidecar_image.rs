//! The image of each instance's backup sidecar: the plugin's own with our WAL programs before barman's.

use super::backup;
use crate::{
    assets::{self, ImageContext},
    context::Context,
    error::Result,
};

/// The component that the image is built on, and that stands for it in the manifests.
pub const COMPONENT: &str = "plugin-barman-cloud-sidecar";

/// The build context; `None` where the plugin's own image is used: without backups, and in a cluster that the user already
/// has when its nodes could get no other one: from the registry that it would be pushed to, or from the mirror, which has what
/// a bundle has.
///
/// # Errors
/// Only if an embedded file is broken.
pub fn context(cx: &Context) -> Result<Option<ImageContext>> {
    if backup::wanted(cx).is_none() {
        return Ok(None);
    }
    let of_bundle = cx.bundle.as_ref().and_then(|bundle| bundle.component(COMPONENT)?.image.clone());
    let base = match of_bundle {
        // Built already, on top of the image by this name.
        Some(image) => Some(image),
        None => {
            let pinned = assets::components()?;
            pinned.get(COMPONENT).and_then(|component| Some(cx.config.upstream_image(&component.pinned_image()?)))
        }
    };
    let context = base.map(|base| assets::sidecar_context(&base)).transpose()?;
    Ok(context.filter(|context| is_within_reach(cx, context)))
}

/// Whether the cluster's nodes can get the image that is built from `context`.
fn is_within_reach(cx: &Context, context: &ImageContext) -> bool {
    let is_in_bundle = || cx.bundle.as_ref().is_some_and(|bundle| bundle.built_image(&context.image()).is_some());
    let config = &cx.config;
    config.loads_nodes() || config.registry.is_some() || config.built_are_mirrored() && is_in_bundle()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{ImageMirror, Target},
        ui::Reporter,
    };

    #[test]
    fn the_image_is_made_where_the_nodes_can_get_it_and_backups_are_wanted() {
        let mut cx = Context::for_tests(Reporter::discard());
        let pinned = context(&cx).unwrap().unwrap().image();
        let manifests = crate::desired::images(&cx).unwrap();
        assert_eq!(manifests.get(COMPONENT), Some(pinned.as_str()));

        cx.config.target = Target::Context("prod".into());
        assert!(context(&cx).unwrap().is_none());
        let manifests = crate::desired::images(&cx).unwrap();
        assert!(manifests.get(COMPONENT).unwrap().starts_with("ghcr.io/"), "the plugin's own");
        cx.config.target = Target::Context("kind-dev".into());
        assert_eq!(context(&cx).unwrap().unwrap().image(), pinned, "its nodes are containers here");
        cx.config.target = Target::Context("prod".into());
        cx.config.registry = Some("registry.example.com/team".into());
        assert_eq!(context(&cx).unwrap().unwrap().image(), pinned);
        let manifests = crate::desired::images(&cx).unwrap();
        assert_eq!(manifests.get(COMPONENT), Some(format!("registry.example.com/team/{pinned}").as_str()));

        cx.config.image_mirror = Some(ImageMirror::at("mirror.example.com/all"));
        let on_mirrored = context(&cx).unwrap().unwrap().image();
        assert_ne!(on_mirrored, pinned, "it is built on the mirror's");
        cx.config.registry = None;
        assert!(context(&cx).unwrap().is_none(), "nobody has put it into the mirror");
        let manifests = crate::desired::images(&cx).unwrap();
        let upstreams = "mirror.example.com/all/cloudnative-pg/plugin-barman-cloud-sidecar:";
        assert!(manifests.get(COMPONENT).unwrap().starts_with(upstreams), "{:?}", manifests.get(COMPONENT));

        cx.config.backup = None;
        assert!(context(&cx).unwrap().is_none());
    }
}
