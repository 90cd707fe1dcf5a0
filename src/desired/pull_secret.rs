//! The Secret by which pods may pull their images: where pods name it, and its copies in the namespaces of what stacks share.
//!
//! Pods name it themselves, not by their accounts: an account's Secrets are for pods that name none, and some pods run with
//! accounts of somebody else's.

use std::collections::BTreeSet;

use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::labelled;
use crate::{
    assets::{Part, kind},
    backup::PULL_SECRET,
    config::Stack,
    context::Context,
    error::{Failure, Result, failed},
    kube::{Kube, ObjectRef},
    names::PULL_SECRET_COPY,
};

/// The type of a Secret that the kubelet reads, and its key.
const TYPE: &str = "kubernetes.io/dockerconfigjson";
const KEY: &str = ".dockerconfigjson";

/// Has the pods of a rendered object pull their images by the stack's Secret.
pub fn set(object: &mut DynamicObject, stack: &Stack) {
    let Some(secret) = &stack.pull_secret else { return };
    // A Secret serves the pods of its own namespace only.
    let name = if is_of_stack(object, stack) { secret.as_str() } else { PULL_SECRET_COPY };
    if kind(object) == "ObjectStore" {
        // Jobs that ask the store know nothing but this.
        object.metadata.annotations.get_or_insert_default().insert(PULL_SECRET.into(), name.into());
    } else if let Some(spec) = pod_spec(kind(object)).and_then(|place| object.data.pointer_mut(place)) {
        spec["imagePullSecrets"] = json!([{"name": name}]);
    }
}

fn is_of_stack(object: &DynamicObject, stack: &Stack) -> bool {
    object.metadata.namespace.as_deref() == Some(stack.namespace.as_str())
}

/// Where an object of this kind tells how its pods pull images.
fn pod_spec(kind: &str) -> Option<&'static str> {
    match kind {
        "Deployment" | "StatefulSet" | "DaemonSet" | "Job" => Some("/spec/template/spec"),
        "Cluster" => Some("/spec"),
        _ => None,
    }
}

/// The namespaces of the pods of `part` that need a copy of the stack's Secret.
fn namespaces(cx: &Context, part: Part, objects: &[DynamicObject]) -> BTreeSet<String> {
    let stack = &cx.config.stack;
    let is_foreign = cx.known_operator().is_some_and(|operator| operator.is_foreign);
    // Beside an operator of ours the copy is of the operator's part.
    if stack.pull_secret.is_none() || part == Part::Backup && !is_foreign {
        return BTreeSet::new();
    }
    let others = objects.iter().filter(|object| !is_of_stack(object, stack) && pod_spec(kind(object)).is_some());
    others.filter_map(|object| object.metadata.namespace.clone()).collect()
}

/// The steps of a plan that make the copies.
pub fn plan(cx: &Context, part: Part, objects: &[DynamicObject]) -> Vec<String> {
    let (stack, namespaces) = (&cx.config.stack, namespaces(cx, part, objects));
    let secret = stack.pull_secret.as_deref().unwrap_or_default();
    let step = |to| format!("copy Secret {}/{secret} to Secret {to}/{PULL_SECRET_COPY}", stack.namespace);
    namespaces.into_iter().map(step).collect()
}

/// Adds to `objects` of `part` the copies of the stack's Secret that their pods name.
///
/// # Errors
/// The Secret is not there any more, or the cluster does not answer.
pub async fn add_copies(cx: &Context, part: Part, objects: &mut Vec<DynamicObject>) -> Result<()> {
    for namespace in namespaces(cx, part, objects) {
        let data = read(cx.kube().await?, &cx.config.stack).await??;
        let copy = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Secret", "type": TYPE,
            "metadata": {"name": PULL_SECRET_COPY, "namespace": namespace},
            "data": {KEY: data},
        }))?;
        objects.extend(labelled(cx, part, copy)?);
    }
    Ok(())
}

/// Why the stack's Secret cannot be used; `None`: it can, or none is asked for.
///
/// # Errors
/// The cluster does not answer.
pub async fn lack(cx: &Context) -> Result<Option<Failure>> {
    if cx.config.stack.pull_secret.is_none() {
        return Ok(None);
    }
    Ok(read(cx.kube().await?, &cx.config.stack).await?.err())
}

/// The content of the stack's Secret, as the API has it, or why there is none.
async fn read(kube: &Kube, stack: &Stack) -> Result<std::result::Result<Value, Failure>> {
    let namespace = &stack.namespace;
    let reference = ObjectRef::namespaced("v1", "Secret", namespace, stack.pull_secret.as_deref().unwrap_or_default());
    let Some(there) = kube.get(&reference).await? else {
        let has_namespace = kube.get(&ObjectRef::cluster("v1", "Namespace", namespace)).await?.is_some();
        return Ok(Err(absent(&reference, has_namespace)));
    };
    Ok(content(&reference, &there))
}

