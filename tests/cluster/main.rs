//! The main job on a real minikube with the real CloudNativePG, step by step as a user would go; and what befalls
//! backups (`faults`), drills (`interruptions`) and a cluster that others use (`clusters`).
//!
//! Four tests, because steps build on each other and a cluster is dear; each is a list of steps, any of which can be
//! run by itself on a cluster that is kept: `cargo xtask cluster-test --list`. They need a bundle or a network with a
//! container registry and several minutes, so they run only when asked for: `cargo xtask test`, `cargo xtask backups`, `clusters`, `interruptions`.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test tells its steps and fails by panicking")]

mod backups;
mod cli;
mod clusters;
mod drills;
mod faults;
mod interruptions;
mod lived_in;
mod machine;
mod main_job;
mod monitoring;
mod objects;
mod policed;
mod suite;
mod tenant;

#[test]
#[ignore = "needs a Docker engine and minutes: cargo xtask test runs it"]
fn from_nothing_to_a_registered_user_and_back_to_nothing() {
    main_job::suite().run();
}

#[test]
#[ignore = "needs a Docker engine and half an hour: cargo xtask backups runs it"]
fn backups_survive_what_befalls_their_store() {
    faults::suite().run();
}

#[test]
#[ignore = "needs a Docker engine and half an hour: cargo xtask clusters runs it"]
fn what_others_have_in_the_cluster_stays_as_it_is() {
    clusters::suite().run();
}

#[test]
#[ignore = "needs a Docker engine and hours: cargo xtask interruptions runs it"]
fn drills_that_are_killed_leave_everything_that_was_there() {
    interruptions::suite().run();
}
