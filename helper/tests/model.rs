//! Every order of events: no order lets two primaries live because the helper released the Lease.
//!
//! A small world is walked through from state to state until there is none left that was not seen. The old primary H may
//! have two pods one after the other; each pod's PostgreSQL crashes, is started again by its kubelet, shuts down when
//! another instance is to be the primary; the pod is deleted, forced, collected; its kubelet learns of it and reports when
//! it likes or never, which is a lost node; the standby T takes the Lease when it is free; the roles are changed back. Two
//! helpers begin an attempt whenever they like, with whichever pod in mind, which is any lag and any order of what
//! watches tell; they go on when they like, which is a helper that is frozen; or never, which is one that crashed.
//!
//! What is taken for granted, since Kubernetes and the operator see to it: a read tells the newest state; a pod's volume is
//! not used by a pod that gets its name while processes of the former one live; a kubelet gives a final phase only once all
//! containers have ended, and starts none afterwards; an instance that started as a standby is promoted with the Lease only.
//!
//! The operator takes its choice back where the chosen instance's pod is deleted. In CloudNativePG 1.30.1 that is walked
//! through as well, as PostgreSQL starts with the Lease only. In 1.30.0 an old primary that starts has no Lease for a moment,
//! and a standby that was frozen meanwhile takes over from it, with and without a helper: there the walk leaves it out.

use std::collections::HashSet;

use failover_helper::rules::{Cluster, Container, Lease, Next, Pod, Release, Role};

/// The old primary.
const H: &str = "user-db-1";
/// The standby.
const T: &str = "user-db-2";

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Process {
    Off,
    /// Started, and has not looked yet which instance is to be the primary.
    Starting,
    /// Started as a standby, or waits to become one.
    Standby,
    /// Takes writes; in 1.30.0 from its start on, before it has the Lease.
    Primary,
}

/// A pod of H.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Incarnation {
    exists: bool,
    is_deleting: bool,
    kubelet_knows: bool,
    has_final_phase: bool,
    is_collected: bool,
    reported: Container,
    process: Process,
}

const NEW: Incarnation = Incarnation {
    exists: true,
    is_deleting: false,
    kubelet_knows: false,
    has_final_phase: false,
    is_collected: false,
    reported: Container::MayRun,
    process: Process::Off,
};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct World {
    target: &'static str,
    holder: Option<&'static str>,
    /// The first of them, and its successor once it was made.
    pods: [Option<Incarnation>; 2],
    /// T has been chosen and waits for the Lease.
    waits: bool,
    promoted: bool,
    /// H's data are those of a standby: T was promoted, and H was not since.
    follows: bool,
    helpers: [Option<Attempt>; 2],
    /// The Lease is free as a helper has released it.
    released: bool,
}

/// A helper's attempt: the pod that it has in mind, and the next step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Attempt {
    pod: usize,
    step: usize,
    /// The Lease is at the version still that was read. No more is asked of versions, so that there is no end to writes.
    is_current: bool,
}

/// How the database behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operator {
    /// An old primary starts before it has the Lease; the choice of T is not taken back, nor is the failover where the old
    /// primary has given the Lease up itself.
    V1_30_0,
    /// An old primary starts with the Lease only; the choice of T may be taken back.
    V1_30_1,
}

/// A rule that is left out, to see that the walk finds what it is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flaw {
    None,
    /// Whatever the Cluster says, another instance counts as chosen.
    AnyTarget,
    /// An instance counts as chosen while the operator is yet to choose one.
    PendingCounts,
    /// A terminated container counts, whatever the phase and without a deletion.
    ContainerIsEnough,
    /// A terminated container of a pod that is being deleted counts, whatever the phase.
    DeletionIsEnough,
    /// A phase that no kubelet told counts.
    CollectedCounts,
    /// A pod that is gone counts as one that has ended.
    GoneCounts,
    /// Whether a watch has told of another pod of that name is not asked.
    NoMark,
    /// The Lease is written whatever its version.
    AnyVersion,
}

fn start() -> World {
    let primary = Incarnation { process: Process::Primary, ..NEW };
    World {
        target: H,
        holder: Some(H),
        pods: [Some(primary), None],
        waits: false,
        promoted: false,
        follows: false,
        helpers: [None, None],
        released: false,
    }
}

impl World {
    /// Two primaries live at once.
    fn is_split(&self) -> bool {
        self.promoted && self.pods.iter().flatten().any(|pod| pod.process == Process::Primary)
    }

    fn write(mut self, holder: Option<&'static str>) -> World {
        self.holder = holder;
        self.released = false;
        self.helpers.iter_mut().flatten().for_each(|attempt| attempt.is_current = false);
        self
    }

    /// What is gone is only what may still run of it.
    fn with(mut self, at: usize, pod: Incarnation) -> World {
        let Incarnation { exists, kubelet_knows, process, .. } = pod;
        self.pods[at] = Some(if exists { pod } else { Incarnation { exists, kubelet_knows, process, ..NEW } });
        self
    }

