//! The status for people.

use super::{Health, Report};
use crate::ui::{Tone, paint};

/// The report as a table of parts, then one of the database's instances.
pub fn render(report: &Report, color: bool) -> String {
    let mut text = format!("{}\n\n", report.target);
    let width = report.parts.iter().map(|line| line.part.len()).max().unwrap_or(0);
    for line in &report.parts {
        let (mark, tone) = match line.health {
            Health::Healthy => ("✓", Tone::Good),
            Health::Degraded => ("!", Tone::Warn),
            Health::Unhealthy => ("✗", Tone::Bad),
        };
        text.push_str(&format!("{} {:<width$}  {}\n", paint(color, tone, mark), line.part, line.detail));
    }
    let zone_width = report.instances.iter().filter_map(|member| Some(member.zone.as_ref()?.len() + 2)).max();
    // A column only where nodes are in zones.
    let zone = |zone: &str| zone_width.map(|width| format!("{zone:<0$}", width.max(6))).unwrap_or_default();
    if !report.instances.is_empty() {
        text.push_str(&format!(
            "\n{:<14} {:<8} {:<6} {:<10} {:<8} {:>10}  {}NODE\n",
            "INSTANCE",
            "ROLE",
            "READY",
            "STATE",
            "SYNC",
            "LAG",
            zone("ZONE")
        ));
    }
    for member in &report.instances {
        let (state, sync, lag) = match &member.replication {
            Some(standby) => (standby.state.as_str(), standby.sync_state.as_str(), bytes(standby.lag_bytes)),
            None => ("-", "-", "-".into()),
        };
        let ready = if member.ready { "yes" } else { "no" };
        let node = member.node.as_deref().unwrap_or("-");
        text.push_str(&format!(
            "{:<14} {:<8} {ready:<6} {state:<10} {sync:<8} {lag:>10}  {}{node}\n",
            member.name,
            member.role,
            zone(member.zone.as_deref().unwrap_or("-"))
        ));
    }
    text
}

fn bytes(count: u64) -> String {
    match count {
        0..1_024 => format!("{count} B"),
        1_024..1_048_576 => format!("{} KiB", count / 1_024),
        _ => format!("{} MiB", count / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        database::Standby,
        status::{Line, Member},
    };

    #[test]
    fn a_report_reads_as_two_tables() {
        let mut report = Report {
            target: "minikube profile stackctl".into(),
            parts: vec![Line { part: "database".into(), health: Health::Degraded, detail: "2/3 ready".into() }],
            instances: vec![
                Member {
                    name: "user-db-1".into(),
                    role: "primary".into(),
                    node: Some("stackctl".into()),
                    zone: None,
                    ready: true,
                    replication: None,
                },
                Member {
                    name: "user-db-2".into(),
                    role: "standby".into(),
                    node: None,
                    zone: None,
                    ready: false,
                    replication: Some(Standby {
                        name: "user-db-2".into(),
                        state: "streaming".into(),
                        sync_state: "quorum".into(),
                        replayed: None,
                        lag_bytes: 2048,
                        lag_seconds: 0.0,
                    }),
                },
            ],
        };
        insta::assert_snapshot!(render(&report, false), @r"
        minikube profile stackctl

        ! database  2/3 ready

        INSTANCE       ROLE     READY  STATE      SYNC            LAG  NODE
        user-db-1      primary  yes    -          -                 -  stackctl
        user-db-2      standby  no     streaming  quorum        2 KiB  -
        ");
        report.instances[0].zone = Some("eu-west-3a".into());
        report.parts.clear();
        insta::assert_snapshot!(render(&report, false), @r"
        minikube profile stackctl


        INSTANCE       ROLE     READY  STATE      SYNC            LAG  ZONE        NODE
        user-db-1      primary  yes    -          -                 -  eu-west-3a  stackctl
        user-db-2      standby  no     streaming  quorum        2 KiB  -           -
        ");
    }
}
