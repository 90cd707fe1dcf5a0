//! The failover drills of every run of the tests; `cargo xtask drills` runs them all, and several times.

use crate::{cli::Stackctl, step};

/// The negative control comes first: what a checker says that finds nothing is worth nothing.
pub fn run(stackctl: &Stackctl) {
    step("the negative control: the checker finds a planted loss");
    let control = drill(stackctl, &["--control"]);
    assert!(lost(&control) > 0, "{control:#}");

    for scenario in ["primary-delete", "switchover", "double-fault"] {
        step(&format!("drill: {scenario}"));
        let run = drill(stackctl, &[scenario]);
        assert_eq!(lost(&run), 0, "{run:#}");
        assert_eq!(run["pass"], true, "{:#}", run["criteria"]);
    }
    step("drill-history lists the four of them");
    let history = stackctl.ok(&["drill-history"]).stdout;
    assert!(history.lines().count() >= 5, "{history}");
}

fn drill(stackctl: &Stackctl, which: &[&str]) -> serde_json::Value {
    let events = stackctl.events(&[&["failover-drill", "--yes"], which].concat());
    let report = events.into_iter().find(|event| event["schema"] == "stackctl/drill-report").expect("a report");
    report["runs"][0].clone()
}

fn lost(run: &serde_json::Value) -> usize {
    let findings = run["verdict"]["findings"].as_array().expect("findings");
    findings.iter().filter(|finding| finding["wrong"] == "lost").count()
}
