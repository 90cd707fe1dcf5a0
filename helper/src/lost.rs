//! A primary whose node is lost, so that the operator need not ask it for its state again and again.
//!
//! The control plane would evict it after the time that its toleration says. That time has to be long enough for a node that is
//! only late: after an absence of the API server a kubelet may take 7 s to try again (`maxBackoff` of k8s.io/component-helpers'
//! lease controller), and is not heard of until then. An instance's own word is quicker: a primary renews its Lease every
//! second, and tries again as often. [`Silence`] counts the seconds in which it could have done so and did not.

use crate::rules::{Lease, View};

/// How many answers in a row must tell of the same Lease. They are a second apart, so that this takes three seconds, which is
/// the length of the Lease; a node counts as lost after six at the least.
const ANSWERS: u32 = 4;

/// The answers in a row by which the API server was there and the primary's Lease was not renewed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Silence {
    /// The Lease's version in all of them.
    version: String,
    answers: u32,
}

impl Silence {
    /// Notes what was found when the Lease was read; `None`: there was no answer, or there is no Lease.
    pub fn on_answer(&mut self, lease: Option<&Lease>) {
        let Some(lease) = lease else {
            *self = Silence::default();
            return;
        };
        let is_same = self.version == lease.version;
        self.answers = if is_same { self.answers.saturating_add(1) } else { 1 };
        self.version.clone_from(&lease.version);
    }

    /// Whether whoever holds the Lease has let it go by, at the version that a watch has told of.
    fn is_certain_of(&self, lease: &Lease) -> bool {
        self.answers >= ANSWERS && self.version == lease.version
    }
}

/// A pod that is to be deleted, as its eviction would: its node is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The pod's name, which is the instance's.
    pub pod: String,
    /// The pod itself.
    pub uid: String,
    /// The pod's version: at another one its node may have been heard of again.
    pub version: String,
}

impl View {
    /// Whether it is to be found out if the primary still renews its Lease: it holds it, and runs as far as is known.
    #[must_use]
    pub fn is_led(&self) -> bool {
        let led = || {
            let holder = self.lease.as_ref()?.holder.as_ref()?;
            self.pods.get(holder).filter(|pod| pod.has_started && !pod.is_deleting)
        };
        led().is_some()
    }

    /// The primary whose node is lost, and the instances beside it there: nothing is heard of the node, and nothing of the
    /// primary itself. Only where another instance is ready to take over.
    #[must_use]
    pub fn lost(&self, silence: &Silence) -> Vec<Lost> {
        let primary = || {
            let (cluster, lease) = (self.cluster.as_ref()?, self.lease.as_ref()?);
            let (name, pod) = self.pods.get_key_value(&cluster.current)?;
            let is_lost = pod.is_out_of_touch && !pod.node.is_empty() && silence.is_certain_of(lease);
            let holds = lease.holder.as_ref() == Some(name);
            (is_lost && holds && self.is_replaceable(name)).then_some(pod)
        };
        let Some(primary) = primary() else { return Vec::new() };
        let beside = self.pods.iter().filter(|(_, pod)| {
            pod.node == primary.node && pod.is_out_of_touch && !pod.is_deleting && pod.is_understood()
        });
        let lost =
            beside.map(|(name, pod)| Lost { pod: name.clone(), uid: pod.uid.clone(), version: pod.version.clone() });
        lost.collect()
    }
}
