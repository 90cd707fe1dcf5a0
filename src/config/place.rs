//! Which stack a command is about: the cluster and the namespace.

use std::path::PathBuf;

use super::{Target, file, file::File, names};
use crate::{
    cli::Global,
    error::{Result, usage},
    kube::{self, ClusterRef},
};

/// A cluster and a namespace in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StackPlace {
    /// The kubeconfig's context, where the cluster is the user's own.
    pub context: Option<String>,
    /// The minikube profile otherwise.
    pub profile: String,
    pub namespace: String,
    pub kubeconfig: Option<PathBuf>,
}

impl StackPlace {
    /// The place that flags, variables and the file name.
    ///
    /// # Errors
    /// A name that none can have (exit code 2).
    pub fn of(global: &Global, file: &File) -> Result<StackPlace> {
        let namespace = global.namespace.clone().or_else(|| file.namespace.clone());
        let namespace = namespace.unwrap_or_else(|| "user-app".into());
        let profile = global.profile.clone().or_else(|| file.profile.clone()).unwrap_or_else(|| "stackctl".into());
        names::check_namespace(&namespace)?;
        names::check_name("profile", &profile)?;
        let of_file = || file.context.clone().filter(|_| !global.profile_wins);
        let context = global.context.clone().or_else(of_file);
        if context.as_ref().is_some_and(String::is_empty) {
            return Err(usage("--context is empty").remedy("kubectl config get-contexts lists their names").into());
        }
        let kubeconfig = global.kubeconfig.clone().or_else(|| file.kubeconfig.clone());
        Ok(StackPlace { context, profile, namespace, kubeconfig })
    }

    /// The context's or the profile's name.
    pub fn name(&self) -> &str {
        self.context.as_ref().unwrap_or(&self.profile)
    }
}

/// The flags by which a plain command would act on the stack that `global` names, and not on the one that it acts on by the
/// configuration file and the defaults alone. Empty for a configuration that cannot be read: the command tells that.
pub fn target_flags(global: &Global) -> Vec<String> {
    let plain = Global { config: global.config.clone(), ..Global::default() };
    let place = |global| file::read(plain.config.as_deref()).and_then(|file| StackPlace::of(global, &file));
    let (Ok(asked), Ok(plain)) = (place(global), place(&plain)) else {
        return Vec::new();
    };
    let mut flags = Vec::new();
    let mut add = |flag: &str, value: String| flags.extend([flag.to_owned(), value]);
    if let Some(file) = &global.config {
        add("--config", file.display().to_string());
    }
    if asked.kubeconfig != plain.kubeconfig
        && let Some(file) = &asked.kubeconfig
    {
        add("--kubeconfig", file.display().to_string());
    }
    if (asked.context.is_some(), asked.name()) != (plain.context.is_some(), plain.name()) {
        let flag = if asked.context.is_some() { "--context" } else { "--profile" };
        add(flag, asked.name().to_owned());
    }
    if asked.namespace != plain.namespace {
        add("--namespace", asked.namespace);
    }
    flags
}

/// The flags by which kubectl acts on the cluster that `global` names, where it would act on another by itself: it goes by
/// the kubeconfig's current context, which need not be the stack's. Empty for a configuration that cannot be read.
pub fn kubectl_flags(global: &Global) -> Vec<String> {
    let Ok(place) = file::read(global.config.as_deref()).and_then(|file| StackPlace::of(global, &file)) else {
        return Vec::new();
    };
    let current = kube::contexts(&ClusterRef { kubeconfig: place.kubeconfig.clone(), context: None });
    let is_current = current.is_ok_and(|(_, current)| current.as_deref() == Some(place.name()));
    let mut flags = Vec::new();
    if let Some(file) = &place.kubeconfig {
        flags.extend(["--kubeconfig".to_owned(), file.display().to_string()]);
    }
    if !is_current {
        flags.extend(["--context".to_owned(), place.name().to_owned()]);
    }
    flags
}

impl Target {
    /// For sentences: `minikube profile stackctl`, `context prod`.
    pub fn describe(&self) -> String {
        match self {
            Target::Minikube(minikube) => format!("minikube profile {}", minikube.profile),
            Target::Context(name) => format!("context {name}"),
        }
    }

    /// Whether it is a cluster of kind or k3d, by the names that these give to contexts: its nodes are containers of this
    /// machine's engine.
    pub(super) fn is_of_kind(&self) -> bool {
        matches!(self, Target::Context(name) if name.starts_with("kind-") || name.starts_with("k3d-"))
    }

    /// The kubeconfig's context. minikube names it after the profile.
    pub fn context(&self) -> &str {
        match self {
            Target::Minikube(minikube) => &minikube.profile,
            Target::Context(name) => name,
        }
    }
}
