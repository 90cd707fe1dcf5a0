//! `cargo xtask dist`: what is downloaded of a release. The same commit gives the same bytes, wherever it is built.

mod binary;
mod formula;
#[cfg(test)]
mod install_tests;
mod provenance;
mod sbom;

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use flate2::{Compression, GzBuilder};

use crate::bundle::digest;
use crate::run::Run;
use crate::say::{say, tell};
use crate::{target_folder, workspace};

/// Copied to the release as it is.
const INSTALL: &str = include_str!("install.sh");
/// The shells whose completions are in the archive.
const SHELLS: [&str; 5] = ["bash", "elvish", "fish", "powershell", "zsh"];

/// What to make.
#[derive(Debug, clap::Args)]
pub struct DistArgs {
    /// A platform; may be given several times, the first one this machine's. For aarch64-unknown-linux-musl on
    /// another processor Debian's gcc-aarch64-linux-gnu and libc6-dev-arm64-cross must be there.
    #[arg(long = "target", value_name = "TRIPLE", default_value = "x86_64-unknown-linux-musl")]
    targets: Vec<String>,
    /// Where the folder is going to be downloaded from: a Homebrew formula with this address is made, too.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The folder to make [default: download in Cargo's target folder].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Build everything a second time, in a target folder of its own, and compare the bytes.
    #[arg(long)]
    twice: bool,
}

/// What a release is made from.
#[derive(Debug)]
struct ReleaseSource {
    version: String,
    commit: String,
    /// Seconds since 1970: the only moment that is written into what is made.
    committed: u64,
    /// Whether files differ from the commit.
    is_changed: bool,
}

/// Makes the folder: the archive, its bill of materials and provenance, the install script, and the sums of all.
///
/// # Errors
/// When something does not compile, or the program does not hold what is promised of it.
pub fn dist(args: &DistArgs) -> Result<()> {
    let source = source()?;
    let out = args.out.clone().unwrap_or_else(|| target_folder().join("download"));
    let sums = make(&source, args, &target_folder(), &out)?;
    if args.twice {
        let scratch = tempfile::tempdir_in(target_folder()).context("cannot make a second target folder")?;
        let again = make(&source, args, &scratch.path().join("target"), &scratch.path().join("download"))?;
        if sums != again {
            bail!("two builds of {} differ:\n{sums}\n{again}", source.commit);
        }
        say("a second build gave the same bytes");
    }
    if source.is_changed {
        tell("warning: files differ from the commit: this is nothing to publish");
    }
    say(&format!("the release is in {}", out.display()));
    Ok(())
}

fn source() -> Result<ReleaseSource> {
    let git = |args: &[&str]| Run::new("git", 60).dir(&workspace()).args(args).output();
    let committed = git(&["show", "--no-patch", "--format=%ct", "HEAD"])?;
    let manifest = fs::read_to_string(workspace().join("Cargo.toml")).context("cannot read Cargo.toml")?;
    let version = manifest.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    Ok(ReleaseSource {
        version: version.context("Cargo.toml has no version")?.to_owned(),
        commit: git(&["rev-parse", "HEAD"])?,
        committed: committed.parse().context("git tells no time of the commit")?,
        is_changed: !git(&["status", "--porcelain"])?.is_empty(),
    })
}

