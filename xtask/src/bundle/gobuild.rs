//! Go programs, built from sources that a committed `go.mod` and `go.sum` pin.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Airgap;
use super::digest::Inputs;
use super::parts::{CHANGED_MODULES, ChangedModule, GoTool};
use super::store::Part;
use crate::run::Run;

/// Raised when what a build does changes, so that everything is built anew.
const RECIPE: &str = "1";
const FETCH_SECONDS: u64 = 1200;
const BUILD_SECONDS: u64 = 3600;

/// A digest of what a tool is built from.
///
/// # Errors
/// When its sources' pins cannot be read.
pub fn key(airgap: &Airgap, tool: &GoTool) -> Result<String> {
    let folder = airgap.sources.join(tool.folder);
    let mut inputs = Inputs::default();
    inputs.add("recipe", RECIPE).add("go", &airgap.go_version);
    for file in ["go.mod", "go.sum"] {
        let path = folder.join(file);
        inputs.add(file, fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    if let Some(changed) = changed(tool.folder) {
        inputs.add_folder(&airgap.sources.join(changed.folder))?;
    }
    for (package, program) in tool.programs {
        inputs.add(package, program);
    }
    inputs.add("tags", tool.tags).add("set", tool.set.join(" ")).add("cgo", tool.cgo.to_string());
    Ok(inputs.key())
}

/// Fetches the sources of every package that the tool needs, unless it is built already. Go checks
/// them against `go.sum`.
///
/// # Errors
/// When they cannot be fetched or are not what `go.sum` says.
pub fn fetch(airgap: &Airgap, tool: &GoTool) -> Result<()> {
    if airgap.store.folder(tool.name, &key(airgap, tool)?).is_dir() {
        return Ok(());
    }
    let mut args = vec!["list", "-mod=readonly", "-deps", "-f", "{{.ImportPath}}"];
    args.extend(["-tags", tool.tags]);
    args.extend(tool.programs.iter().map(|(package, _)| *package));
    go(airgap, tool.folder, tool.cgo, FETCH_SECONDS)?.args(args).output().map(drop)
}

/// Builds the tool unless it is there; the folder holds its programs.
///
/// # Errors
/// When the build fails, with the end of its output.
pub fn build(airgap: &Airgap, tool: &GoTool) -> Result<PathBuf> {
    let key = key(airgap, tool)?;
    let part = Part { name: tool.name, key: &key, holds: &|_| true };
    airgap.store.part(&part, |folder| {
        let (_, version) = module(airgap, tool.folder)?;
        let flags = ldflags(tool, &version);
        for group in by_parent(tool.programs) {
            // Several packages in one call share the work; each program is named by its package.
            let mut args = vec!["build", "-mod=readonly", "-trimpath", "-tags", tool.tags, "-ldflags", &flags];
            let out = match group[..] {
                [(_, program)] => folder.join(program),
                _ => folder.to_owned(),
            };
            let out = format!("{}{}", out.display(), if group.len() > 1 { "/" } else { "" });
            args.extend(["-o", &out]);
            args.extend(group.iter().map(|(package, _)| *package));
            go(airgap, tool.folder, tool.cgo, BUILD_SECONDS)?.args(args).log(&airgap.store.log(tool.name)).go()?;
        }
        Ok(())
    })
}

/// Programs whose package has their name can be built in one call; any other one by itself.
fn by_parent(programs: &'static [(&'static str, &'static str)]) -> Vec<Vec<(&'static str, &'static str)>> {
    let (mut groups, mut together) = (Vec::new(), Vec::new());
    for &(package, program) in programs {
        if package.rsplit('/').next() == Some(program) {
            together.push((package, program));
        } else {
            groups.push(vec![(package, program)]);
        }
    }
    if !together.is_empty() {
        groups.insert(0, together);
    }
    groups
}

fn ldflags(tool: &GoTool, version: &str) -> String {
    let set = tool.set.iter().map(|set| format!(" -X {}", set.replace("$V", version)));
    format!("-s -w{}", set.collect::<String>())
}

fn go(airgap: &Airgap, folder: &str, cgo: bool, seconds: u64) -> Result<Run> {
    let dir = match changed(folder) {
        Some(changed) => with_changed(airgap, changed)?,
        None => airgap.sources.join(folder),
    };
    Ok(Run::new("go", seconds)
        .dir(&dir)
        .env("CGO_ENABLED", if cgo { "1" } else { "0" })
        .env("GOOS", "linux")
        .env("GOFLAGS", ""))
}

fn changed(folder: &str) -> Option<&'static ChangedModule> {
    CHANGED_MODULES.iter().find(|changed| changed.tool == folder)
}

/// A folder with the tool's pins and, beside them, the sources of the module with the changes that are made to it.
fn with_changed(airgap: &Airgap, changed: &ChangedModule) -> Result<PathBuf> {
    let (pins, change) = (airgap.sources.join(changed.tool), airgap.sources.join(changed.folder));
    let mut inputs = Inputs::default();
    inputs.add("recipe", RECIPE).add_folder(&pins)?.add_folder(&change)?;
    let (name, key) = (format!("{}-sources", changed.tool), inputs.key());
    airgap.store.part(&Part { name: &name, key: &key, holds: &|_| true }, |folder| {
        for file in ["go.mod", "go.sum"] {
            fs::copy(pins.join(file), folder.join(file)).with_context(|| format!("cannot copy {file}"))?;
        }
        let (upstream, copy) = (sources(airgap, changed.folder)?, folder.join(changed.folder));
        // Go keeps its sources read-only.
        let ends = [upstream.as_os_str(), copy.as_os_str()];
        Run::new("cp", 60).args(["--recursive", "--no-preserve=mode"]).args(ends).go()?;
        // The patch has no context, so that none of upstream's text is kept here.
        let patch = change.join("changes.patch");
        Run::new("git", 60).dir(&copy).args(["apply", "--unidiff-zero"]).args([patch]).go()
    })
}

/// The module that a folder pins, and its version: the first requirement of its `go.mod`.
///
/// # Errors
/// When there is none.
pub fn module(airgap: &Airgap, folder: &str) -> Result<(String, String)> {
    let path = airgap.sources.join(folder).join("go.mod");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    required(&text).with_context(|| format!("{} requires no module", path.display()))
}

fn required(go_mod: &str) -> Option<(String, String)> {
    let line = go_mod.lines().find_map(|line| line.strip_prefix("require "))?;
    let mut words = line.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.to_owned()))
}

