//! Debian base images, made by debootstrap (which checks the archive's signatures) from the mirror
//! that this machine itself uses.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::digest::Inputs;
use super::store::Part;
use super::{Airgap, docker};
use crate::run::Run;

const RECIPE: &str = "1";
const BOOTSTRAP_SECONDS: u64 = 1200;
const IMPORT_SECONDS: u64 = 300;
/// What debootstrap knows of each suite.
const SCRIPTS: &str = "/usr/share/debootstrap/scripts";
/// What it knows of the suite that all later ones were once.
const NEWEST: &str = "/usr/share/debootstrap/scripts/sid";

/// One of the places that this machine's packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    uri: String,
    suite: String,
}

/// A digest of what the base image of a suite is made from.
pub fn key(suite: &str) -> String {
    Inputs::default().add("recipe", RECIPE).add("suite", suite).key()
}

/// The name of a suite's base image.
pub fn image(suite: &str) -> String {
    format!("stackctl.local/debian:{suite}-{}", &key(suite)[..12])
}

/// Makes the base image of a suite unless it is there.
///
/// # Errors
/// When debootstrap or the engine fails.
pub fn base(airgap: &Airgap, suite: &str) -> Result<PathBuf> {
    let (name, key, image) = (format!("debian-{suite}"), key(suite), image(suite));
    let part = Part { name: &name, key: &key, holds: &|folder| docker::holds(folder, &image) };
    airgap.store.part(&part, |folder| {
        let log = airgap.store.log(&name);
        let sources = machine_sources()?;
        let mirror = mirror(&sources, suite)?;
        // Its own folder: a root file system cannot be moved about as a part of the store.
        let root = tempfile::tempdir_in(airgap.store.root()).context("cannot make a folder")?;
        let tree = root.path().join("root");
        let text = tree.display().to_string();
        let mut args = vec!["--variant=minbase", suite, &text, &mirror];
        // A suite that came after this machine's debootstrap is made like the newest that it knows.
        if !Path::new(SCRIPTS).join(suite).exists() {
            args.push(NEWEST);
        }
        Run::new("debootstrap", BOOTSTRAP_SECONDS).args(args).log(&log).go()?;
        fs::write(tree.join("etc/apt/sources.list"), sources_list(&sources, suite, &mirror))?;
        fs::write(tree.join("etc/apt/apt.conf.d/90machine"), apt_options()?)?;
        let archive = root.path().join("root.tar");
        Run::new("tar", IMPORT_SECONDS)
            .args(["-C", &text, "--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*"])
            .args(["--numeric-owner", "-cf", &archive.display().to_string(), "."])
            .log(&log)
            .go()?;
        let archive = archive.display().to_string();
        let id = Run::new("docker", IMPORT_SECONDS).args(["import", &archive, &image]).output()?;
        docker::record(folder, &image, &id, "")
    })
}

fn machine_sources() -> Result<Vec<Source>> {
    let mut found = Vec::new();
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.filter_map(|entry| entry.ok().map(|entry| entry.path())));
    }
    files.sort();
    for file in files.iter().filter(|file| file.is_file()) {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        found.extend(parse(&text, file));
    }
    Ok(found)
}

/// Both forms of a sources file: one line each, or blocks of fields.
fn parse(text: &str, file: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    if file.extension().is_some_and(|extension| extension == "sources") {
        for block in text.split("\n\n") {
            let field = |name: &str| {
                let line = block.lines().find_map(|line| line.strip_prefix(name));
                line.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
            };
            for uri in field("URIs:") {
                found.extend(field("Suites:").into_iter().map(|suite| Source { uri: uri.clone(), suite }));
            }
        }
    } else {
        for line in text.lines().filter(|line| line.starts_with("deb ")) {
            let line = match (line.find('['), line.find(']')) {
                (Some(from), Some(to)) if from < to => format!("{}{}", &line[..from], &line[to + 1..]),
                _ => line.to_owned(),
            };
            let mut words = line.split_whitespace().skip(1);
            if let (Some(uri), Some(suite)) = (words.next(), words.next()) {
                found.push(Source { uri: uri.to_owned(), suite: suite.to_owned() });
            }
        }
    }
    found.retain(|source| source.uri.starts_with("http"));
    found
}

/// The mirror for a suite: the one of that suite, else that of any release without a suffix.
fn mirror(sources: &[Source], suite: &str) -> Result<String> {
    let exact = sources.iter().find(|source| source.suite == suite);
    let release = || sources.iter().find(|source| source.uri.contains("debian") && !source.suite.contains('-'));
    let found = exact.or_else(release).context("this machine's apt sources name no Debian mirror")?;
    Ok(found.uri.clone())
}

/// The same places for a suite: its updates and security fixes only where the machine has them.
fn sources_list(sources: &[Source], suite: &str, mirror: &str) -> String {
    let mut text = format!("deb {mirror} {suite} main\n");
    for suffix in ["-updates", "-security"] {
        if let Some(source) = sources.iter().find(|source| source.suite.ends_with(suffix)) {
            text.push_str(&format!("deb {} {suite}{suffix} main\n", source.uri));
        }
    }
    text
}

/// How this machine fetches packages (proxies and the like), for the images built on the base.
fn apt_options() -> Result<String> {
    let dump = Run::new("apt-config", 30).args(["dump"]).output()?;
    let kept = dump.lines().filter(|line| {
        ["Acquire::Check-", "Acquire::http", "Acquire::Retries"].iter().any(|start| line.starts_with(start))
            && !line.contains("\"\"")
    });
    Ok(kept.map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: &str = "Types: deb\n# comment\nURIs: http://mirror/debian\nSuites: one one-updates\n\n\
                          Types: deb\nURIs: http://mirror/security\nSuites: one-security\n";

    fn blocks() -> Vec<Source> {
        parse(BLOCKS, Path::new("debian.sources"))
    }

    #[test]
    fn both_forms_of_sources_are_read() {
        let lines = "# deb http://no/debian one main\ndeb [arch=amd64 signed-by=/k] http://mirror/debian one main\n\
                     deb-src http://mirror/debian one main\ndeb cdrom:x one main\n";
        let one = Source { uri: "http://mirror/debian".into(), suite: "one".into() };
        assert_eq!(parse(lines, Path::new("sources.list")), vec![one.clone()]);
        assert_eq!(blocks().len(), 3);
        assert_eq!(blocks()[0], one);
    }

    #[test]
    fn another_suite_comes_from_the_same_mirror_with_its_fixes() {
        let sources = blocks();
        let mirror = mirror(&sources, "two").unwrap();
        assert_eq!(
            sources_list(&sources, "two", &mirror),
            "deb http://mirror/debian two main\ndeb http://mirror/debian two-updates main\n\
             deb http://mirror/security two-security main\n"
        );
    }

    #[test]
    fn a_machine_without_a_debian_mirror_is_told_so() {
        assert!(mirror(&[], "two").is_err());
    }
}
