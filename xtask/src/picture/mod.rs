//! `cargo xtask picture`: what a terminal of 80 columns shows of `stackctl up`, as an SVG for the README.
//!
//! It is a capture of a real run in tmux: the frame with the most on it while phases are under way.

mod svg;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::run::Run;
use crate::say::say;
use crate::stackctl::RELEASE;
use crate::workspace;

const COLUMNS: &str = "80";
const ROWS: &str = "24";
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// `stackctl up` has a deadline of its own.
const GIVE_UP_AFTER: Duration = Duration::from_secs(1800);
/// The signs of a phase under way.
const UNDER_WAY: &str = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏";

/// What to take a picture of.
#[derive(Debug, clap::Args)]
pub struct PictureArgs {
    /// The file to write [default: docs/images/up.svg].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// This program instead of the one that is released.
    #[arg(long, value_name = "PROGRAM")]
    stackctl: Option<PathBuf>,
    /// Arguments for `stackctl up`, e.g. -- --profile picture.
    #[arg(last = true, value_name = "ARGS")]
    up: Vec<String>,
}

/// Runs `up` in a terminal and writes the picture.
///
/// # Errors
/// No tmux; a run during which nothing could be seen under way.
pub fn picture(args: &PictureArgs) -> Result<()> {
    let program = args.stackctl.clone().map_or_else(|| RELEASE.build(), Ok)?;
    let folder = tempfile::tempdir().context("cannot make a folder for tmux")?;
    let socket = folder.path().join("tmux").display().to_string();
    let tmux = |arguments: &[&str]| Run::new("tmux", 20).args(["-S", &socket, "-f", "/dev/null"]).args(arguments);
    // Quoted for the shell that tmux starts.
    let words = [program.display().to_string(), "up".into()].into_iter().chain(args.up.iter().cloned());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    let command = format!("{}; sleep 5", words.join(" "));
    tmux(&["new-session", "-d", "-x", COLUMNS, "-y", ROWS, &command]).go()?;
    let began = Instant::now();
    let mut best = String::new();
    while began.elapsed() < GIVE_UP_AFTER {
        let Some(screen) = tmux(&["capture-pane", "-p", "-e"]).any_output().filter(|screen| !screen.is_empty()) else {
            break;
        };
        if tells_more(&screen, &best) {
            best = screen;
        }
        thread::sleep(LOOK_EVERY);
    }
    // It has ended by itself, unless the deadline passed.
    let _ = tmux(&["kill-server"]).any_output();
    ensure!(!best.is_empty(), "no phase was seen under way: is everything up already?");
    let out = args.out.clone().unwrap_or_else(|| workspace().join("docs/images/up.svg"));
    fs::write(&out, svg::of(&best)).with_context(|| format!("cannot write {}", out.display()))?;
    say(&format!("the picture is {}", out.display()));
    Ok(())
}

/// Whether a screen has a phase under way and at least as much on it as the best so far.
fn tells_more(screen: &str, best: &str) -> bool {
    let lines = |screen: &str| screen.lines().filter(|line| !line.trim().is_empty()).count();
    screen.contains(|c| UNDER_WAY.contains(c)) && lines(screen) >= lines(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_with_more_on_it_and_something_under_way_is_better() {
        assert!(tells_more("⠙ Web image\n", ""));
        assert!(tells_more("✓ a\n⠙ b\n", "⠙ Web image\n"));
        assert!(!tells_more("✓ a\n✓ b\nup done\n", "⠙ Web image\n"));
        assert!(!tells_more("⠙ b\n", "✓ a\n⠙ b\n"));
    }
}
