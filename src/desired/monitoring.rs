//! The desired objects of monitoring: what differs between installations, and what the cluster can take of them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::{ByteString, api::core::v1::PersistentVolumeClaim};
use kube::core::DynamicObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{bundle_has_image, embedded, labelled, picked_up, sizes::set_prometheus};
use crate::{
    assets::{
        Part, WRITTEN_FOR, kind,
        monitoring::{DASHBOARDS, GRAFANA_LOGIN, GRAFANA_PASSWORD, GRAFANA_USER, NAMESPACE, PROMETHEUS_OPERATOR},
        short_digest,
    },
    cli::Optional,
    config::Stack,
    context::Context,
    error::Result,
    kube::{
        ObjectRef,
        volumes::{SizeChange, VolumeClaim, size_change},
    },
    names::{FIELD_MANAGER, MANAGED_BY},
    random,
};

/// The component of Grafana, and what the names of its objects begin with.
pub const GRAFANA: (&str, &str) = ("grafana", "monitoring-grafana");

/// The ConfigMap with Prometheus' configuration.
const PROMETHEUS_CONFIG: &str = "monitoring-prometheus";

/// The claim that the StatefulSet makes of its template.
const PROMETHEUS_CLAIM: &str = "data-monitoring-prometheus-0";

/// The annotation of pods that changes with the files that they read when they start.
const CONFIGURATION_DIGEST: &str = "stackctl/configuration";

/// What of monitoring can be installed in a cluster.
pub struct Installable {
    /// Our own Prometheus, kube-state-metrics and Grafana, or why not.
    pub ours: std::result::Result<(), String>,
    /// Whether the cluster has a Prometheus operator, so that monitors and rules for it can be.
    pub operator: bool,
}

/// What of monitoring can be installed in this cluster.
///
/// # Errors
/// The cluster does not answer.
pub async fn installable(cx: &Context) -> Result<Installable> {
    let kube = cx.kube().await?;
    let operator = kube.knows(&format!("{PROMETHEUS_OPERATOR}/v1"), "PodMonitor").await?;
    let missing = ["prometheus", "kube-state-metrics"].into_iter().find(|component| !bundle_has_image(cx, component));
    if let Some(component) = missing {
        return Ok(Installable { ours: Err(format!("the bundle does not hold {component}")), operator });
    }
    if kube.is_confined().await? {
        return Ok(Installable { ours: Err("you may install none for the whole cluster".into()), operator });
    }
    // Its Pod Security level and its labels are its owner's: what runs there might not start again under ours.
    let there = kube.get(&ObjectRef::cluster("v1", "Namespace", NAMESPACE)).await?;
    let labels = there.map(|namespace| namespace.metadata.labels.unwrap_or_default());
    let foreign = labels.is_some_and(|labels| labels.get(MANAGED_BY).is_none_or(|by| by != FIELD_MANAGER));
    let ours = if foreign {
        Err(format!("the cluster has a namespace {NAMESPACE} that stackctl did not make"))
    } else {
        Ok(())
    };
    Ok(Installable { ours, operator })
}

/// The objects of monitoring that should be in this cluster; none when it is left out.
///
/// # Errors
/// The cluster does not answer.
pub async fn objects(cx: &Context) -> Result<Vec<DynamicObject>> {
    if cx.config.without.contains(&Optional::Monitoring) {
        return Ok(Vec::new());
    }
    let Installable { ours, operator } = installable(cx).await?;
    let mut objects = Vec::new();
    for object in embedded(cx, Part::Monitoring).await? {
        let wanted = if is_operators(&object) { operator } else { ours.is_ok() && can_be_installed(cx, &object) };
        if wanted {
            objects.push(object);
        }
    }
    // The phase tells what nobody picks up.
    picked_up::label(cx, &mut objects).await?;
    if ours.is_err() {
        return Ok(objects);
    }
    keep_volume(cx, &mut objects).await?;
    watch_others(cx, &mut objects).await?;
    if bundle_has_image(cx, GRAFANA.0) {
        let secret = ObjectRef::namespaced("v1", "Secret", NAMESPACE, GRAFANA_LOGIN);
        let there = cx.kube().await?.get(&secret).await?;
        objects.extend(login(cx, there.as_ref())?);
    }
    Ok(objects)
}

