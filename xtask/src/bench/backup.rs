//! `cargo xtask bench backup`: backups of a running stack, measured: what they take of memory, a base backup beside a
//! `pg_basebackup` of the same instance, restores to random moments compared row by row, and a large one.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use serde_json::Value;

use super::write;
use crate::bundle;
use crate::run::Run;
use crate::say::{say, tell};
use crate::stackctl::RELEASE;
use crate::stats::median;

/// Seconds that a restore may take.
const RESTORE: u64 = 900;
/// Seconds of everything else.
const PATIENCE: u64 = 300;
/// What the names of the restored databases begin with.
const SCRATCH: &str = "bench";
/// Pods whose memory is that of backups, by namespace and the beginning of their names.
const OURS: [(&str, &str); 2] = [("user-app", "backup-store"), ("cnpg-system", "barman-cloud")];
/// The sidecar of each instance, which is told apart: it comes with every instance.
const SIDECAR: &str = "plugin-barman-cloud";

/// Where and how to measure.
#[derive(Debug, clap::Args)]
pub struct BenchBackupArgs {
    /// The context of a running stack.
    #[arg(long, default_value = "stackctl", value_name = "NAME")]
    context: String,
    /// Restores to random moments.
    #[arg(long, default_value_t = 10, value_name = "N")]
    markers: usize,
    /// Base backups by each way, in turns.
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// MiB that the database is filled with before base backups and the large restore; 0: neither is measured.
    #[arg(long, default_value_t = 1024, value_name = "N")]
    size: u32,
    /// The results as JSON [default: bench-backup.json in Cargo's target folder].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// All that was measured.
#[derive(Debug, Default, Serialize)]
struct BackupFigures {
    /// MiB of the store and the plugin while nothing is backed up.
    idle_mib: f64,
    /// MiB of each instance's sidecar, then.
    sidecars_mib: Vec<f64>,
    /// Bytes of the databases when base backups were taken.
    size: u64,
    /// MiB/s of the database by base backups into the store.
    base_backup: Vec<f64>,
    /// MiB/s by pg_basebackup to a local file.
    pg_basebackup: Vec<f64>,
    /// Medians, the first by the second.
    ratio: f64,
    /// Seconds of the large restore, until every instance was ready.
    restore_seconds: Option<f64>,
    /// Restores to random moments.
    markers: Vec<Marker>,
}

/// A moment between two transactions.
#[derive(Debug, Serialize)]
struct Marker {
    moment: String,
    /// Rows that were committed by then.
    rows: u64,
    /// Whether the restored rows were these.
    equal: bool,
    seconds: f64,
}

/// Measures, prints and writes the results.
///
/// # Errors
/// When something of it fails; what it made in the cluster is deleted all the same.
pub fn bench(args: &BenchBackupArgs) -> Result<()> {
    bundle::make_only(bundle::Only::ControlPlane)?;
    let stack = Stack {
        stackctl: RELEASE.build()?,
        kubectl: bundle::programs_folder()?.join("kubectl"),
        context: args.context.clone(),
    };
    let outcome = measure(&stack, args);
    let _ = stack.sql(None, "drop table if exists bench_backup, bench_markers, bench_fill");
    let results = outcome?;
    print(&results);
    let file = write(&results, args.out.as_deref(), "bench-backup")?;
    say(&format!("written to {}", file.display()));
    Ok(())
}

fn measure(stack: &Stack, args: &BenchBackupArgs) -> Result<BackupFigures> {
    let mut results = BackupFigures::default();
    (results.idle_mib, results.sidecars_mib) = memory(stack)?;
    if args.markers > 0 {
        results.markers = markers(stack, args.markers)?;
    }
    if args.size == 0 {
        return Ok(results);
    }
    say(&format!("filling the database with {} MiB", args.size));
    fill(stack, args.size)?;
    results.size = stack.sql(None, "select sum(pg_database_size(oid)) from pg_database")?.parse()?;
    for round in 1..=args.rounds {
        say(&format!("base backups, round {round} of {}", args.rounds));
        results.base_backup.push(throughput(results.size, base_backup(stack)?));
        results.pg_basebackup.push(throughput(results.size, pg_basebackup(stack)?));
    }
    results.ratio = median(&results.base_backup) / median(&results.pg_basebackup);
    say("restoring all of it");
    let (seconds, _) = stack.restored("latest", "3", |_| Ok(()))?;
    results.restore_seconds = Some(seconds);
    Ok(results)
}

/// MiB of the store and the plugin together, and of each sidecar, as metrics-server has it.
fn memory(stack: &Stack) -> Result<(f64, Vec<f64>)> {
    let (mut ours, mut sidecars) = (0.0, Vec::new());
    for (namespace, prefix) in OURS {
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods");
        let list: Value = serde_json::from_str(&stack.kubectl(&["get", "--raw", &path])?)?;
        for pod in list["items"].as_array().context("no metrics of pods")? {
            let of_backups = pod["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(prefix));
            for container in pod["containers"].as_array().into_iter().flatten() {
                let mib = mebibytes(container["usage"]["memory"].as_str().unwrap_or_default())?;
                if of_backups {
                    ours += mib;
                } else if container["name"] == SIDECAR {
                    sidecars.push(mib);
                }
            }
        }
    }
    if ours == 0.0 {
        bail!("the stack of {} takes no backups", stack.context);
    }
    Ok((ours, sidecars))
}

/// A quantity of the metrics API, such as `31244Ki`.
fn mebibytes(text: &str) -> Result<f64> {
    let (number, divisor) = match (text.strip_suffix("Ki"), text.strip_suffix("Mi")) {
        (Some(number), _) => (number, 1024.0),
        (_, Some(number)) => (number, 1.0),
        _ => (text, 1024.0 * 1024.0),
    };
    Ok(number.parse::<f64>().with_context(|| format!("{text:?} is no amount of memory"))? / divisor)
}

/// Writes a row at a time, each in a transaction of its own, and notes moments between two of them. The notes are
/// read from the running database, so that the restored one is not its own witness.
fn markers(stack: &Stack, count: usize) -> Result<Vec<Marker>> {
    say(&format!("writing, and noting {count} moments"));
    stack.sql(
        None,
        "drop table if exists bench_backup, bench_markers; \
         create table bench_backup (id serial primary key, text text); \
         create table bench_markers (moment timestamptz, rows bigint)",
    )?;
    let rows = count * 60;
    stack.sql(
        None,
        &format!(
            "do $$ declare due int[]; moment timestamptz; begin \
             select array_agg(id) into due from (select id from generate_series(5, {rows}) id order by random() \
             limit {count}) chosen; \
             for row in 1..{rows} loop \
             insert into bench_backup (text) values (md5(random()::text)); commit; perform pg_sleep(0.1); \
             if row = any(due) then moment := clock_timestamp(); perform pg_sleep(0.1); \
             insert into bench_markers select moment, count(*) from bench_backup; commit; end if; \
             end loop; end $$"
        ),
    )?;
    let noted = stack.sql(
        None,
        "select to_char(moment at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), rows, (select \
         md5(string_agg(id || text, ',' order by id)) from (select * from bench_backup order by id limit rows) b) \
         from bench_markers order by random()",
    )?;
    let mut markers = Vec::new();
    for (number, line) in noted.lines().enumerate() {
        let [moment, rows, digest] = line.split('|').collect::<Vec<_>>()[..] else { bail!("{line:?} is no marker") };
        say(&format!("restoring {moment}, {} of {count}", number + 1));
        let sql = "select count(*), md5(string_agg(id || text, ',' order by id)) from bench_backup";
        let (seconds, found) = stack.restored(moment, "1", |name| stack.sql(Some(name), sql))?;
        let equal = found == format!("{rows}|{digest}");
        markers.push(Marker { moment: moment.to_owned(), rows: rows.parse()?, equal, seconds });
    }
    if markers.len() != count {
        bail!("{} of {count} moments were noted", markers.len());
    }
    Ok(markers)
}

/// Text that compresses little: digests of random numbers.
fn fill(stack: &Stack, mebibytes: u32) -> Result<()> {
    stack
        .sql(None, "drop table if exists bench_fill; create table bench_fill (id bigserial primary key, text text)")?;
    // A row is about 8 KiB: 250 digests of 32 characters, kept in the row as they are.
    stack.sql(None, "alter table bench_fill alter text set storage external")?;
    for _ in 0..mebibytes.div_ceil(64) {
        stack.sql(
            None,
            "insert into bench_fill (text) select string_agg(md5(random()::text), '') from \
             generate_series(1, 8192) row, generate_series(1, 250) digest group by row",
        )?;
    }
    stack.sql(None, "checkpoint").map(drop)
}

/// Seconds from the beginning to the end of a base backup, as the store has it: without the wait for its last segment.
fn base_backup(stack: &Stack) -> Result<f64> {
    let text = stack.stackctl(&["backup", "create", "-o", "json"], PATIENCE)?;
    let last: Value = serde_json::from_str(text.lines().last().context("no answer")?)?;
    last["copied_seconds"].as_f64().with_context(|| format!("the backup's times are not known: {last}"))
}

/// Seconds of a pg_basebackup of the same instance into a file on its volume, as the plugin would: the copy alone.
fn pg_basebackup(stack: &Stack) -> Result<f64> {
    // The plugin prefers a standby.
    let pod = stack.kubectl(&[
        "get",
        "pods",
        "-n",
        "user-app",
        "-l",
        "stackctl/serves=user-app,cnpg.io/instanceRole=replica",
        "-o",
        "jsonpath={.items[0].metadata.name}",
    ])?;
    let file = "/var/lib/postgresql/data/bench-backup.tar";
    // As a new standby of the operator's copies its primary: pg_hba.conf lets nobody else replicate.
    let keys = "/controller/certificates";
    let source = format!(
        "host=localhost user=streaming_replica sslmode=verify-ca sslrootcert={keys}/server-ca.crt \
         sslcert={keys}/streaming_replica.crt sslkey={keys}/streaming_replica.key"
    );
    let copy = format!(
        "trap 'rm -f {file}' EXIT; begin=$(date +%s.%N); \
         pg_basebackup -d '{source}' -D - -F tar -X none -c fast >{file} && sync {file} && date +\"%s.%N $begin\""
    );
    let text = stack.kubectl(&["exec", "-n", "user-app", &pod, "-c", "postgres", "--", "sh", "-c", &copy])?;
    let times: Vec<f64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>().context("no times")?;
    let [end, begin] = times[..] else { bail!("{text:?} are no times") };
    Ok(end - begin)
}

fn throughput(bytes: u64, seconds: f64) -> f64 {
    // Far below 2^52: exact.
    bytes as f64 / (1024.0 * 1024.0) / seconds
}

fn print(results: &BackupFigures) {
    let list = |values: &[f64]| values.iter().map(|value| format!("{value:.1}")).collect::<Vec<_>>().join(", ");
    tell("");
    tell(&format!("idle memory of store and plugin   {:.1} MiB", results.idle_mib));
    tell(&format!("of each instance's sidecar        {} MiB", list(&results.sidecars_mib)));
    if !results.markers.is_empty() {
        let equal = results.markers.iter().filter(|marker| marker.equal).count();
        let seconds: Vec<f64> = results.markers.iter().map(|marker| marker.seconds).collect();
        tell(&format!("rows equal at the marker          {equal} of {}", results.markers.len()));
        tell(&format!("a restore to it, one instance     {:.0} s (median)", median(&seconds)));
    }
    if let Some(seconds) = results.restore_seconds {
        tell(&format!("base backup, MiB/s                {}", list(&results.base_backup)));
        tell(&format!("pg_basebackup to a file, MiB/s    {}", list(&results.pg_basebackup)));
        tell(&format!("the first by the second           {:.2}", results.ratio));
        let mebibytes = throughput(results.size, 1.0);
        tell(&format!("restore of {mebibytes:.0} MiB, every instance ready after {seconds:.0} s"));
    }
}

/// The running stack, and the programs that ask it.
struct Stack {
    stackctl: PathBuf,
    kubectl: PathBuf,
    context: String,
}

impl Stack {
    fn stackctl(&self, args: &[&str], seconds: u64) -> Result<String> {
        Run::new(Path::new(&self.stackctl), seconds).args(["--context", &self.context]).args(args).output()
    }

    /// Restores, has a look, and deletes it again. The seconds of the first, and what was seen.
    fn restored<T>(&self, to: &str, instances: &str, look: impl FnOnce(&str) -> Result<T>) -> Result<(f64, T)> {
        // A name of its own each time: what a restored database archives stays in the store.
        let name = format!("{SCRATCH}-{}", SystemTime::UNIX_EPOCH.elapsed()?.as_secs());
        let began = Instant::now();
        let restored = self.stackctl(&["restore", "--to", to, "--name", &name, "--instances", instances], RESTORE);
        let seconds = began.elapsed().as_secs_f64();
        let seen = restored.and_then(|_| look(&name));
        let discarded = self.stackctl(&["restore", "--discard", &name, "--yes"], PATIENCE);
        let seen = seen?;
        discarded?;
        Ok((seconds, seen))
    }

    fn kubectl(&self, args: &[&str]) -> Result<String> {
        Run::new(Path::new(&self.kubectl), PATIENCE).args(["--context", &self.context]).args(args).output()
    }

    /// SQL on the primary of the database, or of a restored one.
    fn sql(&self, cluster: Option<&str>, sql: &str) -> Result<String> {
        let mut args = vec!["psql"];
        args.extend(cluster.into_iter().flat_map(|name| ["--cluster", name]));
        args.extend(["--", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        self.stackctl(&args, PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory() {
        assert_eq!(mebibytes("2048Ki").unwrap(), 2.0);
        assert_eq!(mebibytes("3Mi").unwrap(), 3.0);
        assert!(mebibytes("some").is_err());
    }
}
