//! One typed configuration: flags, then environment (both by clap), then the file, then what the last `up` of the stack was
//! told, then defaults.

mod address;
mod backup;
mod choices;
mod file;
mod last_up;
mod mirror;
mod names;
mod place;
mod sizes;

use std::{path::PathBuf, time::Duration};

pub use address::{Address, Entrance, Issuer, Tls};
pub use backup::{Backup, BackupStore};
pub use last_up::LastUp;
pub use mirror::{FLAG as IMAGE_MIRROR_FLAG, ImageMirror};
pub use names::parse_registry;
pub use place::{kubectl_flags, target_flags};
pub use sizes::Sizes;

use self::{choices::Choices, file::File, place::StackPlace};
use crate::{
    cli::{Extra, Global, Optional, SourceArgs, StackArgs, UpArgs},
    error::{Result, one_line, usage},
    names::PRIORITY_CLASS,
};

/// The value of `--priority-class` by which pods have no PriorityClass.
const NO_PRIORITY_CLASS: &str = "none";

/// Where the stack runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A minikube profile that stackctl makes and owns.
    Minikube(MinikubeTarget),
    /// A context of the kubeconfig: a cluster that the user already has.
    Context(String),
}

/// The minikube cluster that `up` makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MinikubeTarget {
    /// The profile's name.
    pub profile: String,
    /// Nodes, at least 1.
    pub nodes: u32,
    /// CPUs of each node; `None`: all that the engine has.
    pub cpus: Option<u32>,
    /// Memory of each node in MiB.
    pub memory_mib: u64,
    /// Make it the kubeconfig's current context.
    pub use_context: bool,
}

/// What the stack looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// Namespace of app and database.
    pub namespace: String,
    /// PostgreSQL instances.
    pub instances: u32,
    /// Size of each instance's volume, a Kubernetes quantity.
    pub storage: String,
    /// StorageClass of the volumes; `None`: the cluster's default.
    pub storage_class: Option<String>,
    /// The Secret in the namespace by which pods may pull images.
    pub pull_secret: Option<String>,
    /// The PriorityClass of the database and of what its failover needs; `None`: they have none.
    pub priority_class: Option<String>,
    /// What the size of the stack sets beside that.
    pub sizes: Sizes,
}

/// The folders that stackctl uses, by the XDG base directory specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folders {
    /// The folder of downloads, which may be deleted at any time.
    pub cache: PathBuf,
    /// Records of runs on this machine.
    pub state: PathBuf,
}

/// Everything that a command needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the stack runs.
    pub target: Target,
    /// `--kubeconfig`; `None`: `$KUBECONFIG`, then `~/.kube/config`.
    pub kubeconfig: Option<PathBuf>,
    /// What the stack looks like.
    pub stack: Stack,
    /// The address of the app for the outside; `None`: it is reached from inside the cluster, and by `open`.
    pub address: Option<Address>,
    /// Backups of the database; `None`: none are taken.
    pub backup: Option<Backup>,
    /// Tools, manifests and images come from here.
    pub bundle: Option<PathBuf>,
    /// Where the web image is pushed to, for clusters that stackctl does not own.
    pub registry: Option<String>,
    /// Where upstream's images are taken from instead of their own registries.
    pub image_mirror: Option<ImageMirror>,
    /// Parts that are left out.
    pub without: Vec<Optional>,
    /// What is added because it was asked for.
    pub with: Vec<Extra>,
    /// Take over fields that another manager owns.
    pub force_conflicts: bool,
    /// Change a stack that a newer stackctl has made.
    pub allow_downgrade: bool,
    /// The whole command's deadline.
    pub timeout: Duration,
    /// The folders.
    pub folders: Folders,
    /// What the last `up` of the stack was told.
    pub last_up: LastUp,
}

/// The options of one command that matter here; commands fill in what they have.
#[derive(Debug, Default)]
pub struct Options<'a> {
    /// Of commands that know the stack.
    pub stack: Option<&'a StackArgs>,
    /// Of commands that only need the sources.
    pub source: Option<&'a SourceArgs>,
    /// Of `up`.
    pub up: Option<&'a UpArgs>,
}

