//! What the archive answers with: anything may be in an object.

#![no_main]

use barman_cloud_wal::compression::Compression;
use barman_cloud_wal::segment;
use libfuzzer_sys::fuzz_target;

/// Takes up to so many bytes and then no more, as a disk that fills.
struct Disk(usize);

impl std::io::Write for Disk {
    fn write(&mut self, piece: &[u8]) -> std::io::Result<usize> {
        let fits = piece.len().min(self.0);
        self.0 -= fits;
        if fits == 0 && !piece.is_empty() {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        Ok(fits)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fuzz_target!(|input: &[u8]| {
    let (head, length) = input.split_at(input.len().min(segment::HEADER));
    let length = length.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    for length in [length, 1 << 20, 16 << 20, 1 << 30] {
        assert!(segment::check(head, length).is_err() || length.is_power_of_two());
    }
    for compression in Compression::ALL {
        // A bomb does not come to its end: what it unwraps to is not kept.
        let _ = compression.decompress(input, &mut Disk(4 << 20));
        // Nothing that PostgreSQL archives is empty, and an empty object is refused.
        if compression == Compression::Xz || input.is_empty() {
            continue;
        }
        let wrapped = compression.compress(&mut &*input, input.len() as u64, None).expect("wrapped");
        let mut unwrapped = Vec::new();
        compression.decompress(&wrapped, &mut unwrapped).expect("unwrapped");
        assert_eq!(unwrapped, input);
        // A byte less is noticed.
        let cut = &wrapped[..wrapped.len() - 1];
        assert!(compression.decompress(cut, &mut Vec::new()).is_err(), "{compression:?}");
    }
});
