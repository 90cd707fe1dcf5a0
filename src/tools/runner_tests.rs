use std::time::Instant;

use super::*;
use crate::error::{Kind, kind_of, one_line};

fn sh(script: &str) -> Cmd {
    Cmd::new("sh").arg("-c").arg(script)
}

#[tokio::test]
async fn output_and_exit_code_are_captured_and_lines_come_as_they_are_printed() {
    let mut lines = Vec::new();
    let output =
        sh("echo one; echo two >&2; exit 3").output_with(&mut |line| lines.push(line.to_owned())).await.unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("one\n", "two\n"));
    lines.sort();
    assert_eq!(lines, ["one", "two"]);
}

#[tokio::test]
async fn a_failure_shows_the_command_and_its_last_lines() {
    let error = sh("for i in $(seq 40); do echo line $i >&2; done; exit 7").run().await.unwrap_err();
    let text = one_line(&error);
    assert!(text.starts_with("`sh` failed (exit status: 7):"), "{text}");
    assert!(text.contains("line 40") && text.contains("line 26") && !text.contains("line 25"), "{text}");
}

#[tokio::test]
async fn what_is_not_there_is_missing() {
    let error = Cmd::new("no-such-program-here").run().await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Missing);
    assert_eq!(one_line(&error), "no-such-program-here is not installed: it is not in PATH");
}

#[tokio::test]
async fn a_pipe_connects_two() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("copy");
    sh("seq 100000").pipe_to(sh(&format!("cat > {}", file.display()))).await.unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap().lines().count(), 100_000);
    let error = sh("yes").pipe_to(sh("head -c 3 >/dev/null; echo broken >&2; exit 5")).await.unwrap_err();
    assert!(one_line(&error).contains("broken"), "{error:#}");
}

/// Whether any process has this text in its arguments.
fn alive(needle: &str) -> bool {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(needle))
}

#[tokio::test]
async fn a_deadline_ends_the_whole_process_group() {
    // The grandchild must go too; its argument is one that nobody else has.
    let began = Instant::now();
    let error = sh("sleep 86399.25 & sleep 86399.25").timeout(Duration::from_millis(300)).run().await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Timeout);
    assert!(began.elapsed() < Duration::from_secs(5));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!alive("86399.25"), "a process is left");
}

#[tokio::test]
async fn dropping_the_future_ends_the_whole_process_group() {
    let run = tokio::spawn(sh("sleep 86398.25 & sleep 86398.25").output());
    for _ in 0..100 {
        if alive("86398.25") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    run.abort();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!alive("86398.25"), "a process is left");
}

#[tokio::test]
async fn a_stray_child_that_keeps_the_pipe_open_is_not_waited_for() {
    let began = Instant::now();
    let output = sh("sleep 30 & echo done").run().await.unwrap();
    assert_eq!(output.stdout, "done\n");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
