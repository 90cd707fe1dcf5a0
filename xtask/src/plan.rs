//! What a developer task is going to do to this machine: found out first, said, and agreed to.

use std::fs;
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::{Context as _, Result, bail};

use crate::engine::{self, State, install};
use crate::say::tell;

/// What has to be done.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// Debian packages to install.
    pub packages: Vec<&'static str>,
    start_engine: bool,
    lean: bool,
    /// Why a bundle is built, if one is.
    pub bundle: Option<&'static str>,
}

impl Plan {
    /// Looks at the machine; builds from sources in any case when asked to.
    ///
    /// # Errors
    /// When the kernel does not tell what it allows.
    pub fn survey(from_sources: bool) -> Result<Self> {
        let state = engine::state();
        let bundle = if from_sources {
            Some("as asked")
        } else if engine::registry_answers(&state) {
            None
        } else {
            Some("as no container registry answers")
        };
        let mut packages = Vec::new();
        if state == State::Absent {
            packages.extend(install::ENGINE);
        }
        if bundle.is_some() {
            packages.extend(install::BUILDER);
        }
        Ok(Self {
            packages: install::missing(&packages),
            start_engine: !matches!(state, State::Running(_)),
            lean: engine::runtime::needed()?,
            bundle,
        })
    }

    /// The machine stays as it is.
    pub fn nothing() -> Self {
        Self { packages: Vec::new(), start_engine: false, lean: false, bundle: None }
    }

    /// Adds packages: those of the given ones that this machine lacks.
    #[must_use]
    pub fn with(mut self, packages: &[&'static str]) -> Self {
        self.packages.extend(install::missing(packages));
        self
    }

    /// What is going to happen, a line each; nothing when the machine stays as it is.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.packages.is_empty() {
            lines.push(format!("install these Debian packages by apt: {}", self.packages.join(" ")));
        }
        if self.start_engine {
            let how = if self.lean {
                " with a thin runtime in front of runc, as this machine withholds CAP_SYS_RESOURCE"
            } else {
                ""
            };
            lines.push(format!("start the Docker engine{how}"));
        }
        if let Some(why) = self.bundle {
            lines.push(format!(
                "build Kubernetes, minikube, the operator, PostgreSQL's image and the rest from sources and Debian \
                 packages, {why} (what is built already is not built again; the first time it takes about half \
                 an hour on 2 cores, and some 25 GB of your cache folders and the engine's)"
            ));
        }
        lines
    }

    /// Says what is going to happen, the caller's `last` step too, and asks unless `yes`. Where nothing is
    /// installed, started or built, there is nothing to ask.
    ///
    /// # Errors
    /// When the answer is no, or there is no terminal to ask on.
    pub fn agree(&self, yes: bool, last: &str) -> Result<()> {
        let lines = self.lines();
        if lines.is_empty() {
            return Ok(());
        }
        let status = fs::read_to_string("/proc/self/status").context("cannot read this process's user")?;
        if !is_root(&status) {
            bail!("this takes root's rights, to {}: run it as root", lines.join("; to "));
        }
        tell("This is going to:");
        for line in lines.iter().map(String::as_str).chain([last]) {
            tell(&format!("  - {line}"));
        }
        if !yes && !confirm()? {
            bail!("nothing was changed");
        }
        Ok(())
    }
}

/// Whether the text of `/proc/self/status` is that of a process with root's rights.
fn is_root(status: &str) -> bool {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

fn confirm() -> Result<bool> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        bail!("this would change the machine, and there is no terminal to ask on: give --yes");
    }
    let mut output = std::io::stderr();
    write!(output, "Go on? [y/N] ").and_then(|()| output.flush()).context("cannot ask")?;
    let mut answer = String::new();
    input.lock().read_line(&mut answer).context("cannot read the answer")?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_has_everything_is_not_asked_about() {
        let plan = Plan { packages: vec![], start_engine: false, lean: true, bundle: None };
        assert!(plan.lines().is_empty());
    }

    #[test]
    fn the_effective_user_counts() {
        assert!(is_root("Name:\tx\nUid:\t1000\t0\t0\t0\n"));
        assert!(!is_root("Uid:\t0\t1000\t0\t0\n"));
        assert!(!is_root(""));
    }

    #[test]
    fn the_plan_names_each_change() {
        let plan =
            Plan { packages: vec!["docker.io", "gcc"], start_engine: true, lean: true, bundle: Some("as asked") };
        let lines = plan.lines();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].ends_with("docker.io gcc"));
        assert!(lines[1].contains("CAP_SYS_RESOURCE"));
        assert!(lines[2].contains("from sources"));
    }
}
