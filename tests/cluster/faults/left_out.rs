//! Backups are left out, and taken up again.

use super::{all_is_well, hand::Hand};
use crate::{backups, cli::Stackctl, suite::tell};

pub fn and_taken_up_again(stackctl: &Stackctl, hand: &Hand) {
    let before = backups::backups(stackctl, "user-db");
    for (args, instances, what) in
        [(&["up", "--without", "backup"][..], 0, "left out"), (&["up", "--forget", "without"][..], 3, "taken up again")]
    {
        tell(&format!("backups are {what}: up ends when every instance is replaced and ready"));
        stackctl.ok(args);
        assert_eq!(with_sidecar(hand), instances, "backups are {what}");
        assert_eq!(backups::part(stackctl, "database")["health"], "healthy", "backups are {what}");
        let again = stackctl.ok(args);
        assert!(again.stderr.contains("PostgreSQL, 3 instances: 3/3 ready") && again.stderr.contains("unchanged"));
    }
    all_is_well(stackctl, &before);
}

/// Instances with the plugin's container.
fn with_sidecar(hand: &Hand) -> usize {
    let pods = hand.json(&["get", "pods", "-l", "cnpg.io/cluster=user-db,cnpg.io/podRole=instance"]);
    let has = |pod: &serde_json::Value| {
        let started = pod["spec"]["initContainers"].as_array();
        started.is_some_and(|all| all.iter().any(|container| container["name"] == "plugin-barman-cloud"))
    };
    pods["items"].as_array().expect("a list").iter().filter(|pod| has(pod)).count()
}