/// Prometheus' volume claim, if there is one.
///
/// # Errors
/// The cluster does not answer.
pub async fn prometheus_claim(cx: &Context) -> Result<Option<VolumeClaim>> {
    let claim = ObjectRef::namespaced("v1", "PersistentVolumeClaim", NAMESPACE, PROMETHEUS_CLAIM);
    let found = cx.kube().await?.get(&claim).await?;
    Ok(found.and_then(|found| found.try_parse::<PersistentVolumeClaim>().ok()).map(VolumeClaim::from))
}

/// Has Prometheus go by the volume that it has, if that is larger than wanted: it is one for every stack of the cluster. Its
/// claim's template stays what it is, as it cannot be changed.
async fn keep_volume(cx: &Context, objects: &mut [DynamicObject]) -> Result<()> {
    let Some(prometheus) = objects.iter_mut().find(|object| kind(object) == "StatefulSet") else { return Ok(()) };
    let Some(live) = cx.kube().await?.get(&ObjectRef::of(prometheus)?).await? else { return Ok(()) };
    let template = "/spec/volumeClaimTemplates/0/spec/resources/requests/storage";
    let text = |object: &DynamicObject| object.data.pointer(template).and_then(Value::as_str).map(str::to_owned);
    let (Some(made), Some(wanted)) = (text(&live), text(prometheus)) else { return Ok(()) };
    let there = prometheus_claim(cx).await?.map_or_else(|| made.clone(), |claim| claim.size);
    let size = if size_change(&there, &wanted) == SizeChange::Grows { wanted } else { there };
    set_prometheus(prometheus, &made, &size);
    Ok(())
}

/// Has the monitoring watch the other stacks that it is of, too: it is one for all of them.
async fn watch_others(cx: &Context, objects: &mut [DynamicObject]) -> Result<()> {
    let config = ObjectRef::namespaced("v1", "ConfigMap", NAMESPACE, PROMETHEUS_CONFIG);
    let ours = cx.config.stack.namespace.as_str();
    let mut all = cx.inventory().await?.others().await?.users(&config);
    all.insert(ours);
    if all.len() > 1 {
        let all: Vec<&str> = all.into_iter().collect();
        watch_all(objects, ours, &all);
        mark_configuration(objects);
    }
    Ok(())
}

/// Whether an object can be installed where there is no Prometheus operator: its kind is known then, and its image to be
/// had.
pub fn can_be_installed(cx: &Context, object: &DynamicObject) -> bool {
    let of_grafana = object.metadata.name.as_deref().is_some_and(|name| name.starts_with(GRAFANA.1));
    !is_operators(object) && (!of_grafana || bundle_has_image(cx, GRAFANA.0))
}

fn is_operators(object: &DynamicObject) -> bool {
    object.types.as_ref().is_some_and(|types| types.api_version.starts_with(PROMETHEUS_OPERATOR))
}

/// Sets what differs between installations: the namespace that is watched, the volume's class, and a mark of the
/// configuration, so that pods are replaced when the files change that they read only when they start.
pub(super) fn finish(objects: &mut [DynamicObject], stack: &Stack) {
    watch_all(objects, WRITTEN_FOR, &[&stack.namespace]);
    for object in objects.iter_mut() {
        let claims = object.data.pointer_mut("/spec/volumeClaimTemplates").and_then(Value::as_array_mut);
        if let Some(class) = &stack.storage_class {
            claims.into_iter().flatten().for_each(|claim| claim["spec"]["storageClassName"] = json!(class));
        }
    }
    mark_configuration(objects);
}

/// Has everything that watches the namespace `from` watch `to` in its place.
fn watch_all(objects: &mut [DynamicObject], from: &str, to: &[&str]) {
    for object in objects {
        match kind(object) {
            "ConfigMap" => watch(&mut object.data["data"], from, to),
            "Deployment" | "StatefulSet" => {
                watch(&mut object.data["spec"]["template"]["spec"]["containers"], from, to);
            }
            _ => {}
        }
    }
}

