//! Which Cluster the manifests are about: the one that they name, or a restored one that has taken its place.

use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::{assets::kind, names::DATABASE};

/// What the names of a Cluster's Services and Secrets end with, as far as the app uses them.
const SUFFIXES: [&str; 4] = ["-rw", "-ro", "-app", "-ca"];

/// Makes `objects`, as they are embedded, those of the Cluster `name`.
pub fn of_cluster(objects: &mut [DynamicObject], name: &str) {
    for object in objects {
        match kind(object) {
            "Cluster" => {
                object.metadata.name = Some(name.to_owned());
                // Said although it is the default: one that was restored says it, too.
                let parameters = object.data.pointer_mut("/spec/plugins/0/parameters").filter(|_| name != DATABASE);
                if let Some(parameters) = parameters {
                    parameters["serverName"] = json!(name);
                }
            }
            // Which Cluster it is of cannot be changed: each has one of its own.
            "ScheduledBackup" => {
                object.metadata.name = Some(name.to_owned());
                object.data["spec"]["cluster"]["name"] = json!(name);
            }
            _ => follow(object, DATABASE, name),
        }
    }
}

/// The merge patch by which a live Deployment or Role names the Cluster `to` where it names one of `from`; `None` where it
/// names none of them.
pub fn patch_to_follow(live: &DynamicObject, from: &[String], to: &str) -> Option<Value> {
    let mut followed = live.clone();
    from.iter().filter(|from| *from != to).for_each(|from| follow(&mut followed, from, to));
    (followed.data != live.data).then(|| match kind(live) {
        "Role" => json!({"rules": followed.data["rules"]}),
        _ => json!({"spec": {"template": followed.data["spec"]["template"]}}),
    })
}

/// Has a Deployment, or a Role, name the Cluster `to` instead of `from`.
fn follow(object: &mut DynamicObject, from: &str, to: &str) {
    match kind(object) {
        "Deployment" => {
            let template = &mut object.data["spec"]["template"];
            redirect(template, from, to);
            let containers = template["spec"]["containers"].as_array_mut().into_iter().flatten();
            containers.filter_map(|container| container.get_mut("args")).for_each(|args| rename(args, from, to));
        }
        // What may be done to the Cluster and its Lease.
        "Role" => {
            let rules = object.data["rules"].as_array_mut().into_iter().flatten();
            rules.filter_map(|rule| rule.get_mut("resourceNames")).for_each(|names| rename(names, from, to));
        }
        _ => {}
    }
}

/// Replaces the name of the Cluster itself in a list of texts.
fn rename(list: &mut Value, from: &str, to: &str) {
    list.as_array_mut().into_iter().flatten().filter(|one| **one == from).for_each(|one| *one = json!(to));
}

/// Replaces the names of the Services and Secrets of one Cluster by those of another.
fn redirect(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) => {
            if let Some(suffix) = text.strip_prefix(from).filter(|suffix| SUFFIXES.contains(suffix)) {
                *text = format!("{to}{suffix}");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| redirect(item, from, to)),
        Value::Object(fields) => fields.values_mut().for_each(|field| redirect(field, from, to)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::Part;

    fn named(part: Part, name: &str) -> Vec<DynamicObject> {
        let mut objects = part.embedded().unwrap();
        of_cluster(&mut objects, name);
        objects
    }

    #[test]
    fn the_app_uses_the_services_and_secrets_of_the_cluster_that_took_over() {
        let there_and_back = |from: &str, to: &str| {
            let mut web = serde_json::to_value(named(Part::Web, from)).unwrap();
            redirect(&mut web, from, to);
            web
        };
        let text = serde_json::to_string(&named(Part::Web, "user-db-then")).unwrap();
        for name in ["user-db-then-rw", "user-db-then-ro", "user-db-then-app", "user-db-then-ca"] {
            assert!(text.contains(&format!("\"{name}\"")), "{name}");
        }
        assert!(!text.contains("\"user-db-rw\"") && text.contains("\"/run/secrets/user-db\""), "{text}");
        assert_eq!(
            there_and_back("user-db-then", DATABASE),
            serde_json::to_value(Part::Web.embedded().unwrap()).unwrap()
        );
    }

    #[test]
    fn the_failover_helper_follows_and_may_touch_no_other_database() {
        let text = serde_json::to_string(&named(Part::FailoverHelper, "user-db-then")).unwrap();
        assert!(!text.contains("\"user-db\""), "{text}");
        assert!(text.contains(r#""args":["user-db-then"]"#), "{text}");
        assert_eq!(text.matches(r#""resourceNames":["user-db-then"]"#).count(), 3, "{text}");
    }

    #[test]
    fn what_is_live_follows_from_whichever_cluster_it_names_and_is_left_alone_where_it_does_already() {
        let parts = [Part::Web, Part::FailoverHelper];
        let wanted: Vec<DynamicObject> = parts.into_iter().flat_map(|part| named(part, "user-db-then")).collect();
        let others = [DATABASE, "user-db-before"].map(str::to_owned);
        let patched = |live: &DynamicObject| patch_to_follow(live, &others, "user-db-then");
        for name in [DATABASE, "user-db-before"] {
            let live = parts.into_iter().flat_map(|part| named(part, name));
            let changes: Vec<_> =
                live.zip(&wanted).filter_map(|(live, wanted)| Some((patched(&live)?, wanted))).collect();
            assert_eq!(changes.len(), 3, "the app, the helper, and what the helper may do");
            for (change, wanted) in changes {
                match kind(wanted) {
                    "Role" => assert_eq!(change["rules"], wanted.data["rules"]),
                    _ => assert_eq!(change["spec"]["template"], wanted.data["spec"]["template"]),
                }
            }
        }
        assert!(wanted.iter().all(|object| patched(object).is_none()));
    }

    #[test]
    fn the_schedule_follows() {
        let objects = named(Part::Database, "user-db-then");
        let of = |wanted: &str| objects.iter().find(|object| kind(object) == wanted).unwrap();
        assert_eq!(of("Cluster").metadata.name.as_deref(), Some("user-db-then"));
        assert_eq!(of("Cluster").data["spec"]["plugins"][0]["parameters"]["serverName"], "user-db-then");
        assert_eq!(of("ScheduledBackup").data["spec"]["cluster"]["name"], "user-db-then");
        assert_eq!(of("ScheduledBackup").metadata.name.as_deref(), Some("user-db-then"));
    }
}
