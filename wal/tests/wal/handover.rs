//! Barman's own program takes over where this one does not know enough.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;

use crate::fake::{BASE, BUCKET, Fake};
use crate::programs::{ARCHIVE, Desk, RESTORE, SEGMENT, fails, segment};

/// A desk with a stand-in for barman further down in PATH, which repeats its arguments and ends with code 7.
fn desk(fake: &Fake) -> Desk {
    let mut desk = Desk::new(&fake.endpoint(), BUCKET);
    let folder = desk.path("barmans");
    fs::create_dir(&folder).unwrap();
    for name in [ARCHIVE, RESTORE] {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\necho {name} \"$@\"\nexit 7\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", desk.path("ours").display(), folder.display());
    desk.set("PATH", &path);
    desk
}

#[test]
fn what_is_not_known_is_handed_over_as_it_is() {
    let fake = Fake::new();
    let mut desk = desk(&fake);
    desk.write(SEGMENT, &segment(1));
    fails(&desk.run(ARCHIVE, &["--version"]), 7, "barman-cloud-wal-archive --version\n");
    fails(&desk.run(RESTORE, &[]), 7, "barman-cloud-wal-restore\n");
    fails(&desk.run(ARCHIVE, &["--some-new-option", "a b", "s3://b"]), 7, "--some-new-option a b s3://b\n");
    let raw = vec![OsString::from("--aws-profile"), OsString::from_vec(vec![0xff])];
    fails(&desk.run_raw(RESTORE, raw), 7, "--aws-profile");
    fails(&desk.archive(&["--xz"], SEGMENT), 7, &format!("db {SEGMENT}\n"));
    fake.put(&format!("{BASE}/0000000100000000/{SEGMENT}.xz"), b"wrapped");
    fails(&desk.restore(&[], SEGMENT), 7, &format!("{SEGMENT} restored\n"));
    fails(&desk.archive(&[], SEGMENT), 7, SEGMENT);
    for (name, value) in
        [("HTTPS_PROXY", "http://p"), ("AWS_PROFILE", "p"), ("AWS_ENDPOINT_URL", "x"), ("BARMAN_HOOK", "h")]
    {
        desk.set(name, value);
        fails(&desk.restore(&[], "00000002.history"), 7, "00000002.history restored\n");
        desk.unset(name);
    }
    desk.unset("AWS_SECRET_ACCESS_KEY");
    fails(&desk.restore(&[], "00000002.history"), 7, "00000002.history restored\n");
}

#[test]
fn a_store_that_speaks_otherwise_is_barmans() {
    let fake = Fake::failing(|_, _| Some(crate::fake::Fault::Status(301, "PermanentRedirect")));
    let desk = desk(&fake);
    fails(&desk.restore(&[], SEGMENT), 7, SEGMENT);
    let fake = Fake::failing(|_, _| Some(crate::fake::Fault::Status(400, "AuthorizationHeaderMalformed")));
    let desk = self::desk(&fake);
    fails(&desk.restore(&[], SEGMENT), 7, SEGMENT);
}

#[test]
fn without_barman_it_says_what_it_does_not_know() {
    let fake = Fake::new();
    let mut desk = Desk::new(&fake.endpoint(), BUCKET);
    fails(&desk.run(ARCHIVE, &["--version"]), 4, "the option --version is not known here");
    // A copy of this program is not barman's: it does not go round in circles.
    fs::create_dir(desk.path("copy")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_barman-cloud-wal"), desk.path("copy").join(ARCHIVE)).unwrap();
    let path = format!("{}:{}", desk.path("ours").display(), desk.path("copy").display());
    desk.set("PATH", &path);
    fails(&desk.run(ARCHIVE, &["--version"]), 4, "this program again");
    fails(&desk.run(env!("CARGO_BIN_EXE_barman-cloud-wal"), &[]), 3, "call this program as");
}
