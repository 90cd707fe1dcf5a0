//! `stackctl restore`: a new database from the store of backups, beside the one that runs.

use std::time::Instant;

use super::{interruptible, locked};
use crate::{
    backup::{RecoveryTarget, restored, stamp},
    cli::{Global, RestoreArgs},
    commands::configured::configured,
    config::{Config, Options},
    context::Context,
    database::reference,
    error::{Result, usage},
    names::DATABASE,
    restore::{
        promotion,
        recovery::{self, Order},
    },
    ui::{self, Event, PhaseId, Reporter, Style, prompt},
};

const ID: PhaseId = PhaseId::Restore;

/// Restores, lists what was restored, has the app use it, or deletes it.
///
/// # Errors
/// What the user asks for cannot be restored (says what can be), or the recovery fails.
pub async fn run(global: &Global, args: &RestoreArgs, style: Style) -> Result<u8> {
    let config = configured(global, &Options::default())?;
    if args.list {
        return interruptible(list(config, style)).await;
    }
    if let Some(name) = &args.discard {
        return discard(config, name, args.yes, style).await;
    }
    if let Some(name) = args.promote.as_deref().filter(|name| !name.is_empty()) {
        if args.to.is_some() || args.from.is_some() || args.name.is_some() || args.instances.is_some() {
            return Err(usage(format!("--promote {name} restores nothing: the others have no meaning beside it"))
                .remedy("to restore first: stackctl restore --name NAME --promote")
                .into());
        }
        return promote(config, name, args.yes, style).await;
    }
    let to = args.to.as_deref().unwrap_or("latest");
    let order = Order {
        target: to.parse::<RecoveryTarget>()?,
        server: args.from.clone(),
        name: args.name.clone().unwrap_or_else(|| format!("{DATABASE}-{}", stamp())),
        instances: args.instances,
        archives: true,
        deadline: Instant::now() + config.timeout,
    };
    if args.promote.is_some() {
        // Before minutes are spent: whether there will be anybody to ask.
        prompt::possible(args.yes)?;
    }
    let (reporter, screen) = ui::open(style);
    let cx = Context::new(config.clone(), reporter)?;
    let outcome = restore(&cx, &order).await;
    screen.close().await;
    outcome?;
    match args.promote {
        Some(_) => promote(config, &order.name, args.yes, style).await,
        None => Ok(0),
    }
}

async fn restore(cx: &Context, order: &Order) -> Result<()> {
    let began = Instant::now();
    cx.reporter.send(Event::started(ID.name(), cx.config.target.describe()));
    let whose = order.server.as_deref().unwrap_or("the database");
    let title = format!("{} of {whose} into {}", order.target.describe(), order.name);
    cx.reporter.send(Event::PhaseStarted { phase: ID, title: title.clone() });
    let outcome = locked(cx, "the restore", recovery::restore(cx, ID, order)).await;
    let ended = outcome.as_ref().map(|recovered| format!("ready after {:.0} s", recovered.as_secs_f64()));
    cx.reporter.send(Event::phase_ended(ID, &title, ended, began.elapsed()));
    let (mut facts, mut next) = (Vec::new(), Vec::new());
    if outcome.is_ok() {
        let namespace = &cx.config.stack.namespace;
        facts.push(("database".into(), format!("Service {namespace}/{}-rw, port 5432", order.name)));
        facts.push(("unchanged".into(), format!("{}, which the app uses", cx.known_database())));
        next.push((format!("stackctl psql --cluster {}", order.name), "look at it".into()));
        next.push((format!("stackctl restore --promote {}", order.name), "have the app use it".into()));
    }
    next.push((format!("stackctl restore --discard {}", order.name), "delete it".into()));
    let (command, requests, ok) = (ID.name().into(), cx.requests(), outcome.is_ok());
    cx.reporter.send(Event::Finished { command, ok, elapsed: began.elapsed(), requests, facts, next });
    outcome.map(drop)
}

