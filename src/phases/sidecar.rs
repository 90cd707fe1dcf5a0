//! The backup plugin's container in each instance. What it runs with is no part of the Cluster, so the operator does
//! not see that it is to be another one; it replaces the instances, one by one, when it next looks for another reason.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::{Api, api::ListParams};
use serde_json::{Value, json};

use crate::{
    assets::{self, Part},
    backup::{SIDECAR, SIDECAR_IMAGE, store},
    context::Context,
    database::{self, settings},
    desired::{self, backup},
    error::Result,
    poll::Tries,
    ui::{Event, PhaseId},
};

/// How often the pods are looked at while they are replaced.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// So long after the last instance was replaced the operator is taken to be content: something else, such as a policy of
/// the cluster's, may have changed what the pods are given.
const CONTENT_AFTER: Duration = Duration::from_secs(180);

/// What it is to run with.
#[derive(Debug)]
struct Wanted {
    image: Value,
    resources: Value,
    /// Variables that it must have; the plugin gives it others too.
    env: Vec<Value>,
}

impl Wanted {
    fn is(&self, sidecar: &Container) -> bool {
        let has = json!(sidecar.env);
        self.image == json!(sidecar.image)
            && self.resources == json!(sidecar.resources)
            && self.env.iter().all(|variable| has.as_array().is_some_and(|all| all.contains(variable)))
    }
}

/// Waits until every instance runs with the sidecar that is wanted, or without, if no backups are; has the operator
/// replace those that do not. Returns whether there were any: the newest may not be ready yet. Those that stay as they are
/// get a warning.
///
/// # Errors
/// The API server refuses or does not answer.
pub async fn settle(cx: &Context, phase: PhaseId, cluster: &str) -> Result<bool> {
    // Which one the plugin puts there cannot be told then, and is the administrators' to choose.
    if cx.kube().await?.operator().await?.is_hidden {
        return Ok(false);
    }
    let wanted = wanted(cx).await?;
    let (kube, namespace) = (cx.kube().await?, &cx.config.stack.namespace);
    let pods: Api<Pod> = Api::namespaced(kube.client(), namespace);
    let instances = ListParams::default().labels(&database::instances(cluster));
    let (mut asked, mut before, mut tries) = (false, usize::MAX, Tries::within(CONTENT_AFTER, LOOK_EVERY));
    loop {
        let found = pods.list(&instances).await.context("cannot list the instances")?.items;
        let stale = found.iter().filter(|pod| !fits(pod, wanted.as_ref())).count();
        if stale == 0 {
            return Ok(asked);
        }
        if stale != before {
            before = stale;
            tries.begin_again(CONTENT_AFTER);
        }
        cx.doing(
            phase,
            format!("{stale} of {} instances are yet to be replaced: their sidecar is another", found.len()),
        );
        if !asked {
            settings::touch(kube, namespace, cluster).await?;
            asked = true;
        }
        if !tries.another().await {
            let text = format!("{stale} instances go on with another backup sidecar than the one that was asked for");
            cx.reporter.send(Event::Warning { phase, text });
            return Ok(asked);
        }
    }
}

/// As the manifests have it; `None` without backups.
async fn wanted(cx: &Context) -> Result<Option<Wanted>> {
    if backup::wanted(cx).is_none() {
        return Ok(None);
    }
    let mut objects = desired::embedded(cx, Part::Backup).await?;
    desired::rules::fit(cx, &mut objects).await?;
    let of = |kind: &str, path: &str| {
        let found = objects.iter().filter(|object| assets::kind(object) == kind).find_map(|one| one.data.pointer(path));
        found.cloned().with_context(|| format!("the manifests have no {kind} with {path}"))
    };
    let kube = cx.kube().await?;
    // A plugin of somebody else's chooses the image.
    let image = if kube.operator().await?.plugin_is_foreign {
        json!(store::sidecar_image(kube, &cx.config.stack.namespace).await?)
    } else {
        let env = of("Deployment", "/spec/template/spec/containers/0/env")?;
        let image = env.as_array().into_iter().flatten().find(|variable| variable["name"] == SIDECAR_IMAGE);
        image.map(|variable| variable["value"].clone()).unwrap_or_default()
    };
    let resources = of("ObjectStore", "/spec/instanceSidecarConfiguration/resources")?;
    let env = of("ObjectStore", "/spec/instanceSidecarConfiguration/env")?;
    Ok(Some(Wanted { image, resources, env: env.as_array().cloned().unwrap_or_default() }))
}

/// Whether a pod's sidecar is the wanted one; one that is on its way out is not.
fn fits(pod: &Pod, wanted: Option<&Wanted>) -> bool {
    if pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    let started = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
    let sidecar = started.and_then(|all| all.iter().find(|container| container.name == SIDECAR));
    match (sidecar, wanted) {
        (Some(sidecar), Some(wanted)) => wanted.is(sidecar),
        (sidecar, wanted) => sidecar.is_none() && wanted.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: &Value) -> Pod {
        serde_json::from_value(json!({"spec": {"containers": [], "initContainers": containers}})).unwrap()
    }

    #[test]
    fn a_sidecar_fits_by_its_image_and_its_resources() {
        let resources = json!({"limits": {"memory": "512Mi"}, "requests": {"cpu": "50m", "memory": "40Mi"}});
        let attempts = json!({"name": "AWS_MAX_ATTEMPTS", "value": "2"});
        let wanted = Wanted { image: json!("a:1"), resources: resources.clone(), env: vec![attempts.clone()] };
        let with = |image: &str, cpu: &str| {
            let mut resources = resources.clone();
            resources["requests"]["cpu"] = json!(cpu);
            let env = json!([{"name": "SPOOL_DIRECTORY", "value": "/spool"}, attempts]);
            pod(&json!([{"name": "bootstrap"}, {"name": SIDECAR, "image": image, "resources": resources, "env": env}]))
        };
        let mut former = with("a:1", "50m");
        if let Some(all) = former.spec.as_mut().and_then(|spec| spec.init_containers.as_mut()) {
            all[1].env = None;
        }
        assert!(!fits(&former, Some(&wanted)), "it tries more often");
        assert!(fits(&with("a:1", "50m"), Some(&wanted)));
        assert!(!fits(&with("a:2", "50m"), Some(&wanted)) && !fits(&with("a:1", "60m"), Some(&wanted)));
        assert!(!fits(&with("a:1", "50m"), None), "it is to go");
        let without = pod(&json!([{"name": "bootstrap"}]));
        assert!(fits(&without, None) && !fits(&without, Some(&wanted)));
        let mut leaving = with("a:1", "50m");
        leaving.metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-24T11:00:00Z")).unwrap();
        assert!(!fits(&leaving, Some(&wanted)), "its successor is what counts");
    }
}
