//! What the helper makes of all that its watches have told.

use failover_helper::{
    lost::{Lost, Silence},
    rules::{Cluster, Container, Delay, Hasten, Hung, Lead, Lease, Pod, Role, View},
};

const OLD: &str = "user-db-1";
const NEW: &str = "user-db-2";

fn pod(uid: &str, role: Role) -> Pod {
    Pod {
        uid: uid.into(),
        version: "7".into(),
        is_deleting: false,
        has_final_phase: false,
        is_collected: false,
        shares_processes: false,
        postgres: Container::MayRun,
        operator: "1.30.1".into(),
        role,
        is_ready: true,
        is_out_of_touch: false,
        node: "a".into(),
        has_started: true,
    }
}

/// The old primary's pod is being deleted, and the operator gives it a second to come back.
fn waiting() -> View {
    View {
        lease: Some(Lease { holder: Some(OLD.into()), version: "3".into() }),
        cluster: Some(Cluster { current: OLD.into(), target: OLD.into() }),
        delay: Some(Delay { version: "9".into(), seconds: 1, has_begun: true }),
        is_undisturbed: true,
        pods: [(OLD.into(), Pod { is_deleting: true, ..pod("p", Role::Primary) }), (NEW.into(), pod("q", Role::Other))]
            .into(),
    }
}

/// The new primary has been promoted, and its label is the old one still.
fn promoted() -> View {
    View {
        lease: Some(Lease { holder: Some(NEW.into()), version: "4".into() }),
        cluster: Some(Cluster { current: NEW.into(), target: NEW.into() }),
        pods: [(NEW.into(), pod("q", Role::Other))].into(),
        ..waiting()
    }
}

#[test]
fn the_delay_for_a_primary_that_is_being_deleted_is_ended() {
    let hasten = Hasten { uid: "p".into(), version: "9".into(), seconds: 1 };
    assert_eq!(waiting().hasten(), Some(hasten.clone()));
    let mut lost = waiting();
    lost.delay.as_mut().unwrap().has_begun = false;
    lost.pods.get_mut(OLD).unwrap().is_out_of_touch = true;
    assert_eq!(lost.hasten(), Some(hasten), "before it has begun where nothing is heard of its node");
}

#[test]
fn a_delay_is_left_to_the_operator_wherever_the_primary_may_come_back() {
    let mut changes: Vec<(&str, View)> = Vec::new();
    let mut but = |why, change: fn(&mut View)| {
        let mut view = waiting();
        change(&mut view);
        changes.push((why, view));
    };
    but("its pod stays", |view| view.pods.get_mut(OLD).unwrap().is_deleting = false);
    but("a container of another operator's", |view| view.pods.get_mut(OLD).unwrap().operator = "1.31.0".into());
    but("its pod is gone: the new one may start", |view| view.pods.retain(|name, _| name != OLD));
    but("another one's pod is deleted", |view| {
        view.pods.get_mut(OLD).unwrap().is_deleting = false;
        view.pods.get_mut(NEW).unwrap().is_deleting = true;
    });
    but("the operator has not begun to wait", |view| view.delay.as_mut().unwrap().has_begun = false);
    but("there is no delay", |view| view.delay.as_mut().unwrap().seconds = 0);
    but("the failover has begun", |view| view.cluster.as_mut().unwrap().target = "pending".into());
    for (why, view) in changes {
        assert_eq!(view.hasten(), None, "{why}");
    }
}

#[test]
fn the_service_is_led_to_the_new_primary_once_it_is_the_only_one() {
    assert_eq!(promoted().lead(), Some(Lead { pod: NEW.into(), version: "7".into() }));
    let mut both = promoted();
    both.pods.insert(OLD.into(), pod("p", Role::Primary));
    assert_eq!(both.lead(), None, "the old one may live and has the label");
    let mut early = promoted();
    early.lease.as_mut().unwrap().holder = Some(OLD.into());
    assert_eq!(early.lead(), None, "it has no Lease");
}

