//! The app as its users and the cluster meet it: the real program, on a real PostgreSQL.
//!
//! A PostgreSQL is started for the run and a database of its own made for each test. (A
//! schema of its own would not do: advisory locks and extensions are a database's.)

// Helpers of tests, too, say what they expect by panicking; the lint's own exception knows
// only the tests themselves.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod api;
mod browser;
mod encryption;
mod failover;
mod front;
mod http;
mod keys;
mod languages;
mod migrations;
mod openapi;
mod pages;
mod rates;
mod reads;
mod shutdown;
mod standbys;
mod support;
