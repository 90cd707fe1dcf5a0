//! Drills that are killed, at any moment, by what cannot be answered (SIGKILL): `status` tells of it, the next command undoes
//! it, and every row and every volume is there that the drill had not begun to destroy.

use std::{
    collections::BTreeMap,
    env,
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use serde_json::Value;

use crate::{
    backups::{ask, within},
    cli::Stackctl,
    faults::Hand,
    machine,
    objects::mail,
    suite::{Stack, Step, Suite, tell},
};

const PROFILE: &str = "stackctl-killed";
/// How often each scenario is killed, unless the environment says another number.
const TIMES: u32 = 20;
const TIMES_FROM: &str = "STACKCTL_TEST_TIMES";
/// The lock of a process that is gone expires after half a minute, and an API server that was taken down is brought back by
/// its node after a minute.
const TOLD_WITHIN: Duration = Duration::from_secs(120);
/// What a database of three is back to full redundancy after, with much to spare.
const HEALTHY_WITHIN: Duration = Duration::from_secs(300);

/// A scenario that changes what must be undone, and the seconds by which most runs of it have ended.
struct Killed {
    id: &'static str,
    longest: u64,
    /// Those that concern nodes leave the control plane's alone, and want two others.
    nodes: u8,
}

const fn killed(id: &'static str, longest: u64, nodes: u8) -> Killed {
    Killed { id, longest, nodes }
}

/// The scenarios: those of one node first.
const SCENARIOS: [Killed; 10] = [
    killed("operator-down", 90, 1),
    killed("freeze", 110, 1),
    killed("api-server-down", 110, 1),
    killed("disk-full", 120, 1),
    killed("control", 90, 1),
    killed("disaster", 120, 1),
    killed("node-drain", 50, 3),
    killed("partition", 95, 3),
    killed("node-kill", 110, 3),
    killed("zone-loss", 110, 3),
];

pub fn suite() -> Suite {
    let up = Step::new("up", "the stack comes up", set_up).without_stack();
    let kills = [
        Step::new("operator-down", "the operator is scaled down", |stack| kill(stack, 0)),
        Step::new("freeze", "the primary's processes stand still", |stack| kill(stack, 1)),
        Step::new("api-server-down", "the API server is away", |stack| kill(stack, 2)),
        Step::new("disk-full", "an instance is on a volume of bounded size, and fills it", |stack| kill(stack, 3)),
        Step::new("control", "standbys are fenced, and the primary's volume is destroyed", |stack| kill(stack, 4)),
        Step::new("disaster", "every volume is destroyed", |stack| kill(stack, 5)),
        Step::new("node-drain", "of three nodes the primary's is cordoned and drained", |stack| kill(stack, 6)),
        Step::new("partition", "of three nodes the primary's is cut off", |stack| kill(stack, 7)),
        Step::new("node-kill", "of three nodes the primary's is killed", |stack| kill(stack, 8)),
        Step::new("zone-loss", "of three zones of a node each the primary's is lost", |stack| kill(stack, 9)),
    ];
    let delete = Step::new("delete", "down --cluster leaves nothing on this machine", |stack| {
        machine::end(&stack.stackctl);
    });
    let steps = std::iter::once(up).chain(kills).chain([delete.without_stack()]).collect();
    Suite { command: "cargo xtask interruptions", profile: PROFILE, set_up, steps }
}

fn set_up(stack: &Stack) {
    // Plain `up` afterwards goes by what this one was told.
    stack.stackctl.ok(&["up", "--without", "monitoring"]);
}

/// Makes the cluster anew with three nodes where it has one, to which none can be added; each is a zone of its own, and the
/// instances are spread over them.
fn on_three_nodes(stackctl: &Stackctl, hand: &Hand) {
    if hand.json(&["get", "nodes"])["items"].as_array().map(Vec::len) != Some(3) {
        stackctl.ok(&["down", "--cluster", "--yes"]);
        stackctl.ok(&["up", "--nodes", "3", "--without", "monitoring"]);
    }
    for (node, zone) in [("", "a"), ("-m02", "b"), ("-m03", "c")] {
        let node = format!("{}{node}", stackctl.profile());
        hand.kubectl(&["label", "--overwrite", "node", &node, &format!("topology.kubernetes.io/zone={zone}")]);
    }
    stackctl.ok(&["up"]);
}

/// Kills a scenario again and again, and has it undone by `up` and by the next drill in turn.
fn kill(stack: &Stack, scenario: usize) {
    let Killed { id: scenario, longest, nodes } = SCENARIOS[scenario];
    let (stackctl, hand) = (&stack.stackctl, Hand::new(&stack.stackctl));
    if nodes > 1 {
        on_three_nodes(stackctl, &hand);
    }
    let times = env::var(TIMES_FROM).map_or(TIMES, |text| text.parse().expect("a number of times"));
    let mut rows = Vec::new();
    for time in 0..times {
        healthy(stackctl);
        rows.push(row(stackctl));
        let before = volumes(&hand);
        let after = Duration::from_millis(random() % (longest * 1000));
        tell(&format!("{scenario} {} of {times}: killed after {:.1} s", time + 1, after.as_secs_f64()));
        let killed = stackctl.killed_after(&["failover-drill", "--yes", scenario], after);
        let record = record(&hand);
        match &record {
            Some(record) => {
                tell(&format!("killed while it ran: {killed}; left to undo: {}", record["undo"]));
                within(TOLD_WITHIN, "the word of status on the drill", || {
                    stackctl.run(&["status"]).stdout.contains("was interrupted and is not undone")
                });
            }
            None => tell(&format!("killed while it ran: {killed}; it has left nothing")),
        }
        if time % 2 == 0 {
            // Its lock may have been taken moments before.
            within(TOLD_WITHIN, "an up that undoes it", || stackctl.run(&["up"]).code == 0);
        } else {
            within(TOLD_WITHIN, "a next drill that passes", || {
                stackctl.run(&["failover-drill", "--yes", "switchover"]).code == 0
            });
        }
        healthy(stackctl);
        assert_eq!(self::record(&hand), None, "the record is there still");
        assert_eq!(running(&hand).len(), 1, "databases that run: {:?}", running(&hand));
        assert_eq!(stackctl.run(&["diff"]).code, 0, "the stack is not what up makes");
        let there = ask(stackctl, None, "select email from users");
        let lost: Vec<&String> = rows.iter().filter(|row| !there.lines().any(|line| line == row.as_str())).collect();
        assert!(lost.is_empty(), "rows are lost: {lost:?}");
        let gone = gone(&before, &volumes(&hand));
        let may_go = may_go(scenario, record.as_ref(), killed, before.len());
        assert!(gone.len() <= may_go, "{gone:?} are gone, {may_go} may be: {record:#?}");
    }
}

/// The number of volumes that a scenario may have destroyed or replaced, by its own record when it was killed.
fn may_go(scenario: &str, record: Option<&Value>, killed: bool, all: usize) -> usize {
    let changes = record.and_then(|record| record["undo"].as_array().cloned()).unwrap_or_default();
    let begun = changes.iter().any(|change| change["begun"] == true);
    // One that came to its end did all that it is about.
    let whole = !killed;
    match scenario {
        "disaster" if begun || whole => all,
        "control" if begun || whole => 1,
        "disk-full" if whole || !changes.is_empty() => 1,
        _ => 0,
    }
}

fn healthy(stackctl: &Stackctl) {
    within(HEALTHY_WITHIN, "a healthy stack", || stackctl.run(&["status"]).code == 0);
}

/// Registers a user, and returns the address.
fn row(stackctl: &Stackctl) -> String {
    let email = mail("kept");
    ask(stackctl, None, &format!("insert into users (name, email, gender) values ('Kept', '{email}', 'other')"));
    email
}

/// The database's volumes: the claim's name, and its UID.
fn volumes(hand: &Hand) -> BTreeMap<String, String> {
    let claims = hand.json(&["get", "persistentvolumeclaims", "--selector", "cnpg.io/cluster"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = claims["items"].as_array().cloned().unwrap_or_default();
    items.iter().map(|claim| (text(&claim["metadata"]["name"]), text(&claim["metadata"]["uid"]))).collect()
}

/// The databases that are not stopped: the app's, and none that was made beside it.
fn running(hand: &Hand) -> Vec<String> {
    let all = hand.json(&["get", "clusters.postgresql.cnpg.io"]);
    let all = all["items"].as_array().cloned().unwrap_or_default();
    let runs = |cluster: &&Value| cluster["metadata"]["annotations"]["cnpg.io/hibernation"] != "on";
    all.iter().filter(runs).map(|cluster| cluster["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
}

fn gone(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let lives = |uid: &String| after.values().any(|there| there == uid);
    before.iter().filter(|(_, uid)| !lives(uid)).map(|(name, _)| name.clone()).collect()
}

/// The record of a drill, in the cluster; asked for until the API server answers.
fn record(hand: &Hand) -> Option<Value> {
    let mut answer = None;
    within(TOLD_WITHIN, "the API server's answer", || {
        answer = hand.find("configmap", "stackctl-drill");
        answer.is_some()
    });
    let text = answer.flatten()?["data"]["drill"].as_str().map(str::to_owned)?;
    Some(serde_json::from_str(&text).expect("the record is JSON"))
}

/// A number by chance: the standard library's seeds are.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[test]
fn every_scenario_has_its_step() {
    let suite = suite();
    let steps: Vec<&str> = suite.steps.iter().map(|step| step.name).collect();
    for (at, scenario) in SCENARIOS.iter().enumerate() {
        assert_eq!(steps[at + 1], scenario.id);
    }
}
