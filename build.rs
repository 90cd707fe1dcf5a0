//! Tells cargo when what is embedded has changed, and makes the manifests of the images' build contexts.
//!
//! The web image holds the web app and the failover helper alone, so its context names nothing else: a dependency that
//! only stackctl has changes neither the context's digest nor, with it, the image. Of the workspace's packages it has
//! those two and the protocol that the app shares with stackctl. The sidecar's image holds the WAL programs alone in the
//! same way.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::{env, fs};

use toml::{Table, Value};

/// What is built in an image.
struct Image {
    /// The packages of the programs.
    programs: &'static [&'static str],
    /// The folders of the packages that the context has.
    folders: &'static [&'static str],
    /// What the files made for it begin with.
    prefix: &'static str,
}

const IMAGES: [Image; 2] = [
    Image { programs: &["user-app", "failover-helper"], folders: &["web", "protocol", "helper"], prefix: "" },
    Image { programs: &["barman-cloud-wal"], folders: &["wal"], prefix: "wal-" },
];
/// Tables of the root manifest that are about more than the root package.
const OF_ALL: [&str; 2] = ["workspace", "profile"];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let folders = IMAGES.iter().flat_map(|image| image.folders).copied();
    for path in ["assets", "Dockerfile", "Cargo.toml", "Cargo.lock"].into_iter().chain(folders) {
        println!("cargo:rerun-if-changed={path}");
    }
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    IMAGES.iter().try_for_each(|image| manifests(image, Path::new(&out)))
}

fn manifests(image: &Image, out: &Path) -> Result<()> {
    let Image { programs, folders, prefix } = image;
    let mut workspace: Table = fs::read_to_string("Cargo.toml")?.parse()?;
    let mut lock: Table = fs::read_to_string("Cargo.lock")?.parse()?;

    let mut used = BTreeSet::new();
    for folder in *folders {
        let mut manifest: Table = fs::read_to_string(format!("{folder}/Cargo.toml"))?.parse()?;
        let for_tests = names(manifest.remove("dev-dependencies").as_ref());
        let dependencies = dependencies(&manifest);
        let package = manifest.get("package").map(|package| text(package, "name")).unwrap_or_default();
        forget(&mut lock, package, for_tests.difference(&dependencies))?;
        used.extend(dependencies);
        fs::write(out.join(format!("{folder}.toml")), manifest.to_string())?;
    }
    workspace.retain(|table, _| OF_ALL.contains(&table));
    let profiles = workspace.get_mut("profile").and_then(Value::as_table_mut).ok_or("Cargo.toml has no profiles")?;
    profiles.retain(|name, _| name == "release");
    let shared = workspace.get_mut("workspace").and_then(Value::as_table_mut).ok_or("Cargo.toml has no workspace")?;
    shared.insert("members".into(), Value::Array(folders.iter().copied().map(Value::from).collect()));
    let versions = shared.get_mut("dependencies").and_then(Value::as_table_mut);
    versions.ok_or("Cargo.toml has no workspace.dependencies")?.retain(|name, _| used.contains(name));
    reduce(&mut lock, programs)?;

    fs::write(out.join(format!("{prefix}workspace.toml")), workspace.to_string())?;
    fs::write(out.join(format!("{prefix}workspace.lock")), lock.to_string())?;
    Ok(())
}

fn names(table: Option<&Value>) -> BTreeSet<String> {
    table.and_then(Value::as_table).map(|table| table.keys().cloned().collect()).unwrap_or_default()
}

/// What a package depends on, on whatever platform.
fn dependencies(package: &Table) -> BTreeSet<String> {
    let mut all = names(package.get("dependencies"));
    for platform in package.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values) {
        all.extend(names(platform.get("dependencies")));
    }
    all
}

fn packages(lock: &mut Table) -> Result<&mut Vec<Value>> {
    Ok(lock.get_mut("package").and_then(Value::as_array_mut).ok_or("Cargo.lock has no packages")?)
}

/// Takes from a package in a lock file what it needs for its tests alone.
fn forget<'a>(lock: &mut Table, package: &str, for_tests: impl Iterator<Item = &'a String>) -> Result<()> {
    let for_tests: BTreeSet<&str> = for_tests.map(String::as_str).collect();
    let entry = packages(lock)?.iter_mut().find(|entry| text(entry, "name") == package);
    let entry = entry.ok_or_else(|| format!("Cargo.lock lacks {package}"))?;
    let listed = entry.get_mut("dependencies").and_then(Value::as_array_mut);
    let listed = listed.ok_or_else(|| format!("{package} depends on nothing"))?;
    listed.retain(|name| !name.as_str().is_some_and(|name| for_tests.contains(first_word(name))));
    Ok(())
}

/// Leaves in a lock file what the programs are built from.
fn reduce(lock: &mut Table, programs: &[&str]) -> Result<()> {
    let packages = packages(lock)?;
    let mut kept = BTreeSet::new();
    let mut open: Vec<String> = programs.iter().copied().map(str::to_owned).collect();
    while let Some(wanted) = open.pop() {
        for (at, package) in packages.iter().enumerate() {
            if is(package, &wanted) && kept.insert(at) {
                let listed = package.get("dependencies").and_then(Value::as_array).into_iter().flatten();
                open.extend(listed.filter_map(Value::as_str).map(str::to_owned));
            }
        }
    }
    let mut at = 0;
    packages.retain(|_| {
        at += 1;
        kept.contains(&(at - 1))
    });
    Ok(())
}

/// Whether a lock file's reference, `name` or `name version` or `name version (source)`, means this package.
fn is(package: &Value, reference: &str) -> bool {
    let mut words = reference.split(' ');
    words.next() == Some(text(package, "name"))
        && words.next().is_none_or(|version| version == text(package, "version"))
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or(text)
}

fn text<'a>(package: &'a Value, key: &str) -> &'a str {
    package.get(key).and_then(Value::as_str).unwrap_or_default()
}
