use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use stackctl::kube::{Lock, ObjectRef};
use tokio::sync::watch;

use crate::harness::{Sandbox, control_plane, create, sandbox, words};

const LEASE: &str = "stackctl";

fn reference(sandbox: &Sandbox) -> ObjectRef {
    sandbox.reference("coordination.k8s.io/v1", "Lease", LEASE)
}

async fn acquire(sandbox: &Sandbox, holder: &str) -> anyhow::Result<Lock> {
    Lock::acquire(&sandbox.kube, &sandbox.namespace, LEASE, holder, &watch::Sender::new(None)).await
}

/// A lease as a process that is gone has left it.
async fn left_behind(sandbox: &Sandbox, seconds_ago: i64) {
    let time = Timestamp::from_second(Timestamp::now().as_second() - seconds_ago).unwrap();
    let time = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string();
    let spec = json!({"holderIdentity": "bob@desk, process 7", "leaseDurationSeconds": 30,
                      "acquireTime": time, "renewTime": time, "leaseTransitions": 2});
    let lease = sandbox.object("coordination.k8s.io/v1", "Lease", LEASE, json!({"spec": spec}));
    create(&sandbox.kube, serde_json::to_value(lease).unwrap()).await;
}

async fn spec(sandbox: &Sandbox) -> Value {
    sandbox.get(&reference(sandbox)).await.expect("there is no lease").data["spec"].clone()
}

#[tokio::test]
async fn held_renewed_and_given_back() {
    let sandbox = sandbox("lease").await;
    let lock = acquire(&sandbox, "alice@laptop, process 1").await.unwrap();
    let first = spec(&sandbox).await;
    assert_eq!(first["leaseDurationSeconds"], 30);

    let began = Instant::now();
    let text = words(&acquire(&sandbox, "bob@desk, process 7").await.err().expect("it must be refused"));
    assert!(text.contains("alice@laptop, process 1 since 20") && text.contains("expires in"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(2), "refused at once");

    tokio::time::sleep(Duration::from_secs(7)).await;
    let renewed = spec(&sandbox).await;
    assert_ne!(first["renewTime"], renewed["renewTime"]);
    assert_eq!(first["acquireTime"], renewed["acquireTime"]);

    lock.close().await;
    assert!(sandbox.get(&reference(&sandbox)).await.is_none());
    acquire(&sandbox, "bob@desk, process 7").await.unwrap().close().await;
}

#[tokio::test]
async fn of_many_at_once_one_gets_it() {
    let sandbox = sandbox("lease-race").await;
    let names: Vec<String> = (0..8).map(|number| format!("process {number}")).collect();
    let outcomes = futures::future::join_all(names.iter().map(|name| acquire(&sandbox, name))).await;
    let won: Vec<_> = outcomes.iter().flatten().collect();
    assert_eq!(won.len(), 1);
    for refusal in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(words(refusal).contains("someone else is at work"), "{}", words(refusal));
    }
}

#[tokio::test]
async fn an_expired_lease_is_taken_over_by_one() {
    let sandbox = sandbox("lease-expired").await;
    left_behind(&sandbox, 3600).await;
    let (a, b) = tokio::join!(acquire(&sandbox, "a"), acquire(&sandbox, "b"));
    assert!(a.is_ok() != b.is_ok());
    let now = spec(&sandbox).await;
    assert_eq!(now["holderIdentity"], if a.is_ok() { "a" } else { "b" });
    assert_eq!(now["leaseTransitions"], 3);
}

#[tokio::test]
async fn a_holder_whose_clock_differs_is_seen_to_be_alive() {
    let sandbox = sandbox("lease-clock").await;
    left_behind(&sandbox, 3600).await;
    let renew = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let api = sandbox.kube.api(&reference(&sandbox)).await.unwrap();
        let patch = kube::api::Patch::Merge(json!({"spec": {"leaseTransitions": 9}}));
        api.patch(LEASE, &kube::api::PatchParams::default(), &patch).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(acquire(&sandbox, "alice"), renew);
    assert!(words(&outcome.err().expect("it must be refused")).contains("bob@desk, process 7"));
}

#[tokio::test]
async fn one_that_was_taken_over_is_left_to_its_new_holder() {
    let sandbox = sandbox("lease-lost").await;
    let lost = watch::Sender::new(None);
    let lock = Lock::acquire(&sandbox.kube, &sandbox.namespace, LEASE, "alice", &lost).await.unwrap();
    let api = sandbox.kube.api(&reference(&sandbox)).await.unwrap();
    let patch = kube::api::Patch::Merge(json!({"spec": {"holderIdentity": "bob", "leaseTransitions": 1}}));
    api.patch(LEASE, &kube::api::PatchParams::default(), &patch).await.unwrap();
    let mut told = lost.subscribe();
    let by = tokio::time::timeout(Duration::from_secs(15), told.wait_for(Option::is_some)).await;
    assert_eq!(by.expect("the loser is told").unwrap().as_deref(), Some("bob"));
    lock.close().await;
    assert_eq!(spec(&sandbox).await["holderIdentity"], "bob");
}

#[tokio::test]
async fn closing_tolerates_that_it_is_gone() {
    let sandbox = sandbox("lease-gone").await;
    let lock = acquire(&sandbox, "alice").await.unwrap();
    let api = sandbox.kube.api(&reference(&sandbox)).await.unwrap();
    api.delete(LEASE, &kube::api::DeleteParams::default()).await.unwrap();
    let began = Instant::now();
    lock.close().await;
    assert!(began.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_named() {
    let kube = control_plane().connect().await;
    let error = Lock::acquire(&kube, "lease-nowhere", LEASE, "alice", &watch::Sender::new(None))
        .await
        .err()
        .expect("it must be refused");
    assert!(words(&error).contains("there is no namespace lease-nowhere"), "{}", words(&error));
}
