//! A crate as its files and the arrows between them: which file uses what of which other one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path as FilePath, PathBuf};

use crate::source::{self, Path, Source};

/// A module that is a file.
#[derive(Debug)]
pub struct Module {
    /// Where it stands in the crate; empty for the root.
    pub path: Vec<String>,
    pub file: PathBuf,
    /// Compiled for tests only: its arrows do not count.
    pub is_test: bool,
    pub source: Source,
    children: BTreeMap<String, usize>,
}

/// The files of a crate, found by the `mod` declarations from its root on.
#[derive(Debug)]
pub struct Crate {
    pub modules: Vec<Module>,
}

/// Which names a file uses of another one: (user, used) → names. Both are indexes of [`Crate::modules`].
pub type Arrows = BTreeMap<(usize, usize), BTreeSet<String>>;

/// How far re-exports are followed; a longer chain is a circle of them.
const MOST_REEXPORTS: usize = 32;

impl Crate {
    /// Reads the crate whose root is `root`, with `text` giving a file's content.
    pub fn read(root: &FilePath, text: &dyn Fn(&FilePath) -> Option<String>) -> Self {
        let mut all = Self { modules: Vec::new() };
        all.add(root, &[], false, text);
        all
    }

    fn add(
        &mut self,
        file: &FilePath,
        path: &[String],
        is_test: bool,
        text: &dyn Fn(&FilePath) -> Option<String>,
    ) -> usize {
        let content = text(file).unwrap_or_else(|| panic!("there is no {}", file.display()));
        let source = source::read(&content);
        let declarations = source.modules.clone();
        let index = self.modules.len();
        self.modules.push(Module {
            path: path.to_owned(),
            file: file.to_owned(),
            is_test,
            source,
            children: BTreeMap::new(),
        });
        let beside = file.parent().unwrap_or(FilePath::new("")).to_owned();
        let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let below = if ["lib", "main", "mod"].contains(&stem) { beside.clone() } else { beside.join(stem) };
        for declared in declarations {
            let child = match &declared.file {
                Some(named) => beside.join(named),
                None => [below.join(format!("{}.rs", declared.name)), below.join(&declared.name).join("mod.rs")]
                    .into_iter()
                    .find(|candidate| text(candidate).is_some())
                    .unwrap_or_else(|| panic!("{}: no file of mod {}", file.display(), declared.name)),
            };
            let path = [path, std::slice::from_ref(&declared.name)].concat();
            let child = self.add(&child, &path, is_test || declared.is_test, text);
            self.modules[index].children.insert(declared.name, child);
        }
        index
    }

    /// Every arrow from a file to another one, but those of tests.
    pub fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (user, module) in self.modules.iter().enumerate().filter(|(_, module)| !module.is_test) {
            let mut note = |used: Option<(usize, String)>| {
                if let Some((used, name)) = used.filter(|(used, _)| *used != user) {
                    arrows.entry((user, used)).or_default().insert(name);
                }
            };
            for path in module.source.imports.iter().chain(&module.source.paths) {
                note(self.used(user, path));
            }
            for glob in &module.source.globs {
                if let Some((used, _)) = self.resolve(user, glob, 0).filter(|(_, rest)| rest.is_empty()) {
                    note(Some((used, "*".into())));
                }
            }
        }
        arrows
    }

    /// The file that defines what a path names, and the name in it. A path that ends at a module is no use of it:
    /// what is used of it has a path of its own.
    fn used(&self, user: usize, path: &Path) -> Option<(usize, String)> {
        let (module, rest) = self.resolve(user, path, 0)?;
        rest.first().map(|name| (module, name.clone()))
    }

    /// The module that a path leads to, and what remains of the path in it; nothing where it leaves the crate.
    fn resolve(&self, from: usize, path: &Path, followed: usize) -> Option<(usize, Vec<String>)> {
        let mut at = self.modules[from].path.clone();
        at.extend(path.inside.iter().cloned());
        let mut rest = path.segments.as_slice();
        match rest.first()?.as_str() {
            "crate" => at.clear(),
            "self" => {}
            "super" => {
                while rest.first().is_some_and(|first| first == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
                return self.walk(&at, rest, followed);
            }
            first => {
                let module = &self.modules[from];
                // A binding that begins with its own name is another crate's.
                let is_bound = module.source.bindings.get(first).is_some_and(|bound| bound.segments[0] != first);
                let is_here = is_bound || module.children.contains_key(first);
                return if is_here && path.inside.is_empty() { self.walk(&at, rest, followed) } else { None };
            }
        }
        self.walk(&at, &rest[1..], followed)
    }

    /// Follows `rest` from the module `at` on, through child modules and what `use` binds.
    fn walk(&self, at: &[String], rest: &[String], followed: usize) -> Option<(usize, Vec<String>)> {
        // A module inside a file is the file's.
        let (mut module, inside) = self.file_of(at)?;
        let mut rest: Vec<String> = inside.into_iter().chain(rest.iter().cloned()).collect();
        while let Some(first) = rest.first() {
            let here = &self.modules[module];
            if let Some(child) = here.children.get(first) {
                module = *child;
            } else if let Some(bound) = here.source.bindings.get(first).filter(|_| followed < MOST_REEXPORTS) {
                let bound = Path { segments: [&bound.segments, &rest[1..]].concat(), ..bound.clone() };
                return self.resolve(module, &bound, followed + 1);
            } else if !here.source.items.contains(first)
                && let Some(found) = self.by_glob(module, &rest, followed)
            {
                return Some(found);
            } else {
                break;
            }
            rest.remove(0);
        }
        Some((module, rest))
    }

    /// Where a name comes from that a module has by `use path::*`.
    fn by_glob(&self, module: usize, rest: &[String], followed: usize) -> Option<(usize, Vec<String>)> {
        if followed >= MOST_REEXPORTS {
            return None;
        }
        self.modules[module].source.globs.iter().find_map(|glob| {
            let path = Path { segments: [&glob.segments, rest].concat(), ..glob.clone() };
            let (found, rest) = self.resolve(module, &path, followed + 1)?;
            let known = rest.first().is_none_or(|name| self.modules[found].source.items.contains(name));
            (found != module && known).then_some((found, rest))
        })
    }

    /// The deepest file that a module's path leads to, and what of the path remains.
    fn file_of(&self, path: &[String]) -> Option<(usize, Vec<String>)> {
        let (mut module, mut rest) = (0, path);
        while let Some(child) = rest.first().and_then(|first| self.modules[module].children.get(first)) {
            (module, rest) = (*child, &rest[1..]);
        }
        Some((module, rest.to_vec()))
    }

    /// A file's path, for people.
    pub fn name(&self, module: usize) -> String {
        self.modules[module].file.display().to_string()
    }
}
