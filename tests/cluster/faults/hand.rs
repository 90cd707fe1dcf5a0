//! What an administrator would do by hand: kubectl, and signals on the node.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::cli::Stackctl;

/// Of the stack.
const NAMESPACE: &str = "user-app";

/// kubectl on the profile's cluster, and docker on its node.
pub struct Hand {
    profile: &'static str,
}

impl Hand {
    pub fn new(stackctl: &Stackctl) -> Self {
        Hand { profile: stackctl.profile() }
    }

    /// Runs kubectl in the stack's namespace, expects that it works, and returns what it printed.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let mut command = Command::new("kubectl");
        command.args(["--context", self.profile, "--namespace", NAMESPACE]).args(args);
        run(&mut command)
    }

    /// Runs kubectl with something to read, and returns what it printed.
    pub fn kubectl_with(&self, args: &[&str], input: &str) -> String {
        let mut command = Command::new("kubectl");
        command.args(["--context", self.profile]).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("kubectl starts");
        // It prints before it has read everything.
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_owned();
        let written = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().expect("kubectl ends");
        written.join().expect("it is written").expect("it reads");
        assert!(output.status.success(), "{command:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether the API server answers what kubectl asks.
    pub fn answers(&self, args: &[&str]) -> bool {
        let mut command = Command::new("kubectl");
        command.args(["--context", self.profile, "--request-timeout", "5s"]).args(args);
        command.output().is_ok_and(|output| output.status.success())
    }

    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.kubectl(&[args, &["-o", "json"]].concat())).expect("kubectl prints JSON")
    }

    /// An object of the stack's namespace if it is there; nothing where the API server does not answer.
    pub fn find(&self, kind: &str, name: &str) -> Option<Option<Value>> {
        let mut command = Command::new("kubectl");
        command.args(["--context", self.profile, "--namespace", NAMESPACE, "--request-timeout", "5s"]);
        let output = command.args(["get", kind, name, "--ignore-not-found", "-o", "json"]).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        output.status.success().then(|| serde_json::from_str(&text).ok())
    }

    /// A merge patch.
    pub fn patch(&self, object: &str, patch: &Value) {
        self.kubectl(&["patch", object, "--type", "merge", "--patch", &patch.to_string()]);
    }

    /// Kills a program on the node with SIGKILL, as the kernel does when memory runs out.
    pub fn kill(&self, program: &str) {
        let script = format!("kill -KILL $(pidof {program})");
        run(Command::new("docker").args(["exec", self.profile, "sh", "-c", &script]));
    }

    /// Has the processes on the node stand still (SIGSTOP) that have this in their command line.
    pub fn stop(&self, argument: &str) {
        let script = "for at in /proc/[0-9]*; do \
                      if tr '\\0' '\\n' <$at/cmdline | grep -qxF -e \"--$0\"; then kill -STOP ${at#/proc/}; fi; done";
        run(Command::new("docker").args(["exec", self.profile, "sh", "-c", script, argument]));
    }

    /// Stops a node's kubelet for so long.
    pub fn late_kubelet(&self, node: &str, time: Duration) {
        // It goes on by itself, whatever becomes of the test.
        let script = format!("pkill -STOP -x kubelet; sleep {}; pkill -CONT -x kubelet", time.as_secs());
        run(Command::new("docker").args(["exec", node, "sh", "-c", &script]));
    }

    /// The primary's pod.
    pub fn primary(&self) -> String {
        let cluster = self.json(&["get", "clusters.postgresql.cnpg.io", "user-db"]);
        cluster["status"]["currentPrimary"].as_str().expect("a primary").to_owned()
    }

    /// Whether a base backup is being copied at this moment.
    pub fn copying(&self) -> bool {
        let list = self.json(&["get", "backups.postgresql.cnpg.io"]);
        let running = |backup: &Value| matches!(backup["status"]["phase"].as_str(), Some("started" | "running"));
        list["items"].as_array().is_some_and(|backups| backups.iter().any(running))
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
