//! The configuration of a command, and what its user is told about it.

use crate::{
    bundle::Bundle,
    cli::Global,
    config::{Config, IMAGE_MIRROR_FLAG, Options, Target},
    error::{Failure, Result, kind_of, one_line, usage},
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
    let is_about_images = options.up.is_some() || options.stack.is_some();
    if is_about_images && let Some(refusal) = refuse_mirror(&config) {
        return Err(refusal.into());
    }
    let remembered = config.bundle.as_ref().filter(|_| config.last_up.gave("bundle"));
    let Some(error) = remembered.and_then(|folder| Bundle::open(folder).err()) else { return Ok(config) };
    let why = one_line(&error);
    if is_about_images {
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

/// Refuses a mirror beside a bundle, where it has no use or cannot have what the bundle has.
fn refuse_mirror(config: &Config) -> Option<Failure> {
    let (Some(mirror), Some(bundle)) = (&config.image_mirror, &config.bundle) else { return None };
    match &config.target {
        Target::Minikube(_) => Some(
            usage(format!(
                "{IMAGE_MIRROR_FLAG} {mirror} has no use beside the bundle {}: minikube's nodes have every image from it",
                bundle.display()
            ))
            .remedy("leave one of them out; what the last up was told is dropped by --forget bundle or --forget image-mirror"),
        ),
        Target::Context(_) if mirror.every().is_none() => Some(
            usage(format!(
                "{IMAGE_MIRROR_FLAG} {mirror} has no place for the images of the bundle {}, which are of no host that it names",
                bundle.display()
            ))
            .remedy("name where bundle push has put them: --image-mirror REGISTRY/PREFIX"),
        ),
        Target::Context(_) => None,
    }
}
