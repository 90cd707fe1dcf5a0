//! `stackctl prometheus`: Prometheus's own pages in a browser, through a port of this machine.

use super::open::serve;
use crate::{
    cli::{Global, OpenArgs},
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
pub async fn run(global: &Global, args: &OpenArgs, style: Style) -> Result<u8> {
    let wishes = OpenOptions { open: args, show_password: false };
    serve(configured(global, &Options::default())?, &Site::prometheus(), wishes, style).await
}
