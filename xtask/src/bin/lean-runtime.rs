//! A thin OCI runtime in front of runc, for machines without `CAP_SYS_RESOURCE`.
//!
//! There, a container that asks for every capability (`--privileged`), for a negative OOM score
//! or for more open files than the machine's own limit is refused as a whole. This program takes
//! exactly those requests out of the container's configuration and becomes the real runc.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::Value;

/// Where the real runc is looked for; the first is where it is moved to when this program takes
/// its place.
const RUNC: [&str; 3] = ["/usr/libexec/runc", "/usr/sbin/runc", "/usr/bin/runc"];
const CAPABILITY: &str = "CAP_SYS_RESOURCE";
/// runc's global options that stand alone; every other one takes a value.
const SWITCHES: [&str; 3] = ["--debug", "--systemd-cgroup", "--no-pivot"];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(never) => match never {},
        Err(error) => {
            fail(&error);
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stderr)] // the caller's protocol: containerd reads the runtime's stderr
fn fail(error: &io::Error) {
    eprintln!("lean-runtime: {error}");
}

fn run(args: &[String]) -> io::Result<std::convert::Infallible> {
    if let Some((path, kind)) = configuration(args) {
        let text = fs::read(&path)?;
        let mut json: Value = serde_json::from_slice(&text)?;
        let process = match kind {
            Kind::Bundle => json.get_mut("process"),
            Kind::Process => Some(&mut json),
        };
        if let Some(process) = process
            && slim(process, open_files_limit(&fs::read_to_string("/proc/self/limits")?))
        {
            fs::write(&path, serde_json::to_vec(&json)?)?;
        }
    }
    let runc = RUNC
        .iter()
        .map(Path::new)
        .find(|path| path.exists())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no runc on this machine"))?;
    Err(Command::new(runc).args(args).exec())
}

/// What the file that describes the process is.
#[derive(Debug, PartialEq)]
enum Kind {
    /// A bundle's `config.json`: the process is one of its fields.
    Bundle,
    /// A `--process` file: the process itself.
    Process,
}

/// The file that describes the process which this call starts, if it starts one.
fn configuration(args: &[String]) -> Option<(PathBuf, Kind)> {
    let mut rest = args.iter();
    let command = loop {
        let arg = rest.next()?;
        if !arg.starts_with('-') {
            break arg.as_str();
        }
        if !arg.contains('=') && !SWITCHES.contains(&arg.as_str()) {
            rest.next();
        }
    };
    let rest: Vec<&String> = rest.collect();
    match command {
        "create" | "run" | "restore" => {
            let bundle = option(&rest, "--bundle", "-b").unwrap_or(".");
            Some((Path::new(bundle).join("config.json"), Kind::Bundle))
        }
        "exec" => option(&rest, "--process", "-p").map(|path| (path.into(), Kind::Process)),
        _ => None,
    }
}

fn option<'a>(args: &[&'a String], long: &str, short: &str) -> Option<&'a str> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if *arg == long || *arg == short {
            return args.next().map(|value| value.as_str());
        }
        if let Some(value) = arg.strip_prefix(long).and_then(|rest| rest.strip_prefix('=')) {
            return Some(value);
        }
    }
    None
}

/// Takes out of an OCI `process` what this machine cannot grant. True when something changed.
fn slim(process: &mut Value, open_files: Option<u64>) -> bool {
    let before = process.clone();
    if let Some(sets) = process.get_mut("capabilities").and_then(Value::as_object_mut) {
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            set.retain(|name| name != CAPABILITY);
        }
    }
    if let Some(score) = process.get_mut("oomScoreAdj")
        && score.as_i64().is_some_and(|score| score < 0)
    {
        *score = 0.into();
    }
    let limits = process.get_mut("rlimits").and_then(Value::as_array_mut);
    if let (Some(limits), Some(most)) = (limits, open_files) {
        for limit in limits.iter_mut().filter(|limit| limit["type"] == "RLIMIT_NOFILE") {
            for side in ["hard", "soft"] {
                if limit[side].as_u64().is_some_and(|value| value > most) {
                    limit[side] = most.into();
                }
            }
        }
    }
    *process != before
}

/// The hard limit of open files from the text of `/proc/self/limits`; none when unlimited.
fn open_files_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn args(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn finds_the_bundle_of_a_create_behind_global_options() {
        let line = "--root /run/moby --log /l.json --log-format json --systemd-cgroup create \
                    --bundle /run/b --pid-file /p id";
        assert_eq!(configuration(&args(line)), Some((PathBuf::from("/run/b/config.json"), Kind::Bundle)));
    }

    #[test]
    fn a_global_option_value_is_not_taken_for_the_command() {
        assert_eq!(configuration(&args("--root exec state id")), None);
        assert_eq!(configuration(&args("--root=create delete id")), None);
    }

    #[test]
    fn finds_the_process_file_of_an_exec_and_leaves_one_without_alone() {
        assert_eq!(
            configuration(&args("exec --process=/tmp/p --detach id")),
            Some((PathBuf::from("/tmp/p"), Kind::Process))
        );
        assert_eq!(configuration(&args("exec id sh")), None);
    }

    #[test]
    fn takes_out_what_the_machine_cannot_grant_and_nothing_else() {
        let mut process = json!({
            "capabilities": {
                "bounding": ["CAP_SYS_RESOURCE", "CAP_SYS_ADMIN"],
                "ambient": ["CAP_SYS_RESOURCE"],
            },
            "oomScoreAdj": -998,
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "hard": 1_048_576, "soft": 100},
                {"type": "RLIMIT_NPROC", "hard": 1_048_576, "soft": 100},
            ],
        });
        assert!(slim(&mut process, Some(20_000)));
        assert_eq!(
            process,
            json!({
                "capabilities": {"bounding": ["CAP_SYS_ADMIN"], "ambient": []},
                "oomScoreAdj": 0,
                "rlimits": [
                    {"type": "RLIMIT_NOFILE", "hard": 20_000, "soft": 100},
                    {"type": "RLIMIT_NPROC", "hard": 1_048_576, "soft": 100},
                ],
            })
        );
        assert!(!slim(&mut process, Some(20_000)), "a slim process is left as it is");
    }

    #[test]
    fn a_positive_score_stays_and_no_limit_means_no_lowering() {
        let mut process = json!({
            "oomScoreAdj": 100,
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1_048_576, "soft": 1_048_576}],
        });
        assert!(!slim(&mut process, None));
    }

    #[test]
    fn reads_the_hard_limit_of_open_files() {
        let text = "Limit   Soft Limit  Hard Limit  Units\n\
                    Max processes   5  6   processes\n\
                    Max open files  1024  20000  files\n";
        assert_eq!(open_files_limit(text), Some(20_000));
        assert_eq!(open_files_limit("Max open files 1 unlimited files"), None);
    }
}
