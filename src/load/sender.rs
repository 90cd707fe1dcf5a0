//! The sender's pod: the web app's own image and restrictions, with another command and without its secrets.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::{AsyncBufReadExt as _, StreamExt as _};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Container, EnvVar, Pod, PodSpec, ResourceRequirements},
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::OwnerReference},
};
use kube::{
    Api,
    api::{DeleteParams, LogParams, ObjectMeta},
};
use stackctl_protocol::load::{self, SenderReport, variables};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{LoadPlan, PHASE, sender_report};
use crate::{
    context::Context,
    error::{Result, failed},
    kube::{Kube, ObjectRef, explain, pods, post_params, request_failure, wait_ready},
    names::{APP_NAME, FIELD_MANAGER, WEB},
    poll, progress,
};

/// The pod's name: there is one load at a time.
const NAME: &str = "stackctl-load";
/// Its container.
const CONTAINER: &str = "sender";
/// The time within which the pod must run.
const START: Duration = Duration::from_secs(90);
/// The time within which the pod must go: it waits for the last answers.
const END: Duration = Duration::from_secs(30);
/// The pod's grace period in seconds.
const GRACE: i64 = 10;
/// The seconds that the pod may live beyond what it is to do, if nothing else ends it.
const MARGIN: u64 = 180;
/// The pause between two attempts to read the log, and between two looks whether the pod is gone.
const PAUSE: Duration = Duration::from_millis(500);

/// The sender: the running pod, and the task that reads its log.
pub struct Sender {
    kube: Kube,
    namespace: String,
    reading: Option<JoinHandle<()>>,
}

impl Sender {
    /// Starts the sender and waits until it runs.
    ///
    /// # Errors
    /// The pod is refused, or it does not run within 90 s; with the reason.
    pub async fn start(cx: &Context, plan: &LoadPlan) -> Result<Sender> {
        let (kube, namespace) = (cx.kube().await?, &cx.config.stack.namespace);
        let web: Api<Deployment> = Api::namespaced(kube.client(), namespace);
        let web = web.get(WEB).await.with_context(|| format!("cannot read Deployment {namespace}/{WEB}"))?;
        let pods: Api<Pod> = Api::namespaced(kube.client(), namespace);
        // One that has ended.
        remove(kube, namespace).await?;
        let mut pod = pod(web, plan)?;
        if let Some(spec) = pod.spec.take() {
            pod.spec = Some(kube.fit_pod(namespace, spec).await?);
        }
        let created = pods.create(&post_params(FIELD_MANAGER), &pod).await;
        created.map_err(|error| request_failure(&error, "start the load's sender"))?;
        let sender = Sender { kube: kube.clone(), namespace: namespace.clone(), reading: None };
        let deadline = cx.deadline.min(Instant::now() + START);
        let observer = progress::observer(&cx.reporter, PHASE);
        wait_ready(kube, &[sender.object()], deadline, &observer).await.context("the load's sender does not run")?;
        Ok(sender)
    }

    fn object(&self) -> ObjectRef {
        ObjectRef::namespaced("v1", "Pod", &self.namespace, NAME)
    }

    /// Follows the log: each report once, also through broken connections to the API server.
    pub fn reports(&mut self) -> mpsc::UnboundedReceiver<SenderReport> {
        let (to, reports) = mpsc::unbounded_channel();
        let pods: Api<Pod> = Api::namespaced(self.kube.client(), &self.namespace);
        self.reading = Some(tokio::spawn(follow_log(pods, to)));
        reports
    }

    /// Asks the sender to end and returns its last report. The pod is gone then.
    ///
    /// # Errors
    /// The API server refuses, or the pod does not go.
    pub async fn end(&self, reports: &mut mpsc::UnboundedReceiver<SenderReport>) -> Result<Option<SenderReport>> {
        let pods: Api<Pod> = Api::namespaced(self.kube.client(), &self.namespace);
        ask_to_end(&pods).await?;
        let mut last = None;
        let last_words = async {
            while let Some(report) = reports.recv().await {
                let ended = report.ended;
                last = Some(report);
                if ended {
                    break;
                }
            }
        };
        // Without its last words, what it reported before is what is known.
        let _ = tokio::time::timeout(END, last_words).await;
        wait_until_gone(&pods).await?;
        Ok(last)
    }

