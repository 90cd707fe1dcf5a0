//! Watches the Lease, the Cluster and the instances' pods, and does what the rules say.

use std::{collections::BTreeMap, future::Future, time::Duration};

use anyhow::{Context as _, Result, bail};
use futures::{
    Stream, StreamExt as _,
    stream::{BoxStream, select_all},
};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    core::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watch_object, watcher},
    },
};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::{
    lost::{Lost, Silence},
    probe::Heartbeat,
    rules::{self, Hung, Next, Release, View},
    seen,
};

/// Who writes: the field manager of every change.
const MANAGER: &str = "stackctl-failover-helper";
/// The label of an instance's pod with its Cluster.
const CLUSTER: &str = "cnpg.io/cluster";
/// The annotation that is changed on a pod to know how far the watch has come.
const MARK: &str = "stackctl/failover-helper";
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(2);
/// How often it looks, also where the watches are silent.
const LOOK: Duration = Duration::from_secs(1);
/// How long a primary may hang after its kubelet has said that it is not ready, which takes three probes without an answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long none is ended after one was: what makes primaries hang one after the other is not cured by ending them.
const REST: Duration = Duration::from_secs(300);
/// After this long without a renewal, of which there is one each second, the Lease is read once a second.
const RENEWAL: Duration = Duration::from_secs(2);
/// How long a watch lasts before it is begun anew, in seconds: a connection that died unnoticed ends then.
const WATCH: u32 = 60;
/// A connection that says nothing for so long is given up; the Lease alone is renewed every second.
const SILENCE: Duration = Duration::from_secs(75);

/// What a watch tells.
enum Seen {
    Lease(Option<Lease>),
    Cluster(Option<DynamicObject>),
    /// All pods are about to be listed.
    Relist,
    Pod(Pod),
    /// All pods are listed.
    Listed,
    Gone(Pod),
}

/// The helper of one Cluster.
pub struct Helper {
    leases: Api<Lease>,
    clusters: Api<DynamicObject>,
    pods: Api<Pod>,
    cluster: String,
    view: View,
    /// The pods of a list that is not complete yet.
    listing: Option<BTreeMap<String, rules::Pod>>,
    /// The release that is under way.
    release: Option<Release>,
    /// The pod that a release was tried for last: each is tried once.
    tried: Option<String>,
    /// The pod whose failover was hastened last: each is tried once.
    hastened: Option<String>,
    /// The primary that hangs, and since when.
    hung: Option<(Hung, Instant)>,
    /// When one was ended last, by whichever helper.
    ended: Option<Instant>,
    /// When a watch told of a renewal of the Lease last.
    renewed: Instant,
    /// How long the Lease was not renewed although it could have been.
    silence: Silence,
    /// The label that was set last, or could not be set: it is not tried again at this version of the pod.
    led: Option<rules::Lead>,
}

