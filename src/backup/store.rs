//! Asking the object store what it holds: by a Job in the cluster, as the store need not be in reach from here, and
//! its credentials need not leave the cluster.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, Secret},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams, LogParams, PostParams},
};
use serde_json::json;

use super::{
    CA_KEY, KEY_ID, OBJECT_STORE, PULL_SECRET, REGION, SECRET_KEY, SIDECAR, SIDECAR_IMAGE, STORE, catalog::Catalog,
};
use crate::{
    error::{Result, failed, timed_out},
    kube::{Kube, ObjectRef, pods, request_failure},
    poll,
};

/// What the Job runs.
const SCRIPT: &str = include_str!("catalog.py");
/// The label that the store's NetworkPolicy lets in.
const READER: &str = "backup-reader";
/// The Job's own limit, in seconds, and when the cluster removes it if this process cannot.
const JOB_SECONDS: u32 = 90;
const REMOVED_AFTER_SECONDS: u32 = 30;
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// The object store of a stack, as its ObjectStore says.
#[derive(Debug, Clone)]
pub struct Store {
    /// The S3 endpoint.
    pub endpoint: String,
    /// `s3://bucket/folder`.
    pub destination: String,
    /// The Secret with its credentials.
    pub secret: String,
    /// The region that requests are signed for, unless it is the usual one.
    pub region: Option<String>,
    /// The Secret with the certificate of a private authority that the endpoint's comes from.
    pub ca: Option<String>,
    /// The Secret by which Jobs that ask the store may pull their image.
    pub pull_secret: Option<String>,
    /// How far back moments are kept, e.g. `7d`.
    pub keep: Option<String>,
    /// By server: what the plugin last noted.
    pub noted: serde_json::Value,
}

