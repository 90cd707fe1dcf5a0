//! `stackctl drill-history`: the drills that were run on this machine, side by side.

use serde_json::json;

use crate::{
    cli::{Global, OutputFormat},
    commands::configured::configured,
    config::Options,
    drills::model::{
        history::Stream,
        report::{DrillRun, seconds},
        store::{DrillStore, Kept, PAGE},
        verdict::AnomalyKind,
    },
    error::Result,
    stats::thousands,
    ui,
};

/// Runs the command.
///
/// # Errors
/// A folder that can't be listed.
pub fn run(global: &Global) -> Result<u8> {
    let config = configured(global, &Options::default())?;
    let store = DrillStore::new(&config.folders.state);
    let kept = store.list()?;
    if global.output == OutputFormat::Json {
        let all: Vec<_> = kept
            .iter()
            .map(|kept| match kept {
                Kept::Done(report) => json!(report),
                Kept::Interrupted(run) => json!({"run": run, "interrupted": true}),
                Kept::Unreadable(run, error) => json!({"run": run, "error": error}),
            })
            .collect();
        ui::out(&serde_json::to_string(&all)?);
        return Ok(0);
    }
    if kept.is_empty() {
        ui::err(&format!("no drill was run on this machine yet ({})", store.folder().display()));
        return Ok(0);
    }
    ui::out(&format!(
        "{:<40} {:<7} {:>9} {:>9} {:>10} {:>8} {:>6} {:>5}",
        "RUN", "VERDICT", "SQL GAP", "HTTP GAP", "REDUNDANCY", "WRITES", "FAILED", "LOST"
    ));
    for kept in &kept {
        match kept {
            Kept::Done(report) => report.runs.iter().for_each(|run| ui::out(&row(run))),
            Kept::Interrupted(run) => ui::out(&format!("{run:<40} interrupted")),
            Kept::Unreadable(run, error) => ui::out(&format!("{run:<40} unreadable: {error}")),
        }
    }
    ui::err(&format!("a page on each: {}/RUN/{PAGE}", store.folder().display()));
    Ok(0)
}

fn row(run: &DrillRun) -> String {
    let gap = |stream| run.times.of(stream).map_or("-".into(), |i| seconds(i.longest_gap_ms));
    let (sql, http) = (run.verdict.sql, run.verdict.http);
    format!(
        "{:<40} {:<7} {:>9} {:>9} {:>10} {:>8} {:>6} {:>5}",
        run.run,
        if run.pass { "pass" } else { "FAIL" },
        gap(Stream::Sql),
        gap(Stream::Http),
        run.times.redundancy_ms.map_or("never".into(), seconds),
        thousands(sql.acknowledged + http.acknowledged),
        thousands(sql.failed() + http.failed()),
        run.verdict.writes(AnomalyKind::Lost)
    )
}
