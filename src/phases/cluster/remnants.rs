//! Everything that belongs to a minikube profile, and removing it whatever state it is in.

use std::{
    fmt,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{ID, marker};
use crate::{
    bundle::cannot_write,
    config::MinikubeTarget as Wanted,
    context::Context,
    error::{Result, failed},
    kube::{ClusterRef, contexts},
    poll::Tries,
    tools::{
        docker::{self, Made},
        minikube::Minikube,
        profile,
    },
    ui::Event,
};

/// How long the engine may hold on to what an interrupted start has asked for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Something that belongs to a minikube profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remnant {
    /// A container, volume or network of the engine.
    Engine(Made, String),
    /// A context of the kubeconfig.
    Context(String),
    /// A folder of minikube's.
    Folder(PathBuf),
}

impl Remnant {
    fn disk(&self) -> Option<&str> {
        match self {
            Remnant::Engine(Made::Volume, name) => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for Remnant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remnant::Engine(kind, name) => write!(f, "{} {name}", kind.name()),
            Remnant::Context(name) => write!(f, "context {name} of the kubeconfig"),
            Remnant::Folder(path) => write!(f, "folder {}", path.display()),
        }
    }
}

fn containers(remnants: &[Remnant]) -> Vec<String> {
    let name = |remnant: &Remnant| match remnant {
        Remnant::Engine(Made::Container, name) => Some(name.clone()),
        _ => None,
    };
    remnants.iter().filter_map(name).collect()
}

/// Deletes all that there is of the profile, and makes sure of it.
///
/// # Errors
/// What could not be deleted, with minikube's own reason.
pub async fn clear(cx: &Context, wanted: &Wanted) -> Result<()> {
    let profile = &wanted.profile;
    let minikube = Minikube::locate(cx, ID).await?;
    cx.doing(ID, format!("deleting the minikube profile {profile}"));
    // minikube asks the nodes to stop first, and waits for minutes for one that is paused.
    docker::unpause(&containers(&find(cx, profile).await?)).await?;
    let mut verbose = |line: &str| cx.reporter.send(Event::Output { phase: ID, line: line.into() });
    // minikube gives up on a profile that is half-made; what it leaves is then removed here.
    let outcome = minikube.delete(profile, &mut verbose).await;
    let left = remove_all(cx, profile).await?;
    if left.is_empty() {
        marker::clear(cx, wanted);
        return Ok(());
    }
    let list: Vec<String> = left.iter().map(ToString::to_string).collect();
    let mut failure = failed(format!("not everything of the minikube profile {profile} is gone: {}", list.join(", ")));
    for remnant in &left {
        failure = match remnant {
            Remnant::Context(name) => failure.remedy(format!(
                "kubectl config delete-context {name}; kubectl config delete-cluster {name}; kubectl config delete-user {name}"
            )),
            Remnant::Engine(kind, name) => failure.remedy(format!("docker {} rm {name}", kind.name())),
            Remnant::Folder(path) => failure.remedy(format!("rm -r {}", path.display())),
        };
    }
    Err(match outcome {
        Ok(()) => failure.into(),
        Err(error) => error.context(failure),
    })
}

/// Removes what there is, again and again for a while: the engine may still be ending what an interrupted
/// start has asked it for, and what is in use by that goes only afterwards. Returns what is left.
async fn remove_all(cx: &Context, profile: &str) -> Result<Vec<Remnant>> {
    let mut tries = Tries::until(cx.deadline.min(Instant::now() + PATIENCE), Duration::from_millis(500));
    loop {
        let found = find(cx, profile).await?;
        // The kubeconfig is the user's: it is minikube's to change, and if that fails theirs.
        if found.iter().all(|remnant| matches!(remnant, Remnant::Context(_))) {
            return Ok(found);
        }
        let mut refused = None;
        for remnant in &found {
            cx.doing(ID, format!("removing the {remnant}"));
            let removed = match remnant {
                Remnant::Engine(kind, name) => docker::remove(*kind, std::slice::from_ref(name)).await,
                Remnant::Folder(path) => {
                    std::fs::remove_dir_all(path).map_err(|error| cannot_write(path, &error).into())
                }
                Remnant::Context(_) => Ok(()),
            };
            refused = refused.or(removed.err());
        }
        if !tries.another().await {
            return match refused {
                Some(error) => Err(error),
                None => find(cx, profile).await,
            };
        }
    }
}

/// Whether there is anything of the profile in the engine, where minikube may know nothing of it any more.
///
/// # Errors
/// An engine that does not answer.
pub async fn is_anything_left(cx: &Context, wanted: &Wanted) -> Result<bool> {
    Ok(!find(cx, &wanted.profile).await?.is_empty())
}

/// All that there is of the profile, containers first: they use the rest.
///
/// # Errors
/// An engine that does not answer.
pub async fn find(cx: &Context, profile: &str) -> Result<Vec<Remnant>> {
    let home = profile::minikube_home()?;
    // A profile of its own may have the name that a node of ours would have.
    let ours = |name: &str| {
        name == profile || (is_node_of(name, profile) && !home.join("profiles").join(name).join("config.json").exists())
    };
    let mut found = Vec::new();
    for kind in [Made::Container, Made::Volume, Made::Network] {
        let made = docker::made_by_minikube(kind).await?.into_iter().filter(|(_, owner)| ours(owner));
        found.extend(made.map(|(name, _)| Remnant::Engine(kind, name)));
    }
    // What unpacks images onto a node's disk has neither name nor label, and outlives a start that is killed.
    let disks: Vec<&str> = found.iter().filter_map(Remnant::disk).collect();
    if !disks.is_empty() {
        let users = docker::containers_with(&disks).await?.into_iter().map(|id| Remnant::Engine(Made::Container, id));
        let new: Vec<Remnant> = users.filter(|user| !found.contains(user)).collect();
        found.splice(0..0, new);
    }
    let names = contexts(&ClusterRef { kubeconfig: cx.config.kubeconfig.clone(), context: None })?.0;
    found.extend(names.iter().filter(|name| *name == profile).map(|name| Remnant::Context(name.clone())));
    let folder = home.join("profiles").join(profile);
    found.extend(folder.is_dir().then_some(Remnant::Folder(folder)));
    let machines = std::fs::read_dir(home.join("machines")).into_iter().flatten().flatten();
    let machines = machines.filter(|entry| ours(&entry.file_name().to_string_lossy()) && entry.path().is_dir());
    found.extend(machines.map(|entry| Remnant::Folder(entry.path())));
    Ok(found)
}

/// minikube names further nodes `PROFILE-m02`, `PROFILE-m03` and so on.
fn is_node_of(name: &str, profile: &str) -> bool {
    let number = name.strip_prefix(profile).and_then(|rest| rest.strip_prefix("-m"));
    number.is_some_and(|number| number.len() >= 2 && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_known_by_their_names() {
        assert!(is_node_of("p-m02", "p") && is_node_of("p-m100", "p"));
        for other in ["p", "p-m", "p-m2", "p-max", "p-m02x", "pp-m02", "p-q-m02", "q-m02"] {
            assert!(!is_node_of(other, "p"), "{other}");
        }
    }
}