/// Makes the folder `out`; returns its `SHA256SUMS`.
fn make(source: &ReleaseSource, args: &DistArgs, build: &Path, out: &Path) -> Result<String> {
    let mut programs = Vec::new();
    for target in &args.targets {
        let program = binary::build(source, target, build)?;
        binary::check(&program, target)?;
        programs.push((target, program));
    }
    if out.exists() {
        fs::remove_dir_all(out).with_context(|| format!("cannot empty {}", out.display()))?;
    }
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    // Completions and man pages are the same for all; they are written by the one that runs here.
    let runs = programs.iter().find(|(target, _)| binary::runs_here(target)).map(|(_, program)| program);
    let pages =
        pages(runs.context("none of the platforms is this machine's, which writes the man pages: give it, too")?)?;
    let mut archives = Vec::new();
    for (target, program) in &programs {
        let name = format!("stackctl-{}-{target}", source.version);
        let archive = out.join(format!("{name}.tar.gz"));
        let mut files = pages.clone();
        files.push(("stackctl".to_owned(), read(program)?, true));
        files.sort();
        pack(source, &name, &files, &archive)?;
        write(&out.join(format!("{name}.cdx.json")), &sbom::write(source, target)?)?;
        let subject = (format!("{name}.tar.gz"), digest::file(&archive)?);
        write(&out.join(format!("{name}.provenance.json")), &provenance::statement(source, target, &subject)?)?;
        archives.push(((*target).clone(), subject.1));
    }
    write(&out.join("install.sh"), INSTALL)?;
    if let Some(url) = &args.url {
        write(&out.join("stackctl.rb"), &formula::write(&source.version, url, &archives)?)?;
    }
    let mut sums = String::new();
    for path in digest::files(out)? {
        sums.push_str(&format!("{}  {}\n", digest::file(&out.join(&path))?, path.display()));
    }
    write(&out.join("SHA256SUMS"), &sums)?;
    Ok(sums)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// What is in every archive beside the program: paths, contents, and whether they may be run.
fn pages(program: &Path) -> Result<Vec<(String, Vec<u8>, bool)>> {
    let mut files = Vec::new();
    for name in ["LICENSE", "README.md", "CHANGELOG.md"] {
        files.push((name.to_owned(), read(&workspace().join(name))?, false));
    }
    for shell in SHELLS {
        let script = Run::new(program, 60).args(["completions", shell]).output()?;
        files.push((format!("completions/stackctl.{shell}"), format!("{script}\n").into_bytes(), false));
    }
    let pages = tempfile::tempdir().context("cannot make a folder for the man pages")?;
    Run::new(program, 60).args([std::ffi::OsStr::new("man"), pages.path().as_os_str()]).go()?;
    for page in digest::files(pages.path())? {
        files.push((format!("man/{}", page.display()), read(&pages.path().join(&page))?, false));
    }
    Ok(files)
}

/// Writes the archive: the same bytes for the same files.
fn pack(source: &ReleaseSource, folder: &str, files: &[(String, Vec<u8>, bool)], path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let compressed = GzBuilder::new().mtime(0).write(BufWriter::new(file), Compression::best());
    let mut archive = tar::Builder::new(compressed);
    for (name, bytes, may_run) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(if *may_run { 0o755 } else { 0o644 });
        header.set_mtime(source.committed);
        header.set_uid(0);
        header.set_gid(0);
        archive
            .append_data(&mut header, format!("{folder}/{name}"), bytes.as_slice())
            .with_context(|| format!("cannot pack {name}"))?;
    }
    let written = archive.into_inner().and_then(flate2::write::GzEncoder::finish);
    written.and_then(|mut file| file.flush()).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_of_the_same_files_has_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let source =
            ReleaseSource { version: "1.2.3".into(), commit: "c".into(), committed: 1_700_000_000, is_changed: false };
        let files =
            [("man/a.1".to_owned(), b"page".to_vec(), false), ("stackctl".to_owned(), b"program".to_vec(), true)];
        let archive = |name: &str| {
            let path = folder.path().join(name);
            pack(&source, "stackctl-1.2.3", &files, &path).unwrap();
            fs::read(path).unwrap()
        };
        let (one, other) = (archive("one"), archive("other"));
        assert_eq!(one, other);
        let mut read = tar::Archive::new(flate2::read::GzDecoder::new(one.as_slice()));
        let entries = read.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap())
        });
        let expected = [("stackctl-1.2.3/man/a.1".to_owned(), 0o644), ("stackctl-1.2.3/stackctl".to_owned(), 0o755)];
        assert_eq!(entries.collect::<Vec<_>>(), expected);
    }
}
