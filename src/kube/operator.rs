//! The CloudNativePG operator of a cluster, and the barman-cloud plugin beside it: stackctl's own, or what somebody else
//! has installed, in any namespace and by any means.

use std::fmt;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Container, Service},
};
use kube::{Api, ResourceExt as _, api::ListParams};

use super::{Kube, ObjectRef, live};
use crate::{
    error::{Failure, Result, failed},
    names::{FIELD_MANAGER, MANAGED_BY, OPERATOR, OPERATOR_DEPLOYMENT, OPERATOR_NAMESPACE, selector},
};

/// The plugin's name among the operator's.
pub const PLUGIN: &str = "barman-cloud.cloudnative-pg.io";
/// The plugin's Deployment and Service, where stackctl installs it.
pub const PLUGIN_DEPLOYMENT: &str = "barman-cloud";
/// The variable by which the plugin is told the image of the containers that it puts beside PostgreSQL.
pub const SIDECAR_IMAGE: &str = "SIDECAR_IMAGE";

/// The label of a plugin's Service with the plugin's name.
const PLUGIN_LABEL: &str = "cnpg.io/pluginName";
/// The variable, or key of the operator's ConfigMap, with the namespaces that the operator watches; none: all.
const WATCHED: &str = "WATCH_NAMESPACE";
/// The CustomResourceDefinition of databases.
const CLUSTERS: &str = "clusters.postgresql.cnpg.io";

/// A version of three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64, pub u64, pub u64);