/// Why, and what is different.
type Change = (&'static str, fn(&mut View));

/// The primary answers nobody and has the Lease.
fn hanging() -> View {
    View {
        pods: [(OLD.into(), Pod { is_ready: false, ..pod("p", Role::Primary) }), (NEW.into(), pod("q", Role::Other))]
            .into(),
        ..waiting()
    }
}

#[test]
fn a_primary_that_answers_nobody_and_keeps_its_lease_hangs() {
    let hung = Hung { pod: OLD.into(), uid: "p".into(), version: "7".into(), lease: "3".into() };
    assert_eq!(hanging().hung(), Some(hung.clone()));
    let mut chosen = hanging();
    chosen.cluster.as_mut().unwrap().target = NEW.into();
    assert_eq!(chosen.hung(), Some(hung), "while the operator fails over, too");
}

#[test]
fn a_primary_is_left_alone_whose_end_would_not_help() {
    let changes: [Change; 8] = [
        ("nothing is heard of its node", |view| view.pods.get_mut(OLD).unwrap().is_out_of_touch = true),
        ("the operator is at work on it", |view| view.is_undisturbed = false),
        ("it answers", |view| view.pods.get_mut(OLD).unwrap().is_ready = true),
        ("it is about to start", |view| view.pods.get_mut(OLD).unwrap().has_started = false),
        ("it is being deleted", |view| view.pods.get_mut(OLD).unwrap().is_deleting = true),
        ("it has given the Lease up", |view| view.lease.as_mut().unwrap().holder = None),
        ("nobody can take over", |view| view.pods.get_mut(NEW).unwrap().is_ready = false),
        ("another operator's", |view| view.pods.get_mut(OLD).unwrap().operator = "1.29.2".into()),
    ];
    for (why, change) in changes {
        let mut view = hanging();
        change(&mut view);
        assert_eq!(view.hung(), None, "{why}");
    }
}

/// Nothing is heard of the primary's node, on which there is a standby as well.
fn out_of_touch() -> View {
    let silent = |uid, role| Pod { is_ready: false, is_out_of_touch: true, ..pod(uid, role) };
    let beside = Pod { version: "8".into(), ..silent("r", Role::Other) };
    let other = Pod { node: "b".into(), ..pod("q", Role::Other) };
    View {
        pods: [(OLD.into(), silent("p", Role::Primary)), (NEW.into(), other), ("user-db-3".into(), beside)].into(),
        ..waiting()
    }
}

/// What is made of so many answers in a row, in all of which the Lease is at the view's version.
fn silence(answers: usize) -> Silence {
    let mut silence = Silence::default();
    let lease = waiting().lease;
    (0..answers).for_each(|_| silence.on_answer(lease.as_ref()));
    silence
}

#[test]
fn a_primary_of_which_nothing_is_heard_is_lost_and_so_is_what_is_beside_it() {
    let lost = |pod: &str, uid: &str, version: &str| Lost { pod: pod.into(), uid: uid.into(), version: version.into() };
    let both = [lost(OLD, "p", "7"), lost("user-db-3", "r", "8")];
    assert_eq!(out_of_touch().lost(&silence(4)), both);
    let mut half_done = out_of_touch();
    half_done.pods.get_mut(OLD).unwrap().is_deleting = true;
    assert_eq!(half_done.lost(&silence(4)), both[1..]);
}

#[test]
fn no_instance_is_lost_whose_primary_may_be_heard_of_again() {
    let changes: [Change; 9] = [
        ("its kubelet is heard of", |view| view.pods.get_mut(OLD).unwrap().is_out_of_touch = false),
        ("a standby's node only", |view| view.cluster.as_mut().unwrap().current = NEW.into()),
        ("the Lease was renewed", |view| view.lease.as_mut().unwrap().version = "4".into()),
        ("the Lease is another's", |view| view.lease.as_mut().unwrap().holder = Some(NEW.into())),
        ("the Lease was given up", |view| view.lease.as_mut().unwrap().holder = None),
        ("nobody can take over", |view| view.pods.get_mut(NEW).unwrap().is_ready = false),
        ("its node is not known", |view| view.pods.get_mut(OLD).unwrap().node.clear()),
        ("there is no Lease", |view| view.lease = None),
        ("all are of another operator's", |view| {
            view.pods.values_mut().for_each(|pod| pod.operator = "1.29.2".into());
        }),
    ];
    for (why, change) in changes {
        let mut view = out_of_touch();
        change(&mut view);
        assert_eq!(view.lost(&silence(4)), [], "{why}");
    }
}

#[test]
fn the_silence_of_a_primary_counts_only_while_the_api_server_answers() {
    assert_eq!(out_of_touch().lost(&silence(3)), [], "too short");
    let lease = waiting().lease;
    let mut away = silence(3);
    away.on_answer(None);
    for _ in 0..3 {
        away.on_answer(lease.as_ref());
        assert_eq!(out_of_touch().lost(&away), [], "it was away: counted from its return");
    }
    away.on_answer(lease.as_ref());
    assert_eq!(out_of_touch().lost(&away).len(), 2);
    let mut renewed = silence(3);
    renewed.on_answer(Some(&Lease { version: "2".into(), ..lease.clone().unwrap() }));
    (0..3).for_each(|_| renewed.on_answer(lease.as_ref()));
    assert_eq!(out_of_touch().lost(&renewed), [], "it was renewed meanwhile");
}

#[test]
fn a_lease_is_read_where_its_holder_runs_as_far_as_is_known() {
    assert!(out_of_touch().is_led());
    let changes: [Change; 4] = [
        ("nobody holds it", |view| view.lease.as_mut().unwrap().holder = None),
        ("its pod is gone", |view| view.pods.retain(|name, _| name != OLD)),
        ("its pod is being deleted", |view| view.pods.get_mut(OLD).unwrap().is_deleting = true),
        ("it has not started", |view| view.pods.get_mut(OLD).unwrap().has_started = false),
    ];
    for (why, change) in changes {
        let mut view = out_of_touch();
        change(&mut view);
        assert!(!view.is_led(), "{why}");
    }
}
