//! Runs the built binary as a user does.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// No step takes this long on two cores; a hang must not eat the whole run. A minute more than the commands' own
/// time limit, so that they can say what they waited for.
const DEADLINE: Duration = Duration::from_secs(16 * 60);
/// How long a look at a stack on which a step failed may take.
const EVIDENCE_DEADLINE: Duration = Duration::from_secs(60);

/// The binary, with the options of this test.
#[derive(Clone)]
pub struct Stackctl {
    profile: &'static str,
    /// Whether it works on a context of a kubeconfig, as on a cluster that was there before.
    is_foreign: bool,
    kubeconfig: Option<PathBuf>,
}

/// What a run printed, and its exit code.
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Stackctl {
    pub fn new(profile: &'static str) -> Self {
        Stackctl { profile, is_foreign: false, kubeconfig: None }
    }

    /// The same cluster as one that stackctl did not make: by the current context of a kubeconfig, or by the one that the
    /// arguments name.
    pub fn on_context(&self, kubeconfig: Option<&Path>) -> Self {
        Stackctl { is_foreign: true, kubeconfig: kubeconfig.map(Path::to_owned), ..self.clone() }
    }

    pub fn profile(&self) -> &'static str {
        self.profile
    }

    /// The command, on this test's profile and with nothing to read.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stackctl"));
        command.args(args).stdin(Stdio::null());
        if self.is_foreign {
            command.env_remove("STACKCTL_PROFILE");
        } else {
            command.env("STACKCTL_PROFILE", self.profile);
        }
        if let Some(kubeconfig) = &self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        command
    }

    /// Runs it to its end; both outputs are shown as they come to hand afterwards.
    pub fn run(&self, args: &[&str]) -> Output {
        let began = Instant::now();
        let output = self.run_within(args, DEADLINE).unwrap_or_else(|why| panic!("{why}"));
        println!("$ stackctl {}  ({:.1}s, exit code {})", args.join(" "), began.elapsed().as_secs_f64(), output.code);
        print!("{}", output.stderr);
        output
    }

    /// Runs it to its end, or says that it did not end in time and what it had printed to stderr by then.
    fn run_within(&self, args: &[&str], limit: Duration) -> Result<Output, String> {
        let began = Instant::now();
        let mut child =
            self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("stackctl starts");
        let stdout = drain(child.stdout.take().expect("piped"));
        let stderr = drain(child.stderr.take().expect("piped"));
        let status = loop {
            match child.try_wait().expect("stackctl can be waited for") {
                Some(status) => break status,
                None if began.elapsed() > limit => {
                    child.kill().expect("stackctl can be ended");
                    let told = stderr.join().expect("stderr is read");
                    return Err(format!("stackctl {args:?} did not end within {limit:?}: {told}"));
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        Ok(Output {
            code: status.code().unwrap_or(-1),
            stdout: stdout.join().expect("stdout is read"),
            stderr: stderr.join().expect("stderr is read"),
        })
    }

    /// Prints the state of the stack and the last words of operator and database: why a step failed is often to be
    /// seen there alone, and the cluster of a run elsewhere is gone afterwards.
    pub fn print_evidence(&self) {
        for args in [&["status"][..], &["logs", "database", "--tail", "10"], &["logs", "operator", "--tail", "20"]] {
            println!("$ stackctl {}", args.join(" "));
            match self.run_within(args, EVIDENCE_DEADLINE) {
                Ok(output) => println!("{}{}", output.stdout, output.stderr),
                Err(why) => println!("{why}"),
            }
        }
    }

    /// Runs it, and kills it after a while if it has not ended by then; returns whether it was killed.
    pub fn killed_after(&self, args: &[&str], after: Duration) -> bool {
        let mut child =
            self.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("stackctl starts");
        let deadline = Instant::now() + after;
        while Instant::now() < deadline {
            if child.try_wait().expect("stackctl can be waited for").is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().expect("stackctl can be killed");
        child.wait().expect("stackctl has ended").code().is_none()
    }

    /// Runs it and expects exit code 0.
    pub fn ok(&self, args: &[&str]) -> Output {
        let output = self.run(args);
        if output.code != 0 {
            // Of a drill it is the end that says why, not what was told every second until then.
            let told = output.stdout.lines().filter(|line| !line.starts_with(r#"{"event":"doing""#));
            let told: Vec<&str> = told.collect();
            panic!("stackctl {args:?}: exit code {}\n{}\n{}", output.code, told.join("\n"), output.stderr);
        }
        output
    }

    /// Runs a command that leads a local port into the cluster, calls `visit` with the address, and ends it with
    /// Ctrl-C: exit code 0 is expected.
    pub fn opened(&self, args: &[&str], visit: impl FnOnce(&str)) {
        let mut child = self
            .command(args)
            .args(["--no-browser", "-o", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("stackctl starts");
        let mut first = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut first).expect("a line");
        let opened: serde_json::Value = serde_json::from_str(&first).expect("a line of JSON");
        visit(opened["address"].as_str().expect("an address").trim_start_matches("http://").trim_end_matches('/'));
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a small number")).expect("not 0");
        kill_process(pid, Signal::INT).expect("stackctl still runs");
        assert_eq!(child.wait().expect("stackctl ends").code(), Some(0), "stackctl {args:?} after Ctrl-C");
    }

    /// Runs it with `-o json`, interrupts it as by Ctrl-C at the first event that says `text`, and returns its exit code and
    /// its last event.
    pub fn interrupted_at(&self, args: &[&str], text: &str) -> (Option<i32>, serde_json::Value) {
        let mut child =
            self.command(args).args(["-o", "json"]).stdout(Stdio::piped()).spawn().expect("stackctl starts");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a small number")).expect("not 0");
        let mut last = String::new();
        for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
            last = line.expect("a line");
            if last.contains(text) {
                kill_process(pid, Signal::INT).expect("stackctl still runs");
            }
        }
        let last = serde_json::from_str(&last).expect("a line of JSON");
        (child.wait().expect("stackctl ends").code(), last)
    }

    /// Runs it with `-o json` and returns its events.
    pub fn events(&self, args: &[&str]) -> Vec<serde_json::Value> {
        let args = [args, &["-o", "json"]].concat();
        let output = self.ok(&args);
        output.stdout.lines().map(|line| serde_json::from_str(line).expect("an event is a line of JSON")).collect()
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A broken pipe ends the text early, and then the exit code tells.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