impl Version {
    /// The version in the tag of an image, or in any text that begins with one, such as `v1.30.0-rc1`.
    pub fn parse(text: &str) -> Option<Version> {
        let text = text.trim_start_matches(['v', 'V']);
        let mut numbers = text.split(['.', '-', '+', '_']).map(|number| number.parse().ok());
        Some(Version(numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
    }

    /// The version that the image's tag says; an image by its digest alone says none.
    pub fn of_image(image: &str) -> Option<Version> {
        let name = image.split('@').next().unwrap_or(image);
        let last = name.rsplit('/').next().unwrap_or(name);
        Version::parse(last.split_once(':')?.1)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// An operator and its plugin, as they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The namespace of both: the operator looks for plugins in its own only.
    pub namespace: String,
    /// The operator's Deployment.
    pub deployment: String,
    /// The operator's version, where it can be told.
    pub version: Option<Version>,
    /// Whether somebody else has installed the operator.
    pub is_foreign: bool,
    /// The namespaces that the operator watches; empty: all.
    pub watched: Vec<String>,
    /// The plugin's Deployment.
    pub plugin: String,
    /// Whether somebody else has installed the plugin.
    pub plugin_is_foreign: bool,
}

impl Default for Operator {
    /// The operator and the plugin as stackctl installs them.
    fn default() -> Self {
        Operator {
            namespace: OPERATOR_NAMESPACE.into(),
            deployment: OPERATOR_DEPLOYMENT.into(),
            version: None,
            is_foreign: false,
            watched: Vec::new(),
            plugin: PLUGIN_DEPLOYMENT.into(),
            plugin_is_foreign: false,
        }
    }
}

impl Operator {
    /// The operator that there is, or as stackctl would install it.
    ///
    /// # Errors
    /// The API server does not answer. A refusal is none: who may not look into other namespaces can have installed
    /// nothing for the whole cluster either, and is told so when that is asked for.
    pub(super) async fn find(kube: &Kube) -> Result<Operator> {
        let deployments: Api<Deployment> = Api::all(kube.client());
        let labelled = ListParams::default().labels(&selector(OPERATOR));
        let named = ListParams::default().fields(&format!("metadata.name={OPERATOR_DEPLOYMENT}"));
        let doing = "look for an operator of CloudNativePG";
        let (labelled, named) = tokio::try_join!(
            kube.attempt(doing, || deployments.list(&labelled)),
            kube.attempt(doing, || deployments.list(&named)),
        )?;
        let (Ok(labelled), Ok(named)) = (labelled, named) else { return Ok(Operator::default()) };
        let mut all: Vec<Deployment> = labelled.items;
        all.extend(named.items);
        let found = all.iter().find(|one| is_ours(one.labels())).or_else(|| all.first());
        let Some(found) = found else { return Ok(Operator::default()) };
        let mut operator = Operator::of(found);
        if operator.is_foreign {
            operator.watched = watched(kube, found, &operator.namespace).await?;
            operator.find_plugin(kube).await?;
        }
        Ok(operator)
    }

    fn of(deployment: &Deployment) -> Operator {
        let labels = deployment.labels();
        let by_image = container(deployment).and_then(|one| Version::of_image(one.image.as_deref()?));
        let by_label = || labels.get("app.kubernetes.io/version").and_then(|text| Version::parse(text));
        // The Operator Lifecycle Manager uses digests, and says the version in its own label: `cloudnative-pg.v1.30.0`.
        let by_owner = || Version::parse(labels.get("olm.owner")?.split_once('.')?.1);
        Operator {
            namespace: deployment.namespace().unwrap_or_default(),
            deployment: deployment.name_any(),
            version: by_image.or_else(by_label).or_else(by_owner),
            is_foreign: !is_ours(labels),
            ..Operator::default()
        }
    }

    /// Looks for a plugin beside a foreign operator.
    async fn find_plugin(&mut self, kube: &Kube) -> Result<()> {
        let services: Api<Service> = Api::namespaced(kube.client(), &self.namespace);
        let ours = ListParams::default().labels(&format!("{PLUGIN_LABEL}={PLUGIN}"));
        let found = kube.attempt("look for the barman-cloud plugin", || services.list(&ours)).await?;
        if !found.is_ok_and(|found| found.items.iter().any(|service| !is_ours(service.labels()))) {
            return Ok(());
        }
        self.plugin_is_foreign = true;
        let (deployments, all): (Api<Deployment>, _) =
            (Api::namespaced(kube.client(), &self.namespace), ListParams::default());
        let found = kube.call("look for the barman-cloud plugin", || deployments.list(&all)).await?;
        let is_plugin = |one: &&Deployment| {
            container(one).is_some_and(|it| it.env.iter().flatten().any(|variable| variable.name == SIDECAR_IMAGE))
        };
        if let Some(plugin) = found.items.iter().find(is_plugin) {
            self.plugin = plugin.name_any();
        }
        Ok(())
    }

    /// The operator's Deployment.
    pub fn reference(&self) -> ObjectRef {
        ObjectRef::namespaced("apps/v1", "Deployment", &self.namespace, &self.deployment)
    }

    /// The plugin's Deployment.
    pub fn plugin_reference(&self) -> ObjectRef {
        ObjectRef::namespaced("apps/v1", "Deployment", &self.namespace, &self.plugin)
    }

    /// The operator in words, e.g. `CloudNativePG 1.30.0 (Deployment cnpg/cnpg-controller-manager)`.
    pub fn describe(&self) -> String {
        let version =
            self.version.map_or_else(|| "of a version that cannot be told".into(), |version| version.to_string());
        format!("CloudNativePG {version} (Deployment {}/{})", self.namespace, self.deployment)
    }

    /// Why a foreign operator cannot serve a stack in `namespace` whose manifests are written for `wanted`; `None`: it can,
    /// or is none.
    pub fn unfit(&self, namespace: &str, wanted: Version) -> Option<Failure> {
        if !self.is_foreign {
            return None;
        }
        let there = format!("the cluster has {} of somebody else's, which stackctl leaves alone", self.describe());
        let nothing = "nothing was changed";
        if !self.watched.is_empty() && !self.watched.iter().any(|one| one == namespace) {
            let watched = self.watched.join(", ");
            return Some(
                failed(format!("{there}; it watches the namespaces {watched}, and not {namespace}; {nothing}"))
                    .remedy(format!("name one of them: --namespace {}", self.watched[0]))
                    .remedy(format!("or ask its owner to have it watch {namespace} ({WATCHED})")),
            );
        }
        let fits = self.version.is_some_and(|version| version.0 == wanted.0 && version >= wanted);
        if fits {
            return None;
        }
        Some(
            failed(format!("{there}; the stack needs {}.{}.{} or newer; {nothing}", wanted.0, wanted.1, wanted.2))
                .remedy("ask its owner to upgrade it, or use another cluster: two operators would fight over every database"),
        )
    }

    /// Refuses a cluster that has the operator's kinds, and nobody that serves them: remnants of somebody's.
    ///
    /// # Errors
    /// There are such remnants, or the API server does not answer.
    pub async fn refuse_remnants(&self, kube: &Kube) -> Result<()> {
        if self.is_foreign || self.version.is_some() {
            return Ok(());
        }
        let definition = ObjectRef::cluster("apiextensions.k8s.io/v1", "CustomResourceDefinition", CLUSTERS);
        let Some(found) = kube.get(&definition).await? else { return Ok(()) };
        if live::Live::of(&found.metadata).is_ours() {
            return Ok(());
        }
        Err(failed(format!(
            "the cluster has somebody else's definition of databases ({definition}) and no operator of CloudNativePG \
             that stackctl can see; nothing was changed"
        ))
        .remedy("if an operator runs where you may not look: ask its owner for the right to list Deployments")
        .remedy(format!(
            "if nobody uses it any more: kubectl get {CLUSTERS} --all-namespaces must be empty, then kubectl delete crd \
             {CLUSTERS}"
        ))
        .into())
    }
}

fn is_ours(labels: &std::collections::BTreeMap<String, String>) -> bool {
    labels.get(MANAGED_BY).is_some_and(|by| by == FIELD_MANAGER)
}

fn container(deployment: &Deployment) -> Option<&Container> {
    deployment.spec.as_ref()?.template.spec.as_ref()?.containers.first()
}

/// The namespaces that an operator is told to watch, by its environment or by the ConfigMap that it reads.
async fn watched(kube: &Kube, deployment: &Deployment, namespace: &str) -> Result<Vec<String>> {
    let Some(container) = container(deployment) else { return Ok(Vec::new()) };
    let variable = container.env.iter().flatten().find(|variable| variable.name == WATCHED);
    let mut list = variable.and_then(|variable| variable.value.clone()).unwrap_or_default();
    let argument = container.args.iter().flatten().find_map(|argument| argument.strip_prefix("--config-map-name="));
    if let Some(name) = argument {
        let maps: Api<ConfigMap> = Api::namespaced(kube.client(), namespace);
        let found = kube.attempt("read the operator's configuration", || maps.get_opt(name)).await?;
        let value = found.ok().flatten().and_then(|map| map.data?.remove(WATCHED));
        list = value.unwrap_or(list);
    }
    Ok(list.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WANTED: Version = Version(1, 30, 0);

    fn deployment(labels: &serde_json::Value, image: &str) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "cnpg", "namespace": "db", "labels": labels},
            "spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "manager", "image": image}]}}},
        }))
        .unwrap()
    }

    #[test]
    fn a_version_is_read_from_whatever_says_it() {
        let of = |labels, image| Operator::of(&deployment(&labels, image)).version;
        assert_eq!(of(json!({}), "ghcr.io/cloudnative-pg/cloudnative-pg:1.30.1"), Some(Version(1, 30, 1)));
        assert_eq!(of(json!({}), "mirror:5000/cnpg:v1.29.0@sha256:ab"), Some(Version(1, 29, 0)));
        assert_eq!(of(json!({"app.kubernetes.io/version": "1.28.0"}), "cnpg@sha256:ab"), Some(Version(1, 28, 0)));
        assert_eq!(of(json!({"olm.owner": "cloudnative-pg.v1.26.0"}), "cnpg@sha256:ab"), Some(Version(1, 26, 0)));
        assert_eq!(of(json!({}), "mirror:5000/cnpg@sha256:ab"), None, "a port is no tag");
        assert_eq!(Version::parse("latest"), None);
    }

    #[test]
    fn only_a_foreign_operator_can_be_unfit() {
        let ours = Operator::of(&deployment(&json!({MANAGED_BY: FIELD_MANAGER}), "cnpg:1.20.0"));
        assert!(!ours.is_foreign && ours.unfit("user-app", WANTED).is_none());
        let foreign = |image: &str| Operator::of(&deployment(&json!({MANAGED_BY: "Helm"}), image));
        for (image, fits) in
            [("c:1.30.0", true), ("c:1.31.2", true), ("c:1.29.3", false), ("c:2.0.0", false), ("c", false)]
        {
            assert_eq!(foreign(image).unfit("user-app", WANTED).is_none(), fits, "{image}");
        }
        let refusal = foreign("c:1.29.3").unfit("user-app", WANTED).unwrap();
        assert!(refusal.message.contains("CloudNativePG 1.29.3 (Deployment db/cnpg)"), "{refusal}");
        assert!(refusal.message.ends_with("the stack needs 1.30.0 or newer; nothing was changed"), "{refusal}");
    }

    #[test]
    fn an_operator_of_some_namespaces_serves_no_other() {
        let watching = |watched: &[&str]| Operator {
            watched: watched.iter().map(|&one| one.to_owned()).collect(),
            ..Operator::of(&deployment(&json!({}), "c:1.30.0"))
        };
        assert!(watching(&["user-app", "b"]).unfit("user-app", WANTED).is_none());
        let refusal = watching(&["a", "b"]).unfit("user-app", WANTED).unwrap();
        assert!(refusal.message.contains("it watches the namespaces a, b, and not user-app"), "{refusal}");
        assert_eq!(refusal.remedies[0], "name one of them: --namespace a");
    }
}
