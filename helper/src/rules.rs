//! What the helper may do, as a function of what the API server says; nothing here asks it or writes to it.
//!
//! A standby that the operator has chosen is promoted once it holds the primary's Lease. A primary that is killed does
//! not give its Lease up, and the standby waits until it has seen it unrenewed for its whole duration. That wait is for a
//! primary that may still live; [`Release`] spares it where the kubelet has said that the primary is dead for good.
//!
//! Watches only tell when to look: what a release goes by is read anew, in an order that matters.

use std::collections::BTreeMap;

/// The operators whose Lease, labels and order of steps these rules are written for: major and minor version.
const OPERATORS: [&str; 1] = ["1.30."];

/// The target that the operator names while it waits for the standbys to stop receiving, before it chooses one.
const PENDING: &str = "pending";

/// The primary's Lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The instance that holds it; `None` when it was given up.
    pub holder: Option<String>,
    /// The object's version: it changes with every write, a renewal too.
    pub version: String,
}

/// What the Cluster says of its primary; empty names where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Cluster {
    /// The instance that is the primary, as it said itself when it was promoted.
    pub current: String,
    /// The instance that is to be the primary.
    pub target: String,
}

impl Cluster {
    /// Whether another instance than this one is chosen.
    fn has_chosen_instead_of(&self, instance: &str) -> bool {
        !self.target.is_empty() && self.target != PENDING && self.target != instance
    }
}

/// The state of an instance's PostgreSQL container, as the kubelet last reported it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Container {
    /// It has ended, and the kubelet knows how.
    Terminated,
    /// It runs, waits, or the kubelet does not know.
    MayRun,
}

/// What an instance's label says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The `-rw` Service leads to it.
    Primary,
    /// Anything else.
    Other,
}

/// The pod of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pod {
    /// The pod itself: another one may get its name after it.
    pub uid: String,
    /// The object's version.
    pub version: String,
    /// The pod's deletion was asked for.
    pub is_deleting: bool,
    /// The phase is `Succeeded` or `Failed`.
    pub has_final_phase: bool,
    /// The phase was not told by a kubelet: the pod was collected, as its node is lost.
    pub is_collected: bool,
    /// The pod's processes may outlive their container: they are in a space that others share.
    pub shares_processes: bool,
    /// The container of PostgreSQL.
    pub postgres: Container,
    /// The version of the operator that made it.
    pub operator: String,
    /// The role by its label.
    pub role: Role,
    /// The pod is ready.
    pub is_ready: bool,
    /// The control plane says that the pod is not ready, and its kubelet has last said that it is: nothing is heard of its node.
    pub is_out_of_touch: bool,
    /// The node that it runs on.
    pub node: String,
    /// The container of PostgreSQL runs, and has been up since it was started last.
    pub has_started: bool,
}

impl Pod {
    /// Whether no process of this pod's PostgreSQL runs, and none ever will.
    ///
    /// A kubelet gives a pod that is being deleted its final phase after it has seen all its containers end, and starts
    /// none of them after that. A container that is terminated is not enough: the kubelet may have started it again
    /// without having said so yet. Nor is a deletion, which a lost node knows nothing of, nor that the pod's object is
    /// gone, which a forced deletion brings about as well.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.is_deleting
            && self.has_final_phase
            && !self.is_collected
            && !self.shares_processes
            && self.postgres == Container::Terminated
            && self.is_understood()
    }

    pub(crate) fn is_understood(&self) -> bool {
        OPERATORS.iter().any(|known| self.operator.starts_with(known))
    }
}

/// What is next in a [`Release`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Next {
    /// Read the Lease.
    ReadLease,
    /// Read the pod of the instance's name.
    ReadPod,
    /// Wait until a watch says that the operator has chosen another instance.
    AwaitChoice,
    /// Read the Cluster.
    ReadCluster,
    /// Change a pod of the Cluster in a way that does no harm, to know how far the watch of its pods has come.
    Mark,
    /// Wait until that watch has told of this version.
    AwaitMark(String),
    /// Take the holder out of the Lease, provided that it is at the version that was read.
    Empty,
    /// Nothing: it is not to be released, or not by this attempt.
    Stop,
}

