//! From nothing to a registered user and back to nothing.

use std::time::Duration;

use serde_json::Value;

use crate::{
    backups::{self, within},
    drills,
    faults::Hand,
    machine::{self, Leftovers},
    monitoring,
    objects::{self, mail},
    suite::{Stack, Step, Suite},
};

const MINUTE: Duration = Duration::from_secs(60);

pub fn suite() -> Suite {
    let mut steps = vec![
        Step::new("dry-run", "a dry run prints the plan and makes nothing", dry_run).without_stack(),
        Step::new("up", "the stack comes up", up).without_stack(),
        Step::new("register", "a user is registered and read back through the Service", register),
        Step::new("monitoring", "every target is scraped and every panel has data", |stack| {
            monitoring::check(stack.objects());
        }),
        Step::new("up-again", "up again changes nothing", up_again),
        Step::new("status", "diff finds no difference, and status is healthy", status),
        Step::new("psql-logs", "psql and logs reach their pods", psql_and_logs),
        Step::new("open", "open leads to the app through a local port", open),
        Step::new("load", "a short load fails no request and leaves nothing", load),
        Step::new("switchover", "a standby is made the primary on purpose, and once more changes nothing", switchover),
        Step::new(
            "switchover-stalled",
            "a standby whose WAL receiver stands still is not made the primary, and told to be behind",
            stalled,
        ),
        Step::new("switchover-interrupted", "Ctrl-C during a switchover tells that it goes on", interrupted),
        Step::new("doctor", "doctor finds nothing wrong", |stack| drop(stack.stackctl.ok(&["doctor"]))),
    ];
    steps.extend(drills::steps());
    steps.push(Step::new("drift", "a drifted object is shown by diff and put right by up", drift));
    steps.push(Step::new(
        "unread",
        "an instance that never read its changed configuration is told, and up makes it",
        unread,
    ));
    steps.extend(backups::steps());
    steps.extend([
        Step::new("keep-data", "down keeps the data if asked to; up finds it again, and its backups", keep_data),
        Step::new("down", "down removes exactly what up installed", down),
        Step::new("delete", "down --cluster leaves nothing on this machine", |stack| machine::end(&stack.stackctl))
            .without_stack(),
    ]);
    Suite { command: "cargo xtask cluster-test", profile: "stackctl-test", set_up, steps }
}

/// A step that failed may have left what someone else owns: it is taken back.
fn set_up(stack: &Stack) {
    stack.stackctl.ok(&["up", "--force-conflicts"]);
}

fn dry_run(stack: &Stack) {
    let before = Leftovers::of(stack.stackctl.profile());
    let plan = stack.stackctl.ok(&["up", "--dry-run"]);
    assert!(plan.stderr.contains("Cluster user-app/user-db"), "{}", plan.stderr);
    assert_eq!(Leftovers::of(stack.stackctl.profile()), before, "a dry run made something");
}

fn up(stack: &Stack) {
    let up = stack.stackctl.ok(&["up"]);
    assert!(up.stderr.contains("up: done"), "{}", up.stderr);
}

fn register(stack: &Stack) {
    let user = stack.objects().register("Ada Lovelace", &mail("ada"));
    assert_eq!(stack.objects().user(&user).as_deref(), Some("Ada Lovelace"));
}

fn up_again(stack: &Stack) {
    let before = stack.objects().versions();
    let again = stack.stackctl.events(&["up"]);
    let after = stack.objects().versions();
    assert!(before.len() > 30, "the inventory lists only {} objects", before.len());
    assert_eq!(before, after, "the second up changed an object");
    let changed: Vec<_> = again
        .iter()
        .filter(|event| event["event"] == "resource")
        .filter(|event| ["created", "configured", "deleted"].iter().any(|state| event["state"] == *state))
        .collect();
    assert!(changed.is_empty(), "the second up says that it changed {changed:?}");
}

