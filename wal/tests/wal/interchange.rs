//! Theirs restores what ours archived, and the other way round, in every format.

use crate::programs::{ARCHIVE, Desk, RESTORE, fails, segment, succeeds};
use crate::versity::{BUCKET, Versity, program};

const FORMATS: [(&[&str], &str); 7] = [
    (&[], ""),
    (&["--gzip"], ".gz"),
    (&["--bzip2"], ".bz2"),
    (&["--xz"], ".xz"),
    (&["--snappy"], ".snappy"),
    (&["--zstd"], ".zst"),
    (&["--lz4"], ".lz4"),
];

#[test]
fn barman_and_this_program_read_what_the_other_wrote() {
    let [archive, restore] = [ARCHIVE, RESTORE].map(|name| program(&format!("barman/bin/{name}")));
    let folder = archive.parent().unwrap().canonicalize().unwrap();
    let store = Versity::start();
    let mut desk = Desk::new(&store.endpoint(), BUCKET);
    // Barman's is what xz is handed over to.
    desk.set("PATH", &format!("{}:{}:/usr/bin:/bin", desk.path("ours").display(), folder.display()));
    let mut expected = Vec::new();
    for (at, (options, suffix)) in FORMATS.into_iter().enumerate() {
        let seed = u32::try_from(at).unwrap() * 4;
        let ours = format!("00000001000000000000{at:02}01");
        let theirs = format!("00000001000000000000{at:02}02");
        desk.write(&ours, &segment(seed));
        succeeds(&desk.archive(options, &ours));
        succeeds(&desk.restore_by(&restore, &[], &ours));
        assert_eq!(desk.restored(), segment(seed), "ours{suffix}");

        desk.write(&theirs, &segment(seed + 2));
        succeeds(&desk.archive_by(&archive, options, &theirs));
        succeeds(&desk.restore(&[], &theirs));
        assert_eq!(desk.restored(), segment(seed + 2), "theirs{suffix}");
        if suffix != ".xz" {
            succeeds(&desk.archive(&["--zstd"], &theirs));
            desk.write(&theirs, &segment(seed + 3_000));
            fails(&desk.archive(options, &theirs), 1, "another one");
        }
        expected.extend([format!("{ours}{suffix}"), format!("{theirs}{suffix}")]);
    }
    expected.sort();
    assert_eq!(store.stored(), expected);

    let history = "00000002.history";
    desk.write(history, b"1\t0/3000000\tno recovery target specified\n");
    succeeds(&desk.archive(&["--zstd", "--tags", "a,b"], history));
    succeeds(&desk.restore_by(&restore, &[], history));
    assert_eq!(desk.restored(), b"1\t0/3000000\tno recovery target specified\n");
    // The same codes, where both have one.
    for (name, code) in [("000000090000000000000001", 1), ("no.name", 3)] {
        assert_eq!(desk.restore(&[], name).code, code);
        assert_eq!(desk.restore_by(&restore, &[], name).code, code);
    }
}
