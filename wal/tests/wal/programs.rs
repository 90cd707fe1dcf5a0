//! Runs a program under its name, in an environment of its own.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub const ARCHIVE: &str = "barman-cloud-wal-archive";
pub const RESTORE: &str = "barman-cloud-wal-restore";
pub const SEGMENT: &str = "000000010000000000000001";
pub const SEGMENT_SIZE: usize = 1 << 20;

/// What a program did.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub said: String,
    pub took: Duration,
}

/// A folder with links to the programs and files to archive.
pub struct Desk {
    folder: TempDir,
    env: Vec<(String, String)>,
    endpoint: String,
    bucket: String,
}

impl Desk {
    /// For a store with static keys.
    pub fn new(endpoint: &str, bucket: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("ours")).unwrap();
        for name in [ARCHIVE, RESTORE] {
            symlink(env!("CARGO_BIN_EXE_barman-cloud-wal"), folder.path().join("ours").join(name)).unwrap();
        }
        let mut desk = Self { folder, env: Vec::new(), endpoint: endpoint.into(), bucket: bucket.into() };
        desk.set("PATH", desk.path("ours").to_str().unwrap());
        desk.set("AWS_ACCESS_KEY_ID", "key");
        desk.set("AWS_SECRET_ACCESS_KEY", "secret-secret");
        desk.set("AWS_MAX_ATTEMPTS", "2");
        desk
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.env.push((name.into(), value.into()));
    }

    pub fn unset(&mut self, name: &str) {
        self.env.retain(|(known, _)| known != name);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file to archive.
    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Names of what lies in the folder.
    pub fn files(&self) -> Vec<String> {
        let mut all: Vec<_> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|one| one.unwrap().file_name().into_string().unwrap())
            .collect();
        all.sort();
        all
    }

    /// Runs a program of one of the folders on this desk, or elsewhere if `program` is a path.
    pub fn run(&self, program: impl AsRef<Path>, args: &[&str]) -> Ended {
        self.run_raw(program, args.iter().map(OsString::from).collect())
    }

    pub fn run_raw(&self, program: impl AsRef<Path>, args: Vec<OsString>) -> Ended {
        let program =
            if program.as_ref().is_absolute() { program.as_ref().to_owned() } else { self.path("ours").join(program) };
        let began = Instant::now();
        let mut command = Command::new(&program);
        command.args(args).env_clear().envs(self.env.iter().cloned()).current_dir(self.folder.path());
        let output = command.output().unwrap();
        Ended {
            code: output.status.code().unwrap_or(-1),
            said: format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
            took: began.elapsed(),
        }
    }

    /// Archives a file that was written here.
    pub fn archive(&self, options: &[&str], name: &str) -> Ended {
        self.archive_by(ARCHIVE, options, name)
    }

    pub fn archive_by(&self, program: impl AsRef<Path>, options: &[&str], name: &str) -> Ended {
        let url = format!("s3://{}/team/a/", self.bucket);
        let mut args = options.to_vec();
        args.extend(["--endpoint-url", &self.endpoint, "--cloud-provider", "aws-s3", &url, "db", name]);
        self.run(program, &args)
    }

    /// Restores a file to `restored`.
    pub fn restore(&self, options: &[&str], name: &str) -> Ended {
        self.restore_by(RESTORE, options, name)
    }

    pub fn restore_by(&self, program: impl AsRef<Path>, options: &[&str], name: &str) -> Ended {
        let url = format!("s3://{}/team/a/", self.bucket);
        let mut args = vec!["--endpoint-url", &self.endpoint, "--cloud-provider", "aws-s3", &url, "db"];
        args.extend(options);
        args.extend([name, "restored"]);
        self.run(program, &args)
    }

    pub fn restored(&self) -> Vec<u8> {
        fs::read(self.path("restored")).unwrap()
    }
}

/// A segment as PostgreSQL writes it: a page that says how long it is, WAL that is half text and half noise, zeros.
pub fn segment(seed: u32) -> Vec<u8> {
    let mut content = vec![0; SEGMENT_SIZE];
    content[..8].copy_from_slice(&[0x18, 0xd1, 2, 0, 1, 0, 0, 0]);
    content[32..36].copy_from_slice(&u32::try_from(SEGMENT_SIZE).unwrap().to_le_bytes());
    let mut state = seed | 1;
    for (at, byte) in content[40..SEGMENT_SIZE / 2].iter_mut().enumerate() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = if at % 4096 < 2048 { (state >> 24) as u8 } else { b'w' };
    }
    content
}

/// Fails unless the program succeeded and said nothing.
#[track_caller]
pub fn succeeds(ended: &Ended) {
    assert!(ended.code == 0, "{ended:?}");
}

/// Fails unless the program ended with this code and said this.
#[track_caller]
pub fn fails(ended: &Ended, code: i32, said: &str) {
    assert!(ended.code == code && ended.said.contains(said), "not {code} and {said:?}: {ended:?}");
}