/// One attempt to release the Lease of a primary that is dead, step by step.
///
/// The order is what makes it safe. The Lease comes first: the write at its end is bound to the version that is read
/// here, so whoever touches the Lease from here on has it. Then the pod, which is there and has ended: all that the Lease
/// stands for is dead. Then the Cluster: another instance is chosen and waits for the Lease, so whatever starts under the
/// old primary's name from now on starts as a standby; while the target is [`PENDING`] the operator may still go back.
/// The watch of the pods last: up to a moment after the Cluster was read it has told of no other pod of that name, so
/// nothing had started before. A gap in the watch, a failed request, and a crash between any two steps end the attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Release {
    /// The instance that holds the Lease.
    pub instance: String,
    /// The instance's pod.
    pub uid: String,
    /// The Lease's version as it was read.
    pub version: String,
    /// The next step.
    pub next: Next,
}

impl Release {
    /// The first step for a pod of an instance that is said to have ended.
    #[must_use]
    pub fn of(instance: &str, uid: &str) -> Release {
        Release { instance: instance.into(), uid: uid.into(), version: String::new(), next: Next::ReadLease }
    }

    /// Goes on with the Lease as it is.
    pub fn on_lease(&mut self, lease: Option<&Lease>) {
        let held = lease.filter(|lease| self.next == Next::ReadLease && lease.holder.as_ref() == Some(&self.instance));
        self.version = held.map(|lease| lease.version.clone()).unwrap_or_default();
        self.next = if held.is_some() { Next::ReadPod } else { Next::Stop };
    }

    /// Goes on with the pod of the instance's name as it is.
    pub fn on_pod(&mut self, pod: Option<&Pod>) {
        let dead = pod.is_some_and(|pod| pod.uid == self.uid && pod.has_ended());
        self.next = if self.next == Next::ReadPod && dead { Next::AwaitChoice } else { Next::Stop };
    }

    /// Goes on once the watches say that it is worth it, and ends when they say that it is not.
    pub fn on_view(&mut self, view: &View) {
        let is_held = view.lease.as_ref().is_some_and(|lease| lease.holder.as_ref() == Some(&self.instance));
        if !matches!(self.next, Next::ReadLease | Next::ReadPod) && !is_held {
            self.next = Next::Stop;
        } else if self.next == Next::AwaitChoice
            && view.cluster.as_ref().is_some_and(|cluster| cluster.has_chosen_instead_of(&self.instance))
        {
            self.next = Next::ReadCluster;
        }
    }

    /// Goes on with the Cluster as it is.
    pub fn on_cluster(&mut self, cluster: Option<&Cluster>) {
        let chosen = cluster.is_some_and(|cluster| cluster.has_chosen_instead_of(&self.instance));
        self.next = if self.next == Next::ReadCluster && chosen { Next::Mark } else { Next::Stop };
    }

    /// Goes on once a pod was changed, with its version since.
    pub fn on_mark(&mut self, version: String) {
        self.next = if self.next == Next::Mark { Next::AwaitMark(version) } else { Next::Stop };
    }

    /// Goes on with what the watch of the pods tells, or ends.
    pub fn on_seen(&mut self, name: &str, pod: &Pod) {
        if *name == self.instance && pod.uid != self.uid {
            self.next = Next::Stop;
        } else if matches!(&self.next, Next::AwaitMark(version) if *version == pod.version) {
            self.next = Next::Empty;
        }
    }

    /// Ends, as the watch of the pods has a gap.
    pub fn on_gap(&mut self) {
        self.next = Next::Stop;
    }
}

/// A label that is to be set: the Service shall lead to this pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lead {
    /// The pod's name, which is the instance's.
    pub pod: String,
    /// The pod's version; at another one the operator may have set a label itself.
    pub version: String,
}

/// The time that the operator gives a failing primary to come back, before it fails over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delay {
    /// The Cluster's version.
    pub version: String,
    /// How long it is, in seconds.
    pub seconds: u32,
    /// The operator has noted since when the primary fails.
    pub has_begun: bool,
}

/// A delay that is to be over: the primary's pod is being deleted, and what is deleted does not come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hasten {
    /// The primary's pod.
    pub uid: String,
    /// The Cluster's version.
    pub version: String,
    /// How long the delay is, in seconds.
    pub seconds: u32,
}

/// A primary that answers nobody and lives all the same: its Lease is renewed, so that no standby can take over. That is what
/// it looks like when PostgreSQL stands still and the program that looks after it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hung {
    /// The primary's pod by its name, which is the instance's.
    pub pod: String,
    /// The pod itself.
    pub uid: String,
    /// The pod's version: at another one it may be ready again.
    pub version: String,
    /// The Lease's version: it changes when the Lease is renewed.
    pub lease: String,
}

