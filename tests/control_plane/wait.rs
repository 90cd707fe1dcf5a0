use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use stackctl::{
    error::kind_of,
    kube::{ObjectRef, Problem, Readiness, WaitEvent, wait_ready},
};

use crate::harness::{Sandbox, create, sandbox, set_status, words};

fn within(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

async fn wait(sandbox: &Sandbox, object: &ObjectRef, deadline: Instant) -> (anyhow::Result<()>, Vec<Problem>) {
    let problems = Mutex::new(Vec::new());
    let on = |event: WaitEvent| {
        if let WaitEvent::Problem(problem) = event {
            problems.lock().unwrap().push(problem);
        }
    };
    let outcome = wait_ready(&sandbox.kube, std::slice::from_ref(object), deadline, &on).await;
    (outcome, problems.into_inner().unwrap())
}

fn ready_status() -> Value {
    json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1})
}

#[tokio::test]
async fn what_is_ready_costs_one_list() {
    let sandbox = sandbox("wait-ready").await;
    let names = ["a", "b"];
    sandbox.apply(&names.map(|name| sandbox.deployment(name))).await.unwrap();
    let references = names.map(|name| sandbox.reference("apps/v1", "Deployment", name));
    for reference in &references {
        set_status(&sandbox.kube, reference, ready_status()).await;
    }
    let requests = sandbox.kube.requests();
    wait_ready(&sandbox.kube, &references, within(5), &|_| {}).await.unwrap();
    assert_eq!(sandbox.kube.requests() - requests, 1);
}

#[tokio::test]
async fn a_change_is_seen_at_once() {
    let sandbox = sandbox("wait-watch").await;
    sandbox.apply(&[sandbox.deployment("web")]).await.unwrap();
    let reference = sandbox.reference("apps/v1", "Deployment", "web");
    let states = Mutex::new(Vec::new());
    let on = |event: WaitEvent| {
        if let WaitEvent::State { readiness, .. } = event {
            states.lock().unwrap().push(readiness);
        }
    };
    let wait = async {
        wait_ready(&sandbox.kube, std::slice::from_ref(&reference), within(20), &on).await.unwrap();
        Instant::now()
    };
    let write = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        set_status(&sandbox.kube, &reference, ready_status()).await;
        Instant::now()
    };
    let (seen, written) = tokio::join!(wait, write);
    assert!(seen.saturating_duration_since(written) < Duration::from_millis(700), "watched, not polled");
    let states = states.into_inner().unwrap();
    assert!(!states[0].is_ready());
    assert_eq!(states.last(), Some(&Readiness::Ready("1/1 pods ready".into())));
}

#[tokio::test]
async fn an_object_that_is_made_later_is_waited_for() {
    let sandbox = sandbox("wait-later").await;
    let reference = sandbox.reference("v1", "Secret", "later");
    let make = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        create(&sandbox.kube, serde_json::to_value(sandbox.object("v1", "Secret", "later", json!({}))).unwrap()).await;
    };
    let ((outcome, _), ()) = tokio::join!(wait(&sandbox, &reference, within(15)), make);
    outcome.unwrap();
}

#[tokio::test]
async fn the_deadline_names_what_is_not_ready() {
    let sandbox = sandbox("wait-deadline").await;
    sandbox.apply(&[sandbox.deployment("web")]).await.unwrap();
    let reference = sandbox.reference("apps/v1", "Deployment", "web");
    let (outcome, _) = wait(&sandbox, &reference, within(2)).await;
    let error = outcome.unwrap_err();
    assert_eq!(kind_of(&error).exit_code(), 5);
    let text = words(&error);
    assert!(text.contains("Deployment test-wait-deadline/web: waiting for its controller"), "{text}");
    assert!(text.contains("--timeout"), "{text}");
}

