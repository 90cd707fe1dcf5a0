//! How far a restore came, against what the store holds.
//!
//! PostgreSQL takes a segment that it does not get for the end of the log. Where a moment is asked for it then fails, as
//! the moment was not reached; where the latest is asked for it is content. So a store that failed for a moment would
//! cost what came after it, unnoticed.

use anyhow::Context as _;

use super::{Server, catalog::number};
use crate::{
    database,
    drills::history::Lsn,
    error::{Result, failed},
    kube::Kube,
};

/// Bytes of a segment.
const SEGMENT: u64 = 16 << 20;

/// The history of the timeline that the primary writes: where each one before it ended, the last line the one that was
/// restored.
const HISTORY: &str = "select pg_read_file('pg_wal/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) || '.history')";

/// Where a restore left the log that it read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    timeline: u64,
    /// Bytes since the beginning of the log.
    position: u64,
}

/// Checks that the restored `cluster` has all of the log that `server` had when the restore began.
///
/// # Errors
/// It ends before the newest segment of the store, or its primary does not answer.
pub async fn newest(kube: &Kube, namespace: &str, cluster: &str, server: &Server) -> Result<()> {
    let Some(newest) = server.wal.as_ref().map(|wal| &wal.last) else { return Ok(()) };
    let history = database::query(kube, namespace, cluster, HISTORY).await?;
    let end = end(&history).with_context(|| format!("the history of {cluster}'s log cannot be read: {history:?}"))?;
    if holds(end, newest).with_context(|| format!("{newest} is no segment's name"))? {
        return Ok(());
    }
    Err(failed(format!("{cluster} lacks the end of the log: it has not read segment {newest}, which the store holds"))
        .remedy("the store did not answer for a moment while it was read: restore once more")
        .remedy(format!("stackctl restore --discard {cluster} deletes this one"))
        .into())
}

/// The last line of a history: timeline, where it ended, and why, between tabs.
fn end(history: &str) -> Option<End> {
    let line = history.lines().rfind(|line| !line.trim().is_empty())?;
    let mut words = line.split_whitespace();
    let timeline = words.next()?.parse().ok()?;
    Some(End { timeline, position: words.next()?.parse::<Lsn>().ok()?.0 })
}

/// Whether a log that ends there has what `segment` holds; of a timeline that came after `segment`'s it is not asked.
fn holds(end: End, segment: &str) -> Option<bool> {
    let timeline = u64::from_str_radix(segment.get(..8)?, 16).ok()?;
    let begins = number(segment)? * SEGMENT;
    Some(end.timeline > timeline || end.timeline == timeline && end.position > begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: &str = "1\t0/50000A0\tno recovery target specified\n\n2\t1/7000000\tno recovery target specified\n";

    #[test]
    fn the_last_line_tells_where_the_restored_log_ended() {
        assert_eq!(end(HISTORY), Some(End { timeline: 2, position: 0x1_0700_0000 }));
        for text in ["", "\n", "2", "2\t17000000", "x\t1/7000000", "2\t1/x"] {
            assert_eq!(end(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_log_that_ends_where_the_newest_segment_begins_lacks_it() {
        let ends = end(HISTORY).unwrap();
        assert_eq!(holds(ends, "000000020000000100000006"), Some(true), "replayed to its end");
        assert_eq!(holds(ends, "000000020000000100000007"), Some(false));
        let within = End { position: ends.position + 1, ..ends };
        assert_eq!(holds(within, "000000020000000100000007"), Some(true));
    }

    #[test]
    fn a_timeline_that_was_not_found_is_missed_and_one_that_came_later_is_not_compared() {
        let ends = end(HISTORY).unwrap();
        assert_eq!(holds(ends, "000000030000000100000001"), Some(false), "its history was not read");
        assert_eq!(holds(ends, "000000010000000100000009"), Some(true), "what the former primary wrote alone");
        assert_eq!(holds(ends, "0000000"), None);
    }
}
