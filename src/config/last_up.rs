//! What the last `up` of a stack was told: kept on this machine, so that later commands need not be told it again.
//!
//! A folder for each cluster holds what it was made from (`cluster.json`), what each stack in it was brought up with
//! (`stack-NAMESPACE.json`), and how long `up` took (`times.json`). Only what somebody chose by a flag or a variable is in
//! there, and no secret is among what can be chosen.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{
    choices::{Choices, Named, below, is_forgotten, stacked},
    place::StackPlace,
};
use crate::{error::Result, kube, ui};

/// What belongs to the cluster that minikube makes. The bundle belongs to each stack, too.
const OF_THE_CLUSTER: [&str; 4] = ["bundle", "nodes", "cpus", "memory"];
/// The choice of everything, for `--forget`.
const ALL: &str = "all";

/// What the last `up` of a stack was told, and what of it this run goes by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastUp {
    /// `None` where it is not known which cluster this is.
    folder: Option<PathBuf>,
    is_minikube: bool,
    namespace: String,
    used: Named,
    chosen: Named,
    complaint: Option<String>,
}

/// A file: what was chosen, by the names of the flags. Another version may have written it: fields stay as they are.
#[derive(Debug, Default, Serialize, Deserialize)]
struct ChosenRecord {
    options: Named,
}

/// How many seconds `up` took. Another version may have written it: fields stay as they are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct UpTimes {
    /// The last time that it had to make the cluster.
    from_nothing: Option<f64>,
    /// The last time that the cluster was there.
    again: Option<f64>,
}

impl LastUp {
    /// What is remembered of the stack at `place`, but for the choices named in `forget`. A record that cannot be read is
    /// one that is not there; [`LastUp::complaint`] tells it.
    pub(super) fn read(state: &Path, place: &StackPlace, forget: &[String]) -> LastUp {
        let folder = folder_of(state, place);
        let mut last = LastUp {
            folder,
            is_minikube: place.context.is_none(),
            namespace: place.namespace.clone(),
            ..LastUp::default()
        };
        if forget.iter().any(|name| name == ALL) {
            return last;
        }
        let (stack, cluster) = (last.file_of_stack(), last.file_of_cluster());
        for path in [stack, cluster].into_iter().flatten() {
            match read_options(&path) {
                Ok(options) => last.used = stacked(&last.used, &options),
                Err(complaint) => last.complaint = Some(complaint),
            }
        }
        last.used.retain(|name, _| !is_forgotten(forget, name));
        last
    }

    /// The choices that count: those of flags and variables, then the file's, then those of the last time.
    ///
    /// # Errors
    /// A choice that cannot be written as text.
    pub(super) fn complete(&mut self, flags: &Choices, file: &Choices) -> Result<Choices> {
        let (flags, file) = (flags.named()?, file.named()?);
        let told = stacked(&flags, &file);
        self.used = below(&told, &self.used);
        self.chosen = stacked(&flags, &self.used);
        Choices::of_named(stacked(&told, &self.used))
    }

    /// The same without anything remembered, and why.
    pub(super) fn ignored(&self, why: &str) -> LastUp {
        let place = self.folder.as_deref().unwrap_or(Path::new("")).display();
        let complaint = format!("what the last up was told ({place}) cannot be used and is ignored: {why}");
        LastUp { used: Named::new(), chosen: Named::new(), complaint: Some(complaint), ..self.clone() }
    }

    /// What this run takes from the last one, as flags: `--instances 5`.
    pub fn flags(&self) -> Vec<String> {
        let text = |value: &Value| match value {
            Value::String(text) => ui::quoted(text).into_owned(),
            Value::Array(parts) => parts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
            other => other.to_string(),
        };
        self.used.iter().map(|(name, value)| format!("--{name} {}", text(value))).collect()
    }

    /// Whether this choice was taken from the last `up`.
    pub fn gave(&self, name: &str) -> bool {
        self.used.contains_key(name)
    }