impl Store {
    /// The stack's store; `None` when the stack takes no backups.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn read(kube: &Kube, namespace: &str) -> Result<Option<Store>> {
        let object = ObjectRef::namespaced("barmancloud.cnpg.io/v1", "ObjectStore", namespace, OBJECT_STORE);
        Ok(kube.get(&object).await?.map(|object| Store::of(&object)))
    }

    /// Reads it from the ObjectStore.
    pub fn of(object: &DynamicObject) -> Store {
        let text = |pointer: &str| object.data.pointer(pointer).and_then(|value| value.as_str()).map(str::to_owned);
        Store {
            endpoint: text("/spec/configuration/endpointURL").unwrap_or_default(),
            destination: text("/spec/configuration/destinationPath").unwrap_or_default(),
            secret: text("/spec/configuration/s3Credentials/accessKeyId/name").unwrap_or_default(),
            region: region(object),
            ca: text("/spec/configuration/endpointCA/name"),
            pull_secret: object.metadata.annotations.as_ref().and_then(|all| all.get(PULL_SECRET)).cloned(),
            keep: text("/spec/retentionPolicy"),
            noted: object.data.pointer("/status/serverRecoveryWindow").cloned().unwrap_or_default(),
        }
    }

    /// The stack's store, for commands that need one.
    ///
    /// # Errors
    /// There is none, or the API server does not answer.
    pub async fn required(kube: &Kube, namespace: &str) -> Result<Store> {
        Store::read(kube, namespace).await?.ok_or_else(|| {
            failed("this stack takes no backups")
                .remedy("stackctl up installs the store, without --without backup")
                .into()
        })
    }

    /// Whether it is the one that stackctl installs.
    pub fn is_in_cluster(&self) -> bool {
        self.secret == STORE
    }

    /// For sentences: where it is.
    pub fn describe(&self) -> String {
        format!("{} at {}", self.destination, self.endpoint)
    }

    /// Asks the store what it holds.
    ///
    /// # Errors
    /// The store does not answer or refuses, the Job cannot run, or no answer by `deadline`.
    pub async fn catalog(&self, kube: &Kube, namespace: &str, deadline: Instant) -> Result<Catalog> {
        let jobs: Api<Job> = Api::namespaced(kube.client(), namespace);
        let name = format!("{READER}-{}", Timestamp::now().as_millisecond());
        let mut job = self.job(&name, &sidecar_image(kube, namespace).await?)?;
        if let Some(spec) = &mut job.spec
            && let Some(pod) = spec.template.spec.take()
        {
            spec.template.spec = Some(kube.fit_pod(namespace, pod).await?);
        }
        let created = jobs.create(&PostParams::default(), &job).await;
        created.map_err(|error| request_failure(&error, "start a Job that asks the store"))?;
        let answer = answer(kube, namespace, &jobs, &name, deadline).await;
        // The cluster removes it by itself, only later.
        let _ = jobs.delete(&name, &DeleteParams::background()).await;
        Catalog::parse(&answer?, &self.describe(), &format!("{namespace}/{}", self.secret))
    }

    fn job(&self, name: &str, image: &str) -> Result<Job> {
        let from_secret = |key: &str| json!({"secretKeyRef": {"name": self.secret, "key": key}});
        let pull_secrets = self.pull_secret.as_ref().map(|name| json!({"name": name}));
        let ca = self.ca.as_ref().map(|ca| json!({"name": "ca", "secret": {"secretName": ca}}));
        let mut container = json!({
            "name": READER, "image": image, "imagePullPolicy": "IfNotPresent",
            "command": ["/venv/bin/python3", "-c", SCRIPT],
            "env": [
                {"name": "DESTINATION", "value": self.destination},
                {"name": "ENDPOINT", "value": self.endpoint},
                {"name": "AWS_ACCESS_KEY_ID", "valueFrom": from_secret(KEY_ID)},
                {"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": from_secret(SECRET_KEY)},
                {"name": REGION, "value": self.region.as_deref().unwrap_or("us-east-1")},
                {"name": "AWS_EC2_METADATA_DISABLED", "value": "true"},
            ],
            "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
            },
        });
        if ca.is_some() {
            container["volumeMounts"] = json!([{"name": "ca", "mountPath": "/ca", "readOnly": true}]);
            let bundle = json!({"name": "AWS_CA_BUNDLE", "value": format!("/ca/{CA_KEY}")});
            container["env"].as_array_mut().into_iter().for_each(|env| env.push(bundle.clone()));
        }
        let labels = json!({
            "app.kubernetes.io/name": READER, "app.kubernetes.io/part-of": "stackctl",
            "app.kubernetes.io/managed-by": "stackctl",
        });
        let job = json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "backoffLimit": 0,
                "activeDeadlineSeconds": JOB_SECONDS,
                "ttlSecondsAfterFinished": REMOVED_AFTER_SECONDS,
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "restartPolicy": "Never",
                        "automountServiceAccountToken": false,
                        "enableServiceLinks": false,
                        "imagePullSecrets": Vec::from_iter(pull_secrets),
                        // The image's own user, or the one that the cluster gives.
                        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                        "containers": [container],
                        "volumes": Vec::from_iter(ca),
                    },
                },
            },
        });
        serde_json::from_value(job).context("the Job that asks the store cannot be made")
    }
}

/// The image that the plugin puts beside each instance of a database in `namespace`.
///
/// # Errors
/// The API server does not answer, or there is no plugin that tells it; where the user may not look at the plugin: no
/// instance that has such a container.
pub async fn sidecar_image(kube: &Kube, namespace: &str) -> Result<String> {
    let operator = kube.operator().await?;
    if operator.is_hidden {
        return sidecar_of_instance(kube, namespace).await;
    }
    let plugin = operator.plugin_reference();
    let deployment = kube.get(&plugin).await?;
    let env = deployment.as_ref().and_then(|found| found.data.pointer("/spec/template/spec/containers/0/env"));
    let variable = env.and_then(|env| env.as_array()?.iter().find(|one| one["name"] == SIDECAR_IMAGE));
    let image = variable.and_then(|variable| variable["value"].as_str());
    image.map(str::to_owned).ok_or_else(|| {
        failed(format!("{plugin} does not tell the sidecar's image"))
            .remedy("stackctl up brings the plugin up to date")
            .into()
    })
}

