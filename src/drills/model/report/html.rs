//! The report as one HTML page that needs nothing beside itself: no script, no font, no address.

use std::fmt::Write as _;

use super::{
    super::{history::Stream, times::millis},
    DrillReport, DrillRun, Environment,
    junit::escape,
    svg::timeline,
    text::{distribution, seconds},
};
use crate::stats::thousands;

const STYLE: &str = include_str!("report.css");
/// Findings on the page; all of them are in the JSON report.
const SHOWN: usize = 200;

/// Writes the page.
pub fn html(report: &DrillReport) -> String {
    let outcome = if report.pass() { "passed" } else { "failed" };
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Failover drill: {outcome}</title>\n<style>\n{STYLE}</style></head>\n<body>\n<main>\n\
         <h1>Failover drill <span class=\"{outcome}\">{outcome}</span></h1>\n"
    );
    let all: u64 = report.runs.iter().map(|run| run.verdict.sql.acknowledged + run.verdict.http.acknowledged).sum();
    let lost: usize = report.runs.iter().map(|run| run.verdict.writes(super::super::verdict::AnomalyKind::Lost)).sum();
    let _ = writeln!(
        page,
        "<p class=\"lead\">{} acknowledged writes, {} lost, in {} {}.</p>",
        thousands(all),
        thousands(lost as u64),
        report.runs.len(),
        if report.runs.len() == 1 { "run" } else { "runs" }
    );
    let spread = distribution(&report.runs);
    if !spread.is_empty() {
        let _ = writeln!(page, "<h2>Distribution</h2>\n<pre>{}</pre>", escape(&spread));
    }
    for run in &report.runs {
        section(&mut page, run);
    }
    environment(&mut page, &report.environment);
    page.push_str("</main>\n</body></html>\n");
    page
}

fn section(page: &mut String, run: &DrillRun) {
    let outcome = if run.pass { "passed" } else { "failed" };
    let _ = writeln!(
        page,
        "<section>\n<h2>{} <span class=\"{outcome}\">{outcome}</span></h2>\n<p class=\"dim\">{}, {}, {} writes a second \
         in each stream, {} long</p>",
        escape(&run.title),
        escape(&run.run),
        run.began.strftime("%Y-%m-%d %H:%M:%S UTC"),
        run.rate,
        seconds(run.lasted_ms)
    );
    page.push_str("<div class=\"tiles\">\n");
    for interruption in &run.times.interruptions {
        let recovery = interruption.recovery_ms.map_or("never".to_owned(), seconds);
        let name = match interruption.stream {
            Stream::Sql => "first SQL write after the fault",
            Stream::Http => "first web write after the fault",
        };
        tile(page, &recovery, name);
        tile(page, &seconds(interruption.longest_gap_ms), &format!("longest {} gap", interruption.stream));
    }
    tile(page, &run.times.redundancy_ms.map_or("never".to_owned(), seconds), "full redundancy");
    tile(page, &thousands(run.verdict.http.failed()), "failed web requests");
    page.push_str("</div>\n<figure>\n");
    page.push_str(&timeline(run));
    page.push_str(
        "<figcaption><span class=\"key ok\"></span> acknowledged <span class=\"key bad\"></span> failed \
         <span class=\"key median\"></span> median latency <span class=\"key max\"></span> longest latency \
         <span class=\"key band\"></span> from the fault to full redundancy</figcaption>\n</figure>\n",
    );
    criteria(page, run);
    latencies(page, run);
    events(page, run);
    page.push_str("</section>\n");
}

fn tile(page: &mut String, value: &str, label: &str) {
    let _ = writeln!(page, "<div><strong>{}</strong>{}</div>", escape(value), escape(label));
}

fn criteria(page: &mut String, run: &DrillRun) {
    page.push_str("<h3>Verdict</h3>\n<table><tr><th>Criterion</th><th>Holds</th><th>Figures</th></tr>\n");
    for criterion in &run.criteria {
        let (class, word) = if criterion.ok { ("passed", "yes") } else { ("failed", "no") };
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td><span class=\"{class}\">{word}</span></td><td>{}</td></tr>",
            escape(&criterion.name),
            escape(&criterion.detail)
        );
    }
    page.push_str("</table>\n");
    if !run.verdict.anomalies.is_empty() {
        page.push_str("<details open><summary>Findings</summary><ul>\n");
        for anomaly in run.verdict.anomalies.iter().take(SHOWN) {
            let _ = writeln!(page, "<li>{}</li>", escape(&anomaly.to_string()));
        }
        if run.verdict.anomalies.len() > SHOWN {
            let _ = writeln!(page, "<li>and {} more in the JSON report</li>", run.verdict.anomalies.len() - SHOWN);
        }
        page.push_str("</ul></details>\n");
    }
}

fn latencies(page: &mut String, run: &DrillRun) {
    page.push_str(
        "<h3>Latency</h3>\n<table class=\"numbers\"><tr><th>Stream</th><th>Part</th><th>Lasted</th><th>Writes</th>\
         <th>Failed</th><th>p50</th><th>p99</th><th>Longest</th></tr>\n",
    );
    for interruption in &run.times.interruptions {
        for (name, phase) in ["before", "during", "after"].iter().zip(&interruption.phases) {
            let _ = writeln!(
                page,
                "<tr><td>{}</td><td>{name}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                interruption.stream,
                seconds(phase.lasted_ms),
                thousands(phase.due),
                thousands(phase.failed),
                seconds(phase.p50_ms),
                seconds(phase.p99_ms),
                seconds(phase.max_ms)
            );
        }
    }
    page.push_str("</table>\n");
    if !run.reasons.is_empty() {
        page.push_str("<details><summary>Why writes failed</summary><table class=\"numbers\">\n");
        for (reason, count) in &run.reasons {
            let _ = writeln!(page, "<tr><td>{}</td><td>{}</td></tr>", escape(reason), thousands(*count));
        }
        page.push_str("</table></details>\n");
    }
}

fn events(page: &mut String, run: &DrillRun) {
    page.push_str("<details><summary>Events</summary><table class=\"numbers\"><tr><th>After the fault</th><th>Event</th><th></th></tr>\n");
    for event in &run.events {
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            seconds(millis(event.at) - run.times.injected_ms),
            event.kind.title(),
            escape(&event.text)
        );
    }
    page.push_str("</table></details>\n");
}

fn environment(page: &mut String, environment: &Environment) {
    page.push_str("<h2>Environment</h2>\n<table>\n");
    let rows = [
        ("stackctl", environment.stackctl.clone()),
        ("Cluster", environment.target.clone()),
        ("Kubernetes", environment.kubernetes.clone()),
        ("Nodes", environment.nodes.to_string()),
        ("Operator", environment.operator.clone()),
        ("PostgreSQL", format!("{} × {}", environment.instances, environment.postgresql)),
        ("Web pods", environment.web_pods.to_string()),
        ("Settings", environment.settings.join(", ")),
    ];
    for (name, value) in rows {
        let _ = writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", escape(&value));
    }
    page.push_str("</table>\n");
}
