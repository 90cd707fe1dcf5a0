//! What befalls backups: a store that is killed, away, full or not the one that it was, and failovers beside them.
//! Each fault is undone, and afterwards the WAL has no gap and what is restored is sound.

mod failover;
mod hand;
mod left_out;
mod retention;
pub mod second_store;
mod store;

use std::time::Duration;

use crate::{
    backups,
    cli::{Output, Stackctl},
    machine,
    objects::{Objects, mail},
    suite::{Stack, Step, Suite},
};
pub use hand::Hand;

const PROFILE: &str = "stackctl-faults";
/// What a database of three is back to full redundancy after, with much to spare.
const HEALTHY_WITHIN: Duration = Duration::from_secs(180);

pub fn suite() -> Suite {
    let steps = vec![
        Step::new("up", "the stack comes up, takes a base backup and gets 300 MiB", set_up).without_stack(),
        Step::new("killed-in-backup", "the store is killed in the middle of a base backup", |stack| {
            store::killed_during_a_base_backup(&stack.stackctl, &hand(stack));
        }),
        Step::new("killed-in-archiving", "the store is killed four times while WAL is archived", |stack| {
            store::killed_while_wal_is_archived(&stack.stackctl, stack.objects(), &hand(stack));
        }),
        Step::new(
            "credentials",
            "the store refuses the credentials: the database goes on, status says whose",
            |stack| {
                store::refuses_the_credentials(&stack.stackctl, stack.objects(), &hand(stack));
            },
        ),
        Step::new("bucket", "the bucket is not there: the database goes on, and status says so", |stack| {
            store::has_lost_its_bucket(&stack.stackctl, stack.objects(), &hand(stack));
        }),
        Step::new("away", "the store is away for ten minutes: the alert fires, the archive catches up", |stack| {
            store::is_away_for_ten_minutes(&stack.stackctl, stack.objects());
        }),
        Step::new("failover-in-backup", "the primary is deleted in the middle of a base backup", |stack| {
            failover::in_the_middle_of_a_base_backup(&stack.stackctl, &hand(stack));
        }),
        Step::new("no-plugin", "the primary is deleted while no pod of the plugin runs: status says why", |stack| {
            failover::while_no_plugin_answers(&stack.stackctl, stack.objects(), &hand(stack));
        }),
        Step::new("plugin-hangs", "the primary is deleted while the plugin's processes stand still", |stack| {
            failover::while_the_plugin_hangs(&stack.stackctl, &hand(stack));
        }),
        Step::new("plugin-removed", "the plugin is removed by others: one up puts everything right", |stack| {
            failover::with_the_plugin_removed_by_others(&stack.stackctl, &hand(stack));
        }),
        Step::new("retention", "retention removes the one base backup that no moment of the week needs", |stack| {
            retention::removes_what_it_should_and_nothing_else(&stack.stackctl, &hand(stack));
        }),
        Step::new("left-out", "backups are left out, and taken up again", |stack| {
            left_out::and_taken_up_again(&stack.stackctl, &hand(stack));
        }),
        Step::new("second-store", "a store of the user's own is used, and gets full", |stack| {
            second_store::is_used_and_gets_full(&stack.stackctl, stack.objects(), &hand(stack));
        }),
        Step::new("delete", "down --cluster leaves nothing on this machine", |stack| machine::end(&stack.stackctl))
            .without_stack(),
    ];
    Suite { command: "cargo xtask backups", profile: PROFILE, set_up, steps }
}

fn hand(stack: &Stack) -> Hand {
    Hand::new(&stack.stackctl)
}

fn set_up(stack: &Stack) {
    stack.stackctl.ok(&["up"]);
    backups::until("the first base backup", || !backups::backups(&stack.stackctl, "user-db").is_empty());
    // So much that a base backup takes long enough to be disturbed: 300 MiB that compress little.
    let sql = "create table if not exists filling as select string_agg(md5(random()::text), '') as text \
               from generate_series(1, 38400) row, generate_series(1, 250) digest group by row";
    backups::ask(&stack.stackctl, "user-db", sql);
}

/// A row that must be there afterwards, written while something is amiss: the database goes on.
fn goes_on(objects: &Objects, during: &str) {
    objects.register(during, &mail(during));
}

/// The archive is whole, a new base backup can be taken, all of `before` is listed still, and what is restored is sound.
fn all_is_well(stackctl: &Stackctl, before: &[String]) {
    backups::until("a working archive", || backups::line(stackctl).starts_with(backups::IN_ORDER));
    stackctl.ok(&["backup", "create"]);
    let after = backups::backups(stackctl, "user-db");
    assert!(before.iter().all(|id| after.contains(id)), "{before:?} became {after:?}");
    let listed = backups::list(stackctl);
    assert_eq!(listed["servers"]["user-db"]["missing_segments"], 0, "{listed:#}");
    backups::is_sound(stackctl);
}

/// Takes a base backup, and has `fault` disturb it while it is copied.
fn disturbed(stackctl: &Stackctl, hand: &Hand, fault: impl FnOnce()) -> Output {
    let created = std::thread::scope(|scope| {
        let created = scope.spawn(|| stackctl.run(&["backup", "create"]));
        backups::until("the copy", || hand.copying());
        fault();
        created.join().expect("stackctl ends")
    });
    println!("the backup that was disturbed ended with exit code {}", created.code);
    created
}

/// Waits for three instances that are ready, whoever is the primary.
fn healthy(stackctl: &Stackctl) {
    backups::within(HEALTHY_WITHIN, "full redundancy", || backups::part(stackctl, "database")["health"] == "healthy");
}
