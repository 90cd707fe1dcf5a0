//! What phases and commands share while they run.

use std::{sync::Arc, time::Instant};

use anyhow::Context as _;
use tokio::sync::{Mutex, OnceCell, watch};

use crate::{
    bundle::Bundle,
    config::Config,
    error::{Result, failed, timed_out},
    kube::{ClusterRef, Inventory, Kube, Lock, operator::CnpgOperator},
    names::DATABASE,
    part::Part,
    ui::{Event, PhaseId, Reporter},
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
    /// Who took the lock over while it could not be renewed.
    lost: watch::Sender<Option<String>>,
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
            lost: watch::Sender::new(None),
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

    /// The Cluster that the app uses: the one of the manifests, or one that was restored and took its place.
    ///
    /// # Errors
    /// As [`Context::inventory`].
    pub async fn database(&self) -> Result<String> {
        self.inventory().await?;
        Ok(self.known_database())
    }

    /// The Cluster that the app uses, as far as that is known without asking: for plans and manifests where there is no
    /// cluster yet.
    pub fn known_database(&self) -> String {
        self.inventory.get().and_then(Inventory::database).unwrap_or_else(|| DATABASE.to_owned())
    }

    /// The operator that serves the cluster's databases, as far as it is known without asking.
    pub fn known_operator(&self) -> Option<&CnpgOperator> {
        self.kube.get().and_then(Kube::known_operator)
    }

    /// What shows that NetworkPolicies are enforced, as far as it is known without asking.
    pub fn known_policy_enforcer(&self) -> Option<&str> {
        self.kube.get().and_then(Kube::known_policy_enforcer)
    }

    /// Whether something of that kind is on record as applied in a part, as far as it is known without asking.
    pub fn is_on_record(&self, part: Part, kind: &str) -> bool {
        let entries = self.inventory.get().map(|inventory| inventory.entries(part.name())).unwrap_or_default();
        entries.iter().any(|entry| entry.object.kind == kind)
    }

    /// Takes the stack's lock in the cluster, held until [`Context::unlock`].
    ///
    /// # Errors
    /// Someone else holds it.
    pub async fn lock(&self) -> Result<()> {
        let mut lock = self.lock.lock().await;
        if lock.is_none() {
            let (kube, namespace) = (self.kube().await?, &self.config.stack.namespace);
            let taken = Lock::acquire(kube, namespace, LOCK, &holder(), &self.lost).await?;
            if let Some(inventory) = self.inventory.get()
                && let Err(error) = inventory.reload().await
            {
                taken.close().await;
                return Err(error);
            }
            *lock = Some(taken);
        }
        Ok(())
    }

    /// Waits until somebody else has the stack's lock, as it could not be renewed; returns who.
    pub async fn lock_lost(&self) -> String {
        let mut lost = self.lost.subscribe();
        let by = lost.wait_for(Option::is_some).await.map(|by| by.clone().unwrap_or_default());
        match by {
            Ok(by) => by,
            // The sender lives as long as this context.
            Err(_) => std::future::pending().await,
        }
    }

    /// Lets go of the lock without giving it back: the cluster that holds it is gone.
    pub async fn forget_lock(&self) {
        self.lock.lock().await.take();
    }

    /// Gives the lock back, if it is held: to be called on every way out.
    pub async fn unlock(&self) {
        if let Some(lock) = self.lock.lock().await.take() {
            lock.close().await;
        }
    }

    /// Says what a phase is doing.
    pub fn doing(&self, phase: PhaseId, text: impl Into<String>) {
        self.reporter.send(Event::Doing { phase, text: text.into() });
    }

    /// Runs `work` until the command's deadline, and no longer than the stack's lock is held, once it is.
    ///
    /// # Errors
    /// What `work` returns, a timeout (exit code 5) that says what was being done, or who has the lock now.
    pub async fn until_deadline<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            result = work => result,
            by = self.lock_lost() => {
                Err(failed(format!("{what} was stopped: the API server was out of reach for so long that {by} took over"))
                    .remedy("wait until that one is done, then run the same command again")
                    .into())
            }
            () = tokio::time::sleep_until(self.deadline.into()) => Err(timed_out(format!("{what} did not end within {:?}", self.config.timeout))
                .remedy("run the same command again: it goes on where it stopped; --timeout gives it longer")
                .into()),
        }
    }
}

/// The Lease's name.
pub(crate) const LOCK: &str = "stackctl";

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