/// What a tool is built from, in words: its module, and what stands in for others.
///
/// # Errors
/// When its pins cannot be read.
pub fn source(airgap: &Airgap, folder: &str) -> Result<String> {
    let (module, version) = self::module(airgap, folder)?;
    let pins = fs::read_to_string(airgap.sources.join(folder).join("go.mod"))?;
    let mut source = format!("Go module {module} {version}");
    for (module, by) in replaced(&pins) {
        source += &match changed(folder).filter(|changed| by == format!("./{}", changed.folder)) {
            Some(changed) => format!(", with {module} {} and changes", self::module(airgap, changed.folder)?.1),
            None => format!(", with {by}"),
        };
    }
    Ok(source)
}

/// The modules that a `go.mod` replaces, each with what stands in for it.
fn replaced(go_mod: &str) -> Vec<(&str, &str)> {
    go_mod.lines().filter_map(|line| line.strip_prefix("replace ")?.split_once(" => ")).collect()
}

/// The folder of a pinned module's sources; fetched and checked if it is not there.
///
/// # Errors
/// When it cannot be fetched.
pub fn sources(airgap: &Airgap, folder: &str) -> Result<PathBuf> {
    let (name, _) = module(airgap, folder)?;
    go(airgap, folder, false, FETCH_SECONDS)?.args(["mod", "download", &name]).output()?;
    let dir = go(airgap, folder, false, 60)?.args(["list", "-m", "-f", "{{.Dir}}", &name]).output()?;
    Ok(Path::new(&dir).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::parts::GO_TOOLS;

    #[test]
    fn the_first_requirement_is_the_module() {
        let text = "module closed/x\n\ngo 1.25.0\n\nrequire k8s.io/kubernetes v1.35.4\n";
        assert_eq!(required(text), Some(("k8s.io/kubernetes".into(), "v1.35.4".into())));
        assert_eq!(required("module closed/x\n"), None);
    }

    #[test]
    fn what_stands_in_for_a_module_is_told() {
        let text = "module closed/x\n\nrequire a.io/a v1\n\nreplace b.io/b => ./b\n\nreplace c.io/c => c.io/c v2\n";
        assert_eq!(replaced(text), [("b.io/b", "./b"), ("c.io/c", "c.io/c v2")]);
    }

    #[test]
    fn the_version_is_put_where_the_tool_wants_it() {
        let tool = GO_TOOLS.iter().find(|tool| tool.name == "crictl").unwrap();
        assert_eq!(ldflags(tool, "v9"), "-s -w -X sigs.k8s.io/cri-tools/pkg/version.Version=v9");
    }

    #[test]
    fn programs_named_as_their_package_are_built_together() {
        let kubernetes = GO_TOOLS.iter().find(|tool| tool.name == "kubernetes").unwrap();
        assert_eq!(by_parent(kubernetes.programs).len(), 1);
        assert_eq!(by_parent(&[("a/b", "b"), ("a/v3", "c"), ("a/d", "d")]).len(), 2);
    }

    #[test]
    fn every_tool_has_its_pins() {
        let airgap = crate::bundle::sources_folder();
        for tool in GO_TOOLS {
            let folder = airgap.join(tool.folder);
            let go_mod = fs::read_to_string(folder.join("go.mod")).unwrap();
            let (module, version) = required(&go_mod).unwrap();
            let sum = fs::read_to_string(folder.join("go.sum")).unwrap();
            assert!(sum.contains(&format!("{module} {version} h1:")), "{}: go.sum lacks {module}", tool.name);
        }
    }
}
