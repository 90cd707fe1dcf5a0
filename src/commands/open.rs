//! `stackctl open`: the web app in a browser, through a port of this machine.

use super::{interruptible, signal};
use crate::{
    cli::{Global, OpenArgs},
    commands::configured::configured,
    config::{Config, Options},
    context::Context,
    error::Result,
    reach::{self, OpenOptions, Site},
    ui::{self, Style},
};

/// Runs the command, until Ctrl-C.
///
/// # Errors
/// As [`reach::reach`].
pub async fn run(global: &Global, args: &OpenArgs, style: Style) -> Result<u8> {
    let config = configured(global, &Options::default())?;
    let site = Site::web(&config.stack.namespace);
    serve(config, &site, OpenOptions { open: args, show_password: false }, style).await
}

/// Reaches a site until a signal comes: that is how it is meant to end, so it ends with code 0.
///
/// # Errors
/// As [`reach::reach`]; an interruption before the site is reached (exit code 130).
pub(super) async fn serve(config: Config, site: &Site, wishes: OpenOptions<'_>, style: Style) -> Result<u8> {
    let (reporter, screen) = ui::open(style);
    let cx = Context::new(config, reporter)?;
    let outcome = interruptible(reach::reach(&cx, site, wishes, style)).await;
    if let Ok(reached) = &outcome {
        tokio::select! {
            () = reach::show(&cx, site, reached) => {}
            _ = signal() => {}
        }
    }
    let outcome = outcome.map(|reached| reach::close(&cx, site, reached));
    screen.close().await;
    outcome.map(|()| 0)
}
