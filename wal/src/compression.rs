//! What an archived file is wrapped in. Every format but xz is read and written here.

use std::io::{self, Read, Write};

/// A longer file than PostgreSQL has: what unwraps to more is garbled.
const LONGEST: u64 = 1 << 30;

/// What is read at once.
const PIECE: usize = 256 << 10;

/// A way to wrap a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// `.gz`
    Gzip,
    /// `.bz2`
    Bzip2,
    /// `.xz`; barman's own program has to do it.
    Xz,
    /// `.snappy`, the framed format
    Snappy,
    /// `.zst`
    Zstd,
    /// `.lz4`, the frame format
    Lz4,
}

/// How hard to try, as `--compression-level` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// `low`
    Low,
    /// `medium`
    Medium,
    /// `high`
    High,
    /// The format's own scale; what is off it is taken for its end.
    Number(i32),
}

impl Level {
    /// On a format's scale.
    fn on(self, scale: std::ops::RangeInclusive<i32>, [low, medium, high]: [i32; 3]) -> i32 {
        match self {
            Level::Low => low,
            Level::Medium => medium,
            Level::High => high,
            Level::Number(number) => number.clamp(*scale.start(), *scale.end()),
        }
    }
}

impl Compression {
    /// All that barman knows.
    pub const ALL: [Self; 6] = [Self::Gzip, Self::Bzip2, Self::Xz, Self::Snappy, Self::Zstd, Self::Lz4];

    /// What the file's name ends with.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Gzip => ".gz",
            Self::Bzip2 => ".bz2",
            Self::Xz => ".xz",
            Self::Snappy => ".snappy",
            Self::Zstd => ".zst",
            Self::Lz4 => ".lz4",
        }
    }

    /// Wraps `length` bytes of `content`. Without a level it is barman's, but for zstd: its first level takes a third of
    /// the time of barman's fourth for a few percent more bytes.
    ///
    /// # Errors
    /// For xz, when there are fewer or more bytes, and when they cannot be read.
    pub fn compress(self, content: &mut impl Read, length: u64, level: Option<Level>) -> io::Result<Vec<u8>> {
        let number = |scale, levels: [i32; 3]| level.unwrap_or(Level::Medium).on(scale, levels);
        let unsigned = |number: i32| u32::try_from(number).unwrap_or(1);
        match self {
            Self::Gzip => {
                let level = flate2::Compression::new(unsigned(number(1..=9, [1, 6, 9])));
                let mut to = flate2::write::GzEncoder::new(Vec::new(), level);
                exactly(content, length, &mut to)?;
                to.finish()
            }
            Self::Bzip2 => {
                let level = bzip2::Compression::new(unsigned(number(1..=9, [1, 5, 9])));
                let mut to = bzip2::write::BzEncoder::new(Vec::new(), level);
                exactly(content, length, &mut to)?;
                to.finish()
            }
            Self::Snappy => {
                let mut to = snap::write::FrameEncoder::new(Vec::new());
                exactly(content, length, &mut to)?;
                to.into_inner().map_err(|error| io::Error::other(error.to_string()))
            }
            Self::Zstd => {
                let level = level.map_or(1, |level| level.on(-22..=22, [1, 4, 9]));
                let mut to = zstd::stream::write::Encoder::new(Vec::new(), level)?;
                to.include_checksum(true)?;
                to.set_pledged_src_size(Some(length))?;
                exactly(content, length, &mut to)?;
                to.finish()
            }
            Self::Lz4 => {
                let frame = lz4_flex::frame::FrameInfo::new()
                    .block_size(lz4_flex::frame::BlockSize::Max1MB)
                    .content_checksum(true)
                    .content_size(Some(length));
                let mut to = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
                exactly(content, length, &mut to)?;
                to.finish().map_err(io::Error::other)
            }
            Self::Xz => Err(xz()),
        }
    }

    /// Unwraps `content` into `to`; returns how many bytes came out.
    ///
    /// # Errors
    /// When it is cut or garbled, for xz, and when `to` takes no more.
    pub fn decompress(self, content: &[u8], to: &mut impl Write) -> io::Result<u64> {
        if content.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is empty"));
        }
        let copied = match self {
            Self::Gzip => copy(flate2::read::MultiGzDecoder::new(content), to),
            Self::Bzip2 => copy(bzip2::read::MultiBzDecoder::new(content), to),
            Self::Snappy => copy(snap::read::FrameDecoder::new(content), to),
            Self::Zstd => copy(zstd::stream::read::Decoder::with_buffer(content)?, to),
            // The decoder takes a missing end for the end.
            Self::Lz4 if lz4_end(content).is_none() => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut")),
            Self::Lz4 => copy(lz4_flex::frame::FrameDecoder::new(content), to),
            Self::Xz => return Err(xz()),
        }?;
        if copied > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it unwraps to more than a WAL file has"));
        }
        Ok(copied)
    }
}

