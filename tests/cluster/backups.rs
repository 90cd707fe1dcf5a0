//! Backups, proved by restoring them.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    cli::Stackctl,
    monitoring,
    objects::{mail, unique},
    suite::{Stack, Step, tell},
};

/// The archive is asked for its newest every minute, and a store that comes back needs its own time to start.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(150);

/// What `status` says of backups begins with these words while they are in order.
pub const IN_ORDER: &str = "WAL archiving: ok";

pub fn steps() -> Vec<Step> {
    vec![
        Step::new("backup-create", "a base backup is taken, and the store itself lists it", create),
        Step::new("restore", "a moment is restored into a new database, which the app is given, and back", restore),
        Step::new("restore-refused", "what cannot be restored is told, and nothing is made", refused),
        Step::new("store-away", "the store is away: the database goes on, and the archive catches up by itself", away),
        Step::new("backup-verify", "verify restores the newest moment and reads all of it", |stack| {
            is_sound(&stack.stackctl);
        }),
    ]
}

fn create(stack: &Stack) {
    let created = stack.stackctl.ok(&["backup", "create", "-o", "json"]);
    let created: Value = serde_json::from_str(created.stdout.lines().last().unwrap()).unwrap();
    let id = created["id"].as_str().unwrap().to_owned();
    assert!(backups(&stack.stackctl, "user-db").contains(&id), "{id} is not listed");
}

fn restore(stack: &Stack) {
    let (stackctl, objects) = (&stack.stackctl, stack.objects());
    tell("the rows of then, and no later ones");
    // The store keeps what a database archived under its name, so each run takes another one.
    let name = &unique("user-db-then");
    objects.register("Before", &mail("before"));
    let then = marker(stackctl);
    let wanted = rows(stackctl, "user-db");
    let after = mail("after");
    objects.register("After", &after);
    stackctl.ok(&["restore", "--to", &then, "--name", name]);
    assert_eq!(rows(stackctl, name), wanted, "at {then}");
    assert!(rows(stackctl, "user-db").contains(&after), "the running database was changed");
    let sql = "select count(*) from pg_constraint where not convalidated";
    assert_eq!(ask(stackctl, name.as_str(), sql), "0");
    let new = mail("new");
    let insert = format!("insert into users (name, email, gender) values ('New', '{new}', 'other') returning email");
    assert_eq!(ask(stackctl, name.as_str(), &insert), new, "its sequences go on");

    tell("the app is given the restored database, and all else goes by it; the former one is kept, and taken back");
    assert_eq!(stackctl.run(&["restore", "--promote", name]).code, 2, "off a terminal without --yes");
    stackctl.ok(&["restore", "--promote", name, "--yes"]);
    stackctl.ok(&["diff"]);
    let promoted = mail("promoted");
    objects.register("Promoted", &promoted);
    assert!(rows(stackctl, name).contains(&promoted) && ask(stackctl, None, "select 1") == "1");
    stackctl.ok(&["up"]);
    stackctl.ok(&["diff"]);
    until("Prometheus, which is to follow,", || monitoring::instances(objects, name) == 3.0);
    assert!(line(stackctl).starts_with(IN_ORDER), "{}", line(stackctl));
    let kept: Value = serde_json::from_str(&stackctl.ok(&["restore", "--list", "-o", "json"]).stdout).unwrap();
    assert_eq!((&kept[0]["name"], kept.as_array().unwrap().len()), (&"user-db".into(), 1), "{kept:#}");
    let refused = stackctl.run(&["down", "--keep-data", "--yes"]);
    assert!(refused.code == 1 && refused.stderr.contains("restore --discard user-db"), "{}", refused.stderr);
    assert_eq!(stackctl.run(&["restore", "--discard", name, "--yes"]).code, 2, "the app uses it");
    stackctl.ok(&["restore", "--promote", "user-db", "--yes"]);
    stackctl.ok(&["diff"]);
    objects.register("Back", &mail("back"));
    assert!(rows(stackctl, "user-db").contains(&after), "what came after the moment");
    assert!(!rows(stackctl, "user-db").contains(&promoted), "what the other one was given");

    tell("what the other one archived is under its own name; it is discarded, its backups stay");
    until("the restored database's WAL", || servers(stackctl).contains(name));
    stackctl.ok(&["restore", "--discard", name, "--yes"]);
    assert!(!stackctl.ok(&["restore", "--list", "-o", "json"]).stdout.contains(name.as_str()));
    assert_eq!(stackctl.run(&["restore", "--name", name]).code, 2, "two histories under one name");
}

