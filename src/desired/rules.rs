//! What the cluster's owner has laid down for a namespace (ResourceQuota, LimitRange), and the stack's containers.

use std::collections::BTreeMap;

use kube::core::DynamicObject;
use serde_json::Value;

use super::embedded;
use crate::{
    assets::{Part, kind},
    cli::Optional,
    context::Context,
    error::{Failure, Result, failed, one_line},
    kube::{
        ObjectRef, quantity,
        rules::{ContainerRules, Quota, written},
    },
};

/// The parts whose objects are in the stack's own namespace.
const IN_THE_NAMESPACE: [Part; 4] = [Part::Backup, Part::Database, Part::FailoverHelper, Part::Web];

/// Completes the containers of `objects` by what their namespaces want of them. Where nothing is wanted they stay as they
/// are: a limit of CPU slows down what nobody else waits for.
///
/// # Errors
/// The cluster does not answer. Where only the rules cannot be read, the server tells what it refuses.
pub async fn fit(cx: &Context, objects: &mut [DynamicObject]) -> Result<()> {
    let mut known: BTreeMap<String, ContainerRules> = BTreeMap::new();
    for object in objects.iter_mut().filter(|object| has_containers(object)) {
        let Some(namespace) = object.metadata.namespace.clone() else { continue };
        if !known.contains_key(&namespace) {
            known.insert(namespace.clone(), of(cx, &namespace).await?);
        }
        if let Some(rules) = known.get(&namespace).filter(|rules| !rules.is_empty()) {
            fit_one(object, rules);
        }
    }
    Ok(())
}

/// The rules of a namespace; none where they cannot be read.
async fn of(cx: &Context, namespace: &str) -> Result<ContainerRules> {
    Ok(cx.kube().await?.container_rules(namespace).await.unwrap_or_else(|error| {
        tracing::debug!("what {namespace} wants of containers cannot be told: {}", one_line(&error));
        ContainerRules::default()
    }))
}

fn has_containers(object: &DynamicObject) -> bool {
    matches!(kind(object), "Deployment" | "StatefulSet" | "Cluster" | "ObjectStore")
}

/// Where the resources of what the operator starts are said.
fn said_resources(kind: &str) -> Option<&'static str> {
    match kind {
        "Cluster" => Some("/spec/resources"),
        "ObjectStore" => Some("/spec/instanceSidecarConfiguration/resources"),
        _ => None,
    }
}

fn fit_one(object: &mut DynamicObject, rules: &ContainerRules) {
    match said_resources(kind(object)) {
        Some(path) => object.data.pointer_mut(path).into_iter().for_each(|resources| rules.fit(resources)),
        None => object.data.pointer_mut("/spec/template/spec").into_iter().for_each(|pod| rules.fit_pod(pod)),
    }
}

/// Says what of the stack the rules of its namespace do not allow, or leave no room for; `None` where they do.
///
/// # Errors
/// Upstream's manifest can be neither found in the bundle nor fetched, or the cluster does not answer.
pub async fn refusal(cx: &Context) -> Result<Option<Failure>> {
    let namespace = &cx.config.stack.namespace;
    let rules = of(cx, namespace).await?;
    if rules.is_empty() {
        return Ok(None);
    }
    let mut objects = Vec::new();
    for part in IN_THE_NAMESPACE {
        if part != Part::FailoverHelper || !cx.config.without.contains(&Optional::FailoverHelper) {
            objects.extend(embedded(cx, part).await?);
        }
    }
    objects.retain(|object| object.metadata.namespace.as_ref() == Some(namespace));
    fit(cx, &mut objects).await?;
    for object in &objects {
        for (container, resources) in containers(object) {
            if let Some(why) = rules.refuses(resources) {
                return Ok(Some(too_large(&ObjectRef::of(object)?, container, &why)));
            }
        }
    }
    let mut new = Vec::new();
    for object in &objects {
        let reference = ObjectRef::of(object)?;
        if cx.kube().await?.get(&reference).await.unwrap_or(None).is_none() {
            new.push(object);
        }
    }
    let asked = counted(&new, &objects);
    Ok(rules.quotas.iter().find_map(|quota| used_up(namespace, quota, &asked)))
}

/// The containers of an object, by name, with their resources.
fn containers(object: &DynamicObject) -> Vec<(&str, &Value)> {
    if let Some(path) = said_resources(kind(object)) {
        let name = if kind(object) == "Cluster" { "postgres" } else { "plugin-barman-cloud" };
        return object.data.pointer(path).map(|resources| (name, resources)).into_iter().collect();
    }
    let spec = &object.data["spec"]["template"]["spec"];
    let of = |list: &'static str| spec[list].as_array().into_iter().flatten();
    of("initContainers")
        .chain(of("containers"))
        .map(|container| (container["name"].as_str().unwrap_or_default(), &container["resources"]))
        .collect()
}

