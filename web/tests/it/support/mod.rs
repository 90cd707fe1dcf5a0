//! What the tests stand on.

pub mod app;
pub mod http;
pub mod load;
pub mod postgres;
pub mod proxy;

use std::time::{Duration, Instant};

/// Waits until `what` holds; fails with its name after `at_most`.
pub fn eventually(name: &str, at_most: Duration, mut what: impl FnMut() -> bool) {
    let deadline = Instant::now() + at_most;
    while !what() {
        assert!(Instant::now() < deadline, "not within {at_most:?}: {name}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
