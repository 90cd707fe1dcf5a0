//! `cargo xtask bench web`: the web app beside one of the same function in Flask, SQLAlchemy and gunicorn, and one in Go
//! with pgx, on the same throw-away PostgreSQL, with the same schema and rows, in alternated rounds.

mod contender;
mod failover;
mod flask;
mod go;
mod measure;
mod report;
mod scale;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use testbed::postgres::Postgres;

use self::contender::Contender;
use self::flask::Flask;
use self::go::GoPeer;
use self::measure::ContenderBench;
use self::report::{Contended, WebFigures};
use super::write;
use crate::compile;
use crate::run::Run;
use crate::say::say;
use crate::web::install_postgres;
use crate::webapp::{Database, WebApp};

/// The fixed rate to begin with, as a share of what the slower one answers at most.
const SHARE: f64 = 0.5;

/// How to measure.
#[derive(Debug, clap::Args)]
pub struct BenchWebArgs {
    /// Rounds; their medians count.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Users in the table for the list by rows; can be given several times [default: 10000, 100000, 1000000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=100_000_000))]
    rows: Vec<u32>,
    /// Measure this program instead of the release build, such as the one in the image.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// The results as JSON [default: bench-web.json in Cargo's target folder].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Do not ask before installing PostgreSQL where there is none.
    #[arg(short, long)]
    yes: bool,
}

/// Measures, prints a table and writes the results.
///
/// # Errors
/// When something does not start or fails a request.
pub fn bench(args: &BenchWebArgs) -> Result<()> {
    install_postgres(args.yes, "measure the web app on a PostgreSQL in a temporary folder")?;
    let program = args.program.clone().map_or_else(|| compile::program("user-app", compile::Profile::Release), Ok)?;
    let app = WebApp(program.canonicalize().with_context(|| format!("no {}", program.display()))?);
    let contenders =
        [Contender::UserApp(app.clone()), Contender::Flask(Flask::install()?), Contender::Go(GoPeer::build()?)];
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let postgres = Postgres::start(&["shared_buffers=128MB", "max_wal_size=1GB"])?;
    let name = postgres.database()?;
    let database = Database { port: postgres.port, name: &name };
    app.migrate(database)?;
    let bench = ContenderBench {
        postgres: &postgres,
        database,
        app: &app,
        time: Duration::from_secs(args.seconds),
        folder: folder.path(),
    };

    let mut found = ["user-app", "Flask", "Go"].map(|name| Contended { name, ..Contended::default() });
    for round in 1..=args.rounds {
        for (contender, found) in contenders.iter().zip(&mut found) {
            let turn = bench.turn(contender).with_context(|| found.name)?;
            say(&format!(
                "round {round}, {}: {:.0} lists/s, {:.0} pages/s, {:.0} creates/s, {:.1} MiB, ready after {:.0} ms",
                found.name,
                turn.list_per_second,
                turn.pages_per_second,
                turn.create_per_second,
                turn.memory_mib,
                turn.ready_ms
            ));
            found.turns.push(turn);
        }
    }
    let slower = found.iter().map(|each| each.median(|turn| turn.list_per_second)).fold(f64::INFINITY, f64::min);
    let fixed_rate = at_a_rate(&bench, &contenders, &mut found, (slower * SHARE).floor(), args.rounds)?;
    for (contender, found) in contenders.iter().zip(&mut found) {
        say(&format!("the primary is killed, {}", found.name));
        found.failover = Some(failover::kill_primary(contender, &app, folder.path())?);
    }
    let rows = if args.rows.is_empty() { &[10_000, 100_000, 1_000_000] } else { args.rows.as_slice() };
    // gunicorn's threads take a connection each: a thousand are too many for it.
    let scaling = scale::measure(&bench, &[("user-app", &contenders[0]), ("Go", &contenders[2])], rows)?;
    let results = WebFigures {
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        flask: Flask::describe(flask::processes()),
        image: image(),
        fixed_rate,
        contenders: found,
        scaling,
    };
    results.print();
    say(&format!("written to {}", write(&results, args.out.as_deref(), "bench-web")?.display()));
    Ok(())
}

/// Measures the list at a rate that all hold in every round, `rate` or less; returns the rate.
fn at_a_rate(
    bench: &ContenderBench,
    contenders: &[Contender],
    found: &mut [Contended],
    mut rate: f64,
    rounds: u32,
) -> Result<f64> {
    let mut round = 0;
    while round < rounds {
        round += 1;
        for (contender, found) in contenders.iter().zip(&mut *found) {
            if rate < 1.0 {
                bail!("not even a list page a second is answered in time: there is no rate to compare at");
            }
            match bench.list_at(contender, rate).with_context(|| found.name)? {
                Some(p99) => {
                    say(&format!("round {round}, {}: {rate:.0} lists/s, p99 {p99:.2} ms", found.name));
                    found.p99_ms.push(p99);
                }
                None => {
                    say(&format!("{} does not hold {rate:.0} lists/s: all again with less", found.name));
                    rate = (rate * 0.7).floor();
                    round = 0;
                    break;
                }
            }
        }
        if round == 0 {
            found.iter_mut().for_each(|each| each.p99_ms.clear());
        }
    }
    Ok(rate)
}

/// The newest web image of this machine's engine, and its size in MB.
fn image() -> Option<(String, f64)> {
    let images = Run::new("docker", 15).args(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "user-app"]);
    let name = images.output().ok()?.lines().next()?.to_owned();
    let size = Run::new("docker", 15).args(["image", "inspect", "--format", "{{.Size}}", &name]).output().ok()?;
    Some((name, size.parse::<f64>().ok()? / 1e6))
}
