//! Opening an address in the user's browser.

use std::time::Duration;

use crate::{error::Result, tools::runner::Cmd};

/// A program that fails does so within this time; one that still runs then is the browser itself.
const NOTICE: Duration = Duration::from_secs(2);

/// Whether there is a display to show one on.
pub fn possible() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    cfg!(target_os = "macos") || set("DISPLAY") || set("WAYLAND_DISPLAY")
}

/// Opens it by the desktop's own means. The browser is the user's: it is not ended with this program.
///
/// # Errors
/// There is no program that opens addresses, or it fails.
pub async fn open(address: &str) -> Result<()> {
    Cmd::new(if cfg!(target_os = "macos") { "open" } else { "xdg-open" }).arg(address).detach(NOTICE).await
}