fn refused(stack: &Stack) {
    let early = stack.stackctl.run(&["restore", "--to", "2020-01-01T00:00:00Z"]);
    assert!(early.code == 1 && early.stderr.contains("the first moment that can be restored is"), "{}", early.stderr);
    assert_eq!(stack.stackctl.run(&["restore", "--to", "2020-01-01 00:00:00"]).code, 2, "a time without a zone");
    let over = stack.stackctl.run(&["restore", "--name", "user-db"]);
    assert!(over.code == 2 && over.stderr.contains("nothing is restored over a database"), "{}", over.stderr);
}

fn away(stack: &Stack) {
    let (stackctl, objects) = (&stack.stackctl, stack.objects());
    objects.scale_store(0);
    objects.register("Meanwhile", &mail("meanwhile"));
    ask(stackctl, "user-db", "select pg_switch_wal()");
    until("the word of status", || line(stackctl).contains("the database goes on"));
    assert_eq!(stackctl.run(&["backup", "list"]).code, 1, "a list without a store");
    let failed = stackctl.run(&["backup", "create"]);
    assert!(failed.code == 1 && failed.stderr.contains("the database goes on"), "{}", failed.stderr);
    objects.scale_store(1);
    until("the archive", || line(stackctl).starts_with(IN_ORDER));
    let listed = list(stackctl);
    assert_eq!(listed["servers"]["user-db"]["missing_segments"], 0, "{listed:#}");
    stackctl.ok(&["backup", "create"]);

    tell("after a backup that failed and one that succeeded, the panels on backups have data");
    monitoring::backups_are_drawn(objects);
}

/// After `down --keep-data` and `up`: what was listed before still is, and can be restored.
pub fn are_kept(stackctl: &Stackctl, before: &[String]) {
    let after = backups(stackctl, "user-db");
    assert!(before.iter().all(|id| after.contains(id)), "{before:?} became {after:?}");
    is_sound(stackctl);
}

/// The newest moment is restored, and all of it can be read.
pub fn is_sound(stackctl: &Stackctl) {
    let verified = stackctl.ok(&["backup", "verify"]);
    assert!(verified.stdout.contains("the backups are sound"), "{}", verified.stdout);
}

pub fn list(stackctl: &Stackctl) -> Value {
    serde_json::from_str(&stackctl.ok(&["backup", "list", "-o", "json"]).stdout).unwrap()
}

fn servers(stackctl: &Stackctl) -> Vec<String> {
    list(stackctl)["servers"].as_object().unwrap().keys().cloned().collect()
}

pub fn backups(stackctl: &Stackctl, server: &str) -> Vec<String> {
    let list = list(stackctl);
    let backups = list["servers"][server]["backups"].as_array().cloned().unwrap_or_default();
    backups.iter().filter_map(|backup| backup["id"].as_str().map(str::to_owned)).collect()
}

/// The database's own clock, between two transactions.
fn marker(stackctl: &Stackctl) -> String {
    std::thread::sleep(Duration::from_secs(1));
    let sql = r#"select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#;
    let marker = ask(stackctl, "user-db", sql);
    std::thread::sleep(Duration::from_secs(1));
    marker
}

pub fn rows(stackctl: &Stackctl, cluster: &str) -> String {
    ask(stackctl, cluster, "select coalesce(string_agg(t::text, '|' order by id), '') from users t")
}

/// Asks a database, or the one that the app uses.
pub fn ask<'a>(stackctl: &Stackctl, cluster: impl Into<Option<&'a str>>, sql: &str) -> String {
    let mut args = vec!["psql"];
    args.extend(cluster.into().into_iter().flat_map(|name| ["--cluster", name]));
    args.extend(["--", "-X", "-q", "-A", "-t", "-c", sql]);
    stackctl.ok(&args).stdout.trim().to_owned()
}

/// What `status` says of backups.
pub fn line(stackctl: &Stackctl) -> String {
    part(stackctl, "backups")["detail"].as_str().unwrap().to_owned()
}

/// What `status` says of a part; null while it says nothing of it.
pub fn part(stackctl: &Stackctl, name: &str) -> Value {
    let status: Value = serde_json::from_str(&stackctl.run(&["status", "-o", "json"]).stdout).unwrap_or_default();
    let parts = status["parts"].as_array().cloned().unwrap_or_default();
    parts.into_iter().find(|part| part["part"] == name).unwrap_or_default()
}

pub fn until(what: &str, done: impl Fn() -> bool) {
    within(CAUGHT_UP_WITHIN, what, done);
}

/// Asks every second.
pub fn within(limit: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < limit, "{what} did not come within {limit:?}");
        std::thread::sleep(Duration::from_secs(1));
    }
}