fn content(reference: &ObjectRef, there: &DynamicObject) -> std::result::Result<Value, Failure> {
    let unfit = |what: &str| {
        let namespace = reference.namespace.as_deref().unwrap_or_default();
        failed(format!("{reference}, which --pull-secret names, {what}"))
            .remedy(format!("remove it, if nobody needs it: kubectl -n {namespace} delete secret {}", reference.name))
            .remedy(format!("then make it anew: {}", making(reference)))
    };
    let data = &there.data;
    match data["type"].as_str() {
        Some(TYPE) => {}
        other => return Err(unfit(&format!("is of type {}, not {TYPE}", other.unwrap_or("Opaque")))),
    }
    data["data"].get(KEY).cloned().ok_or_else(|| unfit(&format!("lacks {KEY}")))
}

fn absent(reference: &ObjectRef, has_namespace: bool) -> Failure {
    let mut failure = failed(format!("{reference}, which --pull-secret names, is not there"));
    if !has_namespace {
        let namespace = reference.namespace.as_deref().unwrap_or_default();
        failure = failure.remedy(format!("kubectl create namespace {namespace}"));
    }
    failure.remedy(making(reference))
}

/// By a file, as a password among a command's arguments can be seen by others.
fn making(reference: &ObjectRef) -> String {
    let namespace = reference.namespace.as_deref().unwrap_or_default();
    let name = &reference.name;
    format!(
        "kubectl -n {namespace} create secret generic {name} --type={TYPE} --from-file={KEY}=$HOME/.docker/config.json"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        assets::components,
        desired::render::{Images, render},
        error::remedies_of,
    };

    fn rendered(part: Part, secret: Option<&str>) -> Vec<DynamicObject> {
        let stack = Stack {
            namespace: "team-a".into(),
            instances: 3,
            storage: "1Gi".into(),
            storage_class: None,
            priority_class: None,
            pull_secret: secret.map(str::to_owned),
            sizes: crate::config::Sizes::default(),
        };
        let images = Images::new(&components().unwrap(), |_| None, "user-app:abc".into());
        render(part, part.embedded().unwrap(), &stack, &images)
    }

    #[test]
    fn every_pod_names_the_secret_of_its_namespace() {
        let mut seen = BTreeSet::new();
        for part in Part::ALL {
            for object in rendered(part, Some("mine")) {
                let (namespace, kind) = (object.metadata.namespace.clone().unwrap_or_default(), kind(&object));
                let Some(place) = pod_spec(kind) else { continue };
                let name = if namespace == "team-a" { "mine" } else { PULL_SECRET_COPY };
                let named = &object.data.pointer(place).unwrap()["imagePullSecrets"];
                assert_eq!(*named, json!([{"name": name}]), "{kind} in {namespace}");
                seen.insert((kind.to_owned(), namespace));
            }
        }
        for (kind, namespace) in [
            ("Cluster", "team-a"),
            ("Deployment", "team-a"),
            ("StatefulSet", "team-a"),
            // The plugin.
            ("Deployment", "cnpg-system"),
            ("Deployment", "kube-system"),
            ("StatefulSet", "monitoring"),
        ] {
            assert!(seen.contains(&(kind.to_owned(), namespace.to_owned())), "{kind} in {namespace}: {seen:?}");
        }
    }

    #[test]
    fn jobs_that_ask_the_store_learn_of_it_and_without_one_nothing_names_it() {
        let store = |secret| {
            let objects = rendered(Part::Backup, secret);
            let found = objects.into_iter().find(|object| kind(object) == "ObjectStore").unwrap();
            crate::backup::Store::of(&found).pull_secret
        };
        assert_eq!(store(Some("mine")).as_deref(), Some("mine"));
        assert_eq!(store(None), None);
        for part in Part::ALL {
            let text = serde_json::to_string(&rendered(part, None)).unwrap();
            assert!(!text.contains("imagePullSecrets") && !text.contains(PULL_SECRET), "{part}");
        }
    }

    #[test]
    fn a_secret_that_cannot_be_used_is_told_with_how_to_make_it() {
        let reference = ObjectRef::namespaced("v1", "Secret", "team-a", "mine");
        let told = |failure: Failure| {
            let error = anyhow::Error::from(failure);
            (error.to_string(), remedies_of(&error).join("\n"))
        };
        let (message, remedy) = told(absent(&reference, false));
        assert_eq!(message, "Secret team-a/mine, which --pull-secret names, is not there");
        assert!(remedy.starts_with("kubectl create namespace team-a\nkubectl -n team-a create secret generic mine "));
        assert!(!told(absent(&reference, true)).1.contains("create namespace"));
        let secret = |kind: &str, key: &str| -> DynamicObject {
            serde_json::from_value(json!({
                "apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": {"name": "mine"}, "data": {key: "e30="},
            }))
            .unwrap()
        };
        assert_eq!(content(&reference, &secret(TYPE, KEY)).unwrap(), json!("e30="));
        let (message, remedy) = told(content(&reference, &secret("Opaque", KEY)).unwrap_err());
        assert!(message.ends_with("is of type Opaque, not kubernetes.io/dockerconfigjson"), "{message}");
        assert!(remedy.contains("delete secret mine") && !remedy.contains("e30="), "{remedy}");
        assert!(content(&reference, &secret(TYPE, "other")).is_err());
    }
}