    /// Why something that was remembered is not used.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// Keeps what this run was told, for the next one; writes nothing if that is there already.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn keep(&self) -> Result<()> {
        let of_cluster = |name: &str| OF_THE_CLUSTER.contains(&name);
        if let Some(path) = self.file_of_cluster() {
            self.write_options(&path, of_cluster)?;
        }
        match self.file_of_stack() {
            Some(path) => self.write_options(&path, |name| name == "bundle" || !of_cluster(name)),
            None => Ok(()),
        }
    }

    fn write_options(&self, path: &Path, belongs: impl Fn(&str) -> bool) -> Result<()> {
        let chosen = self.chosen.iter().filter(|(name, _)| belongs(name));
        let options: Named = chosen.map(|(name, value)| (name.clone(), value.clone())).collect();
        if options.is_empty() {
            return remove(path);
        }
        if read_options(path).is_ok_and(|there| there == options) {
            return Ok(());
        }
        write(path, &ChosenRecord { options })
    }

    /// Forgets what the stack was told: it is gone.
    ///
    /// # Errors
    /// A file that can't be removed.
    pub fn forget_stack(&self) -> Result<()> {
        self.file_of_stack().map_or(Ok(()), |path| remove(&path))
    }

    /// Forgets what the cluster was told, and every stack in it: it is gone. How long `up` took stays.
    ///
    /// # Errors
    /// A file that can't be removed.
    pub fn forget_cluster(&self) -> Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
        for entry in entries.flatten().filter(|entry| entry.file_name() != "times.json") {
            remove(&entry.path())?;
        }
        Ok(())
    }

    /// How long `up` took the last time: with the cluster to be made, or without.
    pub fn took(&self, from_nothing: bool) -> Option<Duration> {
        let times = self.times();
        let seconds = if from_nothing { times.from_nothing } else { times.again };
        seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    /// Keeps how long `up` took.
    ///
    /// # Errors
    /// A file that can't be written.
    pub fn keep_time(&self, from_nothing: bool, took: Duration) -> Result<()> {
        let Some(path) = self.file("times.json") else { return Ok(()) };
        let mut times = self.times();
        let seconds = if from_nothing { &mut times.from_nothing } else { &mut times.again };
        *seconds = Some((took.as_secs_f64() * 10.0).round() / 10.0);
        write(&path, &times)
    }

    fn times(&self) -> UpTimes {
        let text = self.file("times.json").and_then(|path| fs::read(path).ok());
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(name))
    }

    fn file_of_cluster(&self) -> Option<PathBuf> {
        self.file("cluster.json").filter(|_| self.is_minikube)
    }

    fn file_of_stack(&self) -> Option<PathBuf> {
        self.file(&format!("stack-{}.json", self.namespace))
    }
}

/// The folder of the cluster's records. A context's name alone does not tell a cluster: another kubeconfig may have one of
/// the same name.
fn folder_of(state: &Path, place: &StackPlace) -> Option<PathBuf> {
    let Some(context) = &place.context else { return Some(state.join("stacks").join(&place.profile)) };
    let cluster = kube::ClusterRef { kubeconfig: place.kubeconfig.clone(), context: Some(context.clone()) };
    let server = kube::server(&cluster)?;
    let name: String = context.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    let sum: String =
        Sha256::digest(format!("{context}\n{server}")).iter().take(6).map(|b| format!("{b:02x}")).collect();
    // A profile's name has no dot.
    Some(state.join("stacks").join(format!("context.{name}.{sum}")))
}

/// What was chosen, by a file that need not be there; else why it cannot be used.
fn read_options(path: &Path) -> std::result::Result<Named, String> {
    let cannot = |why: &dyn std::fmt::Display| {
        format!("{}, which keeps what the last up was told, cannot be read and is ignored: {why}", path.display())
    };
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Named::new()),
        Err(error) => return Err(cannot(&error)),
    };
    let record: ChosenRecord = serde_json::from_slice(&text).map_err(|error| cannot(&error))?;
    let known = Choices::of_named(record.options).and_then(|choices| choices.named());
    known.map_err(|error| cannot(&crate::error::one_line(&error)))
}

