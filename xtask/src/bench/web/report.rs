//! The results, held against their goals.

use serde::Serialize;

use super::failover::Survived;
use super::measure::Turn;
use super::scale::Scaling;
use crate::say::tell;
use crate::stats::median;

/// All that was measured.
#[derive(Debug, Serialize)]
pub struct WebFigures {
    /// Processors of this machine.
    pub processors: usize,
    /// How the yardstick was run.
    pub flask: String,
    /// The web image that the engine has, and its size in MB.
    pub image: Option<(String, f64)>,
    /// Requests a second of the list at a fixed rate.
    pub fixed_rate: f64,
    /// Ours, the yardstick's and the peer's.
    pub contenders: [Contended; 3],
    /// How ours holds up as what it serves grows.
    pub scaling: Scaling,
}

/// What was measured of one of them.
#[derive(Debug, Default, Serialize)]
pub struct Contended {
    /// The contender's name.
    pub name: &'static str,
    /// One a round.
    pub turns: Vec<Turn>,
    /// 99 of 100 list pages at the fixed rate came within so many milliseconds; one a round.
    pub p99_ms: Vec<f64>,
    /// The primary was killed.
    pub failover: Option<Survived>,
}

impl Contended {
    /// The median of the rounds.
    pub fn median(&self, of: impl Fn(&Turn) -> f64) -> f64 {
        median(&self.turns.iter().map(of).collect::<Vec<_>>())
    }

    /// The median of the rounds.
    pub fn p99(&self) -> f64 {
        median(&self.p99_ms)
    }
}

/// One measure beside its goal.
#[derive(Debug, PartialEq)]
struct ComparedRow {
    what: &'static str,
    ours: String,
    theirs: String,
    ratio: String,
    goal: &'static str,
    met: Option<bool>,
}

impl WebFigures {
    /// Ours beside Flask.
    fn beside_flask(&self) -> Vec<ComparedRow> {
        let [ours, theirs, _] = &self.contenders;
        let both = |of: fn(&Turn) -> f64| (ours.median(of), theirs.median(of));
        let mut rows = vec![
            compare("list page of 100 rows, requests/s", both(|turn| turn.list_per_second), 0, ">= 20 x", |a, b| {
                a >= 20.0 * b
            }),
            compare("the same, each from another place", both(|turn| turn.pages_per_second), 0, "-", |_, _| true),
            compare("create, requests/s", both(|turn| turn.create_per_second), 0, ">= 2 x", |a, b| a >= 2.0 * b),
            compare("memory under load, MiB", both(|turn| turn.memory_mib), 1, "<= 1/8, <= 25", |a, b| {
                a <= b / 8.0 && a <= 25.0
            }),
            compare("list at a fixed rate, p99, ms", (ours.p99(), theirs.p99()), 2, "<= 1/5", |a, b| a <= b / 5.0),
            compare("start to ready, ms", both(|turn| turn.ready_ms), 0, "<= 150", |a, _| a <= 150.0),
        ];
        let size = self.image.as_ref().map(|(_, mb)| *mb);
        let none = || "-".to_owned();
        rows.push(ComparedRow {
            what: "image, MB",
            ours: size.map_or_else(none, |mb| format!("{mb:.1}")),
            theirs: none(),
            ratio: none(),
            goal: "<= 20",
            met: size.map(|mb| mb <= 20.0),
        });
        rows.extend(survival(ours.failover.as_ref(), theirs.failover.as_ref()));
        rows
    }

    /// Ours beside Go.
    fn beside_go(&self) -> Vec<ComparedRow> {
        let [ours, _, theirs] = &self.contenders;
        let both = |of: fn(&Turn) -> f64| (ours.median(of), theirs.median(of));
        let not_less: fn(f64, f64) -> bool = |a, b| a >= b;
        let mut rows = vec![
            compare("list page of 100 rows, requests/s", both(|turn| turn.list_per_second), 0, ">= 1 x", not_less),
            compare("the same, each from another place", both(|turn| turn.pages_per_second), 0, ">= 1 x", not_less),
            compare(
                "the same, for each second of processor",
                both(|turn| turn.pages_per_processor_second),
                0,
                ">= 1 x",
                not_less,
            ),
            compare("create, requests/s", both(|turn| turn.create_per_second), 0, ">= 1 x", not_less),
            compare("memory under load, MiB", both(|turn| turn.memory_mib), 1, "<= 0.7 x", |a, b| a <= 0.7 * b),
            compare("list at a fixed rate, p99, ms", (ours.p99(), theirs.p99()), 2, "-", |_, _| true),
            compare("start to ready, ms", both(|turn| turn.ready_ms), 0, "-", |_, _| true),
        ];
        rows.extend(survival(ours.failover.as_ref(), theirs.failover.as_ref()));
        rows
    }

