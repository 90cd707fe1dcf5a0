//! `stackctl status`: every part's health at a glance.

use std::time::Duration;

use crate::{
    cli::{Global, StatusArgs},
    commands::configured::configured,
    config::Options,
    context::Context,
    error::{Result, timed_out},
    status::{self, Report},
    ui::{self, Reporter, Style},
};

/// How often `--watch` looks. The parts are of many kinds and some answer only to SQL, so this asks.
const EVERY: Duration = Duration::from_secs(2);

/// A status must not hang on a cluster that does not answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Prints the status; the code is 0 when everything is healthy, else 1.
///
/// # Errors
/// No cluster, or one that does not answer.
pub async fn run(global: &Global, args: &StatusArgs, style: Style) -> Result<u8> {
    let config = configured(global, &Options::default())?;
    let cx = Context::new(config, Reporter::discard())?;
    if !args.watch {
        let report = read(&cx).await?;
        print(&report, style);
        return Ok(u8::from(!report.healthy()));
    }
    let mut last = String::new();
    loop {
        let text = match read(&cx).await {
            Ok(report) if style.mode == ui::Mode::Json => serde_json::to_string(&report)?,
            Ok(report) => ui::with_target(&report.text(style.color)).into_owned(),
            // A watch goes on through an API server that is away for a while.
            Err(error) => format!("no answer: {}\n", crate::error::one_line(&error)),
        };
        if style.mode == ui::Mode::Json {
            if text != last {
                ui::out(&text);
            }
        } else if style.mode == ui::Mode::Terminal {
            // Home and clear, then the picture: the usual redraw of a watch.
            ui::out(&format!("\u{1b}[H\u{1b}[2J{text}"));
        } else if text != last {
            ui::out(&text);
        }
        last = text;
        tokio::time::sleep(EVERY).await;
    }
}

async fn read(cx: &Context) -> Result<Report> {
    match tokio::time::timeout(ANSWER_WITHIN, status::read(cx)).await {
        Ok(report) => report,
        Err(_) => Err(timed_out(format!("the cluster did not answer within {} s", ANSWER_WITHIN.as_secs()))
            .remedy("stackctl doctor looks for the cause")
            .into()),
    }
}

fn print(report: &Report, style: Style) {
    if style.mode == ui::Mode::Json {
        // A report is made of strings, numbers and booleans: it always serialises.
        ui::out(&ui::json_with_target(&serde_json::to_string_pretty(report).unwrap_or_default()));
    } else {
        ui::out(&ui::with_target(&report.text(style.color)));
    }
}