    /// The pod that the API server has under the name of H.
    fn named(&self) -> Option<(usize, Incarnation)> {
        (0..2).rev().find_map(|at| self.pods[at].filter(|pod| pod.exists).map(|pod| (at, pod)))
    }

    fn successors(&self, operator: Operator, flaw: Flaw, helpers: usize) -> Vec<World> {
        let mut next = Vec::new();
        self.control_plane(operator, &mut next);
        for at in 0..2 {
            if let Some(pod) = self.pods[at] {
                self.server(at, pod, operator, &mut next);
                self.pod(at, pod, &mut next);
            }
        }
        for helper in 0..helpers {
            self.helper(helper, flaw, &mut next);
        }
        next
    }

    /// The operator and T.
    fn control_plane(&self, operator: Operator, next: &mut Vec<World>) {
        match self.target {
            H if !self.promoted => next.extend(["pending", T].map(|target| World { target, ..*self })),
            "pending" => {
                next.push(World { target: T, ..*self });
                if operator == Operator::V1_30_1 || self.holder == Some(H) || self.released {
                    next.push(World { target: H, ..*self });
                }
            }
            T if !self.promoted => {
                next.push(World { waits: true, ..*self });
                if operator == Operator::V1_30_1 {
                    next.push(World { target: H, ..*self });
                }
            }
            T if self.promoted => {
                // T stops, gives the Lease up, and H is to be the primary again.
                next.push(World { target: H, promoted: false, waits: false, ..*self }.write(None));
            }
            _ => {}
        }
        if self.waits && !self.promoted && self.holder.is_none() {
            next.push(World { promoted: true, follows: true, ..*self }.write(Some(T)));
        }
        let volume_is_free = self.pods[0].is_some_and(|pod| pod.process == Process::Off);
        if self.named().is_none() && self.pods[1].is_none() && volume_is_free {
            next.push(self.with(1, NEW));
        }
    }

    /// The PostgreSQL of a pod.
    fn server(&self, at: usize, pod: Incarnation, operator: Operator, next: &mut Vec<World>) {
        let ours = self.holder.is_none_or(|holder| holder == H);
        let becomes = |process| self.with(at, Incarnation { process, ..pod });
        match pod.process {
            Process::Off => return,
            Process::Starting if self.target != H => next.push(becomes(Process::Standby)),
            Process::Starting if operator == Operator::V1_30_0 && !self.follows => next.push(becomes(Process::Primary)),
            Process::Starting | Process::Standby => {
                if self.target == H && ours {
                    let promoted = World { follows: false, ..becomes(Process::Primary) };
                    next.push(promoted.write(Some(H)));
                }
            }
            Process::Primary => {
                if ours {
                    next.push(self.write(Some(H)));
                }
                if self.target != H || !ours {
                    // It sees that another one is to be the primary, or has its Lease: it stops and gives the Lease up.
                    let stopped = becomes(Process::Off);
                    next.push(if self.holder == Some(H) { stopped.write(None) } else { stopped });
                }
            }
        }
        // A crash, or its kubelet's kill.
        next.push(becomes(Process::Off));
    }

    /// A pod's object and its kubelet.
    fn pod(&self, at: usize, pod: Incarnation, next: &mut Vec<World>) {
        let mut push = |pod| next.push(self.with(at, pod));
        let is_off = pod.process == Process::Off;
        if is_off && !pod.kubelet_knows && (at == 1 || self.pods[1].is_none()) {
            push(Incarnation { process: Process::Starting, ..pod });
        }
        if !pod.exists {
            return;
        }
        push(Incarnation { is_deleting: true, ..pod });
        // Forced.
        push(Incarnation { exists: false, ..pod });
        push(Incarnation { is_deleting: true, has_final_phase: true, is_collected: true, ..pod });
        if pod.is_deleting {
            push(Incarnation { kubelet_knows: true, ..pod });
        }
        if !pod.is_collected {
            push(Incarnation { reported: if is_off { Container::Terminated } else { Container::MayRun }, ..pod });
            if pod.kubelet_knows && is_off {
                push(Incarnation { has_final_phase: true, reported: Container::Terminated, ..pod });
            }
        }
    }

    fn helper(&self, helper: usize, flaw: Flaw, next: &mut Vec<World>) {
        let mut push = |(mut world, attempt): (World, Option<Attempt>)| {
            world.helpers[helper] = attempt;
            next.push(world);
        };
        match self.helpers[helper] {
            Some(attempt) => push(self.advance(attempt, flaw)),
            None => (0..2).for_each(|pod| push(self.advance(Attempt { pod, step: 0, is_current: true }, flaw))),
        }
    }