/// Marks the pods with the configuration that they read when they start.
fn mark_configuration(objects: &mut [DynamicObject]) {
    let digests: BTreeMap<String, String> = objects
        .iter()
        .filter(|object| kind(object) == "ConfigMap")
        .filter_map(|object| Some((object.metadata.name.clone()?, digest(&object.data["data"]))))
        .filter(|(name, _)| name != DASHBOARDS)
        .collect();
    for object in objects.iter_mut() {
        let Some(template) = object.data.pointer_mut("/spec/template") else { continue };
        let volumes = template.pointer("/spec/volumes").and_then(Value::as_array);
        let read = volumes
            .into_iter()
            .flatten()
            .filter_map(|volume| digests.get(volume.pointer("/configMap/name")?.as_str()?))
            .cloned()
            .collect::<Vec<_>>();
        if !read.is_empty() {
            template["metadata"]["annotations"][CONFIGURATION_DIGEST] = json!(read.join("-"));
        }
    }
}

/// Puts namespaces where the files name one: in lists of namespaces and as one of several in a pattern.
fn watch(value: &mut Value, from: &str, to: &[&str]) {
    match value {
        Value::String(text) => {
            *text = text
                .replace(&format!("names: [{from}]"), &format!("names: [{}]", to.join(", ")))
                .replace(&format!("({from}|"), &format!("({}|", to.join("|")))
                .replace(&format!("--namespaces={from}"), &format!("--namespaces={}", to.join(",")));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| watch(item, from, to)),
        Value::Object(fields) => fields.values_mut().for_each(|field| watch(field, from, to)),
        _ => {}
    }
}

fn digest(data: &Value) -> String {
    short_digest(Sha256::new_with_prefix(data.to_string()))
}

/// Grafana's login, ready to apply: what is `there` is kept.
///
/// # Errors
/// This machine gives no random numbers.
pub fn login(cx: &Context, there: Option<&DynamicObject>) -> Result<Vec<DynamicObject>> {
    labelled(cx, Part::Monitoring, grafana_login(there, password)?)
}

/// The Secret with Grafana's login, as it is to be: what is `there` is kept, what is not is `admin` and `password`.
///
/// # Errors
/// Never in practice: only if the object could not be written as JSON.
pub fn grafana_login(
    there: Option<&DynamicObject>,
    password: impl FnOnce() -> Result<String>,
) -> Result<DynamicObject> {
    let kept = |key: &str| there.and_then(|secret| secret.data.get("data")?.get(key).cloned());
    // Not as stringData: the server would note other fields than those that the next apply names.
    let encoded = |text: String| serde_json::to_value(ByteString(text.into_bytes()));
    let user = match kept(GRAFANA_USER) {
        Some(user) => user,
        None => encoded("admin".into())?,
    };
    let password = match kept(GRAFANA_PASSWORD) {
        Some(password) => password,
        None => encoded(password()?)?,
    };
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": GRAFANA_LOGIN, "namespace": NAMESPACE},
        "data": {GRAFANA_USER: user, GRAFANA_PASSWORD: password},
    });
    serde_json::from_value(secret).context("the Secret of Grafana's login cannot be made")
}

