//! User ids that the cluster gives: found out by what it serves.

use serde_json::json;
use stackctl::{assets::Part, desired, kube::Kube};

use crate::{
    harness::{ControlPlane, create},
    images::context,
};

/// Parts with pods, upstream's operator and plugin among them.
const PARTS: [Part; 6] =
    [Part::Operator, Part::Backup, Part::Autoscaling, Part::Web, Part::FailoverHelper, Part::Monitoring];

/// The parts of which something names an id.
async fn name_ids(plane: &ControlPlane) -> Vec<Part> {
    let cache = tempfile::tempdir().unwrap();
    let cx = context(plane, cache.path(), |_| {});
    let mut found = Vec::new();
    for part in PARTS {
        let mut objects = desired::desired(&cx, part).await.unwrap();
        // The kinds of pods' specifications have such fields.
        objects.retain(|object| object.types.as_ref().is_some_and(|types| types.kind != "CustomResourceDefinition"));
        let text = serde_json::to_string(&objects).unwrap();
        assert!(text.contains("\"runAsNonRoot\":true"), "{part:?}");
        if ["\"runAsUser\":", "\"fsGroup\":", "\"runAsGroup\":"].iter().any(|id| text.contains(id)) {
            found.push(part);
        }
    }
    found
}

/// The kind by which OpenShift decides what ids a pod may have.
async fn serve_constraints(kube: &Kube) {
    let version = json!({"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    let names = json!({"plural": "securitycontextconstraints", "singular": "securitycontextconstraints",
        "kind": "SecurityContextConstraints", "listKind": "SecurityContextConstraintsList"});
    let kind = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "securitycontextconstraints.security.openshift.io"},
        "spec": {"group": "security.openshift.io", "scope": "Cluster", "names": names, "versions": [version]}});
    create(kube, kind).await;
    for _ in 0..50 {
        if kube.knows("security.openshift.io/v1", "SecurityContextConstraints").await.unwrap() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    panic!("the kind is not served");
}

#[tokio::test]
async fn where_the_cluster_gives_user_ids_no_pod_of_the_stack_names_any() {
    let plane = ControlPlane::of_its_own();
    assert_eq!(name_ids(&plane).await, PARTS);
    serve_constraints(&plane.connect().await).await;
    assert_eq!(name_ids(&plane).await, []);
}
