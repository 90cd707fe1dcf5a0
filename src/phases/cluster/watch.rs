//! Watches a `minikube start`: shows what it waits for, and ends it with the reason when it stands still.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::ID;
use crate::{
    bundle::Bundle,
    context::Context,
    error::{Failure, failed, timed_out},
    tools::docker,
    ui::Event,
};

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// A step that takes longer is shown with what minikube notes in its log.
const SLOW: Duration = Duration::from_secs(15);
/// A step that takes longer is worth a warning.
const VERY_SLOW: Duration = Duration::from_secs(60);
/// kubeadm itself gives the control plane 4 minutes; with a bundle nothing else takes long.
const STUCK_WITH_BUNDLE: Duration = Duration::from_secs(5 * 60);
/// Images of a gigabyte may come over a slow line.
const STUCK: Duration = Duration::from_secs(12 * 60);
/// What a control plane is made of, as components of a bundle.
const CONTROL_PLANE: [&str; 7] =
    ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "etcd", "coredns", "pause"];

/// What minikube is doing.
pub struct Watch(Mutex<StartStep>);

struct StartStep {
    name: String,
    since: Instant,
    note: String,
    warned: bool,
}

impl Watch {
    /// At the beginning.
    pub fn new() -> Self {
        Watch(Mutex::new(StartStep {
            name: "starting".into(),
            since: Instant::now(),
            note: String::new(),
            warned: false,
        }))
    }

    /// minikube goes on to this step.
    pub fn step(&self, name: &str) {
        let mut step = self.lock();
        if step.name != name {
            *step = StartStep { name: name.to_owned(), since: Instant::now(), note: String::new(), warned: false };
        }
    }

    /// minikube notes this in its log.
    pub fn note(&self, text: &str) {
        self.lock().note = text.chars().take(200).collect();
    }

    /// minikube makes progress within a step, such as a download.
    pub fn progress(&self) {
        self.lock().since = Instant::now();
    }

    /// Ends only when minikube stands still, with the reason.
    pub async fn standstill(&self, cx: &Context, profile: &str) -> Failure {
        let limit = if cx.bundle.is_some() { STUCK_WITH_BUNDLE } else { STUCK };
        loop {
            tokio::time::sleep(EVERY).await;
            let (text, elapsed, warn) = self.look();
            if elapsed < SLOW {
                continue;
            }
            cx.doing(ID, &text);
            if warn {
                cx.reporter.send(Event::Warning { phase: ID, text: format!("minikube is slow: {text}") });
            }
            if let Some(bundle) = cx.bundle.as_deref().filter(|_| self.pulls())
                && let Some(reason) = missing_images(bundle, profile).await
            {
                return reason;
            }
            if elapsed >= limit {
                return timed_out(format!("minikube stands still: {text}"))
                    .remedy(format!(
                        "docker exec {profile} journalctl -u kubelet -u containerd -n 50 shows what the node says"
                    ))
                    .remedy("then make it anew: stackctl down --cluster, stackctl up");
            }
        }
    }

    /// What is shown of a slow step, how long it has taken, and whether to warn now.
    fn look(&self) -> (String, Duration, bool) {
        let mut step = self.lock();
        let elapsed = step.since.elapsed();
        let warn = elapsed >= VERY_SLOW && !step.warned;
        step.warned |= warn;
        let note = if step.note.is_empty() { "it says nothing".to_owned() } else { step.note.clone() };
        (format!("{} for {} s: {note}", step.name, elapsed.as_secs()), elapsed, warn)
    }

    fn pulls(&self) -> bool {
        let note = self.lock().note.to_lowercase();
        ["pull", "transferring", "internet connection"].iter().any(|word| note.contains(word))
    }

    fn lock(&self) -> MutexGuard<'_, StartStep> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// With a bundle nothing may have to be pulled: what the node lacks would be waited for in vain.
async fn missing_images(bundle: &Bundle, profile: &str) -> Option<Failure> {
    let list = docker::exec(profile, ["ctr", "--namespace", "k8s.io", "images", "ls", "--quiet"]);
    // A node that can't be asked yet is no reason to give up.
    let there = list.timeout(Duration::from_secs(20)).run().await.ok()?.stdout;
    let lacks = lacking(CONTROL_PLANE.iter().filter_map(|name| bundle.image(name).ok()), &there);
    if lacks.is_empty() {
        return None;
    }
    Some(
        failed(format!(
            "minikube waits for images from the network that should have come with the bundle: {}",
            lacks.join(", ")
        ))
        .remedy("make the bundle anew: cargo xtask bundle"),
    )
}

fn lacking<'a>(wanted: impl Iterator<Item = &'a str>, there: &str) -> Vec<&'a str> {
    wanted.filter(|image| !there.lines().any(|line| line.trim() == *image)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_timed_from_its_first_mention_and_keeps_its_last_note() {
        let watch = Watch::new();
        watch.step("Preparing (11/19)");
        watch.note("first");
        watch.note("Pulling images");
        watch.step("Preparing (11/19)");
        let (text, elapsed, warn) = watch.look();
        assert_eq!(text, "Preparing (11/19) for 0 s: Pulling images");
        assert!(elapsed < SLOW && !warn && watch.pulls());
        watch.lock().since = Instant::now().checked_sub(VERY_SLOW).unwrap();
        assert!(watch.look().2 && !watch.look().2, "one warning a step");
        watch.step("Next");
        assert!(watch.look().0.ends_with("it says nothing"));
    }

    #[test]
    fn images_that_the_node_lacks_are_named() {
        let there = "registry.k8s.io/pause:3.10.1\nsha256:123\n";
        let wanted = ["registry.k8s.io/pause:3.10.1", "registry.k8s.io/etcd:3.6.6-0"];
        assert_eq!(lacking(wanted.into_iter(), there), ["registry.k8s.io/etcd:3.6.6-0"]);
    }
}
