//! A bill of materials: every crate that is in the program, in CycloneDX 1.5, from `cargo metadata` and `Cargo.lock`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ReleaseSource;
use crate::run::Run;
use crate::workspace;

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct MetadataPackage {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    description: Option<String>,
    source: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<ResolveNode>,
}

#[derive(Debug, Deserialize)]
struct ResolveNode {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Debug, Deserialize)]
struct DependencyKind {
    /// Nothing for what is linked; else `dev` or `build`.
    kind: Option<String>,
}

/// The bill of the program for this platform.
pub fn write(source: &ReleaseSource, target: &str) -> Result<String> {
    let arguments = ["metadata", "--format-version", "1", "--locked", "--filter-platform", target];
    let metadata = Run::new("cargo", 120).dir(&workspace()).args(arguments).output()?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("cargo metadata is not as expected")?;
    let lock = std::fs::read_to_string(workspace().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    Ok(format!("{:#}\n", bill(source, &metadata, &checksums(&lock))?))
}

/// The SHA-256 of each crate's archive, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let value = |entry: &str, key: &str| {
        let line = entry.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")))?;
        line.strip_suffix('"').map(str::to_owned)
    };
    let entries = lock.split("[[package]]").skip(1);
    entries
        .filter_map(|entry| Some(((value(entry, "name")?, value(entry, "version")?), value(entry, "checksum")?)))
        .collect()
}

fn bill(source: &ReleaseSource, metadata: &Metadata, sums: &BTreeMap<(String, String), String>) -> Result<Value> {
    let packages: BTreeMap<&str, &MetadataPackage> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package)).collect();
    let linked: BTreeMap<&str, Vec<&str>> = metadata.resolve.nodes.iter().map(linked).collect();
    let root = metadata.packages.iter().find(|package| package.name == "stackctl" && package.source.is_none());
    let root = root.context("cargo metadata names no package stackctl")?;

    let (mut reached, mut ahead) = (BTreeSet::new(), vec![root.id.as_str()]);
    while let Some(id) = ahead.pop() {
        if reached.insert(id) {
            ahead.extend(linked.get(id).into_iter().flatten());
        }
    }
    let reference = |id: &&str| packages.get(id).map(|package| purl(package)).unwrap_or_default();
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    let mut sorted: Vec<&MetadataPackage> = reached.iter().filter_map(|id| packages.get(id).copied()).collect();
    sorted.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
    for package in sorted {
        let mut uses: Vec<String> = linked.get(package.id.as_str()).into_iter().flatten().map(reference).collect();
        uses.sort();
        dependencies.push(json!({"ref": purl(package), "dependsOn": uses}));
        if package.id != root.id {
            let sum = sums.get(&(package.name.clone(), package.version.clone()));
            components.push(component(package, "library", sum));
        }
    }
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": component(root, "application", None),
            "properties": [{"name": "stackctl:commit", "value": source.commit}],
        },
        "components": components,
        "dependencies": dependencies,
    }))
}

/// A package and those that are linked into it.
fn linked(node: &ResolveNode) -> (&str, Vec<&str>) {
    let is_linked = |dependency: &&Dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none());
    (&node.id, node.deps.iter().filter(is_linked).map(|dependency| dependency.pkg.as_str()).collect())
}

fn purl(package: &MetadataPackage) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version)
}

fn component(package: &MetadataPackage, kind: &str, sum: Option<&String>) -> Value {
    let mut component = json!({
        "type": kind, "name": package.name, "version": package.version,
        "bom-ref": purl(package), "purl": purl(package),
    });
    if let Some(license) = &package.license {
        // Old manifests separate with a slash what the standard calls OR.
        component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
    }
    if let Some(description) = &package.description {
        component["description"] = json!(description.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    if let Some(sum) = sum {
        component["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_in_the_bill_and_what_only_builds_and_tests_use_is_not() {
        let package = |name: &str, source: Option<&str>| {
            json!({"id": format!("id-{name}"), "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0",
                   "description": null, "source": source})
        };
        let uses = |name: &str, kind: Option<&str>| json!({"pkg": format!("id-{name}"), "dep_kinds": [{"kind": kind}]});
        let registry = Some("registry");
        let metadata = json!({
            "packages": [package("stackctl", None), package("kept", registry), package("below", registry),
                         package("builds", registry), package("tests", registry)],
            "resolve": {"nodes": [
                {"id": "id-stackctl", "deps": [uses("kept", None), uses("builds", Some("build")), uses("tests", Some("dev"))]},
                {"id": "id-kept", "deps": [uses("below", None)]},
                {"id": "id-below", "deps": []},
                {"id": "id-builds", "deps": []},
                {"id": "id-tests", "deps": []},
            ]},
        });
        let metadata: Metadata = serde_json::from_value(metadata).unwrap();
        let source = ReleaseSource { version: "1.0.0".into(), commit: "c".into(), committed: 0, is_changed: false };
        let lock = "version = 4\n\n[[package]]\nname = \"kept\"\nversion = \"1.0.0\"\nchecksum = \"abc\"\n";
        let bill = bill(&source, &metadata, &checksums(lock)).unwrap();
        let names: Vec<_> = bill["components"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
        assert_eq!(names, ["below", "kept"]);
        assert_eq!(bill["components"][1]["hashes"][0]["content"], "abc");
        assert_eq!(bill["components"][1]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        let of_kept = &bill["dependencies"][1];
        assert_eq!(*of_kept, json!({"ref": "pkg:cargo/kept@1.0.0", "dependsOn": ["pkg:cargo/below@1.0.0"]}));
    }
}
