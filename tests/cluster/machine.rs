//! What a minikube profile leaves on this machine: looked up with the tools themselves.

use std::process::Command;

use crate::cli::Stackctl;

/// Deletes what an interrupted earlier run left; its outcome is checked by the step after it.
pub fn begin(stackctl: &Stackctl) {
    stackctl.run(&["down", "--cluster", "--yes"]);
    assert_eq!(Leftovers::of(stackctl.profile()), Leftovers::default(), "before the test");
}

/// Deletes the profile, of which nothing is left then.
pub fn end(stackctl: &Stackctl) {
    stackctl.ok(&["down", "--cluster", "--yes"]);
    assert_eq!(Leftovers::of(stackctl.profile()), Leftovers::default(), "after down --cluster");
}

/// Everything of a profile that exists outside the cluster.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    containers: Vec<String>,
    networks: Vec<String>,
    volumes: Vec<String>,
    kubeconfig: bool,
}

impl Leftovers {
    pub fn of(profile: &str) -> Self {
        let list = |args: &[&str]| -> Vec<String> {
            let output = Command::new("docker").args(args).output().expect("docker runs");
            assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            let ours = |name: &&str| *name == profile || name.starts_with(&format!("{profile}-m"));
            String::from_utf8_lossy(&output.stdout).lines().filter(ours).map(str::to_owned).collect()
        };
        Leftovers {
            containers: list(&["ps", "-a", "--format", "{{.Names}}"]),
            networks: list(&["network", "ls", "--format", "{{.Name}}"]),
            volumes: list(&["volume", "ls", "--format", "{{.Name}}"]),
            kubeconfig: kubeconfig_names(profile),
        }
    }
}

/// Whether the kubeconfig has a cluster, context or user of that name.
fn kubeconfig_names(profile: &str) -> bool {
    let path = std::env::home_dir().expect("a home folder").join(".kube/config");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().any(|line| line.trim_start_matches(['-', ' ']) == format!("name: {profile}"))
}
