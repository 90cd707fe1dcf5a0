//! Go programs, built from sources that a committed `go.mod` and `go.sum` pin.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Airgap;
use super::digest::Inputs;
use super::parts::GoTool;
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
    go(airgap, tool.folder, tool.cgo, FETCH_SECONDS).args(args).output().map(drop)
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
            go(airgap, tool.folder, tool.cgo, BUILD_SECONDS).args(args).log(&airgap.store.log(tool.name)).go()?;
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

fn go(airgap: &Airgap, folder: &str, cgo: bool, seconds: u64) -> Run {
    Run::new("go", seconds)
        .dir(&airgap.sources.join(folder))
        .env("CGO_ENABLED", if cgo { "1" } else { "0" })
        .env("GOOS", "linux")
        .env("GOFLAGS", "")
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

/// The folder of a pinned module's sources; fetched and checked if it is not there.
///
/// # Errors
/// When it cannot be fetched.
pub fn sources(airgap: &Airgap, folder: &str) -> Result<PathBuf> {
    let (name, _) = module(airgap, folder)?;
    go(airgap, folder, false, FETCH_SECONDS).args(["mod", "download", &name]).output()?;
    let dir = go(airgap, folder, false, 60).args(["list", "-m", "-f", "{{.Dir}}", &name]).output()?;
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
