//! Spreads pods over the zones of a cluster that has several.

use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::{assets::kind, context::Context, error::one_line, kube::zones::ZONE};

/// Spreads over zones, as far as they have room, the pods of `objects` that are spread over nodes, and the instances of the
/// database. Without several zones nothing is changed.
pub async fn spread(cx: &Context, objects: &mut [DynamicObject]) {
    if !objects.iter().any(is_spread) {
        return;
    }
    let several = async { anyhow::Ok(cx.kube().await?.zones().await?.are_several()) };
    match several.await {
        Ok(true) => objects.iter_mut().for_each(spread_one),
        Ok(false) => {}
        // Who may not see nodes has them spread as the cluster does it.
        Err(error) => tracing::debug!("whether there are zones cannot be told: {}", one_line(&error)),
    }
}

fn is_spread(object: &DynamicObject) -> bool {
    kind(object) == "Cluster" || object.data.pointer(CONSTRAINTS).is_some()
}

const CONSTRAINTS: &str = "/spec/template/spec/topologySpreadConstraints";

fn spread_one(object: &mut DynamicObject) {
    let over_zones = |selector: &Value| json!({"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": selector});
    if kind(object) == "Cluster" {
        // Over nodes they are spread by their affinity.
        let name = object.metadata.name.clone().unwrap_or_default();
        let selector = json!({"matchLabels": {"cnpg.io/cluster": name, "cnpg.io/podRole": "instance"}});
        object.data["spec"]["topologySpreadConstraints"] = json!([over_zones(&selector)]);
    } else if let Some(constraints) = object.data.pointer_mut(CONSTRAINTS).and_then(Value::as_array_mut)
        && let Some(selector) = constraints.first().map(|first| first["labelSelector"].clone())
    {
        constraints.insert(0, over_zones(&selector));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::Part;

    fn spread(part: Part, wanted: &str) -> Value {
        let mut objects = part.embedded().unwrap();
        objects.iter_mut().for_each(spread_one);
        objects.iter().find(|object| kind(object) == wanted).unwrap().data["spec"].clone()
    }

    #[test]
    fn pods_are_spread_over_zones_first_and_then_over_nodes() {
        for (part, name) in [(Part::Web, "user-app"), (Part::FailoverHelper, "failover-helper")] {
            let constraints = spread(part, "Deployment")["template"]["spec"]["topologySpreadConstraints"].clone();
            let keys: Vec<_> = constraints.as_array().unwrap().iter().map(|one| one["topologyKey"].clone()).collect();
            assert_eq!(keys, [ZONE, "kubernetes.io/hostname"]);
            assert_eq!(constraints[0]["labelSelector"], json!({"matchLabels": {"app.kubernetes.io/name": name}}));
            assert_eq!(constraints[0]["whenUnsatisfiable"], "ScheduleAnyway", "a zone that is full stops no pod");
        }
        let cluster = spread(Part::Database, "Cluster");
        assert_eq!(cluster["topologySpreadConstraints"][0]["topologyKey"], ZONE);
        assert_eq!(cluster["affinity"]["topologyKey"], "kubernetes.io/hostname");
        assert_eq!(
            cluster["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]["cnpg.io/cluster"],
            "user-db"
        );
    }
}
