//! Ctrl-C while a tool runs: it stops at once, with everything that the tool has started.

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::sandbox::Sandbox;

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn alive(pid: &str) -> bool {
    Pid::from_raw(pid.trim().parse().unwrap()).is_some_and(|pid| test_kill_process(pid).is_ok())
}

#[test]
fn ctrl_c_ends_minikube_and_its_children_and_the_exit_code_is_130() {
    for signal in [Signal::INT, Signal::TERM] {
        let sandbox = Sandbox::with_docker();
        let pids = sandbox.path().join("pids");
        let sandbox = sandbox.fake(
            "minikube",
            &format!(
                r#"case "$1" in
                version) echo '{{"minikubeVersion":"v1.38.1"}}' ;;
                start) (while :; do /bin/sleep 60; done) & echo "$$ $!" > '{0}.new'; /bin/mv '{0}.new' '{0}'; wait ;;
                esac"#,
                pids.display()
            ),
        );
        let mut child = sandbox.command(&["up"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_until("minikube does not start", || pids.exists());
        let started = fs::read_to_string(&pids).unwrap();
        assert!(started.split_whitespace().all(alive), "{started}");

        let began = Instant::now();
        let stackctl = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(stackctl, signal).unwrap();
        wait_until("it does not end", || child.try_wait().unwrap().is_some());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{stderr}");
        assert!(stderr.contains("interrupted"), "{stderr}");
        wait_until("something that minikube has started still runs", || !started.split_whitespace().any(alive));

        // The next run goes on: the lock of this one is gone.
        let again = sandbox.run(&["up", "--quiet", "--timeout", "1s"]);
        assert!(again.starts_with("exit code 5"), "{again}");
    }
}
