//! The architecture, held by reading the sources: rooms of which none uses one further up, no circle of files, no
//! file that is too long to read, a name for one thing, and doc comments that name their subject.
//!
//! It reads the text and not the compiler's tree: what a macro makes is not seen. How it reads is proved by
//! sources that are planted (`planted.rs`).

#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

mod circles;
mod krate;
mod planted;
mod prose;
mod rooms;
mod source;
mod tokens;
mod waits;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use krate::Crate;

/// A file of Rust is read in one sitting.
const MOST_LINES: usize = 400;
/// How many type names a crate defines more than once, by its root. The numbers may only go down.
const MOST_DUPLICATES: [(&str, usize); 5] = [
    ("src/lib.rs", 0),
    ("protocol/src/lib.rs", 0),
    ("wal/src/lib.rs", 0),
    ("web/src/main.rs", 0),
    ("xtask/src/main.rs", 0),
];

/// Loops with a pause that wait for nothing, and what they do instead.
const LOOPS_THAT_ARE_NO_WAITS: [(&str, &str); 9] = [
    ("src/commands/status.rs", "shows the state anew until the user ends it"),
    ("src/drills/observer.rs", "follows the operator's log for as long as the drill lasts"),
    ("src/drills/scenarios/nodes.rs", "tries to write for as long as the fault lasts"),
    ("src/drills/scenarios/storage.rs", "asks for new segments for a fixed time"),
    ("src/fetch.rs", "downloads in a thread of its own, at most some attempts"),
    ("src/kube/forward/mod.rs", "accepts connections until the forward is closed"),
    ("src/kube/lease.rs", "takes the lock in at most some attempts"),
    ("src/load/sender.rs", "follows the sender's log until its pod has ended"),
    ("src/phases/cluster/watch.rs", "watches over another program"),
];

/// The workspace's root. Cargo says where it is when the test runs: the program may be another checkout's.
fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

fn library() -> Crate {
    read("src/lib.rs")
}

/// Reads the crate with this root.
fn read(file: &str) -> Crate {
    let root = root();
    Crate::read(Path::new(file), &|file| fs::read_to_string(root.join(file)).ok())
}

/// Every file of Rust in the workspace, by its path from the root.
fn files() -> Vec<PathBuf> {
    let (root, mut found, mut folders) = (root(), Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let (name, path) = (entry.file_name().into_string().unwrap(), folder.join(entry.file_name()));
            if entry.file_type().unwrap().is_dir() && !name.starts_with('.') && name != "target" {
                folders.push(path);
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what} ({}):\n  {}\n", found.len(), found.join("\n  "));
}

#[test]
fn no_room_uses_one_further_up() {
    let library = library();
    none("modules without a place in rooms::ORDER", &rooms::homeless(rooms::ORDER, &library));
    none("arrows upwards", &rooms::upwards(rooms::ORDER, &library, &library.arrows()));
}

#[test]
fn no_circle_of_files_but_a_module_and_its_own_children() {
    let library = library();
    let arrows = library.arrows();
    let tell = |circle: Vec<usize>| {
        let steps = circle.iter().zip(circle.iter().cycle().skip(1));
        let steps = steps.map(|(user, used)| {
            let names: Vec<_> = arrows[&(*user, *used)].iter().cloned().collect();
            format!("{} → {}: {}", library.name(*user), library.name(*used), names.join(", "))
        });
        steps.collect::<Vec<_>>().join("\n    ")
    };
    let found: Vec<String> =
        circles::circles(&library, &arrows.keys().copied().collect()).into_iter().map(tell).collect();
    none("circles of files", &found);
}

#[test]
fn every_file_of_the_library_is_a_module_of_it() {
    let library = library();
    let known: Vec<&Path> = library.modules.iter().map(|module| module.file.as_path()).collect();
    let lost = files().into_iter().filter(|file| file.starts_with("src") && file != Path::new("src/main.rs"));
    none("files that no `mod` names", &names(lost.filter(|file| !known.contains(&file.as_path()))));
}

#[test]
fn no_file_is_longer_than_can_be_read_in_one_sitting() {
    let lines = |file: &PathBuf| fs::read_to_string(root().join(file)).unwrap().lines().count();
    let long = files().into_iter().map(|file| (lines(&file), file)).filter(|(lines, _)| *lines > MOST_LINES);
    let long: Vec<String> = long.map(|(lines, file)| format!("{}: {lines} lines", file.display())).collect();
    none(&format!("files of more than {MOST_LINES} lines"), &long);
}

#[test]
fn only_poll_waits_in_a_loop_of_its_own() {
    let sources = files().into_iter().filter(|file| file.starts_with("src") && !file.ends_with("runner_tests.rs"));
    let (mut found, mut allowed) = (Vec::new(), Vec::new());
    for file in sources.filter(|file| file != Path::new("src/poll.rs")) {
        let lines = waits::by_hand(&fs::read_to_string(root().join(&file)).unwrap());
        match LOOPS_THAT_ARE_NO_WAITS.iter().find(|(name, _)| Path::new(name) == file) {
            Some((name, _)) if !lines.is_empty() => allowed.push(*name),
            _ => found.extend(lines.iter().map(|line| format!("{}:{line}", file.display()))),
        }
    }
    none("loops that wait by hand, where src/poll.rs does", &found);
    let names = LOOPS_THAT_ARE_NO_WAITS.iter().map(|(name, _)| *name).filter(|name| !allowed.contains(name));
    none("exceptions that are none any more", &names.map(str::to_owned).collect::<Vec<_>>());
}

#[test]
fn a_type_name_is_used_for_one_thing_in_a_crate() {
    let mut over = Vec::new();
    for (file, most) in MOST_DUPLICATES {
        let twice = defined_twice(&read(file));
        println!("{file}: {} type names are defined more than once:\n  {}", twice.len(), twice.join("\n  "));
        if twice.len() > most {
            over.push(format!("{file}: {} where {most} are known:\n    {}", twice.len(), twice.join("\n    ")));
        }
    }
    none("type names defined more than once", &over);
}

/// Each with the places.
fn defined_twice(krate: &Crate) -> Vec<String> {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for module in krate.modules.iter().filter(|module| !module.is_test) {
        for (name, line) in &module.source.types {
            places.entry(name).or_default().push(format!("{}:{line}", module.file.display()));
        }
    }
    places.retain(|_, places| places.len() > 1);
    places.into_iter().map(|(name, places)| format!("{name}: {}", places.join(" "))).collect()
}

#[test]
fn a_doc_comment_names_its_subject() {
    let mut found = Vec::new();
    for file in files() {
        let source = source::read(&fs::read_to_string(root().join(&file)).unwrap());
        for (text, line) in source.doc.iter().chain(&source.docs) {
            found.extend(prose::fault(text).map(|fault| format!("{}:{line}: {fault}: {text}", file.display())));
        }
    }
    none("doc comments whose first sentence does not name its subject", &found);
}

fn names(files: impl Iterator<Item = PathBuf>) -> Vec<String> {
    files.map(|file| file.display().to_string()).collect()
}
