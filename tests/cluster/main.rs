//! The main job on a real minikube with the real CloudNativePG, step by step as a user would go.
//!
//! One test, because its steps build on each other and a cluster is dear; another one (`faults`) is about backups
//! alone. It needs a bundle or a network
//! with a container registry and several minutes, so it runs only when asked for: `cargo xtask test`.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test tells its steps and fails by panicking")]

mod backups;
mod cli;
mod drills;
mod faults;
mod machine;
mod monitoring;
mod objects;

use cli::Stackctl;
use machine::Leftovers;
use objects::Objects;

/// A profile of its own: a developer's cluster is left alone.
const PROFILE: &str = "stackctl-test";

#[test]
#[ignore = "needs a Docker engine and minutes: cargo xtask test runs it"]
fn from_nothing_to_a_registered_user_and_back_to_nothing() {
    let stackctl = Stackctl::new(PROFILE);
    machine::begin(&stackctl);

    step("a dry run prints the plan and makes nothing");
    let plan = stackctl.ok(&["up", "--dry-run"]);
    assert!(plan.stderr.contains("Cluster user-app/user-db"), "{}", plan.stderr);
    assert_eq!(Leftovers::of(PROFILE), Leftovers::default(), "a dry run made something");

    step("up, from nothing");
    let up = stackctl.ok(&["up"]);
    assert!(up.stderr.contains("up: done"), "{}", up.stderr);

    step("a user is registered and read back through the Service");
    let objects = Objects::connect(&stackctl);
    let user = objects.register("Ada Lovelace", "ada@example.org");
    assert_eq!(objects.user(&user).as_deref(), Some("Ada Lovelace"));

    step("every target is scraped and every panel has data");
    monitoring::check(&objects);

    step("up again changes nothing");
    let before = objects.versions();
    let again = stackctl.events(&["up"]);
    let after = objects.versions();
    assert!(before.len() > 30, "the inventory lists only {} objects", before.len());
    assert_eq!(before, after, "the second up changed an object");
    let changed: Vec<_> = again
        .iter()
        .filter(|event| event["event"] == "resource")
        .filter(|event| ["created", "configured", "deleted"].iter().any(|state| event["state"] == *state))
        .collect();
    assert!(changed.is_empty(), "the second up says that it changed {changed:?}");

    step("diff finds no difference, and status is healthy");
    stackctl.ok(&["diff"]);
    let status: serde_json::Value = serde_json::from_str(&stackctl.ok(&["status", "-o", "json"]).stdout).unwrap();
    let parts = status["parts"].as_array().unwrap();
    assert!(parts.len() >= 7 && parts.iter().all(|part| part["health"] == "healthy"), "{status:#}");
    assert_eq!(status["instances"].as_array().unwrap().len(), 3);

    step("psql and logs reach their pods");
    let count = stackctl.ok(&["psql", "--", "-A", "-t", "-c", "select count(*) from users"]);
    assert_eq!(count.stdout.trim(), "1");
    assert_eq!(stackctl.run(&["psql", "--", "-c", "select no_such_column"]).code, 1, "psql's own exit code");
    assert!(stackctl.ok(&["logs", "database", "--tail", "5"]).stdout.contains("user-db-"));

    step("open leads to the app through a local port");
    stackctl.opened(&["open"], |address| {
        for path in ["/users", "/api/v1/users?limit=1", "/users/new"] {
            assert_eq!(objects::http_status(address, path), 200, "{path}");
        }
    });

    step("a short load fails no request and leaves nothing");
    let load = stackctl.events(&["load", "--rate", "50", "--duration", "20s", "--no-scale-down"]);
    let report = load.last().expect("a report");
    assert_eq!((&report["event"], &report["load"]["failed"]), (&"report".into(), &0.into()), "{report:#}");
    assert!(report["load"]["answered"].as_u64() >= Some(990), "{report:#}");
    let left = "select count(*) from users where email like '%@load.invalid'";
    assert_eq!(stackctl.ok(&["psql", "--", "-A", "-t", "-c", left]).stdout.trim(), "0");

    step("doctor finds nothing wrong");
    stackctl.ok(&["doctor"]);

    drills::run(&stackctl);

    step("a drifted object is shown by diff and put right by up");
    objects.scale_budget(0);
    assert_eq!(stackctl.run(&["diff"]).code, 1, "diff after a change by hand");
    let conflict = stackctl.run(&["up"]);
    assert_eq!(conflict.code, 1, "{}", conflict.stderr);
    assert!(
        conflict.stderr.contains("by-hand") && conflict.stderr.contains("--force-conflicts"),
        "{}",
        conflict.stderr
    );
    stackctl.ok(&["up", "--force-conflicts"]);
    stackctl.ok(&["diff"]);

    let backups = backups::are_proved(&stackctl, &objects);

    step("down keeps the data if asked to, and up finds it again");
    assert_eq!(stackctl.run(&["down"]).code, 2, "down off a terminal without --yes");
    stackctl.ok(&["down", "--keep-data", "--yes"]);
    stackctl.ok(&["up"]);
    assert_eq!(objects.user(&user).as_deref(), Some("Ada Lovelace"), "the user is gone");

    step("its backups are still listed and can be restored");
    backups::are_kept(&stackctl, &backups);

    step("down removes exactly what up installed");
    stackctl.ok(&["down", "--yes"]);
    assert_eq!(objects.remaining(), Vec::<String>::new(), "left after down");

    machine::end(&stackctl);
}

fn step(what: &str) {
    println!("--- {what}");
}
