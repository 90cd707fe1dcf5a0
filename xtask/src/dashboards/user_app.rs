//! The app: requests, errors, latency, its way to the database, and its autoscaler.

use super::Kind::{Lines, Number, Stacked, States};
use super::{Dashboard, PLAIN, Panel, Query, Row, UNWANTED, UP, WANTED, panel, query, row};

/// Requests a second of users: probes are not counted by the app.
pub const REQUESTS: &str = "sum(rate(user_app_http_requests_total[1m]))";
/// The share of answers that are the app's own errors.
pub const ERRORS: &str = r#"(sum(rate(user_app_http_requests_total{status=~"5.."}[1m])) or vector(0)) / sum(rate(user_app_http_requests_total[1m]))"#;

/// Median and the two usual high percentiles of a histogram.
pub fn percentiles(metric: &str, by: &str) -> Vec<Query> {
    [(0.5, "median"), (0.95, "95 %"), (0.99, "99 %")]
        .into_iter()
        .map(|(quantile, legend)| {
            query(legend, format!("histogram_quantile({quantile}, sum by (le{by}) (rate({metric}_bucket[1m])))"))
        })
        .collect()
}

/// The dashboard.
pub fn dashboard() -> Dashboard {
    Dashboard {
        uid: "user-app",
        title: "user-app",
        description: "The app: its requests, its way to the database, and its autoscaler.",
        span: "30m",
        rows: vec![row("", overview()), requests(), autoscaling(), database(), pods()],
    }
}

