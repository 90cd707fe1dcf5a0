//! What the helper makes of all that its watches have told.

use failover_helper::rules::{Cluster, Container, Delay, Hasten, Hung, Lead, Lease, Pod, Role, View};

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
    assert_eq!(waiting().hasten(), Some(Hasten { uid: "p".into(), version: "9".into(), seconds: 1 }));
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
    let changes: [Change; 7] = [
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
