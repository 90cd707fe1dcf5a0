//! `stackctl restore`: a new database from the store of backups, beside the one that runs.

use std::time::Instant;

use jiff::{Timestamp, tz::TimeZone};

use super::interruptible;
use crate::{
    backup::{
        Target,
        recovery::{self, Order},
        restored,
    },
    cli::{Global, RestoreArgs},
    config::{Config, Options},
    context::Context,
    database::CLUSTER,
    error::{Result, usage},
    ui::{self, Event, Reporter, Style, prompt},
};

const ID: &str = "restore";

/// Restores, lists what was restored, or deletes a restored Cluster.
///
/// # Errors
/// What the user asks for cannot be restored (says what can be), or the recovery fails.
pub async fn run(global: &Global, args: &RestoreArgs, style: Style) -> Result<u8> {
    let config = Config::load(global, &Options::default())?;
    if args.list {
        return interruptible(list(config, style)).await;
    }
    if let Some(name) = &args.discard {
        return discard(config, name, args.yes, style).await;
    }
    let to = args.to.as_deref().unwrap_or("latest");
    let stamp = Timestamp::now().to_zoned(TimeZone::UTC).strftime("%Y%m%d%H%M%S");
    let order = Order {
        target: to.parse::<Target>()?,
        server: args.from.clone().unwrap_or_else(|| CLUSTER.into()),
        name: args.name.clone().unwrap_or_else(|| format!("{CLUSTER}-{stamp}")),
        instances: args.instances.unwrap_or(config.stack.instances),
        archives: true,
    };
    let (reporter, screen) = ui::open(style);
    let cx = Context::new(config, reporter)?;
    let outcome = restore(&cx, &order).await;
    screen.close().await;
    outcome.map(|()| 0)
}

async fn restore(cx: &Context, order: &Order) -> Result<()> {
    let began = Instant::now();
    cx.reporter.send(Event::Started { command: ID.into(), target: cx.config.target.describe() });
    let title = format!("{} of {} into {}", order.target.describe(), order.server, order.name);
    cx.reporter.send(Event::PhaseStarted { phase: ID.into(), title: title.clone() });
    let work = async {
        cx.lock().await?;
        recovery::restore(cx, ID, order).await
    };
    let outcome = interruptible(cx.until_deadline("the restore", work)).await;
    cx.unlock().await;
    let (phase, elapsed) = (ID.to_owned(), began.elapsed());
    let (mut facts, mut next) = (Vec::new(), Vec::new());
    let look = format!("stackctl psql --cluster {}", order.name);
    let remove = format!("stackctl restore --discard {}", order.name);
    match &outcome {
        Ok(recovered) => {
            let outcome = format!("ready after {:.0} s", recovered.as_secs_f64());
            cx.reporter.send(Event::PhaseDone { phase, title, outcome, elapsed });
            let namespace = &cx.config.stack.namespace;
            facts.push(("database".into(), format!("Service {namespace}/{}-rw, port 5432", order.name)));
            facts.push(("unchanged".into(), format!("{CLUSTER}, and what the app uses")));
            next.push((look, "look at it".into()));
        }
        Err(error) => {
            let error = crate::error::one_line(error);
            cx.reporter.send(Event::PhaseFailed { phase, title, error, elapsed });
        }
    }
    next.push((remove, "delete it".into()));
    let (command, requests, ok) = (ID.into(), cx.requests(), outcome.is_ok());
    cx.reporter.send(Event::Finished { command, ok, elapsed: began.elapsed(), requests, facts, next });
    outcome.map(drop)
}

async fn list(config: Config, style: Style) -> Result<u8> {
    let cx = Context::new(config, Reporter::discard())?;
    let found = restored::list(cx.kube().await?, &cx.config.stack.namespace).await?;
    if style.mode == ui::Mode::Json {
        ui::out(&serde_json::to_string_pretty(&found)?);
        return Ok(0);
    }
    if found.is_empty() {
        ui::err("nothing was restored");
        return Ok(0);
    }
    ui::out(&format!("{:<28} {:<12} {:<24} STATE", "CLUSTER", "FROM", "TO"));
    for one in found {
        ui::out(&format!("{:<28} {:<12} {:<24} {}", one.name, one.from, one.to, one.state));
    }
    Ok(0)
}

async fn discard(config: Config, name: &str, yes: bool, style: Style) -> Result<u8> {
    let cx = Context::new(config.clone(), Reporter::discard())?;
    let found = interruptible(async { restored::list(cx.kube().await?, &cx.config.stack.namespace).await }).await?;
    if !found.iter().any(|one| one.name == name) {
        return Err(usage(format!("there is no restored Cluster {name}"))
            .remedy("stackctl restore --list shows those that there are")
            .into());
    }
    prompt::confirm(&format!("Delete the restored Cluster {name} with its volumes?"), yes)?;
    let (reporter, screen) = ui::open(style);
    let cx = Context::new(config, reporter)?;
    let work = async {
        cx.lock().await?;
        recovery::discard(&cx, ID, name, cx.deadline).await
    };
    let outcome = interruptible(cx.until_deadline("the deletion", work)).await;
    cx.unlock().await;
    screen.close().await;
    outcome?;
    ui::err(&format!("{name} is deleted; what it archived stays in the store"));
    Ok(0)
}
