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
    /// Its deletion was asked for.
    pub is_deleting: bool,
    /// Its phase is `Succeeded` or `Failed`.
    pub has_final_phase: bool,
    /// Its phase was not told by a kubelet: the pod was collected, as its node is lost.
    pub is_collected: bool,
    /// Its processes may outlive its container: they are in a space that others share.
    pub shares_processes: bool,
    /// The container of PostgreSQL.
    pub postgres: Container,
    /// The version of the operator that made it.
    pub operator: String,
    /// Its role by its label.
    pub role: Role,
    /// It is ready.
    pub is_ready: bool,
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

    fn is_understood(&self) -> bool {
        OPERATORS.iter().any(|known| self.operator.starts_with(known))
    }
}

/// What is next in a [`Release`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Next {
    /// Read the Lease.
    ReadLease,
    /// Read the Cluster.
    ReadCluster {
        /// The Lease's version as it was read.
        version: String,
    },
    /// Read the pod of the instance's name.
    ReadPod {
        /// The Lease's version as it was read.
        version: String,
    },
    /// Take the holder out of the Lease, provided that it is at this version still.
    Empty {
        /// The Lease's version as it was read.
        version: String,
    },
    /// Nothing: it is not to be released, or not now.
    Stop,
}

/// One attempt to release the Lease of a primary that is dead, step by step.
///
/// The order is what makes it safe. The Lease comes first: the write at its end is bound to that version, so whoever
/// touched the Lease since has it. Then the Cluster: another instance is chosen and waits for the Lease, so whatever starts
/// under this name from now on starts as a standby; while the target is [`PENDING`] the operator may still go back. The
/// pod last: it is there and has ended, so nothing had started under its name
/// before the Cluster was read. A deletion of the pod, a failed read, and a crash between any two steps end the attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Release {
    /// The instance that holds the Lease.
    pub instance: String,
    /// The instance's pod.
    pub uid: String,
    /// The next step.
    pub next: Next,
}

impl Release {
    /// The first step for a pod of an instance that is said to have ended.
    #[must_use]
    pub fn of(instance: &str, uid: &str) -> Release {
        Release { instance: instance.into(), uid: uid.into(), next: Next::ReadLease }
    }

    /// Goes on with the Lease as it is.
    pub fn on_lease(&mut self, lease: Option<&Lease>) {
        let held = lease.filter(|lease| lease.holder.as_ref() == Some(&self.instance));
        self.next = match (&self.next, held) {
            (Next::ReadLease, Some(lease)) => Next::ReadCluster { version: lease.version.clone() },
            _ => Next::Stop,
        };
    }

    /// Goes on with the Cluster as it is.
    pub fn on_cluster(&mut self, cluster: Option<&Cluster>) {
        let replaced = cluster.is_some_and(|cluster| cluster.has_chosen_instead_of(&self.instance));
        self.next = match &self.next {
            Next::ReadCluster { version } if replaced => Next::ReadPod { version: version.clone() },
            _ => Next::Stop,
        };
    }

    /// Goes on with the pod of the instance's name as it is.
    pub fn on_pod(&mut self, pod: Option<&Pod>) {
        let dead = pod.is_some_and(|pod| pod.uid == self.uid && pod.has_ended());
        self.next = match &self.next {
            Next::ReadPod { version } if dead => Next::Empty { version: version.clone() },
            _ => Next::Stop,
        };
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

/// All that the watches have told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The primary's Lease.
    pub lease: Option<Lease>,
    /// The Cluster.
    pub cluster: Option<Cluster>,
    /// The pods of the instances by their names.
    pub pods: BTreeMap<String, Pod>,
}

impl View {
    /// The release that is worth an attempt: the Lease's holder seems to be dead, and another instance to be chosen.
    #[must_use]
    pub fn release(&self) -> Option<Release> {
        let holder = self.lease.as_ref()?.holder.as_ref()?;
        let pod = self.pods.get(holder).filter(|pod| pod.has_ended())?;
        self.cluster.as_ref()?.has_chosen_instead_of(holder).then(|| Release::of(holder, &pod.uid))
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

    /// A standby whose pod may be touched to have the operator look again: the primary's pod is on its way out or gone,
    /// and the operator, which looks again after a second, has chosen nobody yet.
    #[must_use]
    pub fn waker(&self) -> Option<&str> {
        let cluster = self.cluster.as_ref()?;
        let undecided = cluster.target == cluster.current || cluster.target == PENDING;
        let leaves = self.pods.get(&cluster.current).is_none_or(|pod| pod.is_deleting);
        if cluster.current.is_empty() || !undecided || !leaves {
            return None;
        }
        let standby = |(name, pod): &(&String, &Pod)| {
            **name != cluster.current && pod.is_ready && !pod.is_deleting && pod.is_understood()
        };
        self.pods.iter().find(standby).map(|(name, _)| name.as_str())
    }
}
