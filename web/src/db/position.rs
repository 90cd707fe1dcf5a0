//! Positions in the WAL: by them a standby is asked whether it has replayed what a reader knows of already.

use std::fmt;

use diesel::data_types::PgLsn;
use diesel::pg::{Pg, sql_types};
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sql_types::{BigInt, Bool};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::{Operation, Work};

/// A position in the WAL: `2-16/B374D848` is the timeline and the LSN.
///
/// Positions are ordered by timeline first. Who follows a timeline has all of the one before it that was kept, whatever
/// its LSN; and the LSN alone would trust a standby that is still on the timeline before and has gone further there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    timeline: u32,
    lsn: u64,
}

impl Position {
    /// A position that no standby reaches: for what is not known.
    pub const UNREACHED: Self = Self { timeline: u32::MAX, lsn: u64::MAX };

    /// Reads a position as it is written here, and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let (timeline, lsn) = text.split_once('-')?;
        let decimal = (1..=10).contains(&timeline.len()) && timeline.bytes().all(|b| b.is_ascii_digit());
        let timeline = timeline.parse().ok().filter(|_| decimal)?;
        Some(Self { timeline, lsn: parse_lsn(lsn)? })
    }

    /// Makes a position of what PostgreSQL tells.
    pub fn new(timeline: impl TryInto<u32>, lsn: u64) -> Self {
        timeline.try_into().map_or(Self::UNREACHED, |timeline| Self { timeline, lsn })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:X}/{:X}", self.timeline, self.lsn >> 32, self.lsn & 0xffff_ffff)
    }
}

/// Reads an LSN as PostgreSQL writes it: two halves in upper-case hexadecimal.
fn parse_lsn(text: &str) -> Option<u64> {
    let half = |half: &str| {
        let hex = (1..=8).contains(&half.len()) && half.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'));
        u64::from_str_radix(half, 16).ok().filter(|_| hex)
    };
    let (high, low) = text.split_once('/')?;
    Some(half(high)? << 32 | half(low)?)
}

/// The question for the position that the next record gets, prepared once for a connection.
#[derive(Clone, Copy, QueryId)]
struct InsertPosition;

impl Query for InsertPosition {
    type SqlType = (BigInt, sql_types::PgLsn);
}

impl QueryFragment<Pg> for InsertPosition {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT ('x' || left(pg_walfile_name(lsn), 8))::bit(32)::bigint, lsn \
             FROM pg_current_wal_insert_lsn() AS lsn",
        );
        Ok(())
    }
}

async fn insert_position(conn: &mut AsyncPgConnection) -> QueryResult<Position> {
    let (timeline, PgLsn(lsn)): (i64, PgLsn) = InsertPosition.get_result(conn).await?;
    Ok(Position::new(timeline, lsn))
}

/// A write, and the position that a standby must have replayed to show it.
#[derive(Clone)]
pub struct Noted<O>(pub O);

impl<O: Operation> Operation for Noted<O> {
    type Out = (O::Out, Position);

    async fn run(&self, conn: &mut AsyncPgConnection) -> QueryResult<Self::Out> {
        let out = self.0.run(conn).await?;
        // Asked in a statement of its own on the same connection, so the write has committed: its commit record was
        // inserted before, and the insert position only grows. (The flush position would be behind that record where
        // `synchronous_commit` is off.) Others' records may be counted in: then a read goes to the primary without need.
        // What took place is not made a failure because this was not told.
        let position = insert_position(conn).await.unwrap_or(Position::UNREACHED);
        Ok((out, position))
    }
}

/// A read of a standby that has replayed a position; of another one it finds `None`.
#[derive(Clone)]
pub struct Since<O> {
    /// The read.
    pub operation: O,
    /// The position.
    pub position: Position,
}

/// The question whether a standby has replayed a position, prepared once for a connection.
#[derive(Clone, Copy, QueryId)]
struct HasReplayed {
    timeline: i64,
    lsn: PgLsn,
}

impl Query for HasReplayed {
    type SqlType = Bool;
}

impl QueryFragment<Pg> for HasReplayed {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // A server that replays nothing has no such position, or keeps its last one.
        out.push_sql("SELECT coalesce((timeline_id::bigint, pg_last_wal_replay_lsn()) >= (");
        out.push_bind_param::<BigInt, _>(&self.timeline)?;
        out.push_sql(", ");
        out.push_bind_param::<sql_types::PgLsn, _>(&self.lsn)?;
        out.push_sql("), false) FROM pg_control_checkpoint()");
        Ok(())
    }
}

impl<O: Operation> Operation for Since<O> {
    type Out = Option<O::Out>;

    fn reading(&self) -> Work {
        self.operation.reading()
    }

    async fn run(&self, conn: &mut AsyncPgConnection) -> QueryResult<Self::Out> {
        // A statement of its own, before the read: in one statement the snapshot would be taken before the position is
        // asked, and lack what is replayed between the two. Without privileges a role is told a standby's timeline as of
        // its last restartpoint only: after a failover it answers no reads until its next one.
        let Position { timeline, lsn } = self.position;
        let asked = HasReplayed { timeline: timeline.into(), lsn: PgLsn(lsn) };
        Ok(if asked.get_result(conn).await? { Some(self.operation.run(conn).await?) } else { None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        for text in ["1-0/0", "2-16/B374D848", "4294967295-FFFFFFFF/FFFFFFFF"] {
            assert_eq!(Position::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Position::parse("4294967295-FFFFFFFF/FFFFFFFF"), Some(Position::UNREACHED));
        assert_eq!(Position::parse("1-1/2"), Some(Position { timeline: 1, lsn: 0x1_0000_0002 }));
    }

    #[test]
    fn what_is_no_position_is_not_read() {
        let wrong = [
            "",
            "-",
            "1",
            "1-",
            "1-/",
            "1-0",
            "0/0",
            "-1-0/0",
            "+1-0/0",
            "1-+1/0",
            "1-0/-1",
            " 1-0/0",
            "1-0/0 ",
            "1-0/g",
            "1-0/ab",
            "1-0/123456789",
            "1-123456789/0",
            "4294967296-0/0",
            "00000000001-0/0",
            "1-0/0/0",
            "1-0/0-1",
            "١-0/0",
            "1-0x1/0",
            "1-0/0\0",
            "x-0/0",
        ];
        for text in wrong {
            assert_eq!(Position::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_later_timeline_is_later_whatever_the_lsn() {
        let position = |text| Position::parse(text).unwrap();
        assert!(position("2-0/1") > position("1-F/0"));
        assert!(position("1-1/0") > position("1-0/FFFFFFFF"));
        assert!(Position::UNREACHED > position("9-F/F"));
    }
}
