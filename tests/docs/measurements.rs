//! `docs/measurements.md` from the figures that are kept in `docs/measurements/`.

use std::{fmt::Write as _, fs};

use serde::Deserialize;

/// A table of figures that one command measured on one machine.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Measurement {
    title: String,
    /// What measured it.
    command: String,
    machine: String,
    /// Of the code that was measured.
    commit: String,
    /// Of the last run.
    date: String,
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
    #[serde(default)]
    notes: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Cell {
    Spread { least: f64, median: f64, most: f64 },
    Number(f64),
    Text(String),
}

#[test]
fn the_measurements_are_made_from_the_figures_that_are_kept() {
    super::check("docs/measurements.md", &page());
}

fn page() -> String {
    let mut page = String::from(
        "# Measurements\n\n<!-- Made by `cargo xtask docs` from docs/measurements/*.json: not to be changed by hand. -->\n\n\
         Three numbers are least / **median** / most. Commands that compare measure both sides in one run. What is not \
         met is said to be so.\n",
    );
    let mut files: Vec<_> =
        fs::read_dir(super::file("docs/measurements")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "there are no figures");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let one: Measurement =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        writeln!(page, "\n## {}\n", one.title).unwrap();
        writeln!(page, "`{}`, {}, at {} ({}).\n", one.command, one.machine, one.commit, one.date).unwrap();
        writeln!(page, "| {} |\n|{}", one.columns.join(" | "), "---|".repeat(one.columns.len())).unwrap();
        for row in &one.rows {
            assert_eq!(row.len(), one.columns.len(), "{}: a row of {:?}", file.display(), row.first());
            let cells: Vec<String> = row.iter().map(cell).collect();
            writeln!(page, "| {} |", cells.join(" | ")).unwrap();
        }
        if !one.notes.is_empty() {
            page.push('\n');
        }
        for note in &one.notes {
            writeln!(page, "- {note}").unwrap();
        }
    }
    page
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Spread { least, median, most } => format!("{least} / **{median}** / {most}"),
        Cell::Number(number) if number.fract() == 0.0 => thousands(number.abs() as u64),
        Cell::Number(number) => number.to_string(),
        Cell::Text(text) => text.clone(),
    }
}

fn thousands(number: u64) -> String {
    match number / 1000 {
        0 => number.to_string(),
        more => format!("{},{:03}", thousands(more), number % 1000),
    }
}
