//! Why the store does not take what an instance has for it, in words: as that instance's sidecar logged it, without
//! asking the store, which may be the one that does not answer.

use anyhow::Context as _;
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use kube::{Api, api::LogParams};

use super::{SIDECAR, STORE, Store};
use crate::{error::Result, kube::Kube};

/// Lines of its log that are looked into.
const LINES: i64 = 80;

/// A cause and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// One sentence without a full stop.
    pub what: String,
    /// Commands ready to paste where there are any.
    pub remedy: String,
}

/// Reads it of the instance `pod`.
///
/// # Errors
/// The API server does not answer, or `pod` has no log.
pub async fn read(kube: &Kube, namespace: &str, pod: &str, store: &Store) -> Result<Cause> {
    if store.is_in_cluster() {
        let stores: Api<StatefulSet> = Api::namespaced(kube.client(), namespace);
        let ready = stores.get_opt(STORE).await?.and_then(|found| found.status?.ready_replicas).unwrap_or(0);
        if ready == 0 {
            return Ok(Cause {
                what: "the store in the cluster does not run".into(),
                remedy: format!("kubectl -n {namespace} describe statefulset,pod -l app.kubernetes.io/name={STORE}"),
            });
        }
    }
    let params = LogParams { container: Some(SIDECAR.into()), tail_lines: Some(LINES), ..LogParams::default() };
    let pods: Api<Pod> = Api::namespaced(kube.client(), namespace);
    let log = pods.logs(pod, &params).await.with_context(|| format!("cannot read the log of {pod}"))?;
    let found = log.lines().rev().find_map(|line| in_words(line, namespace, store));
    Ok(found.unwrap_or_else(|| Cause {
        what: "the cause is not known".into(),
        remedy: format!("kubectl -n {namespace} logs {pod} -c {SIDECAR} tells more"),
    }))
}

/// What a line of the sidecar's log means, if it is one of the known ones.
fn in_words(line: &str, namespace: &str, store: &Store) -> Option<Cause> {
    let any = |words: &[&str]| words.iter().any(|word| line.contains(word));
    let Store { destination, endpoint, secret, .. } = store;
    let restart = format!("kubectl -n {namespace} rollout restart statefulset {STORE}");
    // The store in the cluster is stackctl's own: what helps a bucket of the user's does not help there.
    let either = |in_cluster: &str, own: &str| if store.is_in_cluster() { in_cluster } else { own }.to_owned();
    let (what, remedy) = if any(&["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "(403)"]) {
        let own = format!("correct the Secret {secret}: it is read anew at every use");
        let what = format!("the store refuses the credentials of Secret {secret}");
        (what, either(&format!("{restart} has it take those that the Secret has now"), &own))
    } else if any(&["NoSuchBucket", "(404)"]) {
        let own = "create it, or name another one: stackctl up --backup-s3 ENDPOINT,BUCKET,SECRET";
        (format!("the bucket of {destination} is not there"), either(&format!("{restart} makes it anew, empty"), own))
    } else if any(&["no space left", "No space left", "QuotaExceeded", "InsufficientStorage"]) {
        let less = "keep less: stackctl up --backup-keep 2d";
        let more = format!("{less}, or a larger volume: --backup-storage 20Gi");
        ("the store is full".into(), either(&more, &format!("make room there, or {less}")))
    } else if any(&["Expected empty archive"]) {
        let what = format!("{destination} has the WAL of another database under this name already");
        (what, "name another folder: stackctl up --backup-s3 ENDPOINT,BUCKET/FOLDER,SECRET".into())
    } else if any(&["is in the archive already"]) {
        let what = format!("{destination} has a WAL segment of another content under the same name");
        let logs = format!("kubectl -n {namespace} logs -l cnpg.io/podRole=instance -c {SIDECAR}");
        (what, format!("{logs} names it: move the object away if this primary is the right one"))
    } else if any(&["Could not connect", "EndpointConnectionError", "Connect timeout", "Read timeout", "closed before"])
    {
        let pods = format!("kubectl -n {namespace} describe pod -l app.kubernetes.io/name={STORE}");
        let what = format!("the store at {endpoint} does not answer");
        (what, either(&pods, "it must be in reach of the cluster's pods"))
    } else if line.contains("secrets") && line.contains("not found") {
        let own = format!("create it in the namespace {namespace}: it is read anew at every use");
        (format!("the Secret {secret} is not there"), either("stackctl up makes it", &own))
    } else {
        return None;
    };
    Some(Cause { what, remedy })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(secret: &str) -> Store {
        Store {
            endpoint: "http://s:7070".into(),
            destination: "s3://b/".into(),
            secret: secret.into(),
            region: None,
            ca: None,
            pull_secret: None,
            keep: None,
            noted: serde_json::Value::Null,
        }
    }

    #[test]
    fn causes_are_put_into_words() {
        let words = |line: &str| in_words(line, "team-a", &store("keys")).map(|cause| cause.what).unwrap_or_default();
        assert!(
            words("An error occurred (403) when calling the HeadBucket operation: Forbidden").contains("Secret keys")
        );
        assert!(words("botocore: Could not connect to the endpoint URL").contains("does not answer"));
        assert!(words("WAL archive check failed: Expected empty archive").contains("another database"));
        assert_eq!(words("OSError: [Errno 28] No space left on device"), "the store is full");
        assert!(words("ERROR: a/db/wals/x.zst is in the archive already, and its content").contains("another content"));
        assert_eq!(words("Backup completed"), "");
    }

    #[test]
    fn what_helps_depends_on_whose_store_it_is() {
        let remedy = |secret: &str| in_words("SignatureDoesNotMatch", "team-a", &store(secret)).unwrap().remedy;
        assert_eq!(remedy("keys"), "correct the Secret keys: it is read anew at every use");
        assert!(remedy(STORE).starts_with("kubectl -n team-a rollout restart statefulset backup-store"));
    }
}
