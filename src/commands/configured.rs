//! The configuration of a command, and what its user is told about it.

use crate::{
    bundle::Bundle,
    cli::Global,
    config::{Config, Options},
    error::{Failure, Result, kind_of, one_line},
    ui,
};

/// Loads the configuration. A bundle that only the last `up` named and that is not there any more stops those commands
/// whose outcome depends on it; the others go on without one.
///
/// # Errors
/// As [`Config::load`]; a remembered bundle that `up`, `diff` or `render` cannot use.
pub(super) fn configured(global: &Global, options: &Options) -> Result<Config> {
    let mut config = Config::load(global, options)?;
    if let Some(complaint) = config.last_up.complaint() {
        ui::err(&format!("warning: {complaint}"));
    }
    let remembered = config.bundle.as_ref().filter(|_| config.last_up.gave("bundle"));
    let Some(error) = remembered.and_then(|folder| Bundle::open(folder).err()) else { return Ok(config) };
    let why = one_line(&error);
    if options.up.is_some() || options.stack.is_some() {
        let what =
            format!("the bundle that the last up of this stack took images and manifests from cannot be used: {why}");
        return Err(Failure::new(kind_of(&error), what)
            .remedy("put it back, or name another: stackctl up --bundle DIR")
            .remedy("to go on without one, from the images' own registries: stackctl up --forget bundle")
            .into());
    }
    if options.source.is_some() {
        ui::err(&format!("warning: the bundle of the last up is not used: {why}"));
    }
    config.bundle = None;
    Ok(config)
}