/// All that the watches have told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The primary's Lease.
    pub lease: Option<Lease>,
    /// The Cluster.
    pub cluster: Option<Cluster>,
    /// The Cluster's delay.
    pub delay: Option<Delay>,
    /// The operator says that all is well, that it waits for instances, or that it fails over: not that it is at work on the
    /// primary, or knows of a reason to leave it as it is, such as a full disk.
    pub is_undisturbed: bool,
    /// The pods of the instances by their names.
    pub pods: BTreeMap<String, Pod>,
}

impl View {
    /// The release that is worth an attempt: the Lease's holder seems to be dead.
    #[must_use]
    pub fn release(&self) -> Option<Release> {
        let holder = self.lease.as_ref()?.holder.as_ref()?;
        let pod = self.pods.get(holder).filter(|pod| pod.has_ended())?;
        Some(Release::of(holder, &pod.uid))
    }

    /// The pod that may be marked: the chosen instance's.
    #[must_use]
    pub fn marked(&self) -> Option<&str> {
        let target = &self.cluster.as_ref()?.target;
        self.pods.get_key_value(target).map(|(name, _)| name.as_str())
    }

    /// The delay to end: the operator waits for a primary that will not come back, or will once it has asked one of a lost node
    /// for its state in vain. Nothing else comes of it than of a Cluster without a delay, which is the operator's own default.
    #[must_use]
    pub fn hasten(&self) -> Option<Hasten> {
        let (cluster, delay) = (self.cluster.as_ref()?, self.delay.as_ref()?);
        let pod = self.pods.get(&cluster.current)?;
        let is_lost = pod.is_deleting && pod.is_understood() && cluster.target == cluster.current;
        let has_begun = delay.has_begun || pod.is_out_of_touch;
        (is_lost && has_begun && delay.seconds > 0).then(|| Hasten {
            uid: pod.uid.clone(),
            version: delay.version.clone(),
            seconds: delay.seconds,
        })
    }

    /// Whether another instance is ready to take over from this one.
    pub(crate) fn is_replaceable(&self, name: &str) -> bool {
        self.pods.iter().any(|(other, pod)| other != name && pod.is_ready && !pod.is_deleting)
    }

    /// The primary that seems to hang. Whether it does is known when this has been so for some time, with the Lease renewed
    /// meanwhile. Its pod is to be deleted then, which is what a person would do: a kubelet ends processes that stand still,
    /// and the operator asks a pod that is being deleted for nothing; one that hangs it asks again and again, for 10 s each
    /// time. Only where another instance is ready to take over.
    #[must_use]
    pub fn hung(&self) -> Option<Hung> {
        let (cluster, lease) = (self.cluster.as_ref()?, self.lease.as_ref()?);
        let (name, pod) = self.pods.get_key_value(&cluster.current)?;
        let is_silent =
            pod.has_started && !pod.is_ready && !pod.is_out_of_touch && !pod.is_deleting && pod.is_understood();
        let is_replaceable = self.is_replaceable(name);
        let holds = lease.holder.as_ref() == Some(name);
        (self.is_undisturbed && is_silent && is_replaceable && holds).then(|| Hung {
            pod: name.clone(),
            uid: pod.uid.clone(),
            version: pod.version.clone(),
            lease: lease.version.clone(),
        })
    }

    /// The label to set, as the operator will once it has asked every instance for its state: the Cluster says that this
    /// instance is the primary and is to be it, it holds the Lease, and the Service leads to no other that may live.
    #[must_use]
    pub fn lead(&self) -> Option<Lead> {
        let cluster = self.cluster.as_ref()?;
        let name = &cluster.current;
        let pod = self.pods.get(name)?;
        let is_primary = cluster.target == *name && self.lease.as_ref()?.holder.as_ref() == Some(name);
        let serves = pod.is_ready && !pod.is_deleting && pod.role == Role::Other && pod.is_understood();
        let mut others = self.pods.iter().filter(|(other, pod)| *other != name && !pod.has_ended());
        let alone = others.all(|(_, pod)| pod.role == Role::Other);
        (is_primary && serves && alone).then(|| Lead { pod: name.clone(), version: pod.version.clone() })
    }
}
