//! How far a restore came, against what the store holds.
//!
//! PostgreSQL takes a segment that it does not get for the end of the WAL. Where a moment is asked for it then fails, as
//! the moment was not reached; where the latest is asked for it is content. So a store that failed for a moment would
//! cost what came after it, unnoticed.

use anyhow::Context as _;

use crate::{
    backup::{Server, catalog::number},
    database::{self, Fork, Lsn},
    error::{Result, failed},
    kube::Kube,
};

/// The bytes of a WAL segment: PostgreSQL's default, which the operator's initdb keeps.
const SEGMENT: u64 = 16 << 20;

/// Checks that the restored `cluster` has all of the WAL that `server` had when the restore began.
///
/// # Errors
/// It ends before the newest segment of the store, or its primary does not answer.
pub async fn verify_end_of_wal(kube: &Kube, namespace: &str, cluster: &str, server: &Server) -> Result<()> {
    let Some(newest) = server.wal.as_ref().map(|wal| &wal.last) else { return Ok(()) };
    // The last timeline that was left is the one that was restored.
    let forks = database::forks(&database::query(kube, namespace, cluster, database::HISTORY).await?)?;
    let end = *forks.last().with_context(|| format!("{cluster} was not restored: its WAL has one timeline only"))?;
    if has_segment(end, newest).with_context(|| format!("{newest} is no segment's name"))? {
        return Ok(());
    }
    Err(failed(format!("{cluster} lacks the end of the WAL: it has not read segment {newest}, which the store holds"))
        .remedy("the store did not answer for a moment while it was read: restore once more")
        .remedy(format!("stackctl restore --discard {cluster} deletes this one"))
        .into())
}

/// Whether WAL that ends at `end` has what `segment` holds; the WAL of a timeline that came after `segment`'s is not
/// compared. `None` when `segment` is no segment's name.
fn has_segment(end: Fork, segment: &str) -> Option<bool> {
    let timeline = u32::from_str_radix(segment.get(..8)?, 16).ok()?;
    let begins = Lsn(number(segment)? * SEGMENT);
    Some(end.parent > timeline || end.parent == timeline && end.at > begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: Fork = Fork { parent: 2, at: Lsn(0x1_0700_0000) };

    #[test]
    fn wal_that_ends_where_the_newest_segment_begins_lacks_it() {
        assert_eq!(has_segment(ENDS, "000000020000000100000006"), Some(true), "replayed to its end");
        assert_eq!(has_segment(ENDS, "000000020000000100000007"), Some(false));
        let within = Fork { at: Lsn(ENDS.at.0 + 1), ..ENDS };
        assert_eq!(has_segment(within, "000000020000000100000007"), Some(true));
    }

    #[test]
    fn a_timeline_that_was_not_found_is_missed_and_one_that_came_later_is_not_compared() {
        assert_eq!(has_segment(ENDS, "000000030000000100000001"), Some(false), "its history was not read");
        assert_eq!(has_segment(ENDS, "000000010000000100000009"), Some(true), "what the former primary wrote alone");
        assert_eq!(has_segment(ENDS, "0000000"), None);
    }
}
