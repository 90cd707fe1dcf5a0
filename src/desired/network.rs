//! The stack's own NetworkPolicies, which are applied where they are enforced or asked for: what of them depends on where
//! backups go and on where the API server listens.

use std::collections::BTreeSet;

use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::{
    assets::{Part, kind},
    backup::STORE,
    cli::{Extra, Optional},
    config::{Backup, BackupStore},
    context::Context,
    error::one_line,
};

/// The ports by which policies know the API server without asking: its Service's, and those that it usually listens on.
const API_PORTS: [u16; 3] = [443, 6443, 8443];

/// Whether the stack gets policies, as far as that is known without asking the cluster: where they are asked for, and where
/// they are enforced or others' are there already, which would leave the stack cut off without some of its own. Those that it
/// has stay: who may not look, or looks while a network is being replaced, finds nobody that enforces them.
pub(super) fn are_wanted(cx: &Context) -> bool {
    let config = &cx.config;
    !config.without.contains(&Optional::NetworkPolicies)
        && (config.with.contains(&Extra::NetworkPolicies)
            || cx.known_policy_enforcer().is_some()
            || cx.is_on_record(Part::Base, "NetworkPolicy"))
}

/// Leaves the policies out of the rendered `objects` that were not asked for, and has the others name the store for backups
/// that there is. The policy of a store in the cluster belongs to the store.
pub(super) fn finish(are_wanted: bool, backup: Option<&Backup>, objects: &mut Vec<DynamicObject>) {
    objects.retain(|object| {
        kind(object) != "NetworkPolicy" || are_wanted || object.metadata.name.as_deref() == Some(STORE)
    });
    let Some(Backup { store: BackupStore::Bucket { endpoint, .. }, .. }) = backup else { return };
    for egress in policies(objects).filter_map(|policy| policy.pointer_mut("/spec/egress")?.as_array_mut()) {
        for rule in egress.iter_mut().filter(|rule| rule.to_string().contains(STORE)) {
            // Wherever it is: a policy knows no names.
            *rule = json!({"ports": [{"port": port_of(endpoint), "protocol": "TCP"}]});
        }
    }
}

/// The port of an endpoint, e.g. `https://s3.example.com`.
fn port_of(endpoint: &str) -> u16 {
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("https", endpoint));
    let host = rest.split('/').next().unwrap_or(rest);
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.unwrap_or(if scheme == "http" { 80 } else { 443 })
}

fn policies(objects: &mut [DynamicObject]) -> impl Iterator<Item = &mut Value> {
    objects.iter_mut().filter(|object| kind(object) == "NetworkPolicy").map(|object| &mut object.data)
}

/// Adds the ports that this cluster's API server listens on to the rules that have the usual ones.
pub(super) async fn complete(cx: &Context, part: Part, objects: &mut [DynamicObject]) {
    if !matches!(part, Part::Database | Part::FailoverHelper) || policies(objects).next().is_none() {
        return;
    }
    let ports = async { cx.kube().await?.api_server_ports().await };
    match ports.await {
        Ok(ports) => add_api_ports(objects, &ports),
        Err(error) => tracing::debug!("where the API server listens cannot be told: {}", one_line(&error)),
    }
}