    fn table(&self, name: &str, rows: &[ComparedRow]) {
        tell("");
        tell(&format!("{:<40} {:>12} {:>12} {:>8}  {:<14} goal met", "", "user-app", name, "ratio", "goal"));
        for row in rows {
            let met = row.met.map_or("not measured", |met| if met { "yes" } else { "NO" });
            let met = if row.goal == "-" { "-" } else { met };
            tell(&format!(
                "{:<40} {:>12} {:>12} {:>8}  {:<14} {met}",
                row.what, row.ours, row.theirs, row.ratio, row.goal
            ));
        }
    }

    /// Prints the tables.
    pub fn print(&self) {
        self.table("Flask", &self.beside_flask());
        self.table("Go", &self.beside_go());
        self.scaling.print();
        tell("");
        tell(&format!("medians of {} rounds on {} processors", self.contenders[0].turns.len(), self.processors));
        tell(&format!("Flask: {}; fixed rate: {:.0} requests/s", self.flask, self.fixed_rate));
        match &self.image {
            Some((name, _)) => tell(&format!("image: {name}")),
            None => tell("image: the engine of this machine has none, or none runs"),
        }
        let name_and_failover = self.contenders.iter().filter_map(|each| Some((each.name, each.failover.as_ref()?)));
        for (name, Survived { acknowledged, errors, error, longest, .. }) in name_and_failover {
            let first = error.as_ref().map(|error| format!(", such as: {error}")).unwrap_or_default();
            tell(&format!(
                "primary killed, {name}: {acknowledged} acknowledged, longest {longest:.1} s, {errors} errors{first}"
            ));
        }
    }
}

/// A row of two figures.
fn compare(
    what: &'static str,
    (ours, theirs): (f64, f64),
    digits: usize,
    goal: &'static str,
    met: impl Fn(f64, f64) -> bool,
) -> ComparedRow {
    let number = |n: f64| format!("{n:.digits$}");
    let ratio = if ours >= theirs { format!("{:.1} x", ours / theirs) } else { format!("1/{:.1}", theirs / ours) };
    ComparedRow { what, ours: number(ours), theirs: number(theirs), ratio, goal, met: Some(met(ours, theirs)) }
}

fn survival(ours: Option<&Survived>, theirs: Option<&Survived>) -> Option<ComparedRow> {
    let told = |s: &Survived| format!("{}/{}/{}", s.lost, s.doubled, s.errors);
    let ours = ours?;
    Some(ComparedRow {
        what: "primary killed: lost/doubled/errors",
        ours: told(ours),
        theirs: theirs.map_or_else(|| "-".into(), told),
        ratio: "-".into(),
        goal: "0/0/0",
        met: Some((ours.lost, ours.doubled, ours.errors) == (0, 0, 0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contended(name: &'static str, factor: f64) -> Contended {
        let turn = |n: f64| Turn {
            list_per_second: n * factor,
            pages_per_second: n * factor,
            pages_per_processor_second: n * factor,
            create_per_second: n,
            memory_mib: 100.0 / factor,
            ready_ms: 500.0 / factor,
        };
        let failover = Survived { acknowledged: 9, lost: 0, doubled: 0, errors: 0, error: None, longest: 1.0 };
        Contended {
            name,
            turns: vec![turn(3.0), turn(1.0), turn(2.0)],
            p99_ms: vec![4.0 / factor],
            failover: Some(failover),
        }
    }

    #[test]
    fn medians_are_held_against_the_goals() {
        let contenders = [contended("user-app", 20.0), contended("Flask", 1.0), contended("Go", 25.0)];
        let scaling = Scaling { rows: Vec::new(), memory_mib: Vec::new(), create_alone: 1.0, create_synchronous: 1.0 };
        let results =
            WebFigures { processors: 2, flask: String::new(), image: None, fixed_rate: 1.0, contenders, scaling };
        let met = |rows: &[ComparedRow]| rows.iter().map(|row| row.met).collect::<Vec<_>>();
        let flask = results.beside_flask();
        let expected = [Some(true), Some(true), Some(false), Some(true), Some(true), Some(true), None, Some(true)];
        assert_eq!(met(&flask), expected);
        assert_eq!((flask[0].ours.as_str(), flask[0].theirs.as_str(), flask[0].ratio.as_str()), ("40", "2", "20.0 x"));
        assert_eq!((flask[3].ours.as_str(), flask[3].ratio.as_str()), ("5.0", "1/20.0"));
        let go = results.beside_go();
        let expected = [false, false, false, true, false, true, true, true].map(Some);
        assert_eq!(met(&go), expected);
        assert_eq!((go[4].ours.as_str(), go[4].theirs.as_str(), go[4].ratio.as_str()), ("5.0", "4.0", "1.2 x"));
    }
}
