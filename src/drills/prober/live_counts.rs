//! What the writes of a run came to so far, for whoever looks while they flow.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{
    drills::model::history::{Micros, Outcome, Stream},
    error::{Result, failed},
    poll::Tries,
};

/// The counts of writes so far, for the live view, and the error of the prober's clock.
#[derive(Debug, Default)]
pub struct LiveCounts {
    acknowledged: [AtomicU64; 2],
    failed: [AtomicU64; 2],
    pub(super) clock_error: AtomicU64,
    /// Why the last connection to the prober broke, if none has been good since.
    trouble: Mutex<Option<String>>,
}

impl LiveCounts {
    /// Waits until a write of each of `streams` has been acknowledged: without a working prober a fault would show nothing.
    ///
    /// # Errors
    /// There is one of which none is within that time.
    pub async fn first_acknowledged(&self, streams: &[Stream], within: Duration) -> Result<()> {
        let mut tries = Tries::within(within, Duration::from_millis(100));
        while let Some(stream) = streams.iter().find(|stream| self.counts(**stream).0 == 0) {
            if !tries.another().await {
                let why = self.trouble.lock().ok().and_then(|trouble| trouble.clone());
                let why = why.unwrap_or_else(|| format!("{} failed", self.counts(*stream).1));
                return Err(failed(format!(
                    "nothing was broken: no {stream} write has been acknowledged in {} s ({why})",
                    within.as_secs()
                ))
                .remedy("stackctl status tells what keeps the app and the database from answering; then run the drill again")
                .into());
            }
        }
        Ok(())
    }

    /// Notes why the last connection broke, or that one is good.
    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        if let Ok(mut last) = self.trouble.lock() {
            *last = trouble;
        }
    }

    /// The writes of a stream that were acknowledged, and those that failed.
    pub fn counts(&self, stream: Stream) -> (u64, u64) {
        let of = |counters: &[AtomicU64; 2]| counters[stream as usize].load(Ordering::Relaxed);
        (of(&self.acknowledged), of(&self.failed))
    }

    /// The largest error of the prober's clock.
    pub fn clock_error(&self) -> Micros {
        self.clock_error.load(Ordering::Relaxed)
    }

    /// Counts what became of a write.
    pub(super) fn count(&self, stream: Stream, outcome: &Outcome) {
        let counters = match outcome {
            Outcome::Acknowledged { .. } => &self.acknowledged,
            Outcome::Unsent => return,
            _ => &self.failed,
        };
        counters[stream as usize].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fault_waits_for_an_acknowledged_write_of_each_stream_and_does_not_come_without() {
        let live = LiveCounts::default();
        live.count(Stream::Sql, &Outcome::Acknowledged { place: None });
        live.first_acknowledged(&[Stream::Sql], Duration::from_secs(1)).await.unwrap();
        let refused = live.first_acknowledged(&[Stream::Sql, Stream::Http], Duration::from_secs(1)).await.unwrap_err();
        assert!(refused.to_string().contains("nothing was broken: no HTTP write"), "{refused}");
        live.set_trouble(Some("the prober is silent".into()));
        let refused = live.first_acknowledged(&[Stream::Http], Duration::from_secs(1)).await.unwrap_err();
        assert!(refused.to_string().ends_with("in 1 s (the prober is silent)"), "{refused}");
    }
}
