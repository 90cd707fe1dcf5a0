//! The results, held against their goals.

use serde::Serialize;

use super::failover::Survived;
use super::measure::Turn;
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
    /// Ours and the yardstick's.
    pub contenders: [Contended; 2],
}

/// What was measured of one of the two.
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
    fn rows(&self) -> Vec<ComparedRow> {
        let [ours, theirs] = &self.contenders;
        let mut rows = Vec::new();
        let mut row = |what, (a, b): (f64, f64), digits, goal, met: bool| {
            let number = |n: f64| format!("{n:.digits$}");
            let ratio = if a >= b { format!("{:.1} x", a / b) } else { format!("1/{:.1}", b / a) };
            rows.push(ComparedRow { what, ours: number(a), theirs: number(b), ratio, goal, met: Some(met) });
        };
        let both = |of: fn(&Turn) -> f64| (ours.median(of), theirs.median(of));
        let (a, b) = both(|turn| turn.list_per_second);
        row("list page of 100 rows, requests/s", (a, b), 0, ">= 20 x", a >= 20.0 * b);
        let (a, b) = both(|turn| turn.create_per_second);
        row("create, requests/s", (a, b), 0, ">= 2 x", a >= 2.0 * b);
        let (a, b) = both(|turn| turn.memory_mib);
        row("memory under load, MiB", (a, b), 1, "<= 1/8, <= 25", a <= b / 8.0 && a <= 25.0);
        let (a, b) = (ours.p99(), theirs.p99());
        row("list at a fixed rate, p99, ms", (a, b), 2, "<= 1/5", a <= b / 5.0);
        let (a, b) = both(|turn| turn.ready_ms);
        row("start to ready, ms", (a, b), 0, "<= 150", a <= 150.0);
        let size = self.image.as_ref().map(|(_, mb)| *mb);
        let (none, ours_mb) = ("-".to_owned(), size.map(|mb| format!("{mb:.1}")));
        let met = size.map(|mb| mb <= 20.0);
        let ours_mb = ours_mb.unwrap_or_else(|| none.clone());
        rows.push(ComparedRow {
            what: "image, MB",
            ours: ours_mb,
            theirs: none.clone(),
            ratio: none,
            goal: "<= 20",
            met,
        });
        rows.extend(survival(ours.failover.as_ref(), theirs.failover.as_ref()));
        rows
    }

    /// Prints the table.
    pub fn print(&self) {
        tell("");
        tell(&format!("{:<36} {:>12} {:>12} {:>8}  {:<14} goal met", "", "user-app", "Flask", "ratio", "goal"));
        for row in self.rows() {
            let met = row.met.map_or("not measured", |met| if met { "yes" } else { "NO" });
            tell(&format!(
                "{:<36} {:>12} {:>12} {:>8}  {:<14} {met}",
                row.what, row.ours, row.theirs, row.ratio, row.goal
            ));
        }
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
        let contenders = [contended("user-app", 20.0), contended("Flask", 1.0)];
        let results = WebFigures { processors: 2, flask: String::new(), image: None, fixed_rate: 1.0, contenders };
        let rows = results.rows();
        let met: Vec<_> = rows.iter().map(|row| row.met).collect();
        assert_eq!(met, [Some(true), Some(false), Some(true), Some(true), Some(true), None, Some(true)]);
        assert_eq!((rows[0].ours.as_str(), rows[0].theirs.as_str(), rows[0].ratio.as_str()), ("40", "2", "20.0 x"));
        assert_eq!((rows[2].ours.as_str(), rows[2].ratio.as_str()), ("5.0", "1/20.0"));
    }
}
