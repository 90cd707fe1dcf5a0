//! How long a connection may be kept.

use std::time::Instant;

use tokio::sync::watch;

/// What a connection is valid by: until it is known that another server became primary after it was begun.
#[derive(Debug, Clone)]
pub struct Validity {
    /// The moment at which it was begun to connect: where the Service led then, the connection goes.
    pub begun: Instant,
    /// Connections that were begun before this moment lead to a server that is primary no more.
    valid_from: watch::Receiver<Instant>,
}

impl Validity {
    /// The validity of a connection that is begun now.
    pub fn from_now(valid_from: &watch::Receiver<Instant>) -> Self {
        Self { begun: Instant::now(), valid_from: valid_from.clone() }
    }

    /// Waits until the connection leads to a server that is primary no more.
    pub async fn ended(mut self) {
        reaches_past(&mut self.valid_from, self.begun).await;
    }
}

/// Waits until a moment that is told is later than another one.
pub async fn reaches_past(told: &mut watch::Receiver<Instant>, moment: Instant) {
    // An error means that the sender is gone: the process ends.
    let _ = told.wait_for(|told| *told > moment).await;
}
