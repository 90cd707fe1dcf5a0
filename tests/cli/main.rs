//! The command line as a user meets it: the real binary, in a folder of its own, with fake `docker` and
//! `minikube` executables or none. Exit codes and every word on stderr are held by snapshots.

#![allow(clippy::unwrap_used, missing_docs)]

mod api_server;
mod bad_bundle;
mod bad_cluster;
mod bad_machine;
mod bundle_push;
mod doctor;
mod down;
mod habits;
mod interrupt;
mod last_up;
mod load;
mod mirror;
mod reach;
mod sandbox;
mod sizes;
