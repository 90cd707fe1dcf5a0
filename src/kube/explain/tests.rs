use k8s_openapi::api::core::v1::Event;
use serde_json::json;

use super::*;

#[allow(clippy::needless_pass_by_value, reason = "callers hand over json!(…)")]
fn pod(status: Value) -> Pod {
    let long_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(100);
    serde_json::from_value(json!({
        "metadata": {"name": "p", "creationTimestamp": long_ago.to_string()},
        "status": status,
    }))
    .unwrap()
}

fn found(status: Value, events: &Events) -> Option<Problem> {
    pods::pod_problem("a", &pod(status), events).map(|found| found.problem)
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"phase": "Pending", "containerStatuses": [{
        "name": "web", "image": "user-app:1", "imageID": "", "ready": false, "restartCount": 4,
        "state": {"waiting": {"reason": reason, "message": message}},
        "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}}}]})
}

fn warning(kind: &str, name: &str, reason: &str, message: &str) -> Event {
    serde_json::from_value(json!({
        "metadata": {"name": "e", "creationTimestamp": jiff::Timestamp::now().to_string()},
        "involvedObject": {"kind": kind, "name": name}, "type": "Warning", "reason": reason, "message": message,
        "lastTimestamp": jiff::Timestamp::now().to_string(),
    }))
    .unwrap()
}

#[test]
fn images() {
    let none = Events::default();
    let never = found(waiting("ErrImageNeverPull", "not present"), &none).unwrap();
    assert!(never.fatal && never.remedy.unwrap().contains("user-app:1"));
    assert!(found(waiting("ImagePullBackOff", "rpc error: manifest unknown"), &none).unwrap().fatal);
    let unreachable = found(waiting("ErrImagePull", "dial tcp: i/o timeout"), &none).unwrap();
    assert!(!unreachable.fatal && unreachable.remedy.unwrap().contains("--bundle"));
}

#[test]
fn a_crash_loop_names_the_exit_code_and_whose_log_to_read() {
    let found = pods::pod_problem("a", &pod(waiting("CrashLoopBackOff", "back-off")), &Events::default()).unwrap();
    assert_eq!(found.problem.message, "container web ended with exit code 3, 4 restarts");
    assert_eq!(found.log_of.as_deref(), Some("web"));
    assert!(found.previous);
}

#[test]
fn unschedulable_pods() {
    let status = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient memory."}]});
    let problem = found(status, &Events::default()).unwrap();
    assert_eq!(problem.reason, "Unschedulable");
    assert!(problem.remedy.unwrap().contains("--memory"));
}

#[test]
fn a_slow_start_is_explained_by_its_last_event() {
    let events = Events::from(vec![warning("Pod", "p", "FailedMount", "secret \"x\" not found")]);
    let problem = found(waiting("ContainerCreating", ""), &events).unwrap();
    assert_eq!(problem.sentence(), "Pod a/p: FailedMount: secret \"x\" not found");
}

#[test]
fn a_ready_pod_and_one_that_ends_have_no_problem() {
    let running = json!({"phase": "Running", "containerStatuses": [{
        "name": "web", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {}}}]});
    assert!(found(running, &Events::default()).is_none());
    assert!(found(json!({"phase": "Succeeded"}), &Events::default()).is_none());
}

#[test]
fn a_job_whose_work_is_done_is_kept_from_ending_by_a_container_that_others_have_added() {
    let of_job = |end: i64, beside: Value| {
        let ended = (jiff::Timestamp::now() - jiff::SignedDuration::from_secs(end)).to_string();
        let status = |name: &str, state: Value| json!({"name": name, "image": "i", "imageID": "", "ready": true, "restartCount": 0, "state": state});
        let done = json!({"terminated": {"exitCode": 0, "reason": "Completed", "finishedAt": ended}});
        let containers = [status("initdb", done), status("istio-proxy", beside)];
        let mut pod = pod(json!({"phase": "Running", "containerStatuses": containers}));
        let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": "db-1-initdb", "uid": "u"});
        pod.metadata.owner_references = Some(vec![serde_json::from_value(owner).unwrap()]);
        pods::pod_problem("a", &pod, &Events::default()).map(|found| found.problem)
    };
    let problem = of_job(45, json!({"running": {}})).unwrap();
    assert_eq!(
        problem.message,
        "container initdb has been done for 45 s, but istio-proxy beside it goes on: Job db-1-initdb does not end"
    );
    assert!(problem.remedy.unwrap().contains("native sidecar"));
    assert!(of_job(5, json!({"running": {}})).is_none(), "it is told to end, perhaps");
    assert!(of_job(45, json!({"terminated": {"exitCode": 0}})).is_none());
}

#[test]
fn a_workload_whose_pods_are_refused() {
    let object = ObjectRef::namespaced("apps/v1", "StatefulSet", "a", "db");
    let live: DynamicObject = serde_json::from_value(json!({"metadata": {"name": "db"}})).unwrap();
    let refused = "pods \"db-0\" is forbidden: violates PodSecurity \"restricted:latest\"";
    let events = Events::from(vec![
        warning("StatefulSet", "other", "FailedCreate", "not about this one"),
        warning("StatefulSet", "db", "FailedCreate", refused),
    ]);
    let problem = creation_problem(&object, &live, &events).unwrap();
    assert!(problem.fatal && problem.message == refused);
    let quota = Events::from(vec![warning("ReplicaSet", "db-5d4", "FailedCreate", "exceeded quota: q")]);
    assert!(!creation_problem(&object, &live, &quota).unwrap().fatal);
}

#[test]
fn a_database_whose_jobs_are_refused_says_what_refuses_until_the_job_has_a_pod() {
    let object = ObjectRef::namespaced("postgresql.cnpg.io/v1", "Cluster", "a", "db");
    let refused =
        "pods \"db-1-initdb-x\" is forbidden: maximum memory usage per Container is 256Mi, but limit is 512Mi";
    let events = Events::from(vec![warning("Job", "db-1-initdb", "FailedCreate", refused)]);
    let problem = job_problem(&object, &[], &events).unwrap();
    assert!(problem.remedy.unwrap().contains("LimitRange of the namespace does not allow it") && !problem.fatal);
    let started: Pod = serde_json::from_value(json!({"metadata": {"name": "db-1-initdb-x"}})).unwrap();
    assert!(job_problem(&object, &[started], &events).is_none());
}

#[test]
fn a_namespace_that_cannot_end_says_what_holds_it() {
    let object = ObjectRef::cluster("v1", "Namespace", "a");
    let live: DynamicObject = serde_json::from_value(json!({
        "metadata": {"name": "a", "deletionTimestamp": jiff::Timestamp::now().to_string()},
        "status": {"conditions": [
            {"type": "NamespaceContentRemaining", "status": "True", "message": "widgets has 1 instances"},
            {"type": "NamespaceFinalizersRemaining", "status": "True", "message": "example.com/hold in 1 instances"}]}
    }))
    .unwrap();
    let problem = terminating(&object, &live).unwrap();
    assert_eq!(problem.reason, "NamespaceFinalizersRemaining");
    assert!(problem.message.contains("example.com/hold"));
}
