//! One screen to watch a drill on: who is the primary, whether commits are confirmed, and what users notice.

use super::Kind::{Lines, Name, Number, Stacked, States};
use super::cloudnativepg::{ROLES, SYNCHRONOUS};
use super::user_app::{ERRORS, percentiles};
use super::{Dashboard, PLAIN, UP, WANTED, panel, query, row};

/// The dashboard.
pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "failover",
        title: "Failover",
        description: "A failover as it happens: roles, replication, and what users notice of it.",
        span: "5m",
        rows: vec![
            row(
                "",
                vec![
                    panel("Primary", Name, "none", "By the operator.", vec![query("{{primary}}", "cnpg_cluster_info")]),
                    panel(
                        "To be primary",
                        Name,
                        "none",
                        "Whom the operator has chosen.",
                        vec![query("{{target_primary}}", "cnpg_cluster_info")],
                    ),
                    panel(
                        "Phase",
                        Name,
                        "none",
                        "What the operator is doing.",
                        vec![query("{{phase}}", "cnpg_cluster_info")],
                    ),
                    panel(
                        "Instances up",
                        Number(WANTED),
                        "none",
                        "Instances whose PostgreSQL answers.",
                        vec![query("up", "sum(cnpg_collector_up)")],
                    ),
                    panel(
                        "Synchronous standbys",
                        Number(WANTED),
                        "none",
                        "With none, writes wait.",
                        vec![query("standbys", SYNCHRONOUS)],
                    ),
                    panel(
                        "Primary since",
                        Number(PLAIN),
                        "s",
                        "Back to zero when a standby takes over.",
                        vec![query("since", "time() - max(cnpg_cluster_primary_since_timestamp_seconds)")],
                    ),
                ],
            ),
            row(
                "",
                vec![
                    panel(
                        "Roles",
                        States(ROLES),
                        "none",
                        "By the instances themselves.",
                        vec![query("{{pod}}", "cnpg_pg_replication_in_recovery")],
                    )
                    .size(12, 6),
                    panel(
                        "Standbys",
                        States(&[(1, "connected", "green")]),
                        "none",
                        "As the primary sees them.",
                        vec![query(
                            "{{application_name}} {{state}} {{sync_state}}",
                            "max by (application_name, state, sync_state) (cnpg_standbys_present)",
                        )],
                    )
                    .size(12, 6),
                    panel(
                        "Answers to users",
                        Stacked,
                        "reqps",
                        "By status.",
                        vec![query("{{status}}", "sum by (status) (rate(user_app_http_requests_total[15s]))")],
                    ),
                    panel(
                        "Share of errors",
                        Lines,
                        "percentunit",
                        "Of answers with a status of 5xx.",
                        vec![query("errors", ERRORS)],
                    ),
                    panel(
                        "Latency",
                        Lines,
                        "s",
                        "A write waits in the app until there is a primary again.",
                        percentiles("user_app_http_request_duration_seconds", ""),
                    ),
                    panel(
                        "Primary in reach",
                        States(UP),
                        "none",
                        "Whether the primary answers each pod of the app.",
                        vec![query("{{pod}}", "max by (pod) (user_app_db_primary_up)")],
                    ),
                    panel(
                        "Retries",
                        Lines,
                        "ops",
                        "Reads and writes that the app tries again.",
                        vec![query("{{kind}}", "sum by (kind) (rate(user_app_db_retries_total[15s]))")],
                    ),
                    panel(
                        "Not yet applied by the standbys",
                        Lines,
                        "bytes",
                        "WAL of the primary.",
                        vec![query(
                            "{{application_name}}",
                            "max by (application_name) (cnpg_pg_stat_replication_replay_diff_bytes)",
                        )],
                    ),
                ],
            ),
        ],
    }
}