    /// The world and the attempt after its next step.
    fn advance(&self, attempt: Attempt, flaw: Flaw) -> (World, Option<Attempt>) {
        let steps = [Next::ReadLease, Next::ReadPod, Next::ReadCluster, Next::Mark, Next::Empty];
        let mut release = Release::of(H, &attempt.pod.to_string());
        release.next = steps[attempt.step].clone();
        match attempt.step {
            0 => release.on_lease(Some(&Lease { holder: self.holder.map(str::to_owned), version: "read".into() })),
            1 => {
                release.on_pod(self.read(attempt, flaw).as_ref());
                // A watch may say at any time what makes it go on; what counts is read.
                if release.next == Next::AwaitChoice {
                    release.next = Next::ReadCluster;
                }
            }
            2 => {
                let counts = flaw == Flaw::AnyTarget || (flaw == Flaw::PendingCounts && self.target == "pending");
                let target = if counts { T } else { self.target };
                release.on_cluster(Some(&Cluster { current: String::new(), target: target.into() }));
            }
            3 => {
                release.on_mark("mark".into());
                // The watch comes to the mark at some time; by then it has told of whatever was made before it.
                if let Some(successor) = self.pods[1].filter(|_| flaw != Flaw::NoMark) {
                    release.on_seen(H, &seen(1, successor, flaw));
                }
                release.on_seen(T, &Pod { version: "mark".into(), ..seen(2, NEW, flaw) });
            }
            _ if attempt.is_current || (flaw == Flaw::AnyVersion && self.holder == Some(H)) => {
                return (World { released: true, ..self.write(None) }, None);
            }
            _ => release.on_gap(),
        }
        let step = steps.iter().position(|step| *step == release.next);
        let is_current = attempt.is_current || attempt.step == 0;
        (*self, step.map(|step| Attempt { step, is_current, ..attempt }))
    }

    /// The pod as a helper reads it.
    fn read(&self, attempt: Attempt, flaw: Flaw) -> Option<Pod> {
        let ended = Incarnation { is_deleting: true, has_final_phase: true, reported: Container::Terminated, ..NEW };
        let ended = seen(attempt.pod, ended, Flaw::None);
        match self.named() {
            None => (flaw == Flaw::GoneCounts && self.pods[attempt.pod].is_some()).then_some(ended),
            Some((at, found)) => Some(seen(at, found, flaw)),
        }
    }
}

/// A pod in the rules' words, or as somebody who does not know a rule would put it.
fn seen(at: usize, pod: Incarnation, flaw: Flaw) -> Pod {
    let any_phase = flaw == Flaw::ContainerIsEnough || flaw == Flaw::DeletionIsEnough;
    Pod {
        uid: at.to_string(),
        version: String::new(),
        is_deleting: pod.is_deleting || flaw == Flaw::ContainerIsEnough,
        has_final_phase: pod.has_final_phase || (any_phase && pod.reported == Container::Terminated),
        is_collected: pod.is_collected && flaw != Flaw::CollectedCounts,
        shares_processes: false,
        postgres: pod.reported,
        operator: "1.30.0".into(),
        role: Role::Other,
        is_ready: false,
        is_out_of_touch: false,
        node: "a".into(),
        has_started: true,
    }
}

/// What a walk has found.
#[derive(Default, Debug)]
struct Found {
    states: usize,
    /// The Lease was released by a helper, and T promoted.
    helped: bool,
    split: Option<World>,
}

/// Walks through every state, or until two primaries live.
fn walk(operator: Operator, flaw: Flaw, helpers: usize) -> Found {
    let mut found = Found::default();
    let (mut known, mut open) = (HashSet::from([start()]), vec![start()]);
    while let Some(world) = open.pop() {
        found.helped |= world.released && world.waits;
        if world.is_split() {
            found.split = Some(world);
            break;
        }
        for next in world.successors(operator, flaw, helpers) {
            if known.insert(next) {
                open.push(next);
            }
        }
    }
    found.states = known.len();
    found
}

const OPERATORS: [Operator; 2] = [Operator::V1_30_0, Operator::V1_30_1];

#[test]
fn without_a_helper_the_lease_keeps_two_primaries_apart() {
    for operator in OPERATORS {
        let found = walk(operator, Flaw::None, 0);
        assert!(found.split.is_none() && !found.helped, "{operator:?}: {found:?}");
    }
}

#[test]
fn no_order_of_events_lets_two_primaries_live_with_two_helpers() {
    for operator in OPERATORS {
        let found = walk(operator, Flaw::None, 2);
        assert!(found.split.is_none(), "{operator:?}: {:?}", found.split);
        assert!(found.helped, "{operator:?}: the helper releases a Lease in some order");
        assert!(found.states > 10_000, "{operator:?}: only {} states", found.states);
    }
}

#[test]
fn each_rule_is_needed() {
    let flaws = [
        Flaw::AnyTarget,
        Flaw::PendingCounts,
        Flaw::ContainerIsEnough,
        Flaw::DeletionIsEnough,
        Flaw::CollectedCounts,
        Flaw::GoneCounts,
        Flaw::NoMark,
        Flaw::AnyVersion,
    ];
    for flaw in flaws {
        let harms = OPERATORS.iter().any(|operator| walk(*operator, flaw, 1).split.is_some());
        assert!(harms, "{flaw:?} is never seen to harm");
    }
}
