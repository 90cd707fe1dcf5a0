//! The schedule of the writes: a fixed rate, whatever became of the writes before.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::{
    drills::model::{
        clock::Clock,
        history::{Micros, Stream},
        ledger::{Ledger, LedgerRecord},
    },
    error::Result,
};

/// Writes are handed out this often.
const TICK: Duration = Duration::from_millis(100);

/// The streams that are written to, and how often.
#[derive(Debug, Clone)]
pub struct WriteSchedule {
    /// The streams that are written to.
    pub streams: Vec<Stream>,
    /// Writes a second in each.
    pub rate: f64,
    /// The time by which a write is handed out before it is due: for so long a broken connection to the prober stops
    /// nothing.
    pub lead_time: Duration,
}

/// A write that is on disk and about to be sent.
#[derive(Debug, Clone, Copy)]
pub struct ScheduledWrite {
    /// The key, unique in the run.
    pub key: u64,
    /// The way to the database.
    pub stream: Stream,
    /// The time at which it is to be sent, by the run's clock.
    pub due: Micros,
}

/// Hands out writes: on disk first, then to the conversation.
///
/// # Errors
/// The ledger's disk failed.
pub async fn hand_out_writes(
    schedule: WriteSchedule,
    ledger: Ledger,
    clock: Clock,
    sender: mpsc::UnboundedSender<Vec<ScheduledWrite>>,
    mut stopped: watch::Receiver<bool>,
) -> Result<()> {
    let streams = schedule.streams.len().max(1) as u64;
    // The streams take turns, so that their writes do not come in pairs.
    let spacing = (1_000_000.0 / schedule.rate / streams as f64).max(1.0) as u64;
    // Time for the first intents to reach the disk and the prober.
    let first = clock.now() + 500_000;
    let mut next: u64 = 0;
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            _ = ticks.tick() => {}
        }
        let until = clock.now() + u64::try_from(schedule.lead_time.as_micros()).unwrap_or(u64::MAX);
        let mut writes = Vec::new();
        while first + next * spacing <= until {
            let stream = schedule.streams[usize::try_from(next % streams).unwrap_or(0)];
            // Keys start at 1: 0 stands for none in the prober.
            writes.push(ScheduledWrite { key: next + 1, stream, due: first + next * spacing });
            next += 1;
        }
        let intents =
            writes.iter().map(|w| LedgerRecord::Intent { key: w.key, stream: w.stream, due: w.due }).collect();
        ledger.append_durably(intents).await?;
        if sender.send(writes).is_err() {
            return Ok(());
        }
    }
}