impl Helper {
    /// The helper of the Cluster of that name in the namespace that this pod runs in.
    ///
    /// # Errors
    /// It runs in no pod, or the pod has no service account.
    pub fn in_cluster(cluster: String) -> Result<Helper> {
        let mut config = Config::incluster().context("cannot find the API server: this program runs in a pod")?;
        config.read_timeout = Some(SILENCE);
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).context("cannot make a client for the API server")?;
        let kind = GroupVersionKind::gvk("postgresql.cnpg.io", "v1", "Cluster");
        Ok(Helper {
            leases: Api::namespaced(client.clone(), &namespace),
            clusters: Api::namespaced_with(client.clone(), &namespace, &ApiResource::from_gvk(&kind)),
            pods: Api::namespaced(client, &namespace),
            cluster,
            view: View::default(),
            listing: None,
            release: None,
            tried: None,
            hastened: None,
            hung: None,
            ended: None,
            renewed: Instant::now(),
            silence: Silence::default(),
            led: None,
        })
    }

    /// Watches and acts for good.
    ///
    /// # Errors
    /// The watches ended, which they do not.
    pub async fn run(mut self, heartbeat: Heartbeat) -> Result<()> {
        let mut seen = self.watch();
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            heartbeat.beat();
            tokio::select! {
                seen = seen.next() => match seen {
                    Some(seen) => self.note(seen),
                    None => bail!("the watches have ended"),
                },
                _ = ticks.tick() => self.listen().await,
            }
            self.end_lost().await;
            self.hasten().await;
            self.end_hung().await;
            self.release().await;
            self.lead().await;
        }
    }

    fn watch(&self) -> impl Stream<Item = Seen> + Unpin + use<> {
        let config = || watcher::Config::default().timeout(WATCH);
        let of_pods = config().labels(&format!("{CLUSTER}={}", self.cluster));
        let pods = watcher(self.pods.clone(), of_pods).default_backoff().filter_map(|event| async {
            told("the instances' pods", event).map(|event| match event {
                Event::Init => Seen::Relist,
                Event::InitApply(pod) | Event::Apply(pod) => Seen::Pod(pod),
                Event::InitDone => Seen::Listed,
                Event::Delete(pod) => Seen::Gone(pod),
            })
        });
        let lease = watch_object(self.leases.clone(), &self.cluster).default_backoff();
        let lease = lease.filter_map(|lease| async { told("the primary's Lease", lease).map(Seen::Lease) });
        let cluster = watch_object(self.clusters.clone(), &self.cluster).default_backoff();
        let cluster = cluster.filter_map(|cluster| async { told("the Cluster", cluster).map(Seen::Cluster) });
        let all: [BoxStream<'static, Seen>; 3] = [Box::pin(pods), Box::pin(lease), Box::pin(cluster)];
        select_all(all)
    }

    fn note(&mut self, seen: Seen) {
        match seen {
            Seen::Lease(lease) => {
                let lease = lease.as_ref().map(seen::lease);
                if self.view.lease != lease {
                    self.renewed = Instant::now();
                }
                self.view.lease = lease;
            }
            Seen::Cluster(cluster) => {
                self.view.cluster = cluster.as_ref().map(seen::cluster);
                self.view.delay = cluster.as_ref().map(seen::delay);
                self.view.is_undisturbed = cluster.as_ref().is_some_and(seen::is_undisturbed);
            }
            Seen::Relist => {
                self.listing = Some(BTreeMap::new());
                self.release.iter_mut().for_each(Release::on_gap);
            }
            Seen::Pod(pod) => {
                let (name, pod) = (pod.name_any(), seen::pod(&pod));
                self.release.iter_mut().for_each(|release| release.on_seen(&name, &pod));
                self.listing.as_mut().unwrap_or(&mut self.view.pods).insert(name, pod);
            }
            Seen::Listed => self.view.pods = self.listing.take().unwrap_or_default(),
            Seen::Gone(pod) => {
                self.view.pods.remove(&pod.name_any());
            }
        }
    }

    /// Releases the Lease of a primary that is dead, as far as it can be done now.
    async fn release(&mut self) {
        if self.release.is_none() {
            self.release = self.view.release().filter(|release| self.tried.as_ref() != Some(&release.uid));
        }
        let Some(mut release) = self.release.take() else { return };
        self.tried = Some(release.uid.clone());
        let (instance, uid) = (release.instance.clone(), release.uid.clone());
        match self.advance(&mut release).await {
            Ok(true) => tracing::info!("{instance} is dead (pod {uid} has ended): its Lease is released"),
            Ok(false) if release.next == Next::Stop => tracing::info!("the Lease of {instance} is left as it is"),
            Ok(false) => self.release = Some(release),
            Err(error) => tracing::warn!("cannot release the Lease of {instance}: {error:#}"),
        }
    }

    /// Goes through a release until it ends or waits for what a watch will tell; tells whether the Lease is released.
    async fn advance(&self, release: &mut Release) -> Result<bool> {
        loop {
            release.on_view(&self.view);
            match &release.next {
                Next::ReadLease => {
                    let lease = within(self.leases.get_opt(&self.cluster)).await?;
                    release.on_lease(lease.as_ref().map(seen::lease).as_ref());
                }
                Next::ReadPod => {
                    let pod = within(self.pods.get_opt(&release.instance)).await?;
                    release.on_pod(pod.as_ref().map(seen::pod).as_ref());
                }
                Next::ReadCluster => {
                    let cluster = within(self.clusters.get_opt(&self.cluster)).await?;
                    release.on_cluster(cluster.as_ref().map(seen::cluster).as_ref());
                }
                Next::Mark => {
                    let pod = self.view.marked().context("the chosen instance has no pod")?;
                    let patch = json!({"metadata": {"annotations": {MARK: jiff::Timestamp::now().to_string()}}});
                    let marked = within(self.pods.patch_metadata(pod, &params(), &Patch::Merge(patch))).await?;
                    release.on_mark(marked.resource_version().unwrap_or_default());
                }
                Next::Empty => return self.empty(&release.version).await,
                Next::AwaitChoice | Next::AwaitMark(_) | Next::Stop => return Ok(false),
            }
        }
    }

    /// Takes the holder out of the Lease at this version.
    async fn empty(&self, version: &str) -> Result<bool> {
        let read = within(self.leases.get_opt(&self.cluster)).await?;
        let Some(lease) = read.filter(|lease| lease.resource_version().as_deref() == Some(version)) else {
            return Ok(false);
        };
        let lease = seen::without_holder(lease, jiff::Timestamp::now());
        let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        match timeout(REQUEST, self.leases.replace(&self.cluster, &params, &lease)).await {
            Ok(Ok(_)) => Ok(true),
            // Somebody has written it meanwhile.
            Ok(Err(kube::Error::Api(status))) if status.is_conflict() => Ok(false),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => bail!("the API server does not answer"),
        }
    }

    /// Ends the delay of a failover from a primary that does not come back.
    async fn hasten(&mut self) {
        let view = self.view.hasten();
        let Some(hasten) = view.filter(|hasten| self.hastened.as_ref() != Some(&hasten.uid)) else { return };
        let patch = Patch::Merge(seen::passed(&hasten, jiff::Timestamp::now()));
        let uid = hasten.uid;
        match timeout(REQUEST, self.clusters.patch_status(&self.cluster, &params(), &patch)).await {
            Ok(Ok(_)) => tracing::info!("the primary's pod {uid} is being deleted: its failover is not delayed"),
            // The Cluster has changed: the watch tells, and it is looked at again.
            Ok(Err(kube::Error::Api(status))) if status.is_conflict() => return,
            Ok(Err(error)) => tracing::warn!("cannot end the failover's delay: {error}"),
            Err(_) => tracing::warn!("cannot end the failover's delay: the API server does not answer"),
        }
        self.hastened = Some(uid);
    }

    /// Reads the Lease that the primary does not renew, to know whether it could.
    async fn listen(&mut self) {
        if self.view.is_led() && self.renewed.elapsed() >= RENEWAL {
            let lease = within(self.leases.get_opt(&self.cluster)).await.ok().flatten();
            self.silence.on_answer(lease.as_ref().map(seen::lease).as_ref());
        } else {
            self.silence = Silence::default();
        }
    }

    /// Has the pods deleted of a primary whose node is lost and of those beside it.
    async fn end_lost(&mut self) {
        for Lost { pod, uid, version } in self.view.lost(&self.silence) {
            let preconditions = Some(Preconditions { uid: Some(uid), resource_version: Some(version) });
            let params = DeleteParams { preconditions, ..DeleteParams::default() };
            match timeout(REQUEST, self.pods.delete(&pod, &params)).await {
                Ok(Ok(_)) => tracing::info!("{pod} is lost with its node: its pod is deleted"),
                // It has changed, or somebody else was faster: the watch tells.
                Ok(Err(kube::Error::Api(status))) if status.is_conflict() || status.is_not_found() => {}
                Ok(Err(error)) => tracing::warn!("cannot delete the pod of {pod}, whose node is lost: {error}"),
                Err(_) => tracing::warn!("cannot delete the pod of {pod}: the API server does not answer"),
            }
        }
    }

    /// Has the pod of a primary deleted that hangs, once that is certain.
    async fn end_hung(&mut self) {
        let Some(hung) = self.view.hung() else {
            if let Some((before, _)) = self.hung.take() {
                let pod = self.view.pods.get(&before.pod);
                self.ended = pod.filter(|pod| pod.is_deleting).map(|_| Instant::now()).or(self.ended);
            }
            return;
        };
        let known = self.hung.take().filter(|(before, _)| before.uid == hung.uid);
        let (before, since) = known.unwrap_or_else(|| (hung.clone(), Instant::now()));
        let is_certain = since.elapsed() >= PATIENCE && before.lease != hung.lease;
        let has_rested = self.ended.is_none_or(|ended| ended.elapsed() >= REST);
        self.hung = Some((before, since));
        if !is_certain || !has_rested {
            return;
        }
        let Hung { pod, uid, version, .. } = hung;
        // A kubelet gives it two seconds.
        let params = DeleteParams {
            grace_period_seconds: Some(1),
            preconditions: Some(Preconditions { uid: Some(uid), resource_version: Some(version) }),
            ..DeleteParams::default()
        };
        match timeout(REQUEST, self.pods.delete(&pod, &params)).await {
            Ok(Ok(_)) => tracing::info!("{pod} answers nobody and keeps its Lease: its pod is deleted"),
            Ok(Err(kube::Error::Api(status))) if status.is_conflict() || status.is_not_found() => {}
            Ok(Err(error)) => tracing::warn!("cannot delete the pod of {pod}: {error}"),
            Err(_) => tracing::warn!("cannot delete the pod of {pod}: the API server does not answer"),
        }
        // What came of it the watch tells; should nothing have, it is tried again after as long.
        if let Some((_, since)) = &mut self.hung {
            *since = Instant::now();
        }
    }

    /// Has the Service lead to the new primary.
    async fn lead(&mut self) {
        let Some(lead) = self.view.lead().filter(|lead| self.led.as_ref() != Some(lead)) else { return };
        match self.set_role(&lead).await {
            Ok(true) => tracing::info!("{} is the primary: the Service leads to it", lead.pod),
            Ok(false) => {}
            Err(error) => tracing::warn!("cannot set the label of {}: {error:#}", lead.pod),
        }
        self.led = Some(lead);
    }

    async fn set_role(&self, lead: &rules::Lead) -> Result<bool> {
        let cluster = within(self.clusters.get_opt(&self.cluster)).await?;
        if cluster.as_ref().map(seen::cluster) != self.view.cluster {
            return Ok(false);
        }
        let labels: serde_json::Map<_, _> =
            seen::ROLES.iter().map(|label| ((*label).to_owned(), json!(seen::PRIMARY))).collect();
        let patch = json!({"metadata": {"resourceVersion": lead.version, "labels": labels}});
        match timeout(REQUEST, self.pods.patch(&lead.pod, &params(), &Patch::Merge(patch))).await {
            Ok(Ok(_)) => Ok(true),
            // The operator was faster, or the pod has changed otherwise: the watch tells.
            Ok(Err(kube::Error::Api(status))) if status.is_conflict() || status.is_not_found() => Ok(false),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => bail!("the API server does not answer"),
        }
    }
}

fn params() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() }
}

/// What a request answers within its time.
async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T> {
    timeout(REQUEST, request).await.context("the API server does not answer")?.map_err(Into::into)
}

/// What a watch tells, without its errors: it begins anew by itself.
fn told<T>(what: &str, event: Result<T, watcher::Error>) -> Option<T> {
    event.inspect_err(|error| tracing::warn!("cannot watch {what}: {error}")).ok()
}
