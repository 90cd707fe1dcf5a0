//! The image of each instance's backup sidecar: the plugin's own with our WAL programs before barman's.

use super::backup;
use crate::{
    assets::{self, ImageContext},
    config::Target,
    context::Context,
    error::Result,
};

/// The component that the image is built on, and that stands for it in the manifests.
pub const COMPONENT: &str = "plugin-barman-cloud-sidecar";

/// The build context; `None` where the plugin's own image is used: without backups, and in a cluster that the user already
/// has when no registry is named by which its nodes could get another one.
///
/// # Errors
/// Only if an embedded file is broken.
pub fn context(cx: &Context) -> Result<Option<ImageContext>> {
    let reachable = matches!(cx.config.target, Target::Minikube(_)) || cx.config.registry.is_some();
    if backup::wanted(cx).is_none() || !reachable {
        return Ok(None);
    }
    let of_bundle = cx.bundle.as_ref().and_then(|bundle| bundle.component(COMPONENT)?.image.clone());
    let base = match of_bundle {
        Some(image) => Some(image),
        None => assets::components()?.get(COMPONENT).and_then(|component| component.image.clone()),
    };
    base.map(|base| assets::sidecar_context(&base)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::Reporter;

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
        cx.config.registry = Some("registry.example.com/team".into());
        assert_eq!(context(&cx).unwrap().unwrap().image(), pinned);
        let manifests = crate::desired::images(&cx).unwrap();
        assert_eq!(manifests.get(COMPONENT), Some(format!("registry.example.com/team/{pinned}").as_str()));

        cx.config.backup = None;
        assert!(context(&cx).unwrap().is_none());
    }
}
