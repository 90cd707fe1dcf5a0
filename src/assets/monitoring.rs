//! The objects of monitoring that are made of files: files of Prometheus, kube-state-metrics and Grafana as
//! ConfigMaps, and the alert rules once more as the Prometheus operator reads them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{ASSETS, WRITTEN_FOR};
use crate::{error::Result, names::MONITORING_NAMESPACE};

/// The namespace of everything of monitoring but the rights in other namespaces.
pub const NAMESPACE: &str = MONITORING_NAMESPACE;
/// The API group of the Prometheus operator, whose kinds most clusters do not have.
pub const PROMETHEUS_OPERATOR: &str = "monitoring.coreos.com";
/// The Secret with Grafana's login, which `up` makes.
pub const GRAFANA_LOGIN: &str = "monitoring-grafana-admin";
/// The key of Grafana's login with the user's name.
pub const GRAFANA_USER: &str = "admin-user";
/// The key of Grafana's login with the password.
pub const GRAFANA_PASSWORD: &str = "admin-password";

/// ConfigMaps, and the folders of `assets/` that they hold.
const CONFIGURATION: [(&str, &str); 4] = [
    ("monitoring-prometheus", "prometheus"),
    ("monitoring-kube-state-metrics", "kube-state-metrics"),
    ("monitoring-grafana", "grafana"),
    (DASHBOARDS, "dashboards"),
];
/// The ConfigMap of the dashboards, which Grafana reads again by itself.
pub const DASHBOARDS: &str = "monitoring-grafana-dashboards";
/// The objects that are made of files.
///
/// # Errors
/// Only if an embedded file is broken, which a unit test rules out.
pub(super) fn generated() -> Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for (name, folder) in CONFIGURATION {
        objects.push(serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": NAMESPACE}, "data": files(folder)?,
        }))?);
    }
    let rules = super::file("prometheus/alerts.yaml").context("prometheus/alerts.yaml is not embedded")?;
    let rules: Value = serde_saphyr::from_str(rules).context("prometheus/alerts.yaml is not valid")?;
    objects.push(serde_json::from_value(json!({
        "apiVersion": format!("{PROMETHEUS_OPERATOR}/v1"), "kind": "PrometheusRule",
        "metadata": {"name": "user-app", "namespace": WRITTEN_FOR}, "spec": rules,
    }))?);
    Ok(objects)
}

fn files(folder: &str) -> Result<BTreeMap<String, String>> {
    let dir = ASSETS.get_dir(folder).with_context(|| format!("{folder} is not embedded"))?;
    let mut files = BTreeMap::new();
    for file in dir.files() {
        let path = file.path();
        let text = file.contents_utf8().with_context(|| format!("{} is not UTF-8", path.display()))?;
        let json = path.extension().is_some_and(|extension| extension == "json");
        // A ConfigMap holds 1 MiB at most: dashboards go without the spaces that make them readable in a review.
        let text = if json { serde_json::from_str::<Value>(text)?.to_string() } else { text.to_owned() };
        files.insert(path.file_name().unwrap_or_default().to_string_lossy().into_owned(), text);
    }
    Ok(files)
}
