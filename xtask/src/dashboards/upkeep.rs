//! Rows of the database's dashboard on what it keeps and is kept by: WAL, checkpoints, backups, storage, the operator.

use super::Kind::{Lines, Number};
use super::{PLAIN, Row, panel, query, row};

/// The database's volumes as they were asked for, by the pod that uses them.
const REQUESTED: &str = r#"label_replace(kube_persistentvolumeclaim_resource_requests_storage_bytes, "pod", "$1", "persistentvolumeclaim", "(.+)")"#;

const BACKUPS: &str = "backups to a store are set up";

/// The write-ahead log.
pub fn wal() -> Row {
    row(
        "WAL",
        vec![
            panel(
                "WAL written",
                Lines,
                "Bps",
                "Bytes of WAL a second.",
                vec![query("{{pod}}", "sum by (pod) (rate(cnpg_collector_wal_bytes[1m]))")],
            ),
            panel(
                "Whole pages in the WAL",
                Lines,
                "ops",
                "Pages written in full, after each checkpoint.",
                vec![query("{{pod}}", "sum by (pod) (rate(cnpg_collector_wal_fpi[1m]))")],
            ),
            panel(
                "WAL on the volume",
                Lines,
                "bytes",
                "Size of pg_wal.",
                vec![query("{{pod}}", r#"max by (pod) (cnpg_collector_pg_wal{value="size"})"#)],
            ),
        ],
    )
}

/// Checkpoints and the buffers that they write.
pub fn checkpoints() -> Row {
    row(
        "Checkpoints",
        vec![
            panel(
                "Checkpoints in ten minutes",
                Lines,
                "none",
                "By time, and forced because the WAL grew too large.",
                vec![
                    query(
                        "{{pod}} by time",
                        "sum by (pod) (increase(cnpg_pg_stat_checkpointer_checkpoints_timed[10m]))",
                    ),
                    query("{{pod}} forced", "sum by (pod) (increase(cnpg_pg_stat_checkpointer_checkpoints_req[10m]))"),
                ],
            ),
            panel(
                "Time in checkpoints",
                Lines,
                "percentunit",
                "Share of the time spent writing and syncing.",
                vec![
                    query("{{pod}} writing", "sum by (pod) (rate(cnpg_pg_stat_checkpointer_write_time[5m])) / 1000"),
                    query("{{pod}} syncing", "sum by (pod) (rate(cnpg_pg_stat_checkpointer_sync_time[5m])) / 1000"),
                ],
            ),
            panel(
                "Buffers",
                Lines,
                "ops",
                "Written by checkpoints and by the background writer, and allocated.",
                vec![
                    query("checkpoints", "sum(rate(cnpg_pg_stat_checkpointer_buffers_written[5m]))"),
                    query("background writer", "sum(rate(cnpg_pg_stat_bgwriter_buffers_clean[5m]))"),
                    query("allocated", "sum(rate(cnpg_pg_stat_bgwriter_buffers_alloc[5m]))"),
                ],
            ),
        ],
    )
}

/// The WAL archive and base backups.
pub fn archive() -> Row {
    row("Archive and backups", vec![
        panel("WAL files archived", Lines, "none", "In the last ten minutes; failures are tried again.", vec![
            query("{{pod}} archived", "sum by (pod) (increase(cnpg_pg_stat_archiver_archived_count[10m]))"),
            query("{{pod}} failed", "sum by (pod) (increase(cnpg_pg_stat_archiver_failed_count[10m]))"),
        ]),
        panel("Waiting for the archive", Lines, "none", "WAL files that are complete and not archived.", vec![query(
            "{{pod}}",
            r#"max by (pod) (cnpg_collector_pg_wal_archive_status{value="ready"})"#,
        )]),
        panel("Since the last WAL file was archived", Lines, "s", "Grows while little is written: a file is 16 MiB.", vec![
            query("{{pod}}", "max by (pod) (cnpg_pg_stat_archiver_seconds_since_last_archival >= 0)"),
        ]),
        panel("Age of the last backup", Number(PLAIN), "s", "Time since the last good one.", vec![query(
            "age",
            "time() - max((barman_cloud_cloudnative_pg_io_last_available_backup_timestamp > 0) or (cnpg_collector_last_available_backup_timestamp > 0))",
        )])
        .size(8, 4)
        .only_under(BACKUPS),
        panel("Recovery reaches back", Number(PLAIN), "s", "To how long ago the database can be taken back.", vec![query(
            "back",
            "time() - max((barman_cloud_cloudnative_pg_io_first_recoverability_point > 0) or (cnpg_collector_first_recoverability_point > 0))",
        )])
        .size(8, 4)
        .only_under(BACKUPS),
        panel("Since the last failed backup", Number(PLAIN), "s", "Nothing here is good.", vec![query(
            "since",
            "time() - max((barman_cloud_cloudnative_pg_io_last_failed_backup_timestamp > 0) or (cnpg_collector_last_failed_backup_timestamp > 0))",
        )])
        .size(8, 4)
        .only_under("a backup has failed"),
    ])
}

/// Databases, volumes, transaction ids and the certificate.
pub fn storage() -> Row {
    row(
        "Storage",
        vec![
            panel(
                "Databases",
                Lines,
                "bytes",
                "Size on the primary.",
                vec![query("{{datname}}", "max by (datname) (cnpg_pg_database_size_bytes)")],
            ),
            panel(
                "Used of the volume asked for",
                Lines,
                "percentunit",
                "Databases and WAL as a share of the volume's size.",
                vec![query(
                    "{{pod}}",
                    format!(
                        "(sum by (namespace, pod) (cnpg_pg_database_size_bytes) + on (namespace, pod) \
                     sum by (namespace, pod) (cnpg_collector_pg_wal{{value=\"size\"}})) / on (namespace, pod) {REQUESTED}"
                    ),
                )],
            ),
            panel(
                "Volumes by the kubelet",
                Lines,
                "percentunit",
                "Used share of each volume whose driver tells it; a path on the node (minikube) does not.",
                vec![query(
                    "{{namespace}}/{{persistentvolumeclaim}}",
                    "max by (namespace, persistentvolumeclaim) (kubelet_volume_stats_used_bytes / kubelet_volume_stats_capacity_bytes)",
                )],
            ),
            panel(
                "Transaction ids",
                Lines,
                "none",
                "Age of the oldest one; at 200 million a vacuum is forced.",
                vec![query("{{datname}}", "max by (datname) (cnpg_pg_database_xid_age)")],
            ),
            panel(
                "Certificate expires in",
                Number(&[(0.0, "red"), (432_000.0, "green")]),
                "s",
                "The server's, as the app meets it; the operator renews it 7 days before.",
                vec![query("left", "min(user_app_db_certificate_expiry_timestamp_seconds) - time()")],
            )
            .size(8, 7),
        ],
    )
}

/// What the operator is busy with.
pub fn operator() -> Row {
    row(
        "Operator",
        vec![
            panel(
                "Reconciliations",
                Lines,
                "ops",
                "How often the operator looks after its objects.",
                vec![query("{{controller}}", "sum by (controller) (rate(controller_runtime_reconcile_total[1m]))")],
            ),
            panel(
                "Failed reconciliations",
                Lines,
                "ops",
                "Tried again with a growing pause.",
                vec![query(
                    "{{controller}}",
                    "sum by (controller) (rate(controller_runtime_reconcile_errors_total[1m]))",
                )],
            ),
            panel(
                "Queue",
                Lines,
                "none",
                "Objects that wait for the operator.",
                vec![query("{{name}}", "sum by (name) (workqueue_depth)")],
            ),
        ],
    )
}