impl Config {
    /// Merges flags and environment (already in `global` and `options`), the file, what the last `up` was told, and the
    /// defaults. What is remembered and cannot be used is ignored: [`LastUp::complaint`] tells it.
    ///
    /// # Errors
    /// A file that can't be read or parsed, or a value out of its range (exit code 2).
    pub fn load(global: &Global, options: &Options) -> Result<Config> {
        let file = file::read(global.config.as_deref())?;
        let place = StackPlace::of(global, &file)?;
        let state = file::folder("XDG_STATE_HOME", ".local/state")?;
        let forget = options.up.map_or(&[][..], |up| up.forget.as_slice());
        let last = LastUp::read(&state, &place, forget);
        let merge = |last| Config::merge(global, options, &file, &place, last);
        // A value that nobody can have is told to whoever gave it; if that was a record, it is not worth more than none.
        merge(last.clone()).or_else(|error| merge(last.ignored(&one_line(&error))))
    }

    fn merge(
        global: &Global,
        options: &Options,
        file: &File,
        place: &StackPlace,
        mut last_up: LastUp,
    ) -> Result<Config> {
        let up = options.up;
        let chosen = last_up.complete(&Choices::of_flags(options)?, &file.choices())?;
        let size = chosen.size.unwrap_or_default();
        let of_size = sizes::defaults(size);
        let backup = backup::parse(&chosen, &of_size)?;
        let address = address::parse(&chosen)?;
        let memory = chosen.memory.unwrap_or_else(|| "4Gi".into());
        let nodes = chosen.nodes.unwrap_or(1);
        let instances = chosen.instances.unwrap_or(3);
        if !(1..=20).contains(&nodes) {
            return Err(usage(format!("--nodes {nodes} is out of range: 1 to 20")).into());
        }
        if !(3..=9).contains(&instances) {
            return Err(usage(format!("--instances {instances} is out of range: 3 to 9"))
                .remedy("with fewer than 3, losing one instance stops every write or loses data")
                .into());
        }
        let target = match &place.context {
            Some(context) => Target::Context(context.clone()),
            None => Target::Minikube(MinikubeTarget {
                profile: place.profile.clone(),
                nodes,
                cpus: chosen.cpus,
                memory_mib: parse_mebibytes("--memory", &memory)?,
                use_context: up.is_some_and(|up| up.use_context),
            }),
        };
        let storage = chosen.storage.unwrap_or_else(|| of_size.storage.into());
        parse_mebibytes("--storage", &storage)?;
        let sizes = sizes::sizes(size, &file.sizes, &storage)?;
        let without = chosen.without.unwrap_or_default();
        let with = chosen.with.unwrap_or_default();
        let registry = chosen.registry.as_deref().map(|text| names::parse_registry("--registry", text)).transpose()?;
        let image_mirror = chosen.image_mirror.as_deref().map(ImageMirror::parse).transpose()?;
        if let Some(secret) = &chosen.pull_secret {
            names::check_subdomain("Secret of --pull-secret", secret)?;
        }
        let priority_class = chosen.priority_class.unwrap_or_else(|| PRIORITY_CLASS.into());
        names::check_subdomain("PriorityClass of --priority-class", &priority_class)?;
        let timeout = global.timeout.clone().or_else(|| file.timeout.clone()).unwrap_or_else(|| "15m".into());

        Ok(Config {
            target,
            kubeconfig: place.kubeconfig.clone(),
            stack: Stack {
                namespace: place.namespace.clone(),
                instances,
                storage,
                storage_class: chosen.storage_class,
                pull_secret: chosen.pull_secret,
                priority_class: Some(priority_class).filter(|class| class != NO_PRIORITY_CLASS),
                sizes,
            },
            address,
            backup: (!without.contains(&Optional::Backup)).then_some(backup),
            bundle: chosen.bundle,
            registry,
            image_mirror,
            without,
            with,
            force_conflicts: up.is_some_and(|up| up.force_conflicts),
            allow_downgrade: up.is_some_and(|up| up.allow_downgrade),
            timeout: parse_duration("--timeout", &timeout)?,
            folders: Folders {
                cache: file::folder("XDG_CACHE_HOME", ".cache")?,
                state: file::folder("XDG_STATE_HOME", ".local/state")?,
            },
            last_up,
        })
    }

    /// The name by which the cluster's nodes and this machine's engine get an image of upstream's.
    pub fn upstream_image(&self, image: &str) -> String {
        self.image_mirror.as_ref().map_or_else(|| image.to_owned(), |mirror| mirror.place(image))
    }

    /// The registry that a cluster of the user's own takes the images from that are made by this stackctl: the one that they
    /// are pushed to, or else the mirror.
    pub fn registry_of_built(&self) -> Option<&str> {
        self.registry.as_deref().or_else(|| self.image_mirror.as_ref()?.every())
    }