async fn sidecar_of_instance(kube: &Kube, namespace: &str) -> Result<String> {
    let pods: Api<Pod> = Api::namespaced(kube.client(), namespace);
    let instances = ListParams::default().labels("cnpg.io/podRole=instance");
    let found = pods.list(&instances).await.context("cannot list the instances")?;
    let containers = found.items.into_iter().filter_map(|pod| pod.spec);
    let mut containers = containers.flat_map(|spec| spec.init_containers.into_iter().flatten().chain(spec.containers));
    let sidecar = containers.find(|container| container.name == SIDECAR);
    sidecar.and_then(|sidecar| sidecar.image).ok_or_else(|| {
        failed(format!(
            "no instance in {namespace} has the plugin's container {SIDECAR}, and you may not look at the plugin"
        ))
        .remedy("run it again once the database is up")
        .into()
    })
}

/// What the Job printed, once it has ended.
async fn answer(kube: &Kube, namespace: &str, jobs: &Api<Job>, name: &str, deadline: Instant) -> Result<String> {
    let late = || {
        timed_out("the Job that asks the store of backups did not end in time")
            .remedy(format!("kubectl -n {namespace} get events shows why"))
    };
    poll::until_or(deadline.saturating_duration_since(Instant::now()), LOOK_EVERY, late, || async {
        let status = jobs.get_status(name).await.context("cannot look after the Job that asks the store")?.status;
        let status = status.unwrap_or_default();
        let pod = pod_of(kube, namespace, name).await?;
        // The Job ends only with all containers of its pod, those of others included.
        let end = pod.as_ref().and_then(|pod| Some(pods::end_of(pod, READER)?.exit_code));
        if status.succeeded.unwrap_or(0) > 0 || end == Some(0) {
            return Ok(Some(()));
        }
        if status.failed.unwrap_or(0) > 0 || end.is_some() {
            let said = logs(kube, namespace, name).await.unwrap_or_default();
            let last = said.lines().last().unwrap_or("it left no log");
            return Err(failed(format!("the Job that asks the store of backups failed: {last}")).into());
        }
        Ok(None)
    })
    .await?;
    logs(kube, namespace, name).await
}

async fn logs(kube: &Kube, namespace: &str, job: &str) -> Result<String> {
    let pod = pod_of(kube, namespace, job).await?.context("the Job that asks the store has no pod")?;
    let params = LogParams { container: Some(READER.into()), ..LogParams::default() };
    let pods: Api<Pod> = Api::namespaced(kube.client(), namespace);
    pods.logs(&pod.name_any(), &params).await.context("cannot read what the store answered")
}

async fn pod_of(kube: &Kube, namespace: &str, job: &str) -> Result<Option<Pod>> {
    let pods: Api<Pod> = Api::namespaced(kube.client(), namespace);
    let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let found = pods.list(&of_job).await.context("cannot look for the pod that asks the store")?;
    Ok(found.items.into_iter().next())
}

/// The region that instances are told, in the ObjectStore.
fn region(object: &DynamicObject) -> Option<String> {
    let env = object.data.pointer("/spec/instanceSidecarConfiguration/env")?.as_array()?;
    let variable = env.iter().find(|variable| variable["name"] == REGION)?;
    variable["value"].as_str().map(str::to_owned)
}

/// Those of `keys` that a Secret of the store's lacks; `None` when it is not there.
///
/// # Errors
/// The API server does not answer.
pub async fn lacks(
    kube: &Kube,
    namespace: &str,
    secret: &str,
    keys: &[&'static str],
) -> Result<Option<Vec<&'static str>>> {
    let there = kube.get(&ObjectRef::namespaced("v1", "Secret", namespace, secret)).await?;
    let Some(there) = there else { return Ok(None) };
    let held = there.try_parse::<Secret>().context("the Secret of the store cannot be read")?.data.unwrap_or_default();
    Ok(Some(keys.iter().copied().filter(|key| !held.contains_key(*key)).collect()))
}
