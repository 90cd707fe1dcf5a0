//! The database: instances, roles, replication, load, WAL, backups, storage.

use super::Kind::{Lines, Name, Number, Stacked, States};
use super::{Dashboard, PLAIN, Panel, Row, UNWANTED, UP, WANTED, panel, query, row, upkeep};

/// What an instance is, by `cnpg_pg_replication_in_recovery`.
pub const ROLES: &[(u32, &str, &str)] = &[(0, "primary", "green"), (1, "standby", "blue")];
/// Standbys whose confirmation counts for a commit.
pub const SYNCHRONOUS: &str =
    r#"count(cnpg_standbys_present{state="streaming", sync_state=~"sync|quorum"}) or vector(0)"#;

/// The dashboard.
pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "cloudnativepg",
        title: "CloudNativePG",
        description: "The PostgreSQL cluster: its instances, replication, load, WAL, backups and storage.",
        span: "30m",
        rows: vec![
            row("", overview()),
            instances(),
            replication(),
            load(),
            upkeep::wal(),
            upkeep::checkpoints(),
            upkeep::archive(),
            upkeep::storage(),
            upkeep::operator(),
        ],
    }
}

fn overview() -> Vec<Panel> {
    vec![
        panel(
            "Primary",
            Name,
            "none",
            "The primary, by the operator.",
            vec![query("{{primary}}", "cnpg_cluster_info")],
        ),
        panel("Phase", Name, "none", "What the operator is doing.", vec![query("{{phase}}", "cnpg_cluster_info")]),
        panel(
            "Instances up",
            Number(WANTED),
            "none",
            "Instances whose PostgreSQL answers.",
            vec![query("up", "sum(cnpg_collector_up)")],
        )
        .size(3, 4),
        panel(
            "Synchronous standbys",
            Number(WANTED),
            "none",
            "Standbys whose confirmation counts for a commit.",
            vec![query("standbys", SYNCHRONOUS)],
        )
        .size(3, 4),
        panel(
            "Largest lag",
            Number(PLAIN),
            "s",
            "How far the slowest standby is behind in applying.",
            vec![query("lag", "max(cnpg_pg_replication_lag)")],
        )
        .size(3, 4),
        panel(
            "Primary since",
            Number(PLAIN),
            "s",
            "How long the present primary has been it.",
            vec![query("since", "time() - max(cnpg_cluster_primary_since_timestamp_seconds)")],
        )
        .size(3, 4),
        panel(
            "PostgreSQL",
            Name,
            "none",
            "The version.",
            vec![query("{{full}}", "max by (full) (cnpg_collector_postgres_version)")],
        )
        .size(2, 4),
        panel(
            "Alerts",
            Number(UNWANTED),
            "none",
            "Alerts that are firing.",
            vec![query("firing", r#"count(ALERTS{alertstate="firing"}) or vector(0)"#)],
        )
        .size(2, 4),
    ]
}

fn instances() -> Row {
    row(
        "Instances",
        vec![
            panel(
                "Roles",
                States(ROLES),
                "none",
                "Who is the primary, by the instances themselves.",
                vec![query("{{pod}}", "cnpg_pg_replication_in_recovery")],
            ),
            panel(
                "PostgreSQL answers",
                States(UP),
                "none",
                "Whether each instance's PostgreSQL answers.",
                vec![query("{{pod}}", "max by (pod) (cnpg_collector_up)")],
            ),
            panel(
                "Running for",
                Lines,
                "s",
                "Time since PostgreSQL was started; back to zero after a restart.",
                vec![query("{{pod}}", "time() - max by (pod) (cnpg_pg_postmaster_start_time)")],
            ),
            panel(
                "CPU",
                Lines,
                "short",
                "Cores that each instance uses.",
                vec![query(
                    "{{pod}}",
                    r#"sum by (pod) (rate(container_cpu_usage_seconds_total{container="postgres"}[1m]))"#,
                )],
            ),
            panel(
                "Memory",
                Lines,
                "bytes",
                "What cannot be taken from it without swapping; its limit ends it.",
                vec![query("{{pod}}", r#"sum by (pod) (container_memory_working_set_bytes{container="postgres"})"#)],
            ),
            panel(
                "Restarts",
                Lines,
                "none",
                "Restarts of the container since the pod was made.",
                vec![query(
                    "{{pod}}",
                    r#"sum by (pod) (kube_pod_container_status_restarts_total{container="postgres"})"#,
                )],
            ),
        ],
    )
}

fn replication() -> Row {
    row(
        "Replication",
        vec![
            panel(
                "Lag by stage",
                Lines,
                "bytes",
                "WAL of the primary that a standby has not yet been sent, written, made durable or applied.",
                ["sent", "write", "flush", "replay"]
                    .into_iter()
                    .zip([
                        "{{application_name}} not sent",
                        "{{application_name}} not written",
                        "{{application_name}} not durable",
                        "{{application_name}} not applied",
                    ])
                    .map(|(stage, legend)| {
                        query(
                            legend,
                            format!("max by (application_name) (cnpg_pg_stat_replication_{stage}_diff_bytes)"),
                        )
                    })
                    .collect(),
            ),
            panel(
                "Delay by stage",
                Lines,
                "s",
                "Time until a standby has written, made durable or applied what the primary wrote.",
                ["write", "flush", "replay"]
                    .into_iter()
                    .zip([
                        "{{application_name}} written",
                        "{{application_name}} durable",
                        "{{application_name}} applied",
                    ])
                    .map(|(stage, legend)| {
                        query(
                            legend,
                            format!("max by (application_name) (cnpg_pg_stat_replication_{stage}_lag_seconds)"),
                        )
                    })
                    .collect(),
            ),
            panel(
                "Standbys as the primary sees them",
                States(&[(1, "connected", "green")]),
                "none",
                "State of each connection, and whether its confirmation counts: quorum or sync does.",
                vec![query(
                    "{{application_name}} {{state}} {{sync_state}}",
                    "max by (application_name, state, sync_state) (cnpg_standbys_present)",
                )],
            ),
            panel(
                "Lag in applying",
                Lines,
                "s",
                "Age of the last transaction that each instance has applied.",
                vec![query("{{pod}}", "max by (pod) (cnpg_pg_replication_lag)")],
            ),
            panel(
                "WAL receivers",
                States(UP),
                "none",
                "Whether an instance is receiving WAL; the primary never is.",
                vec![query("{{pod}}", "max by (pod) (cnpg_pg_replication_is_wal_receiver_up)")],
            ),
            panel(
                "WAL kept for slots",
                Lines,
                "bytes",
                "What a slot holds back from being removed.",
                vec![query(
                    "{{pod}} {{slot_name}}",
                    "max by (pod, slot_name) (cnpg_pg_replication_slots_pg_wal_lsn_diff)",
                )],
            ),
        ],
    )
}

fn load() -> Row {
    row(
        "Load",
        vec![
            panel(
                "Transactions",
                Stacked,
                "ops",
                "Commits and rollbacks a second in the app's database.",
                vec![
                    query(
                        "{{pod}} commits",
                        r#"sum by (pod) (rate(cnpg_pg_stat_database_xact_commit{datname="app"}[1m]))"#,
                    ),
                    query(
                        "{{pod}} rollbacks",
                        r#"sum by (pod) (rate(cnpg_pg_stat_database_xact_rollback{datname="app"}[1m]))"#,
                    ),
                ],
            ),
            panel(
                "Sessions",
                Stacked,
                "none",
                "Connections by what they are doing, on all instances.",
                vec![query("{{state}}", "sum by (state) (cnpg_backends_total)")],
            ),
            panel(
                "Connections used",
                Lines,
                "percentunit",
                "Sessions as a share of max_connections.",
                vec![query(
                    "{{pod}}",
                    "sum by (pod) (cnpg_backends_total) / on (pod) max by (pod) (cnpg_pg_settings_setting{name=\"max_connections\"})",
                )],
            ),
            panel(
                "Cache hits",
                Lines,
                "percentunit",
                "Blocks found in PostgreSQL's own cache.",
                vec![query(
                    "{{pod}}",
                    r#"sum by (pod) (rate(cnpg_pg_stat_database_blks_hit{datname="app"}[5m])) / (sum by (pod) (rate(cnpg_pg_stat_database_blks_hit{datname="app"}[5m])) + sum by (pod) (rate(cnpg_pg_stat_database_blks_read{datname="app"}[5m])))"#,
                )],
            ),
            panel(
                "Rows",
                Lines,
                "ops",
                "Rows written and read a second.",
                vec![
                    query("inserted", r#"sum(rate(cnpg_pg_stat_database_tup_inserted{datname="app"}[1m]))"#),
                    query("updated", r#"sum(rate(cnpg_pg_stat_database_tup_updated{datname="app"}[1m]))"#),
                    query("deleted", r#"sum(rate(cnpg_pg_stat_database_tup_deleted{datname="app"}[1m]))"#),
                    query("fetched", r#"sum(rate(cnpg_pg_stat_database_tup_fetched{datname="app"}[1m]))"#),
                ],
            ),
            panel(
                "Longest transaction",
                Lines,
                "s",
                "Age of the oldest open transaction.",
                vec![query("{{pod}}", "max by (pod) (cnpg_backends_max_tx_duration_seconds)")],
            ),
            panel(
                "Waiting for a lock",
                Lines,
                "none",
                "Sessions that wait for another one.",
                vec![query("{{pod}}", "max by (pod) (cnpg_backends_waiting_total)")],
            ),
            panel(
                "Deadlocks and conflicts",
                Lines,
                "none",
                "In the last ten minutes. A conflict ends a query on a standby.",
                vec![
                    query("deadlocks", "sum(increase(cnpg_pg_stat_database_deadlocks[10m]))"),
                    query("conflicts", "sum(increase(cnpg_pg_stat_database_conflicts[10m]))"),
                ],
            ),
            panel(
                "Temporary files",
                Lines,
                "Bps",
                "Written by queries whose work did not fit into memory.",
                vec![query("{{pod}}", "sum by (pod) (rate(cnpg_pg_stat_database_temp_bytes[1m]))")],
            ),
        ],
    )
}