/// Copies a file of that length by pieces.
fn exactly(from: &mut impl Read, length: u64, to: &mut impl Write) -> io::Result<()> {
    let (mut piece, mut copied) = (vec![0; PIECE], 0);
    loop {
        let read = from.read(&mut piece)?;
        copied += read as u64;
        if read == 0 || copied > length {
            break;
        }
        to.write_all(&piece[..read])?;
    }
    if copied == length {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "its length changed while it was read"))
}

fn copy(from: impl Read, to: &mut impl Write) -> io::Result<u64> {
    io::copy(&mut from.take(LONGEST + 1), to)
}

/// The end of the first frame, found block by block; nothing if it is not there.
fn lz4_end(content: &[u8]) -> Option<usize> {
    let word = |at: usize| Some(u32::from_le_bytes(content.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let flags = *content.get(4)?;
    let flag = |bit: u8, length: usize| if flags & (1 << bit) == 0 { 0 } else { length };
    // Magic number, flags, block size; the content's length and a dictionary's number; the header's checksum.
    let mut at = 4 + 2 + flag(3, 8) + flag(0, 4) + 1;
    loop {
        let length = word(at)?;
        at += 4;
        if length == 0 {
            let end = at + flag(2, 4);
            return (end <= content.len()).then_some(end);
        }
        // The highest bit says that the block is not compressed.
        at = at.checked_add(usize::try_from(length & 0x7fff_ffff).ok()?)? + flag(4, 4);
    }
}

fn xz() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "xz is barman's to handle")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn native() -> impl Iterator<Item = Compression> {
        Compression::ALL.into_iter().filter(|one| *one != Compression::Xz)
    }

    fn wrap(one: Compression, content: &[u8], level: Option<Level>) -> Vec<u8> {
        one.compress(&mut &content[..], content.len() as u64, level).unwrap()
    }

    fn unwrap(one: Compression, content: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        one.decompress(content, &mut out).map(|_| out)
    }

    /// Pages that repeat themselves and some that do not, as in WAL.
    fn content() -> impl Strategy<Value = Vec<u8>> {
        let page = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..600),
            (any::<u8>(), 0..70_000_usize).prop_map(|(byte, length)| vec![byte; length]),
        ];
        prop::collection::vec(page, 1..6).prop_map(|pages| pages.concat())
    }

    fn level() -> impl Strategy<Value = Option<Level>> {
        prop_oneof![
            prop::sample::select(vec![None, Some(Level::Low), Some(Level::Medium), Some(Level::High)]),
            (-30..30_i32).prop_map(|number| Some(Level::Number(number))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

        #[test]
        fn what_is_wrapped_comes_back_at_every_level(content in content(), level in level()) {
            for one in native() {
                let wrapped = wrap(one, &content, level);
                prop_assert_eq!(&unwrap(one, &wrapped).unwrap(), &content, "{:?}", one);
            }
        }

        /// A snappy stream has no end that could be missing: of one that is cut between two of its chunks the first
        /// part comes back, which the length of the segment tells.
        #[test]
        fn what_is_cut_is_an_error_or_shorter(content in content(), at in 0.0..1.0_f64) {
            for one in native() {
                let wrapped = wrap(one, &content, None);
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in the file")]
                let cut = &wrapped[..(wrapped.len() as f64 * at) as usize];
                match unwrap(one, cut) {
                    Err(_) => {}
                    Ok(part) => {
                        prop_assert_eq!(one, Compression::Snappy);
                        prop_assert!(part.len() < content.len() || content.is_empty());
                    }
                }
            }
        }

        #[test]
        fn what_is_garbled_never_comes_back_as_something_else(content in content(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            for one in [Compression::Gzip, Compression::Bzip2, Compression::Zstd, Compression::Lz4, Compression::Snappy] {
                let mut wrapped = wrap(one, &content, None);
                let at = at.index(wrapped.len());
                wrapped[at] ^= 1 << bit;
                if let Ok(out) = unwrap(one, &wrapped) {
                    // A flag or a name in a header that nobody looks at; or the type of a snappy chunk, which is
                    // then passed over.
                    prop_assert!(out == content || out.len() < content.len(), "{:?} at {}", one, at);
                }
            }
        }
    }
}
