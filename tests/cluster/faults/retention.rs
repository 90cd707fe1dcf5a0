//! Old base backups are removed, and what they alone needed.

use std::time::Duration;

use serde_json::json;

use super::{all_is_well, hand::Hand, healthy};
use crate::{
    backups::{self, within},
    cli::Stackctl,
    step,
};

/// The sidecars are replaced first, as their interval changes, one after the other.
const REMOVED_WITHIN: Duration = Duration::from_secs(300);
const OBJECT_STORE: &str = "objectstores.barmancloud.cnpg.io/user-db";

/// With a week to be kept: of three backups that are ten days, eight days and minutes old, the second is what the
/// beginning of the week is restored from.
pub fn removes_what_it_should_and_nothing_else(stackctl: &Stackctl, hand: &Hand) {
    step("retention removes the one base backup that no moment of the week needs, and nothing else");
    let before = backups::backups(stackctl, "user-db");
    assert!(before.len() >= 3, "{before:?}");
    let (oldest, second) = (oldest(&before, 0), oldest(&before, 1));
    for (id, days) in [(&oldest, 10), (&second, 8)] {
        let script = format!(
            "cd /data/backups/user-db/base/{id} && day=$(date -u -d @$(($(date +%s) - {days} * 86400)) +%Y-%m-%d) && \
             sed -i -E \"s/^(begin_time|end_time)=[0-9-]+/\\1=$day/\" backup.info && grep _time= backup.info"
        );
        println!("{}", hand.kubectl(&["exec", "backup-store-0", "-c", "versitygw", "--", "sh", "-c", &script]));
    }
    let interval =
        hand.json(&["get", OBJECT_STORE])["spec"]["instanceSidecarConfiguration"]["retentionPolicyIntervalSeconds"]
            .clone();
    let set = |seconds: &serde_json::Value| {
        let patch = json!({"spec": {"instanceSidecarConfiguration": {"retentionPolicyIntervalSeconds": seconds}}});
        hand.patch(OBJECT_STORE, &patch);
        // It is read when a sidecar starts; a new primary's does.
        hand.kubectl(&["delete", "pod", &hand.primary(), "--wait=false"]);
        healthy(stackctl);
    };
    set(&json!(10));
    within(REMOVED_WITHIN, "the removal", || !backups::backups(stackctl, "user-db").contains(&oldest));
    let after = backups::backups(stackctl, "user-db");
    let wanted: Vec<_> = before.iter().filter(|id| **id != oldest).collect();
    assert!(wanted.iter().all(|id| after.contains(id)), "{before:?} became {after:?}");
    set(&interval);
    all_is_well(stackctl, &after);
}

/// Ids are times: their order is that of the backups.
fn oldest(ids: &[String], nth: usize) -> String {
    let mut sorted = ids.to_vec();
    sorted.sort();
    sorted[nth].clone()
}
