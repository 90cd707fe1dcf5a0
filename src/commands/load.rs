//! `stackctl load`: load on the web app at a fixed rate, and how the autoscaler answers it.

use super::{interrupted, signal};
use crate::{
    cli::{Global, LoadArgs, OutputFormat},
    commands::configured::configured,
    config::{Options, parse_duration},
    context::Context,
    error::{self, Result, usage},
    load::{self, LoadPlan, LoadRecord, LoadReport},
    ui::{self, Event, Style},
};

/// Runs the command; the report is printed also when it is interrupted.
///
/// # Errors
/// Requests failed (exit code 1); what kept the load from being sent; an interruption (exit code 130), after the
/// sender and its users were removed.
pub async fn run(global: &Global, args: &LoadArgs, style: Style) -> Result<u8> {
    let plan = plan(args)?;
    let config = configured(global, &Options::default())?;
    let target = config.target.describe();
    let (reporter, screen) = ui::open(style);
    let cx = Context::new(config, reporter)?;
    let mut record = LoadRecord::default();
    let outcome = send_and_clean(&cx, &plan, &mut record).await;
    screen.close().await;
    let report = record.report(target, &plan);
    if let Some(report) = &report {
        show(report, global)?;
    }
    outcome?;
    report.as_ref().map_or(Ok(()), load::ensure_no_failures)?;
    Ok(0)
}

fn plan(args: &LoadArgs) -> Result<LoadPlan> {
    if !(1.0..=100_000.0).contains(&args.rate) {
        return Err(usage(format!("--rate {} is out of range: 1 to 100000", args.rate)).into());
    }
    let lasts = parse_duration("--duration", &args.duration)?;
    Ok(LoadPlan { rate: args.rate, lasts, users: args.users, scale_down: !args.no_scale_down })
}

async fn send_and_clean(cx: &Context, plan: &LoadPlan, record: &mut LoadRecord) -> Result<()> {
    let mut interrupt = std::pin::pin!(signal());
    // Nothing is changed before this: a load that someone else sends is not ours to end.
    tokio::select! {
        checked = load::ensure_sendable(cx, plan) => checked?,
        name = &mut interrupt => return Err(interrupted(name).into()),
    }
    let outcome = tokio::select! {
        outcome = load::run(cx, plan, record) => outcome,
        name = &mut interrupt => Err(interrupted(name).into()),
    };
    cx.doing(load::PHASE, "removing the sender and the users that it registered");
    match (outcome, load::clean_up(cx).await) {
        (outcome, Ok(_)) => outcome,
        (Ok(()), Err(error)) => Err(error),
        (Err(error), Err(also)) => {
            let text = format!("what the load left was not removed: {}", error::one_line(&also));
            cx.reporter.send(Event::Warning { phase: load::PHASE, text });
            Err(error)
        }
    }
}

fn show(report: &LoadReport, global: &Global) -> Result<()> {
    if global.output == OutputFormat::Json {
        ui::out(&serde_json::to_string(report)?);
    } else {
        ui::out(&report.text());
    }
    Ok(())
}
