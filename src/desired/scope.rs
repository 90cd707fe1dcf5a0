//! What of a stack is of the whole cluster, and what of its namespace alone: whoever administers one namespace brings the
//! stack up once the cluster's administrators have applied the rest.

use anyhow::Context as _;
use kube::core::DynamicObject;

use super::{backup, bundle_has_image, embedded, labelled, monitoring};
use crate::{
    assets::{self, Part},
    context::Context,
    error::Result,
    kube::adopt,
};

pub use crate::part::Scope;

/// The file with what the administrator of a namespace may do beyond what Kubernetes gives him.
const RIGHTS: &str = "scope/namespace-admin.yaml";

/// Leaves of `objects` what is of `scope`, for a stack in `namespace`.
pub fn retain(objects: &mut Vec<DynamicObject>, scope: Scope, namespace: &str) {
    objects.retain(|object| {
        let is_inside = object.metadata.namespace.as_deref() == Some(namespace);
        is_inside == (scope == Scope::Namespace)
    });
}

/// The objects of `parts` that are of `scope`, without a question to any cluster. What is of the whole cluster is complete: it
/// has its Secrets, newly made, and the rights that the administrator of a namespace needs; and it says of itself that no
/// `down` removes it.
///
/// # Errors
/// Upstream's manifest can be neither found in the bundle nor fetched, or this machine gives no random numbers.
pub async fn objects(cx: &Context, parts: &[Part], scope: Scope) -> Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for part in parts {
        let mut of_part = embedded(cx, *part).await?;
        match (part, scope) {
            (Part::Base, Scope::Cluster) => {
                for role in
                    assets::parse(assets::file(RIGHTS).context("the administrator's rights are missing")?, RIGHTS)?
                {
                    of_part.extend(labelled(cx, Part::Base, role)?);
                }
            }
            (Part::Backup, Scope::Cluster) if !of_part.is_empty() => {
                backup::add_certificates(cx, &mut of_part, &[None, None])?;
            }
            (Part::Monitoring, Scope::Cluster) => {
                of_part.retain(|object| monitoring::can_be_installed(cx, object));
                if bundle_has_image(cx, monitoring::GRAFANA.0) {
                    of_part.extend(monitoring::login(cx, None)?);
                }
            }
            _ => {}
        }
        retain(&mut of_part, scope, &cx.config.stack.namespace);
        objects.extend(of_part);
    }
    if scope == Scope::Cluster {
        objects.iter_mut().for_each(adopt);
    }
    Ok(objects)
}
