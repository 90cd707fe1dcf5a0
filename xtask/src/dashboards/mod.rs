//! Grafana's dashboards, written down as data: `assets/dashboards/*.json` is made from this, so that a change can be
//! reviewed as a line about a panel.

mod cloudnativepg;
mod failover;
mod json;
mod upkeep;
mod user_app;

use std::fs;

use anyhow::{Context as _, Result};

use crate::say::say;
use crate::workspace;

/// A dashboard.
#[derive(Debug)]
pub struct Dashboard {
    /// The file's name without its ending, and the last part of the address in Grafana.
    uid: &'static str,
    title: &'static str,
    description: &'static str,
    /// How far back it looks when it is opened, e.g. `15m`.
    span: &'static str,
    rows: Vec<Row>,
}

/// Panels under a heading; without one they stand at the top.
#[derive(Debug)]
pub struct Row {
    title: &'static str,
    panels: Vec<Panel>,
}

/// One picture.
#[derive(Debug, Clone)]
pub struct Panel {
    title: &'static str,
    /// What it shows, for the corner of the panel.
    help: &'static str,
    kind: Kind,
    /// Grafana's name of the unit.
    unit: &'static str,
    /// In columns of 24.
    width: u32,
    /// In Grafana's rows of some 30 pixels.
    height: u32,
    queries: Vec<Query>,
    /// What must be there for it to show anything.
    only_under: Option<&'static str>,
}

/// How a panel draws.
#[derive(Debug, Clone)]
enum Kind {
    /// Lines over time.
    Lines,
    /// Areas on top of each other over time.
    Stacked,
    /// The last value; from each number on, the colour.
    Number(&'static [(f64, &'static str)]),
    /// The legend of the last value: for what is told by a label.
    Name,
    /// A bar for each series, coloured by the value: number, word, colour.
    States(&'static [(u32, &'static str, &'static str)]),
}

/// A PromQL expression and the legend of its series.
#[derive(Debug, Clone)]
struct Query {
    expr: String,
    legend: &'static str,
}

fn query(legend: &'static str, expr: impl Into<String>) -> Query {
    Query { expr: expr.into(), legend }
}

fn row(title: &'static str, panels: Vec<Panel>) -> Row {
    Row { title, panels }
}

fn panel(title: &'static str, kind: Kind, unit: &'static str, help: &'static str, queries: Vec<Query>) -> Panel {
    let (width, height) = match kind {
        Kind::Number(_) | Kind::Name => (4, 4),
        _ => (8, 7),
    };
    Panel { title, help, kind, unit, width, height, queries, only_under: None }
}

impl Panel {
    fn size(mut self, width: u32, height: u32) -> Self {
        (self.width, self.height) = (width, height);
        self
    }

    fn only_under(mut self, what: &'static str) -> Self {
        self.only_under = Some(what);
        self
    }
}

/// Up and down.
const UP: &[(u32, &str, &str)] = &[(0, "down", "red"), (1, "up", "green")];
/// Good at one and above.
const WANTED: &[(f64, &str)] = &[(0.0, "red"), (1.0, "green")];
/// Good at zero.
const UNWANTED: &[(f64, &str)] = &[(0.0, "green"), (1.0, "red")];
/// Neither good nor bad.
const PLAIN: &[(f64, &str)] = &[(0.0, "blue")];

/// Every dashboard.
fn all() -> Vec<Dashboard> {
    vec![cloudnativepg::dashboard(), failover::dashboard(), user_app::dashboard()]
}

/// File name and text of each.
///
/// # Errors
/// Only if a dashboard cannot be written as JSON.
fn files() -> Result<Vec<(String, String)>> {
    all()
        .iter()
        .map(|dashboard| {
            let text = serde_json::to_string_pretty(&json::of(dashboard))?;
            Ok((format!("assets/dashboards/{}.json", dashboard.uid), format!("{text}\n")))
        })
        .collect()
}

/// Writes them into `assets/dashboards/`.
///
/// # Errors
/// When the file system refuses.
pub fn write() -> Result<()> {
    for (path, text) in files()? {
        fs::write(workspace().join(&path), text).with_context(|| format!("cannot write {path}"))?;
        say(&path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_files_are_what_the_source_makes() {
        for (path, text) in files().unwrap() {
            let there = fs::read_to_string(workspace().join(&path)).unwrap_or_default();
            assert!(there == text, "{path} is not what its source makes: run cargo xtask dashboards");
        }
        let folder = fs::read_dir(workspace().join("assets/dashboards")).unwrap();
        assert_eq!(folder.count(), files().unwrap().len(), "a file in assets/dashboards has no source");
    }

    #[test]
    fn panels_fit_and_say_what_they_show() {
        for dashboard in all() {
            let mut titles = BTreeSet::new();
            for panel in dashboard.rows.iter().flat_map(|row| &row.panels) {
                assert!(titles.insert(panel.title), "{}: two panels {:?}", dashboard.uid, panel.title);
                assert!((1..=24).contains(&panel.width), "{}", panel.title);
                assert!(!panel.queries.is_empty() && !panel.help.is_empty(), "{}", panel.title);
            }
        }
    }
}
