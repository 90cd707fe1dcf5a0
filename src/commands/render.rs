//! `stackctl render`: what `up` would apply, as YAML; or the build context of an image.

use std::path::Path;

use crate::{
    assets::{self, ImageContext, Part},
    cli::{Global, RenderArgs},
    commands::configured::configured,
    config::Options,
    context::Context,
    desired::{self, scope},
    error::Result,
    kube::to_yaml,
    ui::{self, Reporter, Style},
};

/// Prints the manifests to stdout, or writes the build context and prints the image's name.
///
/// # Errors
/// A manifest that can be neither found nor fetched.
pub async fn run(global: &Global, args: &RenderArgs, style: Style) -> Result<u8> {
    if let Some(dir) = &args.build_context {
        return build_context(dir, &assets::image_context());
    }
    if let Some([dir, base]) = args.sidecar_context.as_deref() {
        return build_context(Path::new(dir), &assets::sidecar_context(base)?);
    }
    let config = configured(global, &Options { stack: Some(&args.stack), ..Options::default() })?;
    let cx = Context::new(config, Reporter::discard())?;
    let mut objects = Vec::new();
    let parts = if args.parts.is_empty() { Part::ALL.to_vec() } else { args.parts.clone() };
    match args.scope {
        Some(scope) => objects = scope::objects(&cx, &parts, scope).await?,
        None => {
            for part in parts {
                objects.extend(desired::embedded(&cx, part).await?);
            }
        }
    }
    let text = if style.mode == ui::Mode::Json {
        serde_json::to_string_pretty(&serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects}))?
    } else {
        to_yaml(&objects)?
    };
    ui::out(&text);
    Ok(0)
}

fn build_context(dir: &Path, context: &ImageContext) -> Result<u8> {
    context.write_to(dir)?;
    ui::out(&context.image());
    Ok(0)
}
