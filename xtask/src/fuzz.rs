//! `cargo xtask fuzz`: input that nobody thinks of. Parsers get what a coverage-guided fuzzer makes up (`tests/fuzz`, by
//! cargo-fuzz), the running web app requests that are made from its description and against it (by schemathesis).

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use testbed::postgres::Postgres;

use crate::run::Run;
use crate::say::{say, tell};
use crate::tally::cargo;
use crate::webapp::{Database, WebApp, until_ready};
use crate::{cargo_tool, compile, python, target_folder, web, workspace};

/// Its arguments and what it prints are part of the check.
const CARGO_FUZZ: &str = "0.13.1";
/// What compiling, starting and ending may take on top of the time for fuzzing, in seconds.
const BESIDE: u64 = 1800;
/// How long a parser may take for one input, in seconds, with instruments: far more than any should.
const ONE_INPUT: u32 = 10;

/// What is given input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum FuzzTarget {
    /// The web app, by its API.
    Api,
    /// Names and addresses of users.
    Fields,
    /// Queries and headers of requests.
    Requests,
    /// Arguments of the WAL programs, and names of WAL files.
    WalCommands,
    /// What the archive of WAL answers with.
    WalContents,
}

/// What to fuzz, and for how long.
#[derive(Debug, clap::Args)]
pub struct FuzzArgs {
    /// How long each of them is given input.
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
    /// Only these; can be given several times [default: all].
    #[arg(long, value_enum)]
    only: Vec<FuzzTarget>,
    /// Do not ask before installing PostgreSQL where there is none.
    #[arg(short, long)]
    yes: bool,
}

/// Fuzzes one after the other; what is found ends that one, and is told with where it is kept.
///
/// # Errors
/// When one cannot be compiled or started.
pub fn fuzz(args: &FuzzArgs) -> Result<ExitCode> {
    let targets = if args.only.is_empty() { FuzzTarget::value_variants().to_vec() } else { args.only.clone() };
    let mut found = 0;
    for target in targets {
        let is_clean = match target {
            FuzzTarget::Api => api(args)?,
            parser => parse(parser, args.minutes)?,
        };
        if !is_clean {
            found += 1;
            tell(&format!("{}: something was found, see above", name(target)));
        }
    }
    Ok(if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn name(target: FuzzTarget) -> String {
    target.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// A folder that is kept from one run to the next: what was found to lead to new places in the code is begun with.
fn folder(kind: &str, target: &str) -> Result<PathBuf> {
    let folder = target_folder().join("fuzz").join(kind).join(target);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Gives a parser input; true when it has held all that its target asserts.
fn parse(target: FuzzTarget, minutes: u64) -> Result<bool> {
    let target = name(target);
    let program = cargo_tool::program("cargo-fuzz", CARGO_FUZZ)?;
    let manifest = workspace().join("tests/fuzz");
    let (corpus, findings) = (folder("corpus", &target)?, folder("findings", &target)?);
    let manifest_path = manifest.join("Cargo.toml").display().to_string();
    // cargo-fuzz itself goes on with whatever lock it can make.
    cargo(&["fetch", "--locked", "--quiet", "--manifest-path", &manifest_path]).go()?;
    say(&format!("{target}: {minutes} min"));
    let code = Run::new(program, minutes * 60 + BESIDE)
        .dir(&workspace())
        // The sanitizer is the compiler's, but for nightly ones only; the pinned compiler has the same.
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["run", &target, "--fuzz-dir"])
        .args([&manifest])
        .args(["--target-dir"])
        .args([target_folder().join("fuzz/build"), corpus])
        .args(["--".to_owned(), format!("-max_total_time={}", minutes * 60), format!("-timeout={ONE_INPUT}")])
        .args([format!("-artifact_prefix={}/", findings.display()), "-print_final_stats=1".to_owned()])
        .on_terminal()?;
    Ok(code == 0)
}

/// Gives the web app requests; true when each answer was one that its description has.
fn api(args: &FuzzArgs) -> Result<bool> {
    web::install_postgres(args.yes, "run the web app on a PostgreSQL in a temporary folder")?;
    let settings = workspace().join("xtask/fuzz");
    let python = python::environment("schemathesis", &settings.join("requirements.txt"))?;
    let app = WebApp(compile::program("user-app", compile::Profile::Dev)?);
    // Nothing in it outlives the run, so nothing needs to be safe on disk.
    let postgres = Postgres::start(&["fsync=off"])?;
    let database = postgres.database()?;
    let database = Database { port: postgres.port, name: &database };
    app.migrate(database)?;
    let address = SocketAddr::from(([127, 0, 0, 1], testbed::free_port()));
    let folder = folder("findings", "api")?;
    let log = folder.join("app.log");
    let running = app.start(database, address, &[("POD_NAME", "local")], Some(&log))?;
    until_ready(&running, address, Duration::from_secs(15))?;
    say(&format!("api: {} min", args.minutes));
    let code = Run::new(python.join("bin/schemathesis"), args.minutes * 60 + BESIDE)
        .dir(&folder)
        .args(["--config-file"])
        .args([settings.join("schemathesis.toml")])
        .args(["--no-color", "run", "--continue-on-failure", "--max-time", &(args.minutes * 60).to_string()])
        .args([format!("http://{address}/api/v1/openapi.json")])
        .on_terminal()?;
    if !running.is_running() {
        bail!("the app has ended; the end of its log:\n{}", running.tail());
    }
    Ok(code == 0)
}
