//! The store is killed, refuses, has lost its bucket, or is away.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{all_is_well, disturbed, goes_on, hand::Hand};
use crate::{
    backups::{self, ask, line, until, within},
    cli::Stackctl,
    objects::Objects,
};

/// The alert has to be true for five minutes, and Prometheus looks every 30 s at most.
const ALERT_WITHIN: Duration = Duration::from_secs(8 * 60);
const AWAY: Duration = Duration::from_secs(10 * 60);

pub fn killed_during_a_base_backup(stackctl: &Stackctl, hand: &Hand) {
    let before = backups::backups(stackctl, "user-db");
    let created = disturbed(stackctl, hand, || {
        std::thread::sleep(Duration::from_millis(700));
        hand.kill("versitygw");
    });
    if created.code != 0 {
        assert!(created.code == 1 && created.stderr.contains("the database goes on"), "{}", created.stderr);
    }
    until("the store", || stackctl.run(&["backup", "list"]).code == 0);
    let after = backups::list(stackctl);
    for backup in after["servers"]["user-db"]["backups"].as_array().unwrap() {
        let (id, complete) = (backup["id"].as_str().unwrap(), backup["status"] == "DONE");
        assert!(complete || !before.contains(&id.to_owned()), "{id} was complete: {after:#}");
    }
    all_is_well(stackctl, &before);
}

pub fn killed_while_wal_is_archived(stackctl: &Stackctl, objects: &Objects, hand: &Hand) {
    let before = backups::backups(stackctl, "user-db");
    for time in 1..=4 {
        goes_on(objects, &format!("killed-{time}"));
        ask(stackctl, "user-db", "select pg_switch_wal()");
        std::thread::sleep(Duration::from_millis(150 * time));
        hand.kill("versitygw");
        // A new pod starts at once, where the kubelet would wait the longer the more often a container ended.
        hand.kubectl(&["delete", "pod", "backup-store-0"]);
        hand.kubectl(&["wait", "--for=condition=Ready", "pod/backup-store-0", "--timeout=60s"]);
    }
    all_is_well(stackctl, &before);
}

pub fn refuses_the_credentials(stackctl: &Stackctl, objects: &Objects, hand: &Hand) {
    let before = backups::backups(stackctl, "user-db");
    let secret = hand.json(&["get", "secret", "backup-store"])["data"]["SECRET_ACCESS_KEY"].clone();
    hand.patch("secret/backup-store", &json!({"stringData": {"SECRET_ACCESS_KEY": "not-the-one"}}));
    fails_with(stackctl, objects, "credentials", "the store refuses the credentials of Secret backup-store");
    hand.patch("secret/backup-store", &json!({"data": {"SECRET_ACCESS_KEY": secret}}));
    all_is_well(stackctl, &before);
}

pub fn has_lost_its_bucket(stackctl: &Stackctl, objects: &Objects, hand: &Hand) {
    let before = backups::backups(stackctl, "user-db");
    let shell = |script: &str| hand.kubectl(&["exec", "backup-store-0", "-c", "versitygw", "--", "sh", "-c", script]);
    shell("mv /data/backups /data/elsewhere");
    fails_with(stackctl, objects, "bucket", "the bucket of s3://backups/ is not there");
    shell("rm -rf /data/backups && mv /data/elsewhere /data/backups");
    all_is_well(stackctl, &before);
}

pub fn is_away_for_ten_minutes(stackctl: &Stackctl, objects: &Objects) {
    let before = backups::backups(stackctl, "user-db");
    let began = Instant::now();
    objects.scale_store(0);
    fails_with(stackctl, objects, "away", "the store in the cluster does not run");
    let firing = || {
        let alerts = r#"ALERTS{alertname="DatabaseWalArchivingFailing", alertstate="firing"}"#;
        let answer = objects.prometheus(alerts);
        answer["data"]["result"].as_array().is_some_and(|series| !series.is_empty())
    };
    within(ALERT_WITHIN, "the alert", firing);
    println!("the alert fired after {:.0} s", began.elapsed().as_secs_f64());
    while began.elapsed() < AWAY {
        goes_on(objects, &format!("away-{}", began.elapsed().as_secs()));
        ask(stackctl, "user-db", "select pg_switch_wal()");
        std::thread::sleep(Duration::from_secs(15));
    }
    objects.scale_store(1);
    all_is_well(stackctl, &before);
    until("the alert's end", || !firing());
}

/// Writes and has WAL archived until status gives `words` for why it is not; the writes are answered.
pub fn fails_with(stackctl: &Stackctl, objects: &Objects, during: &str, words: &str) {
    goes_on(objects, during);
    ask(stackctl, "user-db", "select pg_switch_wal()");
    until(words, || line(stackctl).contains(words));
    let text = line(stackctl);
    assert!(text.contains("the database goes on"), "{text}");
    println!("status: {text}");
    goes_on(objects, &format!("{during}-still"));
    let failed = stackctl.run(&["backup", "create"]);
    assert!(failed.code == 1 && failed.stderr.contains("the database goes on"), "{}", failed.stderr);
}