/// Writes the file whole, or not at all, however this process ends; for this user alone.
fn write(path: &Path, content: &impl Serialize) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let beside = path.with_extension(format!("{}.part", std::process::id()));
    let written = || -> std::io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(content)?)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn place(namespace: &str) -> StackPlace {
        StackPlace { context: None, profile: "p".into(), namespace: namespace.into(), kubeconfig: None }
    }

    fn chosen(change: impl FnOnce(&mut Choices)) -> Choices {
        let mut choices = Choices::default();
        change(&mut choices);
        choices
    }

    /// An `up` with these flags and this file; what it goes by, and takes from the last one.
    fn up(state: &Path, namespace: &str, flags: &Choices, file: &Choices) -> (Choices, Vec<String>) {
        let mut last = LastUp::read(state, &place(namespace), &[]);
        let choices = last.complete(flags, file).unwrap();
        last.keep().unwrap();
        (choices, last.flags())
    }

    #[test]
    fn flags_come_before_the_file_and_the_file_before_what_is_remembered() {
        let state = tempfile::tempdir().unwrap();
        let none = Choices::default();
        let first = chosen(|c| (c.instances, c.storage, c.nodes) = (Some(5), Some("2Gi".into()), Some(3)));
        assert_eq!(up(state.path(), "a", &first, &none), (first.clone(), Vec::new()));
        assert_eq!(
            up(state.path(), "a", &none, &none),
            (first, vec!["--instances 5".into(), "--nodes 3".into(), "--storage 2Gi".into()])
        );
        let (with_file, used) = up(state.path(), "a", &none, &chosen(|c| c.instances = Some(7)));
        assert_eq!((with_file.instances, used), (Some(7), vec!["--nodes 3".into(), "--storage 2Gi".into()]));
        let (gone, _) = up(state.path(), "a", &none, &none);
        assert_eq!(gone.instances, None, "the file chose instead; its choice is not remembered");
        let (flag, _) = up(state.path(), "a", &chosen(|c| c.storage = Some("3Gi".into())), &none);
        assert_eq!((flag.storage, flag.nodes), (Some("3Gi".into()), Some(3)));
        let last = LastUp::read(state.path(), &place("a"), &["storage".into()]);
        assert_eq!(last.flags(), ["--nodes 3"]);
        assert!(LastUp::read(state.path(), &place("a"), &[ALL.into()]).flags().is_empty());
    }

    #[test]
    fn what_the_cluster_was_made_from_serves_every_stack_in_it_until_it_is_gone() {
        let state = tempfile::tempdir().unwrap();
        let none = Choices::default();
        up(state.path(), "a", &chosen(|c| (c.bundle, c.instances) = (Some("/b".into()), Some(5))), &none);
        assert_eq!(LastUp::read(state.path(), &place("other"), &[]).flags(), ["--bundle /b"]);
        let last = LastUp::read(state.path(), &place("a"), &[]);
        last.forget_stack().unwrap();
        assert_eq!(LastUp::read(state.path(), &place("a"), &[]).flags(), ["--bundle /b"], "for down --cluster");
        last.forget_cluster().unwrap();
        last.forget_cluster().unwrap();
        assert!(LastUp::read(state.path(), &place("a"), &[]).flags().is_empty());
    }

    #[test]
    fn a_record_is_for_this_user_alone_and_is_not_written_again_without_need() {
        let state = tempfile::tempdir().unwrap();
        let none = Choices::default();
        up(state.path(), "a", &none, &none);
        assert!(!state.path().join("stacks").exists(), "nothing was chosen");
        up(state.path(), "a", &chosen(|c| c.registry = Some("r.example.com".into())), &none);
        let path = state.path().join("stacks/p/stack-a.json");
        let there = fs::metadata(&path).unwrap();
        assert_eq!(there.permissions().mode() & 0o777, 0o600);
        up(state.path(), "a", &none, &none);
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), there.modified().unwrap());
        let names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(names, ["stack-a.json"]);
    }

    #[test]
    fn a_record_that_is_none_is_told_and_ignored() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("stacks/p/stack-a.json");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for text in ["{", "[]", r#"{"options":{"instances":"many"}}"#, r#"{"options":7}"#, "\u{0}"] {
            fs::write(&path, text).unwrap();
            let last = LastUp::read(state.path(), &place("a"), &[]);
            assert!(last.flags().is_empty(), "{text}");
            assert!(last.complaint().unwrap().contains("stack-a.json"), "{text}: {:?}", last.complaint());
        }
        fs::write(&path, r#"{"options":{"instances":5,"to-come":1},"to-come":2}"#).unwrap();
        let last = LastUp::read(state.path(), &place("a"), &[]);
        assert_eq!((last.flags(), last.complaint()), (vec!["--instances 5".to_owned()], None));
    }

    #[test]
    fn times_are_kept_apart_and_stay_when_the_cluster_goes() {
        let state = tempfile::tempdir().unwrap();
        let last = LastUp::read(state.path(), &place("a"), &[]);
        assert_eq!(last.took(true), None);
        last.keep_time(true, Duration::from_millis(130_123)).unwrap();
        last.keep_time(false, Duration::from_secs(3)).unwrap();
        last.forget_cluster().unwrap();
        assert_eq!(last.took(true), Some(Duration::from_millis(130_100)));
        assert_eq!(last.took(false), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_context_of_the_same_name_in_another_kubeconfig_is_another_cluster() {
        let state = tempfile::tempdir().unwrap();
        let place = |server: &str| {
            let path = state.path().join(server);
            let text = format!(
                "clusters: [{{name: k, cluster: {{server: 'https://{server}'}}}}]\n\
                 contexts: [{{name: default, context: {{cluster: k}}}}]\n"
            );
            fs::write(&path, text).unwrap();
            StackPlace { context: Some("default".into()), kubeconfig: Some(path), ..super::tests::place("a") }
        };
        let (one, other) = (place("one.example"), place("other.example"));
        let mut last = LastUp::read(state.path(), &one, &[]);
        last.complete(&chosen(|c| c.registry = Some("r.example.com".into())), &Choices::default()).unwrap();
        last.keep().unwrap();
        assert_eq!(LastUp::read(state.path(), &one, &[]).flags(), ["--registry r.example.com"]);
        assert!(LastUp::read(state.path(), &other, &[]).flags().is_empty());
        let nowhere = StackPlace { context: Some("none".into()), ..one };
        assert_eq!(LastUp::read(state.path(), &nowhere, &[]).folder, None);
    }
}