    /// Explains why the sender reports nothing any more.
    pub async fn explain_loss(&self) -> anyhow::Error {
        let problems = explain(&self.kube, &self.object()).await.unwrap_or_default();
        let why = problems.first().map_or_else(|| "it tells nothing any more".to_owned(), |problem| problem.sentence());
        let failure = failed(format!("the load's sender is gone: {why}"));
        failure.remedy("stackctl up, if the web app's image is older than this stackctl; then run it again").into()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(reading) = &self.reading {
            reading.abort();
        }
    }
}

/// Makes sure that no load is being sent.
///
/// # Errors
/// A load is being sent, or the API server does not tell.
pub async fn ensure_no_other_load(kube: &Kube, namespace: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(kube.client(), namespace);
    let found = pods.get_opt(NAME).await.context("cannot look for the sender of another load")?;
    if !found.as_ref().is_some_and(is_running) {
        return Ok(());
    }
    Err(failed(format!("a load is being sent already, by pod {namespace}/{NAME}"))
        .remedy("wait for it: it ends by itself")
        .remedy(format!("or end it: kubectl -n {namespace} delete pod {NAME}"))
        .into())
}

/// Reads the log until the pod is gone.
async fn follow_log(pods: Api<Pod>, to: mpsc::UnboundedSender<SenderReport>) {
    let (mut last, mut first) = (None, true);
    loop {
        // After a broken connection a little of what is known comes again.
        let container = Some(CONTAINER.to_owned());
        let params = LogParams { container, follow: true, tail_lines: (!first).then_some(10), ..LogParams::default() };
        if let Ok(log) = pods.log_stream(NAME, &params).await {
            let mut lines = log.lines();
            while let Some(Ok(line)) = lines.next().await {
                let Some(report) = sender_report::parse(&line) else { continue };
                if !report.ended && last.is_some_and(|last| report.second <= last) {
                    continue;
                }
                last = Some(report.second);
                if to.send(report).is_err() {
                    return;
                }
            }
        }
        first = false;
        match pods.get_opt(NAME).await {
            Ok(pod) if !pod.as_ref().is_some_and(is_running) => return,
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Tells whether the sender of a pod has not ended.
fn is_running(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed")) && pods::end_of(pod, CONTAINER).is_none()
}

/// Removes the pod, if there is one, and waits until it is gone.
///
/// # Errors
/// The API server refuses, or the pod does not go.
pub async fn remove(kube: &Kube, namespace: &str) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(kube.client(), namespace);
    ask_to_end(&pods).await?;
    wait_until_gone(&pods).await
}

async fn ask_to_end(pods: &Api<Pod>) -> Result<()> {
    let params = DeleteParams { grace_period_seconds: Some(u32::try_from(GRACE)?), ..DeleteParams::default() };
    match pods.delete(NAME, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error).context("cannot remove the load's sender"),
    }
}

async fn wait_until_gone(pods: &Api<Pod>) -> Result<()> {
    let gone = || async { Ok(pods.get_opt(NAME).await?.is_none().then_some(())) };
    poll::until(END, PAUSE, &format!("pod {NAME} does not go"), gone).await
}

/// The sender's pod; it goes with the web app's Deployment.
fn pod(web: Deployment, plan: &LoadPlan) -> Result<Pod> {
    // It goes with the app, whatever becomes of this program.
    let owner = OwnerReference {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        name: WEB.into(),
        uid: web.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let labels = [(APP_NAME, NAME), ("app.kubernetes.io/component", "load"), ("app.kubernetes.io/part-of", "stackctl")];
    let template = web.spec.and_then(|spec| spec.template.spec).context("the web app has no pods")?;
    Ok(Pod {
        metadata: ObjectMeta {
            name: Some(NAME.into()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(spec(template, plan)?),
        ..Pod::default()
    })
}

/// The specification of the sender's pod: it has the image and the restrictions of the web app's, and no secrets.
fn spec(template: PodSpec, plan: &LoadPlan) -> Result<PodSpec> {
    let app = template.containers.into_iter().next().context("the web app has no container")?;
    // A word of its own for each run, so that what is registered never collides.
    let run = format!("load-{}", jiff::Timestamp::now().strftime("%Y%m%d%H%M%S"));
    let settings = [
        (variables::WEB, format!("{WEB}:80")),
        (variables::RUN, run),
        (variables::RATE, plan.rate.to_string()),
        (variables::SECONDS, plan.lasts.as_secs().to_string()),
        (variables::USERS, plan.users.to_string()),
        (variables::TAIL_RATE, plan.tail_rate().to_string()),
        (variables::TAIL_SECONDS, plan.tail().as_secs().to_string()),
    ];
    let setting = |(name, value): (&str, String)| EnvVar { name: name.into(), value: Some(value), value_from: None };
    // A processor's share, so that a full node does not slow the sender down and its clock with it.
    let requests =
        BTreeMap::from([("cpu", "50m"), ("memory", "32Mi")].map(|(k, v)| (k.to_owned(), Quantity(v.into()))));
    let container = Container {
        name: CONTAINER.into(),
        image: app.image,
        image_pull_policy: app.image_pull_policy,
        args: Some(vec![load::COMMAND.into()]),
        env: Some(settings.map(setting).into()),
        resources: Some(ResourceRequirements { requests: Some(requests), ..ResourceRequirements::default() }),
        security_context: app.security_context,
        ..Container::default()
    };
    let lifetime = plan.lasts.as_secs() + plan.tail().as_secs() + MARGIN;
    Ok(PodSpec {
        containers: vec![container],
        restart_policy: Some("Never".into()),
        active_deadline_seconds: Some(i64::try_from(lifetime)?),
        termination_grace_period_seconds: Some(GRACE),
        service_account_name: template.service_account_name,
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: template.security_context,
        image_pull_secrets: template.image_pull_secrets,
        ..PodSpec::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_pod_has_the_apps_restrictions_and_none_of_its_secrets() {
        let web: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "user-app", "uid": "u-1"},
            "spec": {"selector": {}, "template": {"spec": {
                "serviceAccountName": "user-app",
                "securityContext": {"runAsNonRoot": true},
                "initContainers": [{"name": "migrate"}],
                "volumes": [{"name": "user-db", "secret": {"secretName": "user-db-app"}}],
                "containers": [{"name": "user-app", "image": "user-app:1", "args": ["serve"],
                    "env": [{"name": "DB_CREDENTIALS_DIR", "value": "/x"}],
                    "volumeMounts": [{"name": "user-db", "mountPath": "/x"}],
                    "securityContext": {"readOnlyRootFilesystem": true}}]}}}
        }))
        .unwrap();
        let plan = LoadPlan { rate: 400.0, lasts: Duration::from_secs(60), users: 50, scale_down: true };
        let pod = pod(web, &plan).unwrap();
        assert_eq!(pod.metadata.owner_references.unwrap()[0].uid, "u-1");
        let spec = pod.spec.unwrap();
        assert!(spec.volumes.is_none() && spec.init_containers.is_none());
        assert_eq!(spec.active_deadline_seconds, Some(60 + 600 + 180));
        let container = &spec.containers[0];
        assert!(container.volume_mounts.is_none() && container.security_context.is_some());
        let env: BTreeMap<_, _> =
            container.env.iter().flatten().map(|env| (env.name.as_str(), env.value.as_deref().unwrap())).collect();
        assert_eq!((env["LOAD_RATE"], env["LOAD_TAIL_RATE"], env["LOAD_SECONDS"]), ("400", "20", "60"));
        assert!(env["LOAD_RUN"].starts_with("load-2") && !env.contains_key("DB_CREDENTIALS_DIR"));
    }
}
