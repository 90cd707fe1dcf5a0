//! A home folder, a PATH with nothing but fakes in it, and the binary.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// `docker info` of an engine that is in order.
pub const ENGINE: &str = r#"{"ServerVersion":"27.0.1","NCPU":4,"MemTotal":17179869184,"DockerRootDir":"/nowhere",
"OSType":"linux","CgroupVersion":"2","OperatingSystem":"Debian"}"#;

/// A fake engine: any image is there, no container is.
pub const DOCKER: &str = r#"
case "$1 $2" in
  "info --format") echo "$ENGINE" ;;
  "image inspect") echo '[{"Config":{"Entrypoint":["/user-app"]},"RootFS":{"Layers":["sha256:1"]}}]' ;;
  "container ls" | "volume ls" | "network ls") ;;
  "container inspect") shift 4; for name; do echo "Error: No such container: $name" >&2; done; exit 1 ;;
  *) echo "unexpected: docker $*" >&2; exit 64 ;;
esac"#;

pub struct Sandbox {
    dir: tempfile::TempDir,
}

impl Sandbox {
    /// Nothing is installed.
    pub fn bare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["bin", "home"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        Sandbox { dir }
    }

    /// With an engine that is in order and holds the web image.
    pub fn with_docker() -> Self {
        Self::bare().fake("docker", DOCKER)
    }

    /// Adds an executable: a shell script that may use builtins only, for there is nothing else in PATH.
    /// Each call is noted, see [`Sandbox::calls`].
    pub fn fake(self, name: &str, script: &str) -> Self {
        let path = self.dir.path().join("bin").join(name);
        let log = self.dir.path().join("calls");
        let text = format!("#!/bin/sh\nENGINE='{ENGINE}'\necho \"{name} $*\" >> '{}'\n{script}\n", log.display());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// A minikube profile on disk.
    pub fn profile(&self, driver: &str, runtime: &str) -> PathBuf {
        self.write(
            "home/.minikube/profiles/stackctl/config.json",
            &format!(
                r#"{{"Name":"stackctl","Driver":"{driver}","Nodes":[{{"Name":""}}],"KubernetesConfig":
                {{"KubernetesVersion":"v1.35.4","ContainerRuntime":"{runtime}","CNI":""}}}}"#
            ),
        )
    }

    /// What the fakes were called with, one a line.
    pub fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stackctl"));
        command.args(arguments).env_clear().stdin(Stdio::null());
        command.env("HOME", self.home()).env("PATH", self.dir.path().join("bin"));
        command.env("TMPDIR", self.dir.path());
        command
    }

    /// Runs stackctl; what comes back is made for snapshots: without paths, times and ports of this run.
    pub fn run(&self, arguments: &[&str]) -> String {
        self.shown(&self.command(arguments).output().unwrap())
    }

    pub fn shown(&self, output: &Output) -> String {
        let mut text = format!("exit code {}\n", output.status.code().map_or("none".into(), |code| code.to_string()));
        for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
            let stream = String::from_utf8(bytes.clone()).unwrap();
            // This machine's limits are of no concern.
            let lines: Vec<&str> = stream
                .lines()
                .filter(|line| {
                    !line.contains("inotify") && !line.contains("sysctl") && !line.contains("warning: disk space")
                })
                .collect();
            if !stream.is_empty() {
                text.push_str(&format!("-- {name}\n{}\n", lines.join("\n").trim_end()));
            }
        }
        text.replace(&*self.dir.path().to_string_lossy(), "[DIR]")
    }
}

/// Compares with what is written in the test, without what differs from run to run.
#[macro_export]
macro_rules! snapshot {
    ($actual:expr, @$expected:literal) => {
        insta::with_settings!({filters => vec![
            (r"\b\d+(\.\d)?s\b", "[TIME]"),
            (r"user-app:[0-9a-f]{12}", "user-app:[DIGEST]"),
            (r"127\.0\.0\.1:\d+", "127.0.0.1:[PORT]"),
            (r"sha256 is [0-9a-f]{64}, [0-9a-f]{64} is expected", "sha256 is [ACTUAL], [EXPECTED] is expected"),
            (r"stackctl-\d+\.part", "stackctl-[PID].part"),
            (r"\d+\.\d GiB", "[SIZE]"),
        ]}, { insta::assert_snapshot!($actual, @$expected) })
    };
}
