//! Whether a WAL segment is whole. Its first page says how long it has to be; a file that is shorter, wherever it was
//! cut, would end a recovery early.

use std::ops::RangeInclusive;

/// `wal_segment_size` is a power of two in these bounds.
const SIZES: RangeInclusive<u64> = 1 << 20..=1 << 30;
/// The bytes of a segment that [`check`] looks at.
pub const HEADER: usize = 40;
/// `XLP_LONG_HEADER` in `xlp_info`: the first page of a segment says more than others do.
const LONG_HEADER: u16 = 2;

/// Checks a segment's length against what its first bytes say.
///
/// # Errors
/// In words, when it cannot be whole.
pub fn check(head: &[u8], length: u64) -> Result<(), String> {
    if !length.is_power_of_two() || !SIZES.contains(&length) {
        return Err(format!("{length} bytes are not a WAL segment's length: it is cut or something else"));
    }
    let number = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let info = head.get(2..4).and_then(|bytes| Some(u16::from_le_bytes(bytes.try_into().ok()?)));
    // A segment that PostgreSQL has filled with nothing but zeros does not begin with a page; big-endian ones are read
    // as other numbers and pass by their length alone.
    if info.is_some_and(|info| info & LONG_HEADER != 0)
        && let Some(said) = number(32).map(u64::from)
        && said.is_power_of_two()
        && SIZES.contains(&said)
        && said != length
    {
        return Err(format!("it has {length} bytes and its first page says {said}: it is cut"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(size: u32) -> Vec<u8> {
        let mut head = vec![0; HEADER];
        head[..4].copy_from_slice(&[0x18, 0xd1, 2, 0]);
        head[32..36].copy_from_slice(&size.to_le_bytes());
        head
    }

    #[test]
    fn a_segment_is_as_long_as_its_first_page_says() {
        check(&head(16 << 20), 16 << 20).unwrap();
        check(&head(64 << 20), 64 << 20).unwrap();
        check(&[0; HEADER], 16 << 20).unwrap();
        assert!(check(&head(16 << 20), 8 << 20).unwrap_err().contains("first page says 16777216"));
        for cut in [0, 1, 100, (16 << 20) - 1, (16 << 20) + 1, 1 << 19, 1 << 31] {
            assert!(check(&head(16 << 20), cut).is_err(), "{cut}");
        }
        assert!(check(&[], 0).is_err());
    }
}