async fn promote(config: Config, name: &str, yes: bool, style: Style) -> Result<u8> {
    let began = Instant::now();
    let cx = Context::new(config.clone(), Reporter::discard())?;
    let current = interruptible(async {
        promotion::check(&cx, name).await?;
        cx.database().await
    })
    .await?;
    let question = format!(
        "Have the app use {name}? {current} stops and is kept; what was written to it since is not in {name}. To look \
         first: stackctl psql --cluster {name}"
    );
    if current != name {
        prompt::confirm(&question, yes)?;
    }
    let (reporter, screen) = ui::open(style);
    let cx = Context::new(config, reporter)?;
    cx.reporter.send(Event::started(ID.name(), cx.config.target.describe()));
    let title = format!("The app on {name}");
    cx.reporter.send(Event::PhaseStarted { phase: ID, title: title.clone() });
    let outcome = locked(&cx, "the promotion", promotion::promote(&cx, ID, name, cx.deadline)).await;
    let elapsed = began.elapsed();
    let ended =
        outcome.as_ref().map(|promoted| format!("the app could not write for {:.0} s", promoted.paused.as_secs_f64()));
    cx.reporter.send(Event::phase_ended(ID, &title, ended, elapsed));
    let (mut facts, mut next) = (Vec::new(), Vec::new());
    match &outcome {
        Ok(promoted) => {
            facts.push(("the app uses".into(), name.to_owned()));
            for former in &promoted.former {
                facts.push(("kept".into(), format!("{former}, stopped, with its volumes")));
                next.push((format!("stackctl restore --promote {former}"), "go back to it".into()));
                next.push((format!("stackctl restore --discard {former}"), "delete it".into()));
            }
            next.push(("stackctl status".into(), "every part's health".into()));
        }
        Err(_) => next.push((format!("stackctl restore --promote {name}"), "goes on where it stopped".into())),
    }
    let (command, requests, ok) = (ID.name().into(), cx.requests(), outcome.is_ok());
    cx.reporter.send(Event::Finished { command, ok, elapsed, requests, facts, next });
    screen.close().await;
    outcome.map(|_| 0)
}

async fn list(config: Config, style: Style) -> Result<u8> {
    let cx = Context::new(config, Reporter::discard())?;
    let found = restored::list(cx.kube().await?, &cx.config.stack.namespace, &cx.database().await?).await?;
    if style.mode == ui::Mode::Json {
        ui::out(&serde_json::to_string_pretty(&found)?);
        return Ok(0);
    }
    if found.is_empty() {
        ui::err("nothing was restored");
        return Ok(0);
    }
    ui::out(&format!("{:<28} {:<12} {:<24} {:<21} STATE", "CLUSTER", "FROM", "TO", "THE APP'S UNTIL"));
    for one in found {
        let [from, to, until] = [one.from, one.to, one.used_until].map(|value| value.unwrap_or_else(|| "-".into()));
        ui::out(&format!("{:<28} {from:<12} {to:<24} {until:<21} {}", one.name, one.state));
    }
    Ok(0)
}

async fn discard(config: Config, name: &str, yes: bool, style: Style) -> Result<u8> {
    let cx = Context::new(config.clone(), Reporter::discard())?;
    let (found, current, uid) = interruptible(async {
        let (kube, namespace, current) = (cx.kube().await?, &cx.config.stack.namespace, cx.database().await?);
        let uid = kube.get(&reference(namespace, name)).await?.and_then(|found| found.metadata.uid);
        Ok((restored::list(kube, namespace, &current).await?, current, uid))
    })
    .await?;
    if name == current {
        return Err(usage(format!("the app uses {name}"))
            .remedy("have it use another one first: stackctl restore --promote NAME")
            .into());
    }
    restored::named(&found, name)?;
    prompt::confirm(&format!("Delete the Cluster {name} with its volumes?"), yes)?;
    let (reporter, screen) = ui::open(style);
    let cx = Context::new(config, reporter)?;
    let outcome = {
        // The very one that was asked about.
        let discard = recovery::discard(&cx, ID, name, uid.as_deref(), cx.deadline);
        locked(&cx, "the deletion", discard).await
    };
    screen.close().await;
    outcome?;
    ui::err(&format!("{name} is deleted; what it archived stays in the store"));
    Ok(0)
}
