//! What befalls backups: a store that is killed, away, full or not the one that it was, and failovers beside them.
//! Each fault is undone, and afterwards the log has no gap and what is restored is sound.

mod failover;
mod hand;
mod left_out;
mod retention;
mod second_store;
mod store;

use std::time::Duration;

use crate::{
    backups,
    cli::{Output, Stackctl},
    machine,
    objects::Objects,
    step,
};
use hand::Hand;

/// A profile of its own: a developer's cluster, and that of the other test, are left alone.
const PROFILE: &str = "stackctl-faults";
/// What a database of three is back to full redundancy after, with much to spare.
const HEALTHY_WITHIN: Duration = Duration::from_secs(180);

#[test]
#[ignore = "needs a Docker engine and half an hour: cargo xtask backups runs it"]
fn backups_survive_what_befalls_their_store() {
    let stackctl = Stackctl::new(PROFILE);
    machine::begin(&stackctl);
    stackctl.ok(&["up"]);
    let objects = Objects::connect(&stackctl);
    let hand = Hand::new(&stackctl);
    backups::until("the first base backup", || !backups::backups(&stackctl, "user-db").is_empty());
    fill(&stackctl);

    store::killed_during_a_base_backup(&stackctl, &hand);
    store::killed_while_the_log_is_archived(&stackctl, &objects, &hand);
    store::refuses_the_credentials(&stackctl, &objects, &hand);
    store::has_lost_its_bucket(&stackctl, &objects, &hand);
    store::is_away_for_ten_minutes(&stackctl, &objects);
    failover::in_the_middle_of_a_base_backup(&stackctl, &hand);
    failover::while_no_plugin_answers(&stackctl, &objects, &hand);
    retention::removes_what_it_should_and_nothing_else(&stackctl, &hand);
    left_out::and_taken_up_again(&stackctl, &hand);
    second_store::is_used_and_gets_full(&stackctl, &objects, &hand);

    machine::end(&stackctl);
}

/// So much that a base backup takes long enough to be disturbed: 300 MiB that compress little.
fn fill(stackctl: &Stackctl) {
    step("the database gets 300 MiB");
    let sql = "create table filling as select string_agg(md5(random()::text), '') as text \
               from generate_series(1, 38400) row, generate_series(1, 250) digest group by row";
    backups::ask(stackctl, "user-db", sql);
}

/// A row that must be there afterwards, written while something is amiss: the database goes on.
fn goes_on(objects: &Objects, during: &str) {
    objects.register(during, &format!("{during}-{}@example.org", std::process::id()));
}

/// The archive is whole, a new base backup can be taken, all of `before` is listed still, and what is restored is sound.
fn all_is_well(stackctl: &Stackctl, before: &[String]) {
    backups::until("a working archive", || backups::line(stackctl).starts_with("log archived"));
    stackctl.ok(&["backup", "create"]);
    let after = backups::backups(stackctl, "user-db");
    assert!(before.iter().all(|id| after.contains(id)), "{before:?} became {after:?}");
    let listed = backups::list(stackctl);
    assert_eq!(listed["servers"]["user-db"]["missing_segments"], 0, "{listed:#}");
    let verified = stackctl.ok(&["backup", "verify"]);
    assert!(verified.stdout.contains("the backups are sound"), "{}", verified.stdout);
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
