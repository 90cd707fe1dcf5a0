//! The Kubernetes door against a real control plane: kube-apiserver and etcd as two processes, and nothing else.
//! No controller runs, so nothing becomes ready by itself: tests write the statuses that they need.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test fails by panicking")]

mod address;
mod apply;
mod backups;
mod connect;
mod diff;
mod drills;
mod facts;
mod harness;
mod images;
mod interrupted;
mod inventory;
mod keep_data;
mod kubectl;
mod last_up;
mod lease;
mod lost;
mod manifests;
mod monitoring;
mod operator;
mod policies;
mod priority;
mod reach;
mod rules;
mod sizes;
mod support;
mod switchover;
mod tenant;
mod user_ids;
mod wait;
