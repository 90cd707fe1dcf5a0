//! `stackctl grafana`: Grafana in a browser, through a port of this machine.

use super::open::serve;
use crate::{
    cli::{Global, GrafanaArgs},
    commands::configured::configured,
    config::Options,
    error::Result,
    reach::{OpenOptions, Site},
    ui::Style,
};

/// Runs the command, until Ctrl-C.
///
/// # Errors
/// As [`crate::reach::reach`].
pub async fn run(global: &Global, args: &GrafanaArgs, style: Style) -> Result<u8> {
    let wishes = OpenOptions { open: &args.open, show_password: args.show_password };
    serve(configured(global, &Options::default())?, &Site::grafana(), wishes, style).await
}
