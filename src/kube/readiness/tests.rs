use serde_json::{Value, json};

use super::*;

fn object(api_version: &str, kind: &str, generation: i64, rest: Value) -> DynamicObject {
    let mut all = json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": {"name": "x", "namespace": "y", "generation": generation},
    });
    if let (Value::Object(all), Value::Object(rest)) = (&mut all, rest) {
        all.extend(rest);
    }
    serde_json::from_value(all).unwrap()
}

fn ready(api_version: &str, kind: &str, rest: Value) -> bool {
    is_ready(&object(api_version, kind, 2, rest))
}

#[test]
fn nothing_known_is_never_ready() {
    for (api_version, kind) in [
        ("apps/v1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "DaemonSet"),
        ("batch/v1", "Job"),
        ("v1", "Pod"),
        ("v1", "PersistentVolumeClaim"),
        ("v1", "Service"),
        ("v1", "Namespace"),
        ("autoscaling/v2", "HorizontalPodAutoscaler"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("apiregistration.k8s.io/v1", "APIService"),
        ("postgresql.cnpg.io/v1", "Cluster"),
        ("postgresql.cnpg.io/v1", "Database"),
        ("postgresql.cnpg.io/v1", "Backup"),
    ] {
        assert!(!ready(api_version, kind, json!({})), "{kind}");
        assert!(ObjectRef::cluster(api_version, kind, "x").has_readiness(), "{kind}");
    }
    assert!(ready("v1", "ConfigMap", json!({})));
    assert!(!ObjectRef::cluster("v1", "ConfigMap", "x").has_readiness());
}

#[test]
fn a_deployment_needs_the_latest_revision_everywhere() {
    let status = |observed: i64, total: i64, updated: i64, available: i64| {
        ready(
            "apps/v1",
            "Deployment",
            json!({"spec": {"replicas": 2}, "status": {"observedGeneration": observed, "replicas": total,
                   "updatedReplicas": updated, "availableReplicas": available}}),
        )
    };
    assert!(status(2, 2, 2, 2));
    assert!(!status(1, 2, 2, 2), "the status is older than the spec");
    assert!(!status(2, 3, 2, 2), "an old pod is left");
    assert!(!status(2, 2, 1, 2), "one pod is of the old revision");
    assert!(!status(2, 2, 2, 1));
}

#[test]
fn a_deployment_that_gave_up_is_failed() {
    let given_up = json!({"spec": {"replicas": 1}, "status": {"observedGeneration": 2, "conditions": [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}]}});
    let readiness = readiness(&object("apps/v1", "Deployment", 2, given_up));
    assert_eq!(readiness, Some(failed("ProgressDeadlineExceeded", "timed out")));
}

#[test]
fn a_daemon_set_without_nodes_is_ready_only_when_seen() {
    assert!(!ready("apps/v1", "DaemonSet", json!({"status": {"observedGeneration": 1}})));
    assert!(ready("apps/v1", "DaemonSet", json!({"status": {"observedGeneration": 2}})));
}

#[test]
fn an_autoscaler_needs_metrics() {
    let status = |active: &str| {
        ready(
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            json!({"spec": {"maxReplicas": 10}, "status": {"conditions": [
                {"type": "AbleToScale", "status": "True"},
                {"type": "ScalingActive", "status": active, "message": "no metrics"}]}}),
        )
    };
    assert!(status("True"));
    assert!(!status("False"));
}

fn database(instances: i64, ready_instances: i64, phase: &str, target: &str) -> Readiness {
    let rest = json!({"spec": {"instances": instances}, "status": {
        "instances": 3, "readyInstances": ready_instances, "phase": phase,
        "currentPrimary": "db-1", "targetPrimary": target,
        "conditions": [{"type": "Ready", "status": "True"}]}});
    readiness(&object("postgresql.cnpg.io/v1", "Cluster", 2, rest)).unwrap()
}

#[test]
fn a_cluster_is_ready_when_every_sign_says_so() {
    let healthy = "Cluster in healthy state";
    assert_eq!(database(3, 3, healthy, "db-1").detail(), "3/3 instances ready, primary db-1");
    assert!(database(3, 3, healthy, "db-1").is_ready());
    assert!(!database(3, 2, healthy, "db-1").is_ready());
    assert!(!database(5, 3, healthy, "db-1").is_ready(), "just scaled up, the condition is an old one");
    assert!(!database(3, 3, healthy, "db-2").is_ready(), "a switchover is under way");
    assert!(!database(3, 3, "Failing over", "db-1").is_ready());
    let old = database(3, 3, "Invalid cluster definition", "db-1");
    assert!(matches!(old, Readiness::Progressing(_)), "it may be of before the last change");
}

#[test]
fn a_cluster_without_conditions_is_not_ready() {
    let rest = json!({"spec": {"instances": 1}, "status": {"instances": 1, "readyInstances": 1,
        "phase": "Cluster in healthy state", "currentPrimary": "a", "targetPrimary": "a"}});
    assert!(!is_ready(&object("postgresql.cnpg.io/v1", "Cluster", 1, rest)));
}

#[test]
fn what_is_being_deleted_is_not_ready() {
    let mut object = object("v1", "ConfigMap", 1, json!({}));
    object.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::now()));
    assert!(!is_ready(&object));
}
