//! `stackctl up`: composes the phases and runs them.

use std::{fs::File, time::Instant};

use anyhow::Context as _;

use super::{interruptible, leftovers};
use crate::{
    address::PublicAddress,
    assets::Part,
    backup::STORE,
    cli::{Extra, Global, Optional, UpArgs},
    commands::configured::configured,
    config::{BackupStore, Config, Options, Target},
    context::Context,
    database,
    desired::backup,
    error::{Result, failed, is_forbidden, kind_of, one_line},
    monitoring::MonitoringOverview,
    phases::{
        self, Phase,
        autoscaling::Autoscaling,
        backup::Backups,
        claim::Claim,
        cluster::Cluster,
        database::Database,
        failover_helper::FailoverHelper,
        image::{Build, Image, Own},
        monitoring::Monitoring,
        operator::Operator,
        preflight::Preflight,
        verify::Verify,
        web::Web,
    },
    ui::{self, Event, Reporter, Style},
};

/// Brings the stack up, or up to date.
///
/// # Errors
/// The first phase's error; exit code 130 when interrupted, 5 at the deadline.
pub async fn run(global: &Global, args: &UpArgs, style: Style) -> Result<u8> {
    let began = Instant::now();
    let config = configured(global, &Options { up: Some(args), ..Options::default() })?;
    let (reporter, screen) = ui::open(style);
    let outcome = up(config, args, reporter, began).await;
    screen.close().await;
    outcome.map(|()| 0)
}

async fn up(config: Config, args: &UpArgs, reporter: Reporter, began: Instant) -> Result<()> {
    let cx = Context::new(config, reporter)?;
    let phases = phases_of(&cx);
    let from_nothing = phases::cluster::is_still_to_be_made(&cx.config);
    cx.reporter.send(Event::Started {
        command: "up".into(),
        target: cx.config.target.describe(),
        remembered: cx.config.last_up.flags(),
        last_time: cx.config.last_up.took(from_nothing),
    });
    if args.dry_run {
        return interruptible(phases::plan(&cx, &phases)).await;
    }
    let _lock = local_lock(&cx.config)?;
    let work = Box::pin(cx.until_deadline("stackctl up", phases::run(&cx, &phases)));
    let outcome = interruptible(work).await;
    cx.unlock().await;
    if outcome.is_ok()
        && let Err(error) = cx.config.last_up.keep_time(from_nothing, began.elapsed())
    {
        tracing::debug!("how long it took is not kept: {}", one_line(&error));
    }
    finish(&cx, began, outcome.as_ref().err()).await;
    outcome
}

/// In the order in which they are shown; each says what it waits for.
fn phases_of(cx: &Context) -> Vec<Box<dyn Phase>> {
    let mut phases: Vec<Box<dyn Phase>> = vec![
        Box::new(Preflight),
        Box::new(Build(Own::Web)),
        Box::new(Build(Own::Sidecar)),
        Box::new(Cluster),
        Box::new(Image(Own::Web)),
        Box::new(Image(Own::Sidecar)),
        Box::new(Claim { first: leftovers::undo_under_lock }),
        Box::new(Operator),
        Box::new(Backups),
        Box::new(Autoscaling),
        Box::new(Database { instances: cx.config.stack.instances }),
        Box::new(FailoverHelper),
        Box::new(Web),
        Box::new(Verify),
    ];
    if !cx.config.without.contains(&Optional::Monitoring) {
        phases.push(Box::new(Monitoring));
    }
    phases
}

/// On this machine only one stackctl may work on a minikube profile: minikube itself would make a mess of
/// two. Freed by the operating system however this process ends. Other machines meet the Lease in the cluster.
pub(super) fn local_lock(config: &Config) -> Result<File> {
    let dir = &config.folders.state;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let path = dir.join(format!("{}.lock", config.target.context().replace('/', "_")));
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(failed(format!("another stackctl on this machine is working on {}", config.target.describe()))
                .remedy("wait until it has ended, or end it with Ctrl-C")
                .into())
        }
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

async fn finish(cx: &Context, began: Instant, error: Option<&anyhow::Error>) {
    let mut facts = Vec::new();
    let mut next = Vec::new();
    match error {
        None => {
            facts = facts_of(cx).await;
            next = [
                ("stackctl status", "every part's health"),
                ("stackctl psql", "SQL on the primary"),
                ("stackctl logs web -f", "what the app is doing"),
                ("stackctl down", "remove it again"),
            ]
            // Here already: the second column stands where the longest command ends.
            .map(|(command, what)| (ui::with_target(command).into_owned(), what.to_owned()))
            .to_vec();
        }
        Some(error) if kind_of(error) == crate::error::Kind::Interrupted => {
            next.push(("stackctl up".into(), "goes on where it stopped".into()));
        }
        Some(_) => {
            next.push(("stackctl status".into(), "every part's health".into()));
            next.push(("stackctl doctor".into(), "what is wrong with this machine or the cluster".into()));
        }
    }
    let ok = error.is_none();
    let (command, requests) = ("up".into(), cx.requests());
    cx.reporter.send(Event::Finished { command, ok, elapsed: began.elapsed(), requests, facts, next });
}

