//! `stackctl logs`: the logs of a part's containers, each line with its pod's name.

use serde_json::json;

use crate::{
    assets::monitoring,
    cli::{Global, LogPart, LogsArgs},
    commands::configured::configured,
    config::Options,
    context::Context,
    database,
    error::Result,
    kube::logs::{self, LogSource},
    names::{FAILOVER_HELPER, OPERATOR, selector},
    ui::{self, Reporter, Style},
};

/// Prints the logs to stdout, until the end or, with `--follow`, until Ctrl-C.
///
/// # Errors
/// No cluster, or no pod of that part.
pub async fn run(global: &Global, args: &LogsArgs, style: Style) -> Result<u8> {
    let config = configured(global, &Options::default())?;
    let cx = Context::new(config, Reporter::discard())?;
    let stack = cx.config.stack.namespace.clone();
    let (namespace, labels, container) = match args.part {
        LogPart::Web => (stack, "app.kubernetes.io/name=user-app".to_owned(), "user-app"),
        LogPart::Database => (stack, database::instances(&cx.database().await?), "postgres"),
        LogPart::Operator => (cx.kube().await?.operator().await?.namespace.clone(), selector(OPERATOR), "manager"),
        LogPart::FailoverHelper => (stack, selector(FAILOVER_HELPER), FAILOVER_HELPER),
        LogPart::Autoscaling => {
            ("kube-system".into(), "app.kubernetes.io/name=metrics-server".to_owned(), "metrics-server")
        }
        LogPart::Prometheus => of_monitoring("prometheus"),
        LogPart::Grafana => of_monitoring("grafana"),
        LogPart::KubeStateMetrics => of_monitoring("kube-state-metrics"),
    };
    let source = LogSource { namespace, selector: labels, container: Some(container.to_owned()) };
    let json_lines = style.mode == ui::Mode::Json;
    let mut print = |pod: &str, line: &str| {
        if json_lines {
            ui::out(&json!({"pod": pod, "line": line}).to_string());
        } else {
            ui::out(&format!("{pod}  {line}"));
        }
    };
    let printing = logs::print(cx.kube().await?, &source, args.tail, args.follow, &mut print);
    tokio::select! {
        ended = printing => ended?,
        () = ui::stdout_closed() => {}
    }
    Ok(0)
}

/// Namespace, selector and container of one of monitoring's parts.
fn of_monitoring(container: &'static str) -> (String, String, &'static str) {
    (monitoring::NAMESPACE.into(), format!("app.kubernetes.io/name=monitoring-{container}"), container)
}
