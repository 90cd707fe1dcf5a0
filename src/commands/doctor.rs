//! `stackctl doctor`: every check, with a remedy for each failure. Changes nothing.

use serde_json::json;

use crate::{
    checks::{self, Category, Finding, Status},
    cli::{Global, SourceArgs},
    commands::configured::configured,
    config::Options,
    context::Context,
    error::Result,
    ui::{self, Mode, Reporter, Style},
};

/// Checks this machine and the cluster; exit code 3 when this machine lacks something, 1 when anything
/// else fails.
///
/// # Errors
/// A configuration that is not valid.
pub async fn run(global: &Global, args: &SourceArgs, style: Style) -> Result<u8> {
    let config = configured(global, &Options { source: Some(args), ..Options::default() })?;
    let cx = Context::new(config, Reporter::discard())?;
    let findings = cx.until_deadline("stackctl doctor", async { Ok(checks::run(&cx, checks::all()).await) }).await?;
    let target = cx.config.target.describe();
    if style.mode == Mode::Json {
        let ok = !findings.iter().any(|finding| finding.outcome.stops());
        let report = json!({ "target": target, "ok": ok, "checks": findings }).to_string();
        ui::out(&ui::json_with_target(&report));
    } else {
        ui::out(&ui::with_target(&text(&target, &findings)));
    }
    Ok(exit_code(&findings))
}

fn exit_code(findings: &[Finding]) -> u8 {
    checks::failure(findings).map_or(0, |failure| failure.kind.exit_code())
}

fn text(target: &str, findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.what.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for category in [Category::Machine, Category::Cluster] {
        lines.push(match category {
            Category::Machine => category.title().to_owned(),
            Category::Cluster => format!("\n{} ({target})", category.title()),
        });
        for finding in findings.iter().filter(|finding| finding.category == category) {
            let outcome = &finding.outcome;
            // Several lines of a tool's own words stay below their check.
            let detail = outcome.detail.replace('\n', "\n      ");
            lines.push(format!("  {} {:<width$}  {detail}", mark(outcome.status), finding.what));
            lines.extend(outcome.remedies.iter().map(|remedy| format!("      try: {remedy}")));
        }
    }
    let count = |wanted: fn(Status) -> bool| findings.iter().filter(|finding| wanted(finding.outcome.status)).count();
    let failed = count(|status| matches!(status, Status::Failed | Status::Missing));
    let warnings = count(|status| status == Status::Warning);
    let plural =
        |number: usize, word: &str| if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") };
    lines.push(match (failed, warnings) {
        (0, 0) => "\nNo problem found.".into(),
        (0, warnings) => format!("\nNo problem found, {}.", plural(warnings, "warning")),
        (failed, _) => format!("\n{} found.", plural(failed, "problem")),
    });
    lines.join("\n")
}

const fn mark(status: Status) -> char {
    match status {
        Status::Ok => '✓',
        Status::Warning => '!',
        Status::Failed | Status::Missing => '✗',
        Status::Skipped => '·',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::CheckOutcome;

    fn finding(what: &'static str, category: Category, outcome: CheckOutcome) -> Finding {
        Finding { id: what, what, category, outcome }
    }

    #[test]
    fn findings_read_well_and_the_exit_code_tells_what_kind() {
        let mut findings = vec![
            finding("engine", Category::Machine, CheckOutcome::ok("27.0 answers")),
            finding("disk space", Category::Machine, CheckOutcome::warning("9 GiB free").remedy("free some")),
            finding("api", Category::Cluster, CheckOutcome::skipped("no cluster yet")),
        ];
        assert_eq!(exit_code(&findings), 0);
        insta::assert_snapshot!(text("minikube profile p", &findings), @r"
        This machine
          ✓ engine      27.0 answers
          ! disk space  9 GiB free
              try: free some

        The cluster (minikube profile p)
          · api         no cluster yet

        No problem found, 1 warning.
        ");
        findings.push(finding("webhooks", Category::Cluster, CheckOutcome::failed("nobody answers")));
        assert_eq!(exit_code(&findings), 1);
        findings.push(finding("cpus", Category::Machine, CheckOutcome::missing("1 CPU")));
        assert_eq!(exit_code(&findings), 3);
        assert!(text("t", &findings).ends_with("2 problems found."));
    }
}