fn status(stack: &Stack) {
    stack.stackctl.ok(&["diff"]);
    // `up` does not wait for Prometheus.
    backups::until("a healthy stack", || stack.stackctl.run(&["status"]).code == 0);
    let status = stack.stackctl.ok(&["status", "-o", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    let parts = status["parts"].as_array().unwrap();
    assert!(parts.len() >= 7 && parts.iter().all(|part| part["health"] == "healthy"), "{status:#}");
    assert_eq!(status["instances"].as_array().unwrap().len(), 3);
}

fn psql_and_logs(stack: &Stack) {
    let mail = mail("grace");
    stack.objects().register("Grace Hopper", &mail);
    let sql = format!("select count(*) from users where email = '{mail}'");
    assert_eq!(backups::ask(&stack.stackctl, None, &sql), "1");
    let wrong = stack.stackctl.run(&["psql", "--", "-c", "select no_such_column"]);
    assert_eq!(wrong.code, 1, "psql's own exit code");
    assert!(stack.stackctl.ok(&["logs", "database", "--tail", "5"]).stdout.contains("user-db-"));
}

fn open(stack: &Stack) {
    stack.stackctl.opened(&["open"], |address| {
        for path in ["/users", "/api/v1/users?limit=1", "/users/new"] {
            assert_eq!(objects::http_status(address, path), 200, "{path}");
        }
    });
}

fn load(stack: &Stack) {
    let load = stack.stackctl.events(&["load", "--rate", "50", "--duration", "20s", "--no-scale-down"]);
    let report = load.last().expect("a report");
    assert_eq!((&report["event"], &report["load"]["failed"]), (&"report".into(), &0.into()), "{report:#}");
    assert!(report["load"]["answered"].as_u64() >= Some(990), "{report:#}");
    let left = "select count(*) from users where email like '%@load.invalid'";
    assert_eq!(backups::ask(&stack.stackctl, None, left), "0");
}

fn switchover(stack: &Stack) {
    let (hand, stackctl) = (Hand::new(&stack.stackctl), &stack.stackctl);
    let to = standby(&hand.primary());
    assert_eq!(stackctl.run(&["switchover", to]).code, 2, "off a terminal without --yes");
    let done = stackctl.events(&["switchover", to, "--yes"]);
    assert_eq!(hand.primary(), to, "{done:#?}");
    let again = stackctl.ok(&["switchover", to, "--yes"]);
    assert!(again.stderr.contains("is the primary already"), "{}", again.stderr);
    assert_eq!(stackctl.run(&["switchover", "user-db-9", "--yes"]).code, 1, "no such standby");
}

/// The operator promotes whom it is told to, whatever that one lacks:
/// <https://github.com/cloudnative-pg/cloudnative-pg/issues/11114>.
fn stalled(stack: &Stack) {
    let (hand, stackctl) = (Hand::new(&stack.stackctl), &stack.stackctl);
    let primary = hand.primary();
    let to = standby(&primary);
    // It goes on by itself soon, whatever becomes of this test.
    let receiver = "for at in /proc/[0-9]*; do tr '\\0' ' ' <$at/cmdline | grep -q '^postgres: .*walreceiver' && p=${at#/proc/}; \
                    done; setsid sh -c \"sleep 20; kill -CONT $p\" >/dev/null 2>&1 </dev/null & kill -STOP $p";
    hand.kubectl(&["exec", to, "-c", "postgres", "--", "sh", "-c", receiver]);
    let stopped = backups::ask(stackctl, None, "select now()");
    let refused = stackctl.run(&["switchover", to, "--yes"]);
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    let told = refused.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains(&format!("{to} could not take over at once")) && told.contains("behind, and"), "{told}");
    assert_eq!(hand.primary(), primary);
    // The primary takes it to stream for some seconds more: what counts is a word of the standby's since then.
    let streams = format!(
        "select count(*) from pg_stat_replication where application_name = '{to}' and state = 'streaming' \
         and reply_time > '{stopped}'"
    );
    within(MINUTE, "a standby that streams again", || backups::ask(stackctl, None, streams.as_str()) == "1");
    within(MINUTE, "a healthy database", || backups::part(stackctl, "database")["health"] == "healthy");
}

fn interrupted(stack: &Stack) {
    let (hand, stackctl) = (Hand::new(&stack.stackctl), &stack.stackctl);
    let to = standby(&hand.primary());
    let (code, told) = stackctl.interrupted_at(&["switchover", to, "--yes"], &format!("{to} takes over"));
    assert_eq!(code, Some(130), "{told:#}");
    assert_eq!(told["event"], "error", "{told:#}");
    let message = told["message"].as_str().unwrap_or_default();
    assert!(message.ends_with("goes on with it by itself: interrupted (SIGINT)"), "{told:#}");
    assert!(
        told["remedies"][0].as_str().is_some_and(|remedy| remedy.contains(" status shows who is the primary")),
        "{told:#}"
    );
    within(MINUTE, "the switchover that was asked for", || hand.primary() == to);
    within(MINUTE, "a healthy database", || backups::part(stackctl, "database")["health"] == "healthy");
}

/// One of the standbys of a database of three.
fn standby(primary: &str) -> &'static str {
    ["user-db-1", "user-db-2", "user-db-3"].into_iter().find(|name| *name != primary).expect("a standby")
}

