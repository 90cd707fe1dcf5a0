//! `stackctl diff`: the cluster compared with what `up` would apply, by the API server's own dry run.

use serde_json::json;

use crate::{
    assets::Part,
    cli::{Global, StackArgs},
    commands::configured::configured,
    config::Options,
    context::Context,
    desired,
    error::Result,
    kube::diff,
    ui::{self, Reporter, Style},
};

/// Prints the differences; the code is 0 when there are none, else 1.
///
/// # Errors
/// No cluster, or one that refuses.
pub async fn run(global: &Global, args: &StackArgs, style: Style) -> Result<u8> {
    let config = configured(global, &Options { stack: Some(args), ..Options::default() })?;
    let cx = Context::new(config, Reporter::discard())?;
    let mut objects = Vec::new();
    for part in Part::ALL {
        let wanted = desired::desired(&cx, part).await?;
        objects.extend(cx.inventory().await?.marked(part.name(), &wanted).await?);
    }
    let kube = cx.kube().await?;
    let differences =
        cx.until_deadline("the comparison", diff::diff(kube, &cx.config.stack.namespace, &objects)).await?;
    if style.mode == ui::Mode::Json {
        ui::out(&serde_json::to_string_pretty(&json!({"differences": differences}))?);
    } else {
        for difference in &differences {
            ui::out(&difference.text);
        }
        let outcome = match differences.len() {
            0 => format!("{} objects are as they should be", objects.len()),
            1 => "1 object differs: stackctl up applies it".into(),
            n => format!("{n} objects differ: stackctl up applies them"),
        };
        ui::err(&outcome);
    }
    Ok(u8::from(!differences.is_empty()))
}