fn add_api_ports(objects: &mut [DynamicObject], found: &BTreeSet<u16>) {
    let usual = |rule: &Value| {
        let all = rule["ports"].as_array();
        all.is_some_and(|all| API_PORTS.iter().all(|port| all.iter().any(|one| one["port"] == *port)))
    };
    for policy in policies(objects) {
        let rules = policy["spec"]["egress"].as_array_mut().into_iter().flatten().filter(|rule| usual(rule));
        for ports in rules.filter_map(|rule| rule["ports"].as_array_mut()) {
            let new = found.iter().filter(|port| !API_PORTS.contains(port));
            ports.extend(new.map(|port| json!({"port": port, "protocol": "TCP"})));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [Part; 5] = [Part::Base, Part::Backup, Part::Database, Part::FailoverHelper, Part::Web];

    /// Everything of ours in the stack's namespace, with the policies.
    fn stack() -> Vec<DynamicObject> {
        let all = PARTS.into_iter().flat_map(|part| part.embedded().unwrap());
        let mut objects: Vec<_> =
            all.filter(|object| object.metadata.namespace.as_deref() == Some("user-app")).collect();
        finish(true, None, &mut objects);
        objects
    }

    fn policy<'a>(objects: &'a [DynamicObject], name: &str) -> &'a Value {
        let found =
            objects.iter().find(|one| kind(one) == "NetworkPolicy" && one.metadata.name.as_deref() == Some(name));
        &found.unwrap_or_else(|| panic!("no policy {name}")).data["spec"]
    }

    /// The ports that a policy lets through in a direction, by their numbers or names.
    fn ports(policy: &Value, direction: &str) -> BTreeSet<String> {
        let rules = policy[direction].as_array().cloned().unwrap_or_default();
        let ports = rules.iter().flat_map(|rule| rule["ports"].as_array().unwrap());
        ports.map(|port| port["port"].to_string().trim_matches('"').to_owned()).collect()
    }

    fn pods(object: &DynamicObject) -> Option<&Value> {
        object.data.pointer("/spec/template/spec").filter(|_| ["Deployment", "StatefulSet"].contains(&kind(object)))
    }

    #[test]
    fn every_port_that_a_service_or_prometheus_leads_to_is_let_in() {
        let objects = stack();
        for service in objects.iter().filter(|object| kind(object) == "Service") {
            let app = service.data["spec"]["selector"]["app.kubernetes.io/name"].as_str().unwrap();
            let workload = objects.iter().find(|one| pods(one).is_some() && one.metadata.name.as_deref() == Some(app));
            let container = &pods(workload.unwrap()).unwrap()["containers"][0];
            let allowed = ports(policy(&objects, app), "ingress");
            for port in service.data["spec"]["ports"].as_array().unwrap() {
                let name = port["targetPort"].as_str().unwrap();
                let all = container["ports"].as_array().unwrap();
                let number = all.iter().find(|one| one["name"] == name).unwrap()["containerPort"].to_string();
                assert!(allowed.contains(name) || allowed.contains(&number), "{app}: {name} ({number}) in {allowed:?}");
            }
        }
        let web = objects
            .iter()
            .find(|object| kind(object) == "Deployment" && object.metadata.name.as_deref() == Some("user-app"));
        let scraped = &web.unwrap().data["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"];
        assert!(ports(policy(&objects, "user-app"), "ingress").contains(scraped.as_str().unwrap()));
    }

    #[test]
    fn every_container_port_is_let_in_or_is_for_the_kubelet_alone() {
        let objects = stack();
        for object in &objects {
            let Some(spec) = pods(object) else { continue };
            let allowed = ports(policy(&objects, object.metadata.name.as_deref().unwrap()), "ingress");
            for container in spec["containers"].as_array().unwrap() {
                for port in container["ports"].as_array().into_iter().flatten() {
                    let (name, number) = (port["name"].as_str().unwrap(), port["containerPort"].to_string());
                    assert!(allowed.contains(name) || allowed.contains(&number) || name == "probes", "{name} {number}");
                }
            }
        }
    }

    #[test]
    fn every_server_that_a_container_is_told_of_can_be_reached() {
        let objects = stack();
        let web = policy(&objects, "user-app");
        let workload =
            objects.iter().find(|one| pods(one).is_some() && one.metadata.name.as_deref() == Some("user-app"));
        let spec = pods(workload.unwrap()).unwrap();
        let all = ["initContainers", "containers"].into_iter().flat_map(|list| spec[list].as_array().unwrap());
        let hosts: BTreeSet<String> = all
            .flat_map(|container| container["env"].as_array().unwrap())
            .filter(|variable| variable["name"].as_str().unwrap().ends_with("_HOST"))
            .map(|variable| variable["value"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(hosts, ["user-db-ro".to_owned(), "user-db-rw".to_owned()].into(), "all are the database's Services");
        for needed in ["53", "5432"] {
            assert!(ports(web, "egress").contains(needed), "{needed}");
        }
        let store = objects.iter().find(|object| kind(object) == "ObjectStore").unwrap();
        let endpoint = store.data["spec"]["configuration"]["endpointURL"].as_str().unwrap();
        let database = policy(&objects, "user-db");
        for needed in ["53", "5432", "8000", "443", "6443", "8443", &port_of(endpoint).to_string()] {
            assert!(ports(database, "egress").contains(needed), "{needed}");
        }
        assert_eq!(ports(database, "ingress"), ["5432", "8000", "9187"].map(str::to_owned).into());
        let helper = policy(&objects, "failover-helper");
        assert!(ports(helper, "egress").contains("6443") && ports(helper, "ingress").is_empty());
        for policy in [web, database, helper] {
            assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]), "what no rule names is denied");
        }
    }

    #[test]
    fn what_runs_for_a_while_reaches_what_it_is_for_and_nobody_reaches_it() {
        let objects = stack();
        for (name, needed) in [
            ("stackctl-drill-prober", &["53", "5353", "5432", "8080"][..]),
            ("stackctl-load", &["53", "5353", "8080"]),
            ("backup-reader", &["53", "5353", "7070"]),
        ] {
            let policy = policy(&objects, name);
            assert_eq!(ports(policy, "egress"), needed.iter().map(|port| (*port).to_owned()).collect(), "{name}");
            assert!(ports(policy, "ingress").is_empty(), "{name}");
            // As its pods are called (src/drills/prober/pod.rs, src/load/sender.rs, src/backup/store.rs).
            assert_eq!(policy["podSelector"]["matchLabels"]["app.kubernetes.io/name"], name);
            assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
        }
    }

    #[test]
    fn a_restored_database_reaches_what_the_apps_does_and_the_app_does_not_reach_it() {
        let objects = stack();
        let (apps, restored) = (policy(&objects, "user-db"), policy(&objects, "user-db-restored"));
        assert_eq!(ports(restored, "egress"), ports(apps, "egress"));
        assert_eq!(restored["podSelector"]["matchLabels"]["stackctl/restored"], "user-app");
        let text = restored["ingress"].to_string();
        assert!(text.contains("cnpg-system") && !text.contains("app.kubernetes.io/name"), "{text}");
    }

    #[test]
    fn who_is_let_in_is_called_as_its_pods_are() {
        let objects = stack();
        let text = serde_json::to_string(policy(&objects, "user-db")).unwrap();
        let cluster = objects.iter().find(|object| kind(object) == "Cluster").unwrap();
        let serves = &cluster.data["spec"]["inheritedMetadata"]["labels"]["stackctl/serves"];
        assert_eq!(policy(&objects, "user-db")["podSelector"]["matchLabels"]["stackctl/serves"], *serves);
        // The name of the prober's pod is its label (src/drills/prober/pod.rs).
        assert!(text.contains("stackctl-drill-prober"), "{text}");
        for object in objects.iter().filter(|object| pods(object).is_some()) {
            let labels = &object.data["spec"]["template"]["metadata"]["labels"];
            let selected = &policy(&objects, object.metadata.name.as_deref().unwrap())["podSelector"]["matchLabels"];
            assert_eq!(selected["app.kubernetes.io/name"], labels["app.kubernetes.io/name"]);
        }
    }

    #[test]
    fn without_the_option_only_the_stores_own_policy_is_there() {
        let mut objects: Vec<_> = PARTS.into_iter().flat_map(|part| part.embedded().unwrap()).collect();
        finish(false, None, &mut objects);
        let names: Vec<_> = objects.iter().filter(|object| kind(object) == "NetworkPolicy").collect();
        assert_eq!(names.iter().filter_map(|one| one.metadata.name.as_deref()).collect::<Vec<_>>(), [STORE]);
    }

    #[test]
    fn a_bucket_and_an_unusual_api_server_are_let_through_by_their_ports() {
        for (endpoint, port) in [("https://s3.example.com", 443), ("http://minio:9000/x", 9000), ("http://a", 80)] {
            assert_eq!(port_of(endpoint), port);
        }
        let store = BackupStore::Bucket {
            endpoint: "https://minio.example.com:9000".into(),
            bucket: "b".into(),
            secret: "s".into(),
            region: None,
            ca: None,
        };
        let backup = Backup { store, keep: "7d".into(), schedule: "0 0 3 * * *".into() };
        let mut objects = Part::Database.embedded().unwrap();
        finish(true, Some(&backup), &mut objects);
        add_api_ports(&mut objects, &[16443, 6443].into());
        let allowed = ports(policy(&objects, "user-db"), "egress");
        assert!(allowed.contains("9000") && !allowed.contains("7070"), "{allowed:?}");
        assert!(allowed.contains("16443"), "{allowed:?}");
    }
}