async fn pod(sandbox: &Sandbox, name: &str, status: Value) -> ObjectRef {
    let body = sandbox.object(
        "v1",
        "Pod",
        name,
        json!({"metadata": {"name": name, "namespace": sandbox.namespace, "labels": {"app": "web"}},
               "spec": {"containers": [{"name": "web", "image": "web:1"}]}}),
    );
    create(&sandbox.kube, serde_json::to_value(body).unwrap()).await;
    let reference = sandbox.reference("v1", "Pod", name);
    set_status(&sandbox.kube, &reference, status).await;
    reference
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"phase": "Pending", "containerStatuses": [{
        "name": "web", "image": "web:1", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": message}}}]})
}

#[tokio::test]
async fn an_image_that_is_not_there_ends_the_wait_early() {
    let sandbox = sandbox("wait-image").await;
    sandbox.apply(&[sandbox.deployment("web")]).await.unwrap();
    pod(&sandbox, "web-1", waiting("ErrImageNeverPull", "Container image \"web:1\" is not present")).await;
    let began = Instant::now();
    let reference = sandbox.reference("apps/v1", "Deployment", "web");
    let (outcome, problems) = wait(&sandbox, &reference, within(120)).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let error = outcome.unwrap_err();
    assert_eq!(kind_of(&error).exit_code(), 1);
    let text = words(&error);
    assert!(text.contains("Pod test-wait-image/web-1: ErrImageNeverPull") && text.contains("load it"), "{text}");
    assert_eq!(problems.len(), 1, "told once: {problems:?}");
}

async fn event(sandbox: &Sandbox, kind: &str, name: &str, reason: &str, message: &str) {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let body = sandbox.object(
        "v1",
        "Event",
        &format!("{name}.1"),
        json!({"involvedObject": {"kind": kind, "name": name, "namespace": sandbox.namespace},
               "type": "Warning", "reason": reason, "message": message, "firstTimestamp": now, "lastTimestamp": now}),
    );
    create(&sandbox.kube, serde_json::to_value(body).unwrap()).await;
}

#[tokio::test]
async fn what_may_pass_is_told_within_20_seconds_and_waited_for() {
    let sandbox = sandbox("wait-problems").await;
    sandbox.apply(&[sandbox.deployment("web")]).await.unwrap();
    let unschedulable = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient cpu."}]});
    pod(&sandbox, "web-1", unschedulable).await;
    pod(&sandbox, "web-2", waiting("ErrImagePull", "dial tcp: i/o timeout")).await;
    let refused = "pods \"web-3\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2";
    event(&sandbox, "ReplicaSet", "web-5d4f", "FailedCreate", refused).await;
    let reference = sandbox.reference("apps/v1", "Deployment", "web");
    let (outcome, problems) = wait(&sandbox, &reference, within(14)).await;
    let reasons: Vec<_> = problems.iter().map(|problem| problem.reason.as_str()).collect();
    // A pod without a place is often one for a moment only: that is told when it lasts.
    assert_eq!(reasons, ["ErrImagePull", "FailedCreate", "Unschedulable"]);
    let text = words(&outcome.unwrap_err());
    for part in ["Insufficient cpu", "i/o timeout", "exceeded quota: q", "--memory", "ResourceQuota"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[tokio::test]
async fn pod_security_that_refuses_ends_the_wait_early() {
    let sandbox = sandbox("wait-security").await;
    sandbox.apply(&[sandbox.deployment("web")]).await.unwrap();
    let reference = sandbox.reference("apps/v1", "Deployment", "web");
    let refused = "pods \"web-1\" is forbidden: violates PodSecurity \"restricted:latest\"";
    let status = json!({"observedGeneration": 1, "conditions": [
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": refused}]});
    set_status(&sandbox.kube, &reference, status).await;
    let (outcome, _) = wait(&sandbox, &reference, within(60)).await;
    let error = outcome.unwrap_err();
    assert_eq!(kind_of(&error).exit_code(), 1);
    assert!(words(&error).contains("pod-security.kubernetes.io/enforce"), "{}", words(&error));
}

#[tokio::test]
async fn a_claim_without_a_storage_class() {
    let sandbox = sandbox("wait-claim").await;
    let claim = sandbox.object(
        "v1",
        "PersistentVolumeClaim",
        "data",
        json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
    );
    sandbox.apply(&[claim]).await.unwrap();
    let reference = sandbox.reference("v1", "PersistentVolumeClaim", "data");
    let (outcome, _) = wait(&sandbox, &reference, within(60)).await;
    let text = words(&outcome.unwrap_err());
    assert!(text.contains("NoStorageClass") && text.contains("--storage-class"), "{text}");
}

#[tokio::test]
async fn a_failed_job_ends_the_wait_at_once() {
    let sandbox = sandbox("wait-job").await;
    let job = sandbox.object(
        "batch/v1",
        "Job",
        "j",
        json!({"spec": {"template": {"spec": {"restartPolicy": "Never",
               "containers": [{"name": "j", "image": "j:1"}]}}}}),
    );
    sandbox.apply(&[job]).await.unwrap();
    let reference = sandbox.reference("batch/v1", "Job", "j");
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "reason": "BackoffLimitExceeded",
               "message": "Job has reached the specified backoff limit"})
    };
    let status =
        json!({"startTime": now, "failed": 1, "conditions": [condition("FailureTarget"), condition("Failed")]});
    set_status(&sandbox.kube, &reference, status).await;
    let began = Instant::now();
    let (outcome, _) = wait(&sandbox, &reference, within(60)).await;
    assert!(words(&outcome.unwrap_err()).contains("BackoffLimitExceeded"));
    assert!(began.elapsed() < Duration::from_secs(3));
}
