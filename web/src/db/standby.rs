//! Reads that a standby may answer while there is a primary: lists and searches.
//!
//! A standby is asked once, and only where it costs no wait. It answers if it has replayed what the reader has written and
//! what the primary had a few seconds ago; in every other case the primary is asked as if there were no standby. What
//! the primary is asked is bounded by its pool as ever, so standbys that fail bring it no more than it had without them.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::pool::{NoConnection, Pool};
use super::position::{Noted, Position, Since};
use super::{Db, DbError, Failure, Operation, Read};
use crate::metrics::Counter;

/// The time that a read waits for a connection to a standby. One that is being made serves the reads after it.
const STANDBY_WAIT: Duration = Duration::from_millis(10);
/// The time for which the standbys are left alone after one was not reached or failed.
const STANDBY_REST: Duration = Duration::from_secs(2);

/// The reason why a read was led back to the primary.
enum LedBack {
    /// The standby has not replayed enough.
    Behind,
    /// All connections to standbys are in use.
    Busy,
    /// No standby was reached, or it broke off the read, now or just before.
    Failed,
    /// The standby has ended the read because it took too long.
    Slow,
    /// The primary's position is not known well enough.
    Unknown,
}

impl Db {
    /// Reads from a standby that has what the primary had a few seconds ago, and `since`, the position of what the reader
    /// knows of already; where there is none, as [`Db::read`].
    pub async fn read_list<O: Operation>(
        &self,
        operation: O,
        since: Option<Position>,
    ) -> Result<Read<O::Out>, DbError> {
        let deadline = Instant::now() + self.deadline;
        let Some(standby) = self.standby.as_ref().filter(|_| self.watch.is_up()) else {
            return self.read_until(operation, deadline, 0).await;
        };
        match self.ask_standby(standby, &operation, since, deadline).await {
            Ok(value) => {
                self.metrics.standby_reads.answered.inc();
                Ok(Read { value, stale: false })
            }
            Err(why) => {
                self.led_back(&why).inc();
                // What was too much for a standby is asked of the primary once, and not twice.
                let slow = u32::from(matches!(why, LedBack::Slow));
                self.read_until(operation, deadline, slow).await
            }
        }
    }

    async fn ask_standby<O: Operation>(
        &self,
        standby: &Rc<Pool>,
        operation: &O,
        since: Option<Position>,
        deadline: Instant,
    ) -> Result<O::Out, LedBack> {
        let recent = self.watch.recent_position().ok_or(LedBack::Unknown)?;
        let position = since.unwrap_or(recent).max(recent);
        if position == Position::UNREACHED {
            return Err(LedBack::Behind);
        }
        if self.standby_rest.get().is_some_and(|until| Instant::now() < until) {
            return Err(LedBack::Failed);
        }
        let rest = || {
            self.standby_rest.set(Some(Instant::now() + STANDBY_REST));
            LedBack::Failed
        };
        let since = Since { operation: operation.clone(), position };
        let lent = match standby.get(since.reading(), Instant::now() + STANDBY_WAIT).await {
            Ok(lent) => lent,
            Err(NoConnection::Busy) => return Err(LedBack::Busy),
            Err(NoConnection::Failed) => return Err(rest()),
        };
        match self.read_on(lent, &since, deadline).await {
            Ok(found) => found.ok_or(LedBack::Behind),
            Err(Failure::Slow) => Err(LedBack::Slow),
            // Among them the end of a read that was in the way of the replay, and a schema that is not replayed yet.
            Err(_) => Err(rest()),
        }
    }

    fn led_back(&self, why: &LedBack) -> &Counter {
        let reads = &self.metrics.standby_reads;
        match why {
            LedBack::Behind => &reads.behind,
            LedBack::Busy => &reads.busy,
            LedBack::Failed => &reads.failed,
            LedBack::Slow => &reads.slow,
            LedBack::Unknown => &reads.unknown,
        }
    }

    /// The position that a read must ask for: `None` where every standby that is asked has it anyway, or there is none.
    pub fn needed(&self, since: Option<Position>) -> Option<Position> {
        self.standby.as_ref()?;
        let recent = self.watch.recent_position();
        since.filter(|since| recent.is_none_or(|recent| *since > recent))
    }

    /// Writes as [`Db::write`], and tells the position from which on a standby shows it; `None` where there is no standby.
    pub async fn write_noted<O: Operation>(&self, operation: O) -> Result<(O::Out, Option<Position>), DbError> {
        if self.standby.is_none() {
            return Ok((self.write(operation).await?, None));
        }
        let (out, position) = self.write(Noted(operation)).await?;
        Ok((out, Some(position)))
    }
}
