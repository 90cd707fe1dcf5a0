//! A real store, as `up` puts one into a cluster: it checks signatures and digests, and keeps to conditions.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use testbed::keeper::{Keeper, Signal};

use crate::programs::{Desk, RESTORE, SEGMENT, fails, segment, succeeds};

pub const BUCKET: &str = "backups";

pub struct Versity {
    folder: TempDir,
    port: u16,
    _server: Keeper,
}

/// A program that these tests need.
pub fn program(path: &str) -> PathBuf {
    testbed::programs::made(path, "wal-programs")
}

impl Versity {
    pub fn start() -> Self {
        let program = program("versitygw");
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("data").join(BUCKET)).unwrap();
        let port = testbed::free_port();
        let mut command = Command::new(program);
        command.args(["--access", "key", "--secret", "secret-secret", "--port", &format!("127.0.0.1:{port}"), "posix"]);
        command.arg(folder.path().join("data"));
        let log = folder.path().join("log");
        let server = Keeper::start(&command, Some(&log), Signal::Term, None).unwrap();
        let answers = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        testbed::until("versitygw listens", Duration::from_secs(30), answers)
            .unwrap_or_else(|error| panic!("{error}: {}", std::fs::read_to_string(&log).unwrap_or_default()));
        Self { folder, port, _server: server }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The files in the bucket's folder of WAL, by their names.
    pub fn stored(&self) -> Vec<String> {
        let folder = self.folder.path().join("data").join(BUCKET).join("team/a/db/wals/0000000100000000");
        let mut all: Vec<_> = std::fs::read_dir(folder)
            .map(|entries| entries.map(|one| one.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        all.sort();
        all
    }
}

#[test]
fn signatures_and_conditions_are_a_real_stores() {
    let store = Versity::start();
    let mut desk = Desk::new(&store.endpoint(), BUCKET);
    desk.write(SEGMENT, &segment(1));
    fails(&desk.restore(&[], SEGMENT), 1, "does not exist");
    for options in [&["--zstd"][..], &["--gzip"]] {
        succeeds(&desk.archive(options, SEGMENT));
    }
    assert_eq!(store.stored(), [format!("{SEGMENT}.zst")]);
    succeeds(&desk.restore(&[], SEGMENT));
    assert_eq!(desk.restored(), segment(1));
    desk.write(SEGMENT, &segment(2));
    fails(&desk.archive(&["--zstd"], SEGMENT), 1, "another one");

    let other =
        desk.run(RESTORE, &["--endpoint-url", &store.endpoint(), "s3://no-such-bucket", "db", SEGMENT, "restored"]);
    fails(&other, 4, "NoSuchBucket");
    desk.set("AWS_SECRET_ACCESS_KEY", "wrong");
    fails(&desk.archive(&["--zstd"], SEGMENT), 4, "SignatureDoesNotMatch");
    fails(&desk.restore(&[], SEGMENT), 4, "SignatureDoesNotMatch");
    desk.set("AWS_ACCESS_KEY_ID", "unknown");
    // This store answers 404 to a key that it does not know, which does not make a segment missing.
    fails(&desk.restore(&[], SEGMENT), 4, "the store answered");
}

#[test]
fn of_many_primaries_one_has_the_segment() {
    let store = Versity::start();
    for round in 1..=4_u32 {
        let name = format!("0000000100000000{round:08}");
        let desks: Vec<_> = (0..4)
            .map(|seed| {
                let desk = Desk::new(&store.endpoint(), BUCKET);
                desk.write(&name, &segment(seed * 2));
                desk
            })
            .collect();
        let ended: Vec<_> = std::thread::scope(|scope| {
            let running: Vec<_> = desks.iter().map(|desk| scope.spawn(|| desk.archive(&["--zstd"], &name))).collect();
            running.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let winners: Vec<_> = (0..4).filter(|one| ended[*one].code == 0).collect();
        let [winner] = winners[..] else { panic!("{ended:?}") };
        succeeds(&desks[0].restore(&[], &name));
        assert_eq!(desks[0].restored(), segment(u32::try_from(winner).unwrap() * 2));
    }
}