/// A password for Grafana: 20 characters of 64, which is 120 bits.
fn password() -> Result<String> {
    random::secret("a password for Grafana", random::BASE64URL, 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        assets::components,
        config::Sizes,
        desired::render::{Images, render},
    };

    fn rendered(namespace: &str) -> Vec<DynamicObject> {
        let stack = Stack {
            namespace: namespace.into(),
            instances: 3,
            storage: "1Gi".into(),
            storage_class: Some("fast".into()),
            pull_secret: None,
            priority_class: None,
            sizes: Sizes::default(),
        };
        let images = Images::new(&components().unwrap(), |_| None, "user-app:abc".into());
        render(Part::Monitoring, Part::Monitoring.embedded().unwrap(), &stack, &images)
    }

    fn named<'a>(objects: &'a [DynamicObject], kind: &str, name: &str) -> &'a DynamicObject {
        let found = objects.iter().find(|object| {
            object.types.as_ref().unwrap().kind == kind && object.metadata.name.as_deref() == Some(name)
        });
        found.unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    #[test]
    fn another_namespace_is_watched_everywhere() {
        let objects = rendered("team-a");
        let config = named(&objects, "ConfigMap", "monitoring-prometheus").data["data"]["prometheus.yml"].as_str();
        let config = config.unwrap();
        assert_eq!(config.matches("names: [team-a]").count(), 2, "{config}");
        assert_eq!(config.matches("(team-a|").count(), 2, "{config}");
        assert!(!config.contains("names: [user-app]") && !config.contains("(user-app|"), "{config}");
        let state = named(&objects, "Deployment", "monitoring-kube-state-metrics");
        let args = state.data["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
        assert!(args.contains(&json!("--namespaces=team-a")), "{args:?}");
        for kind in ["Role", "RoleBinding", "PodMonitor", "PrometheusRule"] {
            let of_kind = objects.iter().filter(|object| object.types.as_ref().unwrap().kind == kind);
            let namespaces: Vec<_> = of_kind.filter_map(|object| object.metadata.namespace.as_deref()).collect();
            assert!(namespaces.contains(&"team-a") && !namespaces.contains(&"user-app"), "{kind}: {namespaces:?}");
        }
        let prometheus = named(&objects, "StatefulSet", "monitoring-prometheus");
        assert_eq!(prometheus.data["spec"]["volumeClaimTemplates"][0]["spec"]["storageClassName"], "fast");
    }

    #[test]
    fn one_monitoring_watches_every_stack_that_it_is_of() {
        let joined = |ours: &str| {
            let mut objects = rendered(ours);
            watch_all(&mut objects, ours, &["team-a", "team-b"]);
            mark_configuration(&mut objects);
            named(&objects, "StatefulSet", "monitoring-prometheus").data.clone()
        };
        assert_eq!(joined("team-a"), joined("team-b"), "whoever runs last");
        let mut objects = rendered("team-b");
        watch_all(&mut objects, "team-b", &["team-a", "team-b"]);
        let config = named(&objects, "ConfigMap", PROMETHEUS_CONFIG).data["data"]["prometheus.yml"].as_str().unwrap();
        assert_eq!(config.matches("names: [team-a, team-b]").count(), 2, "{config}");
        assert_eq!(config.matches("(team-a|team-b|").count(), 2, "{config}");
        let state = named(&objects, "Deployment", "monitoring-kube-state-metrics");
        let args = state.data["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
        assert!(args.contains(&json!("--namespaces=team-a,team-b")), "{args:?}");
    }

    #[test]
    fn pods_are_replaced_when_what_they_read_at_their_start_has_changed() {
        let mark = |objects: &[DynamicObject], kind: &str, name: &str| {
            let annotations = &named(objects, kind, name).data["spec"]["template"]["metadata"]["annotations"];
            annotations[CONFIGURATION_DIGEST].as_str().unwrap().to_owned()
        };
        let (one, two) = (rendered("team-a"), rendered("team-b"));
        let prometheus = |objects: &[DynamicObject]| mark(objects, "StatefulSet", "monitoring-prometheus");
        let grafana = |objects: &[DynamicObject]| mark(objects, "Deployment", "monitoring-grafana");
        assert_eq!(prometheus(&one), prometheus(&rendered("team-a")));
        assert_ne!(prometheus(&one), prometheus(&two), "its configuration names the namespace");
        assert_eq!(grafana(&one), grafana(&two), "its does not");
    }

    #[test]
    fn dashboards_and_rules_are_there() {
        let objects = rendered("user-app");
        let dashboards = &named(&objects, "ConfigMap", DASHBOARDS).data["data"];
        let uids: Vec<String> = ["cloudnativepg.json", "failover.json", "user-app.json"]
            .iter()
            .map(|file| serde_json::from_str::<Value>(dashboards[file].as_str().unwrap()).unwrap()["uid"].to_string())
            .collect();
        assert_eq!(uids, [r#""cloudnativepg""#, r#""failover""#, r#""user-app""#]);
        assert!(dashboards.to_string().len() < 512 * 1024, "half of what a ConfigMap may hold");
        for group in named(&objects, "PrometheusRule", "user-app").data["spec"]["groups"].as_array().unwrap() {
            for rule in group["rules"].as_array().unwrap() {
                for note in ["summary", "impact", "action"] {
                    assert!(rule["annotations"][note].is_string(), "{} has no {note}", rule["alert"]);
                }
            }
        }
    }

    #[test]
    fn a_login_is_made_once_and_kept() {
        let mut there = grafana_login(None, || Ok("secret".into())).unwrap();
        assert_eq!(there.data["data"], json!({"admin-user": "YWRtaW4=", "admin-password": "c2VjcmV0"}));
        there.data["data"] = json!({"admin-user": "YQ==", "admin-password": "Yg==", "of-somebody-else": "Yw=="});
        let again = grafana_login(Some(&there), || panic!("no second password")).unwrap();
        assert_eq!(again.data["data"], json!({"admin-user": "YQ==", "admin-password": "Yg=="}));
    }
}
