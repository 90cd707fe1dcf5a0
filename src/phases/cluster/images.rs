//! Nodes that were made from an older bundle get the images that a newer one brings.
//!
//! A new node has them from its start. Where no registry is in reach nobody else would bring them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::future::try_join_all;

use super::ID;
use crate::{
    bundle::{Bundle, ImageFile},
    context::Context,
    error::Result,
    tools::node,
};

/// Those of the nodes that lack an image of the stack which the bundle has.
///
/// # Errors
/// A node that does not answer.
pub async fn lacking(cx: &Context, nodes: &[String]) -> Result<Vec<String>> {
    let images = images(cx);
    if images.is_empty() {
        return Ok(Vec::new());
    }
    let asked = nodes.iter().map(|name| async move {
        let lacking = node::lacking(name, images.iter().map(|image| image.image.as_str())).await?;
        Ok::<_, anyhow::Error>((!lacking.is_empty()).then(|| name.clone()))
    });
    Ok(try_join_all(asked).await?.into_iter().flatten().collect())
}

/// Puts them into the nodes; each file may take that long for each of them.
///
/// # Errors
/// A bundle that is not whole, or a node that does not take them.
pub async fn bring(cx: &Context, nodes: &[String], timeout: Duration) -> Result<()> {
    let Some(bundle) = &cx.bundle else { return Ok(()) };
    let files: BTreeSet<&str> = images(cx).iter().map(|image| image.path.as_str()).collect();
    for file in files {
        cx.doing(ID, format!("checking {file}"));
        let (bundle, path): (Arc<Bundle>, String) = (bundle.clone(), file.to_owned());
        let archive = tokio::task::spawn_blocking(move || bundle.verified(&path)).await.context("stopped")??;
        for name in nodes {
            cx.doing(ID, format!("loading the bundle's images into {name}"));
            node::import(name, &archive, timeout).await?;
        }
    }
    Ok(())
}

/// The images; none where there is no bundle, or where the cluster takes them from a mirror.
fn images(cx: &Context) -> &[ImageFile] {
    let bundle = cx.bundle.as_ref().filter(|_| cx.config.image_mirror.is_none());
    bundle.map_or(&[], |bundle| bundle.images_for_nodes())
}
