//! The failover drills of every run of the tests; `cargo xtask drills` runs them all, and several times.

use crate::{
    cli::Stackctl,
    suite::{Stack, Step},
};

pub fn steps() -> Vec<Step> {
    vec![
        // It comes first: what a checker says that finds nothing is worth nothing.
        Step::new("drill-control", "the negative control: the checker finds a planted loss", control),
        Step::new("drill-primary-delete", "a deleted primary loses no write", |stack| passes(stack, "primary-delete")),
        Step::new("drill-switchover", "a switchover loses no write", |stack| passes(stack, "switchover")),
        Step::new("drill-double-fault", "two faults at once lose no write", |stack| passes(stack, "double-fault")),
    ]
}

fn control(stack: &Stack) {
    let control = drill(&stack.stackctl, &["--control"]);
    assert!(lost(&control) > 0, "{control:#}");
}

fn passes(stack: &Stack, scenario: &str) {
    let run = drill(&stack.stackctl, &[scenario]);
    assert_eq!(lost(&run), 0, "{run:#}");
    assert_eq!(run["pass"], true, "{:#}", run["criteria"]);
}

/// Runs a drill, which is in the history afterwards.
pub fn drill(stackctl: &Stackctl, which: &[&str]) -> serde_json::Value {
    let events = stackctl.events(&[&["failover-drill", "--yes"], which].concat());
    let report = events.into_iter().find(|event| event["schema"] == "stackctl/drill-report").expect("a report");
    let run = report["runs"][0]["run"].as_str().expect("a run has a name");
    assert!(stackctl.ok(&["drill-history"]).stdout.contains(run), "{run} is not in the history");
    report["runs"][0].clone()
}

fn lost(run: &serde_json::Value) -> usize {
    let findings = run["verdict"]["findings"].as_array().expect("findings");
    findings.iter().filter(|finding| finding["wrong"] == "lost").count()
}