fn overview() -> Vec<Panel> {
    vec![
        panel("Requests a second", Number(PLAIN), "reqps", "Of users.", vec![query("requests", REQUESTS)]),
        panel(
            "Errors",
            Number(&[(0.0, "green"), (0.01, "red")]),
            "percentunit",
            "Share of answers with a status of 5xx.",
            vec![query("errors", ERRORS)],
        ),
        panel(
            "99 % of answers within",
            Number(PLAIN),
            "s",
            "Measured in the app.",
            vec![query(
                "99 %",
                "histogram_quantile(0.99, sum by (le) (rate(user_app_http_request_duration_seconds_bucket[1m])))",
            )],
        ),
        panel(
            "Pods available",
            Number(WANTED),
            "none",
            "Pods that take requests.",
            vec![query("pods", r#"sum(kube_deployment_status_replicas_available{deployment="user-app"})"#)],
        ),
        panel(
            "Primary in reach",
            Number(WANTED),
            "none",
            "1 while every pod reaches the database's primary.",
            vec![query("reached", "min(user_app_db_primary_up)")],
        ),
        panel(
            "Alerts of the app",
            Number(UNWANTED),
            "none",
            "Alerts that are firing.",
            vec![query("firing", r#"count(ALERTS{alertstate="firing", alertname=~"Web.+"}) or vector(0)"#)],
        ),
    ]
}

fn requests() -> Row {
    row(
        "Requests",
        vec![
            panel(
                "Requests by status",
                Stacked,
                "reqps",
                "Answers a second.",
                vec![query("{{status}}", "sum by (status) (rate(user_app_http_requests_total[1m]))")],
            ),
            panel(
                "Requests by route",
                Stacked,
                "reqps",
                "The pattern of the address, not the address.",
                vec![query("{{method}} {{route}}", "sum by (method, route) (rate(user_app_http_requests_total[1m]))")],
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
                "Measured in the app: the way to it and back is not in it.",
                percentiles("user_app_http_request_duration_seconds", ""),
            ),
            panel(
                "Latency by route",
                Lines,
                "s",
                "95 % of answers come within this time.",
                vec![query(
                    "{{route}}",
                    "histogram_quantile(0.95, sum by (le, route) (rate(user_app_http_request_duration_seconds_bucket[1m])))",
                )],
            ),
            panel(
                "Requests in flight",
                Lines,
                "none",
                "Being answered.",
                vec![query("{{pod}}", "sum by (pod) (user_app_http_requests_in_flight)")],
            ),
        ],
    )
}

fn autoscaling() -> Row {
    let autoscaler =
        |metric: &str| format!("max(kube_horizontalpodautoscaler_{metric}{{horizontalpodautoscaler=\"user-app\"}})");
    row("Autoscaling", vec![
        panel("Replicas", Lines, "none", "What the autoscaler wants, within its limits, and what is there.", vec![
            query("wanted", autoscaler("status_desired_replicas")),
            query("available", r#"max(kube_deployment_status_replicas_available{deployment="user-app"})"#),
            query("at least", autoscaler("spec_min_replicas")),
            query("at most", autoscaler("spec_max_replicas")),
        ])
        .size(12, 8),
        panel(
            "CPU against the autoscaler's target",
            Lines,
            "percent",
            "As a share of what each pod requests; the autoscaler keeps the mean at its target.",
            vec![
                query(
                    "target",
                    r#"max(kube_horizontalpodautoscaler_spec_target_metric{horizontalpodautoscaler="user-app", metric_target_type="utilization"})"#,
                ),
                query(
                    "as the autoscaler sees it",
                    r#"max(kube_horizontalpodautoscaler_status_target_metric{horizontalpodautoscaler="user-app", metric_target_type="utilization"})"#,
                ),
            ],
        )
        .size(12, 8),
    ])
}

fn database() -> Row {
    row(
        "Database",
        vec![
            panel(
                "Connections",
                Stacked,
                "none",
                "Of all pods, by pool and what they are doing.",
                vec![query("{{pool}} {{state}}", "sum by (pool, state) (user_app_db_connections)")],
            ),
            panel(
                "Waiting for a connection",
                Lines,
                "none",
                "Requests that wait.",
                vec![query("{{pool}}", "sum by (pool) (user_app_db_pool_waiting)")],
            ),
            panel(
                "Wait for a connection",
                Lines,
                "s",
                "95 % got one within this time.",
                vec![query(
                    "{{pool}}",
                    "histogram_quantile(0.95, sum by (le, pool) (rate(user_app_db_pool_wait_seconds_bucket[5m])))",
                )],
            ),
            panel(
                "Connects",
                Lines,
                "ops",
                "Connections made, and attempts that failed.",
                vec![query("{{pool}} {{result}}", "sum by (pool, result) (rate(user_app_db_connects_total[1m]))")],
            ),
            panel(
                "Retries",
                Lines,
                "ops",
                "Reads and writes that were tried again: how the app rides through a failover.",
                vec![query("{{kind}}", "sum by (kind) (rate(user_app_db_retries_total[1m]))")],
            ),
            panel(
                "Given up",
                Lines,
                "ops",
                "Requests whose deadline ended: their users got a 503.",
                vec![query("{{kind}}", "sum by (kind) (rate(user_app_unavailable_total[1m]))")],
            ),
            panel(
                "Primary in reach of each pod",
                States(UP),
                "none",
                "Whether the primary answers the app.",
                vec![query("{{pod}}", "max by (pod) (user_app_db_primary_up)")],
            ),
            panel(
                "Failovers seen",
                Lines,
                "none",
                "By each pod, since it was started.",
                vec![query("{{pod}}", "max by (pod) (user_app_db_failovers_total)")],
            ),
            panel(
                "Answers that are not what one asked for",
                Lines,
                "ops",
                "Reads from a standby while there is no primary, saved answers given again, requests refused as too many.",
                vec![
                    query("reads from a standby", "sum(rate(user_app_stale_reads_total[1m]))"),
                    query("saved answers", "sum(rate(user_app_idempotent_replays_total[1m]))"),
                    query("refused", "sum(rate(user_app_rate_limited_total[1m]))"),
                ],
            ),
        ],
    )
}

fn pods() -> Row {
    row(
        "Pods",
        vec![
            panel(
                "CPU",
                Lines,
                "short",
                "Cores.",
                vec![query(
                    "{{pod}}",
                    r#"sum by (pod) (rate(container_cpu_usage_seconds_total{container="user-app"}[1m]))"#,
                )],
            ),
            panel(
                "Memory",
                Lines,
                "bytes",
                "The limit is 64 MiB.",
                vec![query("{{pod}}", r#"sum by (pod) (container_memory_working_set_bytes{container="user-app"})"#)],
            ),
            panel(
                "Restarts",
                Lines,
                "none",
                "Of the container, since the pod was made.",
                vec![query(
                    "{{pod}}",
                    r#"sum by (pod) (kube_pod_container_status_restarts_total{container="user-app"})"#,
                )],
            ),
        ],
    )
}
