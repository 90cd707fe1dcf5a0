//! What phases and commands share while they run.

use std::{sync::Arc, time::Instant};

use anyhow::Context as _;
use tokio::sync::{Mutex, OnceCell};

use crate::{
    bundle::Bundle,
    config::Config,
    error::{Result, timed_out},
    kube::{ClusterRef, Inventory, Kube, Lock},
    ui::{Event, Reporter},
};

/// The configuration, the way to the user, and the cluster once there is one.
pub struct Context {
    /// The merged configuration.
    pub config: Config,
    /// Where events go.
    pub reporter: Reporter,
    /// The bundle that `--bundle` names, opened and checked.
    pub bundle: Option<Arc<Bundle>>,
    /// The command must have ended by then.
    pub deadline: Instant,
    kube: OnceCell<Kube>,
    inventory: OnceCell<Inventory>,
    lock: Mutex<Option<Lock>>,
}

impl Context {
    /// Opens the bundle, if one is configured, and starts the command's clock.
    ///
    /// # Errors
    /// A bundle that is missing, broken or for another platform.
    pub fn new(config: Config, reporter: Reporter) -> Result<Self> {
        let bundle = match &config.bundle {
            Some(dir) => Some(Arc::new(Bundle::open(dir)?)),
            None => None,
        };
        let deadline = Instant::now() + config.timeout;
        Ok(Context {
            config,
            reporter,
            bundle,
            deadline,
            kube: OnceCell::new(),
            inventory: OnceCell::new(),
            lock: Mutex::new(None),
        })
    }

    /// The connection to the cluster, made when first asked for.
    ///
    /// # Errors
    /// No such context, an API server that does not answer, refused credentials.
    pub async fn kube(&self) -> Result<&Kube> {
        let cluster = ClusterRef {
            kubeconfig: self.config.kubeconfig.clone(),
            context: Some(self.config.target.context().to_owned()),
        };
        self.kube
            .get_or_try_init(|| Kube::connect(&cluster))
            .await
            .with_context(|| format!("cannot use the cluster of {}", self.config.target.describe()))
    }

    /// HTTP requests sent to the cluster so far.
    pub fn requests(&self) -> u64 {
        self.kube.get().map_or(0, Kube::requests)
    }

    /// What stackctl applied to the cluster, read when first asked for.
    ///
    /// # Errors
    /// As [`Context::kube`], and a damaged inventory.
    pub async fn inventory(&self) -> Result<&Inventory> {
        self.inventory
            .get_or_try_init(|| async { Inventory::load(self.kube().await?, &self.config.stack.namespace).await })
            .await
    }

    /// Takes the stack's lock in the cluster, held until [`Context::unlock`].
    ///
    /// # Errors
    /// Someone else holds it.
    pub async fn lock(&self) -> Result<()> {
        let mut lock = self.lock.lock().await;
        if lock.is_none() {
            *lock = Some(Lock::acquire(self.kube().await?, &self.config.stack.namespace, LOCK, &holder()).await?);
        }
        Ok(())
    }

    /// Gives the lock back, if it is held: to be called on every way out.
    pub async fn unlock(&self) {
        if let Some(lock) = self.lock.lock().await.take() {
            lock.close().await;
        }
    }

    /// Says what a phase is doing.
    pub fn doing(&self, phase: &str, text: impl Into<String>) {
        self.reporter.send(Event::Doing { phase: phase.into(), text: text.into() });
    }

    /// Runs `work` until the command's deadline.
    ///
    /// # Errors
    /// What `work` returns, or a timeout (exit code 5) that says what was being done.
    pub async fn until_deadline<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout_at(self.deadline.into(), work).await {
            Ok(result) => result,
            Err(_) => Err(timed_out(format!("{what} did not end within {:?}", self.config.timeout))
                .remedy("run the same command again: it goes on where it stopped; --timeout gives it longer")
                .into()),
        }
    }
}

/// The Lease's name.
const LOCK: &str = "stackctl";

/// Who holds the lock, for whoever is refused: `user@host, process 123`.
fn holder() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "someone".into());
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .or_else(|_| std::env::var("HOSTNAME"))
        .unwrap_or_else(|_| "this machine".into());
    format!("{user}@{}, process {}", host.trim(), std::process::id())
}

#[cfg(test)]
impl Context {
    /// A context without a cluster, for tests of what needs none.
    pub fn for_tests(reporter: Reporter) -> Self {
        let config = Config::load(&crate::cli::Global::default(), &crate::config::Options::default())
            .expect("defaults are valid");
        Context::new(config, reporter).expect("no bundle to open")
    }
}