/// What `new` objects add to what quotas count, the pods of an autoscaler at their least.
fn counted(new: &[&DynamicObject], all: &[DynamicObject]) -> BTreeMap<String, f64> {
    let mut sum: BTreeMap<String, f64> = BTreeMap::new();
    let mut add = |name: &str, amount: f64| *sum.entry(name.to_owned()).or_default() += amount;
    let sidecar = all.iter().find(|object| kind(object) == "ObjectStore").map(|store| containers(store));
    for object in new {
        let spec = &object.data["spec"];
        let mut storage = |size: &Value, times: f64| {
            if let Some(size) = size.as_str().and_then(quantity::parse) {
                add("requests.storage", size * times);
                add("persistentvolumeclaims", times);
            }
        };
        let pods = match kind(object) {
            "Cluster" => {
                let instances = spec["instances"].as_f64().unwrap_or(1.0);
                storage(&spec["storage"]["size"], instances);
                storage(&spec["walStorage"]["size"], instances);
                instances
            }
            "PersistentVolumeClaim" => {
                storage(&spec["resources"]["requests"]["storage"], 1.0);
                0.0
            }
            "Deployment" | "StatefulSet" => {
                let scaler = all.iter().find(|other| {
                    kind(other) == "HorizontalPodAutoscaler" && other.metadata.name == object.metadata.name
                });
                let least = scaler.and_then(|scaler| scaler.data["spec"]["minReplicas"].as_f64());
                spec["replicas"].as_f64().or(least).unwrap_or(1.0)
            }
            _ => 0.0,
        };
        add("pods", pods);
        if pods == 0.0 {
            continue;
        }
        let mut together = containers(object);
        // What runs before the others asks for no more than they do: the app's migration is the app's own size.
        if kind(object) != "Cluster" {
            let init = spec["template"]["spec"]["initContainers"].as_array().map_or(0, Vec::len);
            together.drain(..init);
        } else {
            together.extend(sidecar.iter().flatten());
        }
        for (_, resources) in together {
            for what in ["requests", "limits"] {
                for resource in ["cpu", "memory"] {
                    let amount = resources[what][resource].as_str().and_then(quantity::parse).unwrap_or(0.0);
                    add(&format!("{what}.{resource}"), amount * pods);
                }
            }
        }
    }
    sum
}

fn too_large(object: &ObjectRef, container: &str, why: &str) -> Failure {
    failed(format!("container {container} of {object} {why}: nothing was changed"))
        .remedy("raise the max of the LimitRange, ask for less in the table [sizes] of the configuration file, or use another namespace")
}

fn used_up(namespace: &str, quota: &Quota, asked: &BTreeMap<String, f64>) -> Option<Failure> {
    let (name, hard, used, asked) = quota.hard.iter().find_map(|(name, hard)| {
        let used = quota.used.get(name).copied().unwrap_or(0.0);
        let asked = asked.get(name).copied().filter(|asked| *asked > 0.0)?;
        (used + asked > hard * (1.0 + 1e-9)).then_some((name, *hard, used, asked))
    })?;
    let [asked, used, hard] = [asked, used, hard].map(|amount| written(name, amount));
    Some(
        failed(format!(
            "ResourceQuota {namespace}/{} has no room for the stack: it asks for {name} {asked} at first, and {used} of \
             {hard} are used; nothing was changed",
            quota.name
        ))
        .remedy(format!("raise it: kubectl -n {namespace} edit resourcequota {}", quota.name))
        .remedy("or ask for less: a smaller --size, --instances 3, --without backup"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::Reporter;

    #[tokio::test]
    async fn what_a_new_stack_adds_to_a_quota_is_counted_and_held_against_it() {
        let cx = Context::for_tests(Reporter::discard());
        let mut objects = Vec::new();
        for part in [Part::Database, Part::FailoverHelper, Part::Web] {
            objects.extend(embedded(&cx, part).await.unwrap());
        }
        objects.extend(
            Part::Backup
                .embedded()
                .unwrap()
                .into_iter()
                .filter(|object| object.metadata.namespace.as_deref() == Some("user-app")),
        );
        let asked = counted(&objects.iter().collect::<Vec<_>>(), &objects);
        assert!((asked["pods"] - 8.0).abs() < 1e-9, "3 instances, 2 of the app, 2 helpers, the store: {asked:?}");
        assert!((asked["requests.cpu"] - 0.565).abs() < 1e-9, "{asked:?}");
        assert!((asked["persistentvolumeclaims"] - 4.0).abs() < 1e-9, "{asked:?}");
        let quota = |pods: f64, used: f64| Quota {
            name: "team".into(),
            hard: [("pods".to_owned(), pods), ("configmaps".to_owned(), 0.0)].into(),
            used: [("pods".to_owned(), used)].into(),
        };
        assert!(used_up("a", &quota(8.0, 0.0), &asked).is_none());
        let told = used_up("a", &quota(8.0, 1.0), &asked).unwrap().to_string();
        assert!(
            told.contains("ResourceQuota a/team") && told.contains("pods 8 at first, and 1 of 8 are used"),
            "{told}"
        );
    }
}
