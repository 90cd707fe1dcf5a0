//! The program of a release: static, small, quick to start, and without a trace of the machine that built it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::ReleaseSource;
use crate::run::Run;
use crate::say::say;
use crate::workspace;

/// The build of everything for size takes a quarter of an hour on two cores.
const BUILD_SECONDS: u64 = 3600;
/// No release is larger.
const LARGEST: u64 = 15 << 20;
/// `--version` takes no longer, at its best of some runs: the machine may be busy.
const SLOWEST: Duration = Duration::from_millis(10);
const RUNS: u32 = 10;

/// Compiles the program into the target folder `build`; returns where it is.
pub fn build(source: &ReleaseSource, target: &str, build: &Path) -> Result<PathBuf> {
    add_target(target)?;
    let root = workspace();
    fs::create_dir_all(build).with_context(|| format!("cannot make {}", build.display()))?;
    say(&format!("stackctl {} for {target} ...", source.version));
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let cargo_home = cargo_home.context("HOME is not set")?;
    let sysroot = Run::new("rustc", 60).dir(&root).args(["--print", "sysroot"]).output()?;
    // Paths of this machine end up in panic messages. The longer one comes last: the last one that fits counts.
    let places = [(root.display().to_string(), "/stackctl"), (build.display().to_string(), "/target")];
    let more = [(cargo_home.display().to_string(), "/cargo"), (sysroot, "/rustc")];
    let places = places.into_iter().chain(more);
    let (mut rust, mut c) = (Vec::new(), vec!["-g0".to_owned()]);
    for (from, to) in places {
        rust.push(format!("--remap-path-prefix={from}={to}"));
        c.push(format!("-ffile-prefix-map={from}={to}"));
    }
    let mut cargo = Run::new("cargo", BUILD_SECONDS);
    for (name, value) in cross(target) {
        cargo = cargo.env(name, value);
    }
    cargo
        .dir(&root)
        .env("CARGO_TARGET_DIR", build)
        .env("CARGO_ENCODED_RUSTFLAGS", rust.join("\u{1f}"))
        .env(&format!("CFLAGS_{}", target.replace('-', "_")), c.join(" "))
        .env("SOURCE_DATE_EPOCH", source.committed.to_string())
        .args([
            "build",
            "--locked",
            "--package",
            "stackctl",
            "--bin",
            "stackctl",
            "--profile",
            "dist",
            "--target",
            target,
        ])
        .log(&build.join("dist-build.log"))
        .go()?;
    Ok(build.join(target).join("dist").join("stackctl"))
}

/// The tools by which a program for another processor is made: Debian's compiler for what is written in C, and Rust's own
/// linker, which brings musl with it.
fn cross(target: &str) -> &'static [(&'static str, &'static str)] {
    match target {
        "aarch64-unknown-linux-musl" if !runs_here(target) => &[
            ("CC_aarch64_unknown_linux_musl", "aarch64-linux-gnu-gcc"),
            ("AR_aarch64_unknown_linux_musl", "aarch64-linux-gnu-ar"),
            ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER", "rust-lld"),
        ],
        _ => &[],
    }
}

/// Whether this machine runs programs for a platform.
pub fn runs_here(target: &str) -> bool {
    let system = if cfg!(target_os = "macos") { "apple-darwin" } else { "linux" };
    target.starts_with(std::env::consts::ARCH) && target.contains(system)
}

fn add_target(target: &str) -> Result<()> {
    let root = workspace();
    let sysroot = Run::new("rustc", 60).dir(&root).args(["--print", "sysroot"]).output()?;
    if Path::new(&sysroot).join("lib/rustlib").join(target).is_dir() {
        return Ok(());
    }
    Run::new("rustup", 600).dir(&root).args(["target", "add", target]).go()
}

/// Looks whether the program is what is promised of a release.
pub fn check(program: &Path, target: &str) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let size = bytes.len() as u64;
    ensure!(size <= LARGEST, "{} has {size} bytes, {LARGEST} are allowed", program.display());
    if target.contains("musl") && wants_interpreter(&bytes)? {
        bail!("{} is not static: it wants a dynamic loader", program.display());
    }
    for secret in [workspace().display().to_string(), std::env::var("HOME").unwrap_or_default()] {
        // A home folder of `/` or a workspace in it would be found in anything.
        if secret.len() > 3 && find(&bytes, secret.as_bytes()) {
            bail!("{} names a folder of this machine: {secret}", program.display());
        }
    }
    if !runs_here(target) {
        say(&format!("{:.1} MB for {target}: it cannot be started here, and was not", size as f64 / 1e6));
        return Ok(());
    }
    let quickest = (0..RUNS).map(|_| time(program)).collect::<Result<Vec<_>>>()?.into_iter().min();
    let quickest = quickest.unwrap_or_default();
    let sizes = format!("{:.1} MB, --version in {:.1} ms", size as f64 / 1e6, quickest.as_secs_f64() * 1e3);
    ensure!(quickest <= SLOWEST, "{}: {sizes}, {} ms are allowed", program.display(), SLOWEST.as_millis());
    say(&sizes);
    Ok(())
}

fn time(program: &Path) -> Result<Duration> {
    let began = Instant::now();
    let output = std::process::Command::new(program).arg("--version").output().context("it cannot be started")?;
    ensure!(output.status.success(), "{} --version fails", program.display());
    Ok(began.elapsed())
}

fn find(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// Whether a 64-bit little-endian ELF file has a program header of the kind that names a dynamic loader.
fn wants_interpreter(elf: &[u8]) -> Result<bool> {
    const INTERPRETER: u64 = 3;
    ensure!(elf.starts_with(b"\x7fELF\x02\x01"), "it is no ELF file of 64 bits");
    let number = |at: usize, length: usize| -> Result<u64> {
        let bytes = elf.get(at..at + length).context("it is cut short")?;
        Ok(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let (headers, size, count) = (number(0x20, 8)?, number(0x36, 2)?, number(0x38, 2)?);
    for header in 0..count {
        let at = usize::try_from(headers + header * size).context("it is too large")?;
        if number(at, 4)? == INTERPRETER {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_is_told_from_a_static_one() {
        let elf = |kind: u8| {
            let mut bytes = vec![0; 0x40 + 0x38];
            bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
            (bytes[0x20], bytes[0x36], bytes[0x38], bytes[0x40]) = (0x40, 0x38, 1, kind);
            bytes
        };
        assert!(wants_interpreter(&elf(3)).unwrap());
        assert!(!wants_interpreter(&elf(1)).unwrap());
        assert!(wants_interpreter(b"#!/bin/sh").is_err());
        let mut cut = elf(1);
        cut.truncate(0x41);
        assert!(wants_interpreter(&cut).is_err());
        let this_test = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(wants_interpreter(&this_test).unwrap(), "tests are linked dynamically");
    }
}
