//! What the tests stand on: [`testbed`], with the program under test.

pub mod app;
pub mod browser;
pub mod postgres;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use testbed::ledger::{Ledger, Verdict};

use postgres::Postgres;

/// Waits until `what` holds; fails with its name after `at_most`.
pub fn eventually(name: &str, at_most: Duration, what: impl FnMut() -> bool) {
    testbed::until(name, at_most, what).unwrap();
}

/// For a test that needs the machine for itself, for its load or for the times that it expects: one at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// No error, and each acknowledged user is in the database exactly once, and no others.
pub fn assert_holds(ledger: &Ledger, postgres: &Postgres, database: &str) {
    assert!(ledger.errors.is_empty(), "{} errors, such as {}", ledger.errors.len(), ledger.errors[0]);
    let verdict = ledger.check(postgres, database).unwrap();
    assert_eq!(verdict, Verdict { lost: 0, doubled: 0, unacknowledged: 0 });
}
