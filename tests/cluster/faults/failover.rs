//! A failover beside backups.

use std::time::{Duration, Instant};

use super::{all_is_well, disturbed, hand::Hand, healthy};
use crate::{
    backups::{self, until},
    cli::Stackctl,
    objects::{Objects, mail},
};

const PLUGIN: &str = "deployment/barman-cloud";
/// Long enough to see that nobody is promoted.
const WITHOUT: Duration = Duration::from_secs(40);

pub fn in_the_middle_of_a_base_backup(stackctl: &Stackctl, hand: &Hand) {
    let before = backups::backups(stackctl, "user-db");
    let primary = hand.primary();
    let created = disturbed(stackctl, hand, || {
        hand.kubectl(&["delete", "pod", &primary, "--grace-period", "1", "--wait=false"]);
    });
    assert!(created.code <= 1, "{}", created.stderr);
    assert_ne!(hand.primary(), primary, "nobody took over");
    healthy(stackctl);
    all_is_well(stackctl, &before);
}

pub fn while_no_plugin_answers(stackctl: &Stackctl, objects: &Objects, hand: &Hand) {
    let (before, primary) = (backups::backups(stackctl, "user-db"), hand.primary());
    let mail = mail("before-no-plugin");
    objects.register("Before", &mail);
    let scale = |to: &str| hand.kubectl(&["-n", "cnpg-system", "scale", PLUGIN, "--replicas", to]);
    scale("0");
    let pods = || hand.json(&["-n", "cnpg-system", "get", "pods", "-l", "app.kubernetes.io/name=barman-cloud"]);
    until("the plugin's end", || pods()["items"].as_array().is_some_and(Vec::is_empty));
    hand.kubectl(&["delete", "pod", &primary, "--grace-period", "1", "--wait=false"]);
    let began = Instant::now();
    until("the word of status", || backups::line(stackctl).contains("the operator does nothing for the database"));
    std::thread::sleep(WITHOUT.saturating_sub(began.elapsed()));
    assert_eq!(hand.primary(), primary, "somebody was promoted without the plugin");
    scale("2");
    healthy(stackctl);
    println!("full redundancy {:.0} s after the primary was deleted", began.elapsed().as_secs_f64());
    assert!(backups::rows(stackctl, "user-db").contains(&mail), "what was written before");
    all_is_well(stackctl, &before);
}

/// Both pods of the plugin stand still: they take connections and answer nothing, which once held up every failover.
pub fn while_the_plugin_hangs(stackctl: &Stackctl, hand: &Hand) {
    let (before, primary) = (backups::backups(stackctl, "user-db"), hand.primary());
    hand.stop("server-address=:9090");
    hand.kubectl(&["delete", "pod", &primary, "--grace-period", "1", "--wait=false"]);
    let began = Instant::now();
    until("a new primary", || hand.primary() != primary);
    println!("a new primary {:.0} s after the old one was deleted", began.elapsed().as_secs_f64());
    healthy(stackctl);
    all_is_well(stackctl, &before);
}

/// The plugin goes, with the kinds of its objects and the objects themselves: `down` of another stack did that once.
pub fn with_the_plugin_removed_by_others(stackctl: &Stackctl, hand: &Hand) {
    let before = backups::backups(stackctl, "user-db");
    hand.kubectl(&["-n", "cnpg-system", "delete", PLUGIN, "service/barman-cloud"]);
    hand.kubectl(&["delete", "customresourcedefinition", "objectstores.barmancloud.cnpg.io"]);
    // The operator comes to know of it when it next looks at the database.
    hand.kubectl(&["annotate", "--overwrite", "clusters.postgresql.cnpg.io", "user-db", "test/looked-at=again"]);
    until("the operator's word", || {
        let cluster = hand.json(&["get", "clusters.postgresql.cnpg.io", "user-db"]);
        cluster["status"]["phase"].as_str().is_some_and(|phase| phase.contains("plugin"))
    });
    assert_ne!(backups::part(stackctl, "database")["health"], "healthy", "the operator can do nothing for it");
    // The first one, not the third.
    stackctl.ok(&["up"]);
    healthy(stackctl);
    all_is_well(stackctl, &before);
}
