//! What Prometheus has of the running stack: every target, and data for every panel of every dashboard.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde_json::Value;
use stackctl::assets;

use crate::objects::Objects;

/// From an empty Prometheus: two minutes of samples are what the longest rate needs.
const DEADLINE: Duration = Duration::from_secs(240);
const DASHBOARDS: [&str; 3] = ["cloudnativepg", "failover", "user-app"];
/// What the namespace may take, in bytes.
const MEMORY: f64 = 700.0 * 1024.0 * 1024.0;

/// One query of a panel.
struct Query {
    panel: String,
    expr: String,
    /// What must be there for it to have data.
    only_under: Option<String>,
}

/// Waits until every target is up and every panel has data; says which panels have data only under a condition.
pub fn check(objects: &Objects) {
    let began = Instant::now();
    let queries = queries();
    assert!(queries.len() > 80, "only {} queries", queries.len());
    let mut missing: Vec<&Query> = queries.iter().collect();
    loop {
        // Traffic: latencies and rates of an app that nobody uses are not numbers.
        objects.ask_users(20);
        missing.retain(|query| !has_data(objects, &query.expr));
        let required: Vec<_> = missing.iter().filter(|query| query.only_under.is_none()).collect();
        if required.is_empty() && targets_are_up(objects) {
            break;
        }
        let list: Vec<_> = required.iter().map(|query| format!("{}: {}", query.panel, query.expr)).collect();
        assert!(
            began.elapsed() < DEADLINE,
            "after {DEADLINE:?} no data for:\n{}\ntargets: {:?}",
            list.join("\n"),
            targets(objects)
        );
        std::thread::sleep(Duration::from_secs(5));
    }
    let elapsed = began.elapsed().as_secs();
    println!("{} of {} queries have data after {elapsed} s", queries.len() - missing.len(), queries.len());
    for query in &missing {
        println!("  no data, only under: {}: {}", query.only_under.as_deref().unwrap_or_default(), query.panel);
    }
    let firing = vector(objects, r#"ALERTS{alertstate="firing"}"#);
    assert!(firing.is_empty(), "alerts fire on a stack that is in order: {firing:?}");
    let memory = vector(objects, r#"sum by (pod) (container_memory_working_set_bytes{namespace="monitoring"})"#);
    let memory: BTreeMap<String, f64> =
        memory.into_iter().map(|(labels, value)| (labels["pod"].to_string(), value)).collect();
    println!("memory of monitoring: {memory:?}");
    assert!(!memory.is_empty() && memory.values().sum::<f64>() < MEMORY, "{memory:?}");
}

/// After backups that succeeded and one that failed: waits until the panels on them have data, too.
pub fn backups_are_drawn(objects: &Objects) {
    let (began, mut missing) = (Instant::now(), queries());
    missing.retain(|query| query.expr.contains("barman_cloud"));
    assert_eq!(missing.len(), 3, "queries on backups");
    while !missing.is_empty() {
        missing.retain(|query| !has_data(objects, &query.expr));
        let list: Vec<_> = missing.iter().map(|query| query.panel.as_str()).collect();
        assert!(began.elapsed() < DEADLINE, "after {DEADLINE:?} no data for {list:?}");
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// Instances of a database that Prometheus asks, and that answer.
pub fn instances(objects: &Objects, cluster: &str) -> f64 {
    let found = vector(objects, &format!(r#"count(up{{job="postgresql", pod=~"{cluster}-[0-9]+"}} == 1)"#));
    found.first().map_or(0.0, |(_, value)| *value)
}

fn queries() -> Vec<Query> {
    let mut queries = Vec::new();
    for uid in DASHBOARDS {
        let text = assets::file(&format!("dashboards/{uid}.json")).unwrap();
        let dashboard: Value = serde_json::from_str(text).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            let help = panel["description"].as_str().unwrap_or_default();
            let only_under = help.split_once("Only under: ").map(|(_, what)| what.to_owned());
            for target in panel["targets"].as_array().into_iter().flatten() {
                queries.push(Query {
                    panel: format!("{uid}, {}", panel["title"].as_str().unwrap()),
                    expr: target["expr"].as_str().unwrap().to_owned(),
                    only_under: only_under.clone(),
                });
            }
        }
    }
    queries
}

fn has_data(objects: &Objects, expr: &str) -> bool {
    vector(objects, expr).iter().any(|(_, value)| value.is_finite())
}

/// The result of an instant query: labels and value.
fn vector(objects: &Objects, expr: &str) -> Vec<(Value, f64)> {
    let answer = objects.prometheus(expr);
    let result = answer.pointer("/data/result").and_then(Value::as_array);
    result
        .into_iter()
        .flatten()
        .map(|series| {
            let value = series.pointer("/value/1").and_then(Value::as_str).unwrap_or("NaN");
            (series["metric"].clone(), value.parse().unwrap_or(f64::NAN))
        })
        .collect()
}

fn targets(objects: &Objects) -> BTreeMap<String, Vec<f64>> {
    let mut jobs: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (labels, value) in vector(objects, "up") {
        jobs.entry(labels["job"].as_str().unwrap_or_default().to_owned()).or_default().push(value);
    }
    jobs
}

fn targets_are_up(objects: &Objects) -> bool {
    let targets = targets(objects);
    let jobs: BTreeSet<&str> = targets.keys().map(String::as_str).collect();
    let wanted =
        ["cadvisor", "kube-state-metrics", "kubelet", "operator", "postgresql", "prometheus", "user-app"].into();
    jobs == wanted && targets["postgresql"].len() == 3 && targets.values().flatten().all(|up| *up == 1.0)
}
