//! The CloudNativePG operator of a cluster, and the barman-cloud plugin beside it: stackctl's own, or what somebody else
//! has installed, in any namespace and by any means.

use std::fmt;

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Container};
use kube::ResourceExt as _;

use super::object::ObjectRef;
use crate::{
    error::{Failure, failed},
    names::{FIELD_MANAGER, MANAGED_BY, OPERATOR_DEPLOYMENT, OPERATOR_NAMESPACE},
};

/// The plugin's name among the operator's.
pub const PLUGIN: &str = "barman-cloud.cloudnative-pg.io";
/// The plugin's Deployment and Service, where stackctl installs it.
pub const PLUGIN_DEPLOYMENT: &str = "barman-cloud";
/// The variable by which the plugin is told the image of the containers that it puts beside PostgreSQL.
pub const SIDECAR_IMAGE: &str = "SIDECAR_IMAGE";

/// A version of three numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64, pub u64, pub u64);

impl Version {
    /// The version in the tag of an image, or in any text that begins with one, such as `v1.30.0-rc1`.
    pub fn parse(text: &str) -> Option<Version> {
        let text = text.trim_start_matches(['v', 'V']);
        let mut numbers = text.split(['.', '-', '+', '_']).map(|number| number.parse().ok());
        let major = numbers.next()??;
        let Some(minor) = numbers.next().flatten() else { return Some(Version(major, 0, 0)) };
        Some(Version(major, minor, numbers.next().flatten().unwrap_or(0)))
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
pub struct CnpgOperator {
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
    /// Whether the user may see neither: that the cluster has the operator's kinds is all that is known.
    pub is_hidden: bool,
}

impl Default for CnpgOperator {
    /// The operator and the plugin as stackctl installs them.
    fn default() -> Self {
        CnpgOperator {
            namespace: OPERATOR_NAMESPACE.into(),
            deployment: OPERATOR_DEPLOYMENT.into(),
            version: None,
            is_foreign: false,
            watched: Vec::new(),
            plugin: PLUGIN_DEPLOYMENT.into(),
            plugin_is_foreign: false,
            is_hidden: false,
        }
    }
}

impl CnpgOperator {
    /// The operator that a Deployment runs, as far as that says it.
    pub(super) fn of(deployment: &Deployment) -> CnpgOperator {
        let labels = deployment.labels();
        let by_image = container(deployment).and_then(|one| Version::of_image(one.image.as_deref()?));
        let by_label = || labels.get("app.kubernetes.io/version").and_then(|text| Version::parse(text));
        // The Operator Lifecycle Manager uses digests, and says the version in its own label: `cloudnative-pg.v1.30.0`.
        let by_owner = || Version::parse(labels.get("olm.owner")?.split_once('.')?.1);
        CnpgOperator {
            namespace: deployment.namespace().unwrap_or_default(),
            deployment: deployment.name_any(),
            version: by_image.or_else(by_label).or_else(by_owner),
            is_foreign: !is_ours(labels),
            ..CnpgOperator::default()
        }
    }

    /// The operator and the plugin that the cluster's administrators are taken to have installed where the user may not look.
    pub(super) fn hidden() -> CnpgOperator {
        CnpgOperator { is_foreign: true, plugin_is_foreign: true, is_hidden: true, ..CnpgOperator::default() }
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
        if self.is_hidden {
            return "CloudNativePG, at which you may not look".into();
        }
        let version =
            self.version.map_or_else(|| "of a version that cannot be told".into(), |version| version.to_string());
        format!("CloudNativePG {version} (Deployment {}/{})", self.namespace, self.deployment)
    }

    /// Why a foreign operator cannot serve a stack in `namespace` whose manifests are written for `wanted`; `None`: it can,
    /// or is none.
    pub fn unfit(&self, namespace: &str, wanted: Version) -> Option<Failure> {
        // Of one that nobody may look at the administrators have to know.
        if !self.is_foreign || self.is_hidden {
            return None;
        }
        let there = format!("the cluster has {} of somebody else's, which stackctl leaves alone", self.describe());
        let nothing = "nothing was changed";
        if !self.watched.is_empty() && !self.watched.iter().any(|one| one == namespace) {
            let watched = self.watched.join(", ");
            return Some(
                failed(format!("{there}; it watches the namespaces {watched}, and not {namespace}; {nothing}"))
                    .remedy(format!("name one of them: --namespace {}", self.watched[0]))
                    .remedy(format!("or ask its owner to have it watch {namespace} (WATCH_NAMESPACE)")),
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
}

/// Whether stackctl has made an object with these labels.
pub(super) fn is_ours(labels: &std::collections::BTreeMap<String, String>) -> bool {
    labels.get(MANAGED_BY).is_some_and(|by| by == FIELD_MANAGER)
}

/// The first container of a Deployment's pods.
pub(super) fn container(deployment: &Deployment) -> Option<&Container> {
    deployment.spec.as_ref()?.template.spec.as_ref()?.containers.first()
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
        let of = |labels, image| CnpgOperator::of(&deployment(&labels, image)).version;
        assert_eq!(of(json!({}), "ghcr.io/cloudnative-pg/cloudnative-pg:1.30.1"), Some(Version(1, 30, 1)));
        assert_eq!(of(json!({}), "mirror:5000/cnpg:v1.29.0@sha256:ab"), Some(Version(1, 29, 0)));
        assert_eq!(of(json!({"app.kubernetes.io/version": "1.28.0"}), "cnpg@sha256:ab"), Some(Version(1, 28, 0)));
        assert_eq!(of(json!({"olm.owner": "cloudnative-pg.v1.26.0"}), "cnpg@sha256:ab"), Some(Version(1, 26, 0)));
        assert_eq!(of(json!({}), "mirror:5000/cnpg@sha256:ab"), None, "a port is no tag");
        assert_eq!(Version::parse("latest"), None);
        assert_eq!(Version::of_image("ghcr.io/cloudnative-pg/postgresql:18-minimal"), Some(Version(18, 0, 0)));
        assert_eq!(Version::of_image("stackctl.local/postgresql:17.5-0a1b2c"), Some(Version(17, 5, 0)));
    }

    #[test]
    fn only_a_foreign_operator_can_be_unfit() {
        let ours = CnpgOperator::of(&deployment(&json!({MANAGED_BY: FIELD_MANAGER}), "cnpg:1.20.0"));
        assert!(!ours.is_foreign && ours.unfit("user-app", WANTED).is_none());
        let foreign = |image: &str| CnpgOperator::of(&deployment(&json!({MANAGED_BY: "Helm"}), image));
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
        let watching = |watched: &[&str]| CnpgOperator {
            watched: watched.iter().map(|&one| one.to_owned()).collect(),
            ..CnpgOperator::of(&deployment(&json!({}), "c:1.30.0"))
        };
        assert!(watching(&["user-app", "b"]).unfit("user-app", WANTED).is_none());
        let refusal = watching(&["a", "b"]).unfit("user-app", WANTED).unwrap();
        assert!(refusal.message.contains("it watches the namespaces a, b, and not user-app"), "{refusal}");
        assert_eq!(refusal.remedies[0], "name one of them: --namespace a");
    }
}
