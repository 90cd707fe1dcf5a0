//! What is embedded in the binary: manifests by part, the pinned components, and the build context of
//! the web image.

mod components;
mod digest;
mod image_context;
mod manifests;
pub mod monitoring;

pub use components::{Component, Components, Download, Manifest, components};
pub use digest::short_digest;
pub use image_context::{ImageContext, image_context, sidecar_context};
pub use manifests::parse;

pub use crate::part::Part;

use include_dir::{Dir, include_dir};
use kube::core::DynamicObject;

/// The folder `assets/` of the sources.
static ASSETS: Dir = include_dir!("$CARGO_MANIFEST_DIR/assets");

/// The text of an embedded file of `assets/` by its path below it, e.g. `cluster/cni-nodes.yaml`.
pub fn file(path: &str) -> Option<&'static str> {
    ASSETS.get_file(path)?.contents_utf8()
}

/// The namespace that the manifests are written for.
pub const WRITTEN_FOR: &str = "user-app";

/// The kind of a manifest; empty when it tells none.
pub fn kind(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| types.kind.as_str())
}
