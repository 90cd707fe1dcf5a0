//! `cargo xtask docs`: makes the pages of `docs/` that are made from something else.

use anyhow::{Result, bail};

use crate::{run::Run, say::say, workspace};

/// The build of the tests and their run; a hang must not go unnoticed.
const SECONDS: u64 = 20 * 60;

/// Writes `docs/reference.md` and `docs/measurements.md`.
///
/// # Errors
/// Something that they are made from cannot be read.
pub fn write() -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["test", "--quiet", "--locked", "--package", "stackctl", "--test", "docs", "made_from"];
    let code =
        Run::new(cargo, SECONDS).dir(&workspace()).args(arguments).env("STACKCTL_DOCS", "write").on_terminal()?;
    if code != 0 {
        bail!("the pages cannot be made: see above");
    }
    say("docs/reference.md and docs/measurements.md are as the sources say");
    Ok(())
}