fn drift(stack: &Stack) {
    stack.objects().scale_budget(0);
    assert_eq!(stack.stackctl.run(&["diff"]).code, 1, "diff after a change by hand");
    let conflict = stack.stackctl.run(&["up"]);
    assert_eq!(conflict.code, 1, "{}", conflict.stderr);
    let told = conflict.stderr.contains("by-hand") && conflict.stderr.contains("--force-conflicts");
    assert!(told, "{}", conflict.stderr);
    stack.stackctl.ok(&["up", "--force-conflicts"]);
    stack.stackctl.ok(&["diff"]);
}

/// What an instance's manager leaves that is disturbed between writing the files and having them read.
fn unread(stack: &Stack) {
    let (hand, stackctl) = (Hand::new(&stack.stackctl), &stack.stackctl);
    let standby = standby(&hand.primary());
    let forge = "cd /var/lib/postgresql/data/pgdata && cp -p custom.conf custom.conf.new && \
                 echo \"cnpg.config_sha256 = 'of an older one'\" >>custom.conf && \
                 psql -XqAtc 'select pg_reload_conf()' && for try in 1 2 3 4 5 6 7 8 9; do \
                 [ \"$(psql -XqAtc 'show cnpg.config_sha256')\" = 'of an older one' ] && break; sleep 0.3; done; \
                 mv custom.conf.new custom.conf";
    let says = |told: &Value| {
        let detail = told["detail"].as_str().unwrap_or_default();
        detail.contains("has not read its configuration") && detail.contains(standby)
    };
    // The instance's manager may come in between, and undo it.
    within(MINUTE, "the word of status on an instance that never read its configuration", || {
        hand.kubectl(&["exec", standby, "-c", "postgres", "--", "sh", "-c", forge]);
        let told = backups::part(stackctl, "database");
        says(&told) && told["health"] == "degraded"
    });
    stackctl.ok(&["up"]);
    assert!(!says(&backups::part(stackctl, "database")), "up has not had it read");
    within(MINUTE, "a healthy database", || backups::part(stackctl, "database")["health"] == "healthy");
}

fn keep_data(stack: &Stack) {
    let user = stack.objects().register("Ada Lovelace", &mail("kept"));
    let before = backups::backups(&stack.stackctl, "user-db");
    assert_eq!(stack.stackctl.run(&["down"]).code, 2, "down off a terminal without --yes");
    stack.stackctl.ok(&["down", "--keep-data", "--yes"]);
    stack.stackctl.ok(&["up"]);
    assert_eq!(stack.objects().user(&user).as_deref(), Some("Ada Lovelace"), "the user is gone");
    backups::are_kept(&stack.stackctl, &before);
}

fn down(stack: &Stack) {
    // What is installed is read before it is gone.
    let objects = stack.objects();
    stack.stackctl.ok(&["down", "--yes"]);
    assert_eq!(objects.remaining(), Vec::<String>::new(), "left after down");
}
