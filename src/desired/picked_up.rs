//! Has the cluster's own Prometheus pick up our monitors and rules: they get the labels that it selects by.

use std::collections::BTreeSet;

use kube::{ResourceExt, core::DynamicObject};

use crate::{
    assets::kind,
    context::Context,
    error::{Result, one_line},
    kube::prometheus::{Labels, PrometheusInstance, Selection},
};

/// Labels the monitors and rules of `objects`. Returns, a line a namespace and kind, for which nobody would pick them up all
/// the same, and why.
///
/// # Errors
/// The cluster does not answer.
pub async fn label(cx: &Context, objects: &mut [DynamicObject]) -> Result<Vec<String>> {
    let selection = |object: &DynamicObject| selection_of(kind(object)).is_some();
    if !objects.iter().any(selection) {
        return Ok(Vec::new());
    }
    let kube = cx.kube().await?;
    let instances = match kube.prometheuses().await {
        Ok(instances) => instances,
        // Who may not see them leaves the labels to whoever may.
        Err(error) => {
            tracing::debug!("which Prometheus there is cannot be told: {}", one_line(&error));
            return Ok(Vec::new());
        }
    };
    let mut missed = BTreeSet::new();
    for object in objects.iter_mut().filter(|object| selection(object)) {
        let (namespace, of) = (object.namespace().unwrap_or_default(), kind(object).to_owned());
        let labels = kube.namespace_labels(&namespace).await?;
        match lacks(&instances, &of, (&namespace, &labels), object.labels()) {
            Ok(lacks) => object.labels_mut().extend(lacks),
            Err(why) => {
                missed.insert(format!("nobody picks up the {of}s of namespace {namespace}: {why}"));
            }
        }
    }
    Ok(missed.into_iter().collect())
}

/// What a Prometheus picks up of a kind; `None` for kinds that it does not.
fn selection_of(kind: &str) -> Option<fn(&PrometheusInstance) -> &Selection> {
    match kind {
        "PodMonitor" => Some(|instance| &instance.monitors),
        "PrometheusRule" => Some(|instance| &instance.rules),
        _ => None,
    }
}

/// The labels that an object of `kind` with `labels` needs to be picked up, or why no labels would do.
fn lacks(
    instances: &[PrometheusInstance],
    kind: &str,
    (namespace, namespace_labels): (&str, &Labels),
    labels: &Labels,
) -> std::result::Result<Labels, String> {
    let Some(selection) = selection_of(kind) else { return Ok(Labels::new()) };
    if instances.is_empty() {
        return Err("the Prometheus operator runs no Prometheus".into());
    }
    let looking = instances.iter().filter(|one| selection(one).looks_into(&one.namespace, namespace, namespace_labels));
    let looking: Vec<_> = looking.collect();
    // The one that takes it as it is, or else the one that wants least.
    let least = looking.iter().filter_map(|one| selection(one).lacks(labels)).min_by_key(Labels::len);
    least.ok_or_else(|| {
        let named = |those: &[&PrometheusInstance]| {
            let names: Vec<_> = those.iter().map(|one| format!("{}/{}", one.namespace, one.name)).collect();
            names.join(", ")
        };
        if looking.is_empty() {
            let all: Vec<_> = instances.iter().collect();
            format!("Prometheus {} does not look into it", named(&all))
        } else {
            format!("no label would have Prometheus {} select it", named(&looking))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(namespace: &str, selector: Option<&str>, everywhere: bool) -> PrometheusInstance {
        let selector = selector.map(|text| serde_json::from_str(text).unwrap());
        let namespaces = everywhere.then(Default::default);
        let monitors = Selection { objects: selector, namespaces };
        PrometheusInstance { namespace: namespace.into(), name: "main".into(), monitors, rules: Selection::default() }
    }

    fn monitor(instances: &[PrometheusInstance]) -> std::result::Result<Vec<(String, String)>, String> {
        let found = lacks(instances, "PodMonitor", ("user-app", &Labels::new()), &Labels::new());
        found.map(|labels| labels.into_iter().collect())
    }

    #[test]
    fn the_prometheus_that_wants_least_is_served() {
        let release = r#"{"matchLabels": {"release": "main"}}"#;
        let labelled = instance("watch", Some(release), true);
        assert_eq!(monitor(std::slice::from_ref(&labelled)).unwrap(), [("release".to_owned(), "main".to_owned())]);
        assert_eq!(monitor(&[labelled, instance("other", Some("{}"), true)]).unwrap(), []);
    }

    #[test]
    fn why_nobody_picks_it_up_is_told() {
        assert!(monitor(&[]).unwrap_err().contains("runs no Prometheus"));
        let elsewhere = instance("watch", Some("{}"), false);
        assert!(monitor(&[elsewhere]).unwrap_err().contains("watch/main does not look into it"));
        assert!(monitor(&[instance("watch", None, true)]).unwrap_err().contains("no label would have"));
        assert_eq!(lacks(&[], "ConfigMap", ("user-app", &Labels::new()), &Labels::new()), Ok(Labels::new()));
    }
}
