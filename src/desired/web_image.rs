//! The name of the web app's image, and of any other that is built here.

use crate::{
    assets,
    config::{Config, Target},
    error::{Result, usage},
};

/// The name of the web image as the cluster's pods use it.
///
/// # Errors
/// A cluster that the user already has, and no registry to reach it by (exit code 2).
pub fn reference(config: &Config) -> Result<String> {
    match (&config.target, config.registry_of_built()) {
        (Target::Context(name), None) if !config.loads_nodes() => {
            Err(usage(format!("context {name} needs a registry that its nodes can pull the web image from"))
                .remedy("name it: --registry registry.example.com/team")
                .remedy("or, if bundle push has put it into a mirror: --image-mirror registry.example.com/mirror")
                .into())
        }
        _ => Ok(name(config)),
    }
}

/// The name of the web image in the manifests.
pub fn name(config: &Config) -> String {
    placed(config, assets::image_context().image())
}

/// What the cluster's pods call an image that is made by this stackctl. A cluster that the user already has pulls from the
/// registry or else from the mirror, if one is named; the nodes of minikube, kind and k3d get the image directly.
pub fn placed(config: &Config, image: String) -> String {
    match (&config.target, config.registry_of_built()) {
        (Target::Context(_), Some(registry)) => format!("{registry}/{image}"),
        _ => image,
    }
}