/// What is there now, and how to reach it.
async fn facts_of(cx: &Context) -> Vec<(String, String)> {
    let (namespace, cluster) = (&cx.config.stack.namespace, cx.known_database());
    let mut facts = Vec::new();
    if let Ok(kube) = cx.kube().await {
        facts.push(("cluster".to_owned(), format!("{}, {}", cx.config.target.describe(), kube.server())));
    }
    if cx.config.address.is_some() {
        facts.push(("address".into(), address(cx).await));
    }
    facts.push(("app".into(), format!("Service {namespace}/user-app, port 80")));
    facts.push((
        "database".into(),
        format!("Service {namespace}/{cluster}-rw, port 5432 (primary); {cluster}-ro (standbys)"),
    ));
    facts.push(("backups".into(), backups(cx).await));
    facts.push(("monitoring".into(), monitoring(cx).await));
    facts.extend(policies(cx).map(|text| ("policies".to_owned(), text)));
    if let Target::Minikube(minikube) = &cx.config.target {
        facts.push(("kubectl".into(), format!("kubectl --context {} -n {namespace} get pods", minikube.profile)));
    }
    facts
}

/// Why the stack has NetworkPolicies that nobody asked for.
fn policies(cx: &Context) -> Option<String> {
    let unasked = !cx.config.with.contains(&Extra::NetworkPolicies);
    let left_out = cx.config.without.contains(&Optional::NetworkPolicies);
    let why = cx.known_policy_enforcer().filter(|_| unasked && !left_out)?;
    Some(format!("NetworkPolicies of its own, as {why} (--without network-policies leaves them out)"))
}

/// The app's address for the outside.
async fn address(cx: &Context) -> String {
    let read = async { PublicAddress::read(cx.kube().await?, &cx.config.stack.namespace).await };
    match read.await {
        Ok(Some(address)) if address.url.starts_with("http://") => {
            format!("{} (--tls-secret or --tls-issuer)", address.describe())
        }
        Ok(Some(address)) => address.describe(),
        Ok(None) => "not there (stackctl up puts it back)".into(),
        Err(error) => one_line(&error),
    }
}

/// How far monitoring is, which nobody has waited for.
async fn monitoring(cx: &Context) -> String {
    if cx.config.without.contains(&Optional::Monitoring) {
        return "left out, as asked".into();
    }
    let read = async { MonitoringOverview::read(cx.kube().await?).await };
    match read.await {
        Ok(Some(overview)) if overview.healthy() => overview.describe(),
        Ok(Some(overview)) => {
            let waiting: Vec<_> = overview.waiting.iter().map(|part| part.name).collect();
            match overview.storage {
                Some(_) => overview.describe(),
                None => format!("not ready yet: {} (stackctl status tells when)", waiting.join(", ")),
            }
        }
        Ok(None) => "not installed".into(),
        Err(error) if is_forbidden(&error) => "the cluster's own, at which you may not look".into(),
        Err(error) => one_line(&error),
    }
}

/// Where backups go and against what that helps; whether WAL is archived yet, which nobody has waited for.
async fn backups(cx: &Context) -> String {
    let Some(backup) = backup::wanted(cx) else { return "none are taken".into() };
    let place = match backup.store {
        BackupStore::Bucket { .. } if keeps_former(cx).await => format!(
            "to {}; the earlier ones are kept on the volume {STORE} (stackctl up --forget backup-s3 goes back to it)",
            backup::describe(backup)
        ),
        BackupStore::Bucket { .. } => format!("to {}", backup::describe(backup)),
        BackupStore::InCluster { .. } => {
            "to this cluster's own disk: they help against mistakes, not against losing the disk (--backup-s3)".into()
        }
    };
    let state = match archives_wal(cx).await {
        Ok(Some(true)) => "WAL archiving: ok".into(),
        Ok(Some(false)) => "WAL archiving: FAILING (stackctl status tells why)".into(),
        Ok(None) => "the first is under way (stackctl status tells when it is done)".into(),
        Err(error) => one_line(&error),
    };
    format!("{place}; {state}")
}

async fn archives_wal(cx: &Context) -> Result<Option<bool>> {
    database::archives_wal(cx.kube().await?, &cx.config.stack.namespace, &cx.database().await?).await
}

/// Whether the volume of a store in the cluster is there still.
async fn keeps_former(cx: &Context) -> bool {
    let Ok(inventory) = cx.inventory().await else { return false };
    inventory.entries(Part::Backup.name()).iter().any(|entry| backup::is_data(&entry.object))
}
