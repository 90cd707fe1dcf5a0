//! Old base backups are removed, and what they alone needed.

use std::time::Duration;

use super::{all_is_well, hand::Hand, healthy};
use crate::{
    backups::{self, within},
    cli::Stackctl,
};

/// A sidecar is back in seconds, and looks at once.
const REMOVED_WITHIN: Duration = Duration::from_secs(90);

/// With a week to be kept: of three backups that are ten days, eight days and minutes old, the second is what the
/// beginning of the week is restored from.
pub fn removes_what_it_should_and_nothing_else(stackctl: &Stackctl, hand: &Hand) {
    while backups::backups(stackctl, "user-db").len() < 3 {
        stackctl.ok(&["backup", "create"]);
    }
    let before = backups::backups(stackctl, "user-db");
    let (oldest, second) = (oldest(&before, 0), oldest(&before, 1));
    for (id, days) in [(&oldest, 10), (&second, 8)] {
        let script = format!(
            "cd /data/backups/user-db/base/{id} && day=$(date -u -d @$(($(date +%s) - {days} * 86400)) +%Y-%m-%d) && \
             sed -i -E \"s/^(begin_time|end_time)=[0-9-]+/\\1=$day/\" backup.info && grep _time= backup.info"
        );
        println!("{}", hand.kubectl(&["exec", "backup-store-0", "-c", "versitygw", "--", "sh", "-c", &script]));
    }
    // Each sidecar looks once when it starts and then every half an hour, and does something on the primary only. It is
    // restarted in place, without a failover.
    let stop = ["--", "/venv/bin/python3", "-c", "import os; os.kill(1, 15)"];
    hand.kubectl(&[&["exec", &hand.primary(), "-c", "plugin-barman-cloud"], &stop[..]].concat());
    within(REMOVED_WITHIN, "the removal", || !backups::backups(stackctl, "user-db").contains(&oldest));
    healthy(stackctl);
    let after = backups::backups(stackctl, "user-db");
    let wanted: Vec<_> = before.iter().filter(|id| **id != oldest).collect();
    assert!(wanted.iter().all(|id| after.contains(id)), "{before:?} became {after:?}");
    all_is_well(stackctl, &after);
}

/// Ids are times: their order is that of the backups.
fn oldest(ids: &[String], nth: usize) -> String {
    let mut sorted = ids.to_vec();
    sorted.sort();
    sorted[nth].clone()
}
