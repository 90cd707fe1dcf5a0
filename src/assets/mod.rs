//! What is embedded in the binary: manifests by part, the pinned components, and the build context of
//! the web image.

pub mod backup;
mod components;
mod current;
mod digest;
mod image_context;
mod manifests;
pub mod monitoring;
mod render;

pub use components::{Component, Components, Download, Manifest, components};
pub use current::{of_cluster, redirect};
pub use digest::short_digest;
pub use image_context::{ImageContext, image_context};
pub use manifests::{Part, parse};
pub use render::{Images, kind, render};

use include_dir::{Dir, include_dir};

/// The folder `assets/`.
static ASSETS: Dir = include_dir!("$CARGO_MANIFEST_DIR/assets");

/// An embedded file of `assets/` by its path below it, e.g. `cluster/cni-nodes.yaml`.
pub fn file(path: &str) -> Option<&'static str> {
    ASSETS.get_file(path)?.contents_utf8()
}