    /// Whether the images that are made by this stackctl go straight into the cluster's nodes, which are containers of this
    /// machine's engine: minikube's, and those of kind and k3d unless a registry or a mirror is named.
    pub fn loads_nodes(&self) -> bool {
        match &self.target {
            Target::Minikube(_) => true,
            Target::Context(_) => self.target.is_of_kind() && self.registry_of_built().is_none(),
        }
    }

    /// Whether the images that are made by this stackctl are in the mirror already, where `stackctl bundle push` has put
    /// them: nothing is built and nothing is pushed.
    pub fn built_are_mirrored(&self) -> bool {
        matches!(self.target, Target::Context(_)) && self.registry.is_none() && self.registry_of_built().is_some()
    }
}

/// Parses `90s`, `10m`, `1h30m`, or a bare number of seconds.
///
/// # Errors
/// Anything else, zero, and more than a day (exit code 2).
pub fn parse_duration(what: &str, text: &str) -> Result<Duration> {
    let refuse = || usage(format!("{what} {text:?} is not a duration")).remedy("write it like 90s, 10m or 1h30m");
    let mut total: u64 = 0;
    let mut digits = String::new();
    for c in text.chars() {
        let unit = match c {
            '0'..='9' => {
                digits.push(c);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => return Err(refuse().into()),
        };
        let number: u64 = digits.parse().map_err(|_| refuse())?;
        total = number.checked_mul(unit).and_then(|seconds| total.checked_add(seconds)).ok_or_else(refuse)?;
        digits.clear();
    }
    if !digits.is_empty() {
        // `10m30` would be ambiguous: only a bare number may go without a unit.
        if digits.len() != text.len() {
            return Err(refuse().into());
        }
        total = digits.parse().map_err(|_| refuse())?;
    }
    if total == 0 || total > 86_400 {
        return Err(usage(format!("{what} {text:?} is out of range: 1s to 24h")).into());
    }
    Ok(Duration::from_secs(total))
}

/// Parses a size such as `4Gi`, `512Mi` (as Kubernetes writes them) to MiB.
fn parse_mebibytes(what: &str, text: &str) -> Result<u64> {
    let refuse = || usage(format!("{what} {text:?} is not a size")).remedy("write it like 4Gi or 512Mi");
    let (number, factor) = if let Some(number) = text.strip_suffix("Gi") {
        (number, 1024)
    } else if let Some(number) = text.strip_suffix("Mi") {
        (number, 1)
    } else {
        return Err(refuse().into());
    };
    let number: u64 = number.parse().map_err(|_| refuse())?;
    number.checked_mul(factor).filter(|mib| *mib > 0).ok_or_else(|| refuse().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h30m", 5400), ("45", 45)] {
            assert_eq!(parse_duration("--timeout", text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for text in ["", "0", "10x", "-5s", "10m30", "99999999999999999999s", "25h", "m"] {
            assert!(parse_duration("--timeout", text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_mebibytes("--memory", "4Gi").unwrap(), 4096);
        assert_eq!(parse_mebibytes("--memory", "512Mi").unwrap(), 512);
        for text in ["4", "4G", "Gi", "-1Gi", "0Mi", "99999999999999999999Gi"] {
            assert!(parse_mebibytes("--memory", text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_unknown_key_in_the_file_is_refused_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "instanses = 3\n").unwrap();
        let global = Global { config: Some(path), ..Global::default() };
        let error = Config::load(&global, &Options::default()).unwrap_err();
        let text = crate::error::one_line(&error);
        assert!(text.contains("instanses") && text.contains("config.toml"), "{text}");
        assert_eq!(crate::error::kind_of(&error).exit_code(), 2);
    }

    #[test]
    fn a_profile_that_wins_is_the_target_whatever_the_file_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "context = \"prod\"\n").unwrap();
        let profile = Some("scratch".to_owned());
        let global = |wins| Global {
            config: Some(path.clone()),
            profile: profile.clone(),
            profile_wins: wins,
            ..Global::default()
        };
        let target = |wins| Config::load(&global(wins), &Options::default()).unwrap().target.describe();
        assert_eq!(target(true), "minikube profile scratch");
        assert_eq!(target(false), "context prod");
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        std::fs::write(&path, "namespace = \"from-file\"\nprofile = \"from-file\"\n").unwrap();
        let global = Global { config: Some(path), namespace: Some("from-flag".into()), ..Global::default() };
        let config = Config::load(&global, &Options::default()).unwrap();
        assert_eq!(config.stack.namespace, "from-flag");
        assert_eq!(config.target.context(), "from-file");
        assert_eq!(config.stack.instances, 3);
    }
}
