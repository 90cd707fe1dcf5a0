//! What has to be made for a bundle, and in which order.

use std::collections::BTreeSet;

use anyhow::Result;

use super::graph::{Lane, Task};
use super::parts::{Base, GO_TOOLS, GoTool, IMAGES, NODE_SUITE, SIDECAR, TEST_ONLY};
use super::{
    Airgap, certificates, debian, gobuild, images, node_image, pause, preload, rust_image, stack_images, web_image,
};
use crate::engine::{self, install, runtime};
use crate::stackctl::Stackctl;

/// The packages of this machine are there.
const PACKAGES: &str = "packages";
/// The engine answers.
const ENGINE: &str = "engine";

fn task<'a>(
    name: &str,
    after: impl IntoIterator<Item = String>,
    lane: Lane,
    work: impl FnOnce() -> Result<()> + Send + 'a,
) -> Task<'a> {
    Task { name: name.to_owned(), after: after.into_iter().collect(), lane, work: Box::new(work) }
}

/// What one Go tool takes.
pub fn of_tool<'a>(airgap: &'a Airgap, tool: &'a GoTool) -> [Task<'a>; 2] {
    let sources = format!("{} sources", tool.name);
    [
        task(&sources, [], Lane::Network, || gobuild::fetch(airgap, tool)),
        task(tool.name, [sources], Lane::Cores, || gobuild::build(airgap, tool).map(drop)),
    ]
}

fn base_name(suite: &str) -> String {
    format!("debian-{suite}")
}

/// Every task of a whole bundle, the ones that others wait for first.
pub fn all<'a>(airgap: &'a Airgap, packages: &'a [&'a str], stackctl: &'a Stackctl) -> Vec<Task<'a>> {
    let mut tasks = vec![
        task(PACKAGES, [], Lane::Network, || install::ensure(packages, &airgap.store.root().join("apt.log"))),
        task(ENGINE, [PACKAGES.into(), runtime::NAME.into()], Lane::Engine, || engine::ensure(&airgap.store)),
        task(pause::NAME, [PACKAGES.into()], Lane::Cores, || pause::build(airgap).map(drop)),
        task(certificates::NAME, [PACKAGES.into()], Lane::Network, || certificates::build(airgap).map(drop)),
        task(runtime::NAME, [], Lane::Cores, || runtime::build(&airgap.store).map(drop)),
    ];
    let suites: BTreeSet<&str> = IMAGES
        .iter()
        .filter_map(|image| match image.base {
            Base::Debian(suite) => Some(suite),
            Base::Scratch => None,
        })
        .chain([NODE_SUITE])
        .collect();
    for suite in suites {
        tasks.push(task(&base_name(suite), [ENGINE.into()], Lane::Network, move || {
            debian::base(airgap, suite).map(drop)
        }));
    }
    let node_base = base_name(NODE_SUITE);
    tasks.push(task(rust_image::NAME, [node_base.clone()], Lane::Engine, || rust_image::build(airgap).map(drop)));
    let web_after = [rust_image::NAME.to_owned()];
    tasks
        .push(task(web_image::NAME, web_after, Lane::Cores, || web_image::build(airgap, &stackctl.build()?).map(drop)));
    let sidecar_after = [rust_image::NAME.to_owned(), SIDECAR.name.into()];
    tasks.push(task(web_image::SIDECAR_NAME, sidecar_after, Lane::Cores, || {
        web_image::build_sidecar(airgap, &stackctl.build()?).map(drop)
    }));
    for tool in GO_TOOLS.iter().filter(|tool| !TEST_ONLY.contains(&tool.name)) {
        tasks.extend(of_tool(airgap, tool));
    }
    for image in IMAGES {
        let mut after = vec![ENGINE.to_owned()];
        after.extend(image.files.iter().map(|(part, _)| (*part).to_owned()));
        if let Base::Debian(suite) = image.base {
            after.push(base_name(suite));
        }
        tasks.push(task(image.name, after, Lane::Engine, || images::build(airgap, image).map(drop)));
    }
    let after = [node_base, "crictl".into(), runtime::NAME.into()];
    tasks.push(task(node_image::NAME, after, Lane::Engine, || node_image::build(airgap).map(drop)));
    let mut after: Vec<String> = IMAGES.iter().map(|image| image.name.to_owned()).collect();
    after.extend(preload::BINARIES.iter().map(|(part, _)| (*part).to_owned()));
    after.push(node_image::NAME.into());
    tasks.push(task(preload::NAME, after, Lane::Engine, || preload::build(airgap).map(drop)));
    let after: Vec<String> = stack_images::all().map(|image| image.name.to_owned()).collect();
    tasks.push(task(stack_images::NAME, after, Lane::Engine, || stack_images::build(airgap).map(drop)));
    tasks
}
