//! The write-ahead log (WAL): positions in it, and where its timelines left each other.

use std::fmt;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// A position in the write-ahead log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Lsn(pub u64);

impl std::str::FromStr for Lsn {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(high, low)| {
            let (high, low) = (u32::from_str_radix(high, 16).ok()?, u32::from_str_radix(low, 16).ok()?);
            Some(Lsn(u64::from(high) << 32 | u64::from(low)))
        });
        parsed.ok_or_else(|| anyhow::anyhow!("{text:?} is not a WAL position"))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl Serialize for Lsn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a timeline left its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The timeline that was left.
    pub parent: u32,
    /// The position up to which the parent's WAL is also the child's.
    pub at: Lsn,
}

/// SQL: the history file of the timeline that the primary writes; nothing on the first one.
pub const HISTORY: &str = "SELECT pg_read_file('pg_wal/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) \
                           || '.history', true)";

/// Every fork of a [`HISTORY`], the oldest first.
///
/// # Errors
/// A line that is none.
pub fn forks(history: &str) -> anyhow::Result<Vec<Fork>> {
    // As PostgreSQL reads it (readTimeLineHistory): parent, position and reason, and lines that say nothing.
    let lines = history.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| fork(line).with_context(|| format!("{line:?} is no line of a timeline's history"))).collect()
}

fn fork(line: &str) -> Option<Fork> {
    let mut fields = line.split_whitespace();
    Some(Fork { parent: fields.next()?.parse().ok()?, at: fields.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wal_positions_read_and_write_as_postgresql_does() {
        for (text, value) in [("0/0", 0), ("0/3000148", 0x300_0148), ("1/0", 1 << 32), ("A/FFFFFFFF", 0xA_FFFF_FFFF)] {
            assert_eq!(text.parse::<Lsn>().unwrap(), Lsn(value));
            assert_eq!(Lsn(value).to_string(), text);
        }
        for text in ["", "/", "0", "0/", "x/0", "0/123456789", "-1/0"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_history_file_tells_the_forks() {
        let text = "1\t0/5000A28\tno recovery target specified\n\n# by hand\n2\t1/70000A0\tbefore 2026-11-26\n";
        let expected = [Fork { parent: 1, at: Lsn(0x500_0A28) }, Fork { parent: 2, at: Lsn(0x1_0700_00A0) }];
        assert_eq!(forks(text).unwrap(), expected);
        assert_eq!(forks("\n").unwrap(), []);
        for text in ["2", "2\t17000000", "x\t1/7000000", "2\t1/x"] {
            assert!(forks(text).is_err(), "{text:?}");
        }
    }
}
