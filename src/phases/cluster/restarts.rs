//! A container that ended is started again after a second at most, however often that has happened.
//!
//! By default a kubelet waits 10 s before a container's second restart, and twice as long before each that follows,
//! up to 5 min, until it has run for 10 min. An instance whose container was killed, or which was demoted in place,
//! comes back by such a restart: the second failover in ten minutes took three times as long as the first, and after
//! seven in a row redundancy was not back for minutes. The limit is a setting of the kubelet's configuration file,
//! `crashLoopBackOff.maxContainerRestartPeriod`, from Kubernetes 1.35 on (KEP 5593); 1 s is the least it takes.

use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;

use crate::{
    error::{Result, timed_out},
    kube::Kube,
    poll,
    tools::node,
};

/// The longest wait before a restart, as the kubelet writes it.
const LONGEST: &str = "1s";
/// A kubelet that was restarted answers after a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// Those of the nodes whose kubelet may wait longer, and can be told not to. One that does not answer is left as it
/// is: that it does not is told where nodes are waited for.
pub async fn slow(kube: &Kube, nodes: &[String]) -> Vec<String> {
    let slow = join_all(nodes.iter().map(|node| async move { (node, is_slow(kube, node).await) })).await;
    slow.into_iter().filter(|(_, slow)| *slow == Some(true)).map(|(node, _)| node.clone()).collect()
}

/// Tells the nodes' kubelets to restart a container soon.
///
/// # Errors
/// A node that does not answer, or a kubelet that does not come back.
pub async fn quicken(kube: &Kube, nodes: &[String]) -> Result<()> {
    for name in nodes {
        node::configure_kubelet(name, "crashLoopBackOff", &format!("{{maxContainerRestartPeriod: {LONGEST}}}")).await?;
    }
    for name in nodes {
        let late = || {
            timed_out(format!(
                "the kubelet of {name} does not answer with its new configuration after {} s",
                PATIENCE.as_secs()
            ))
            .remedy(format!("docker exec {name} journalctl -u kubelet -n 50 shows why"))
        };
        let is_quick = || async { Ok((is_slow(kube, name).await == Some(false)).then_some(())) };
        poll::until_or(PATIENCE, Duration::from_millis(300), late, is_quick).await?;
    }
    Ok(())
}

/// Whether the node's kubelet may wait longer; `None`: it does not answer, or does not know the setting.
async fn is_slow(kube: &Kube, node: &str) -> Option<bool> {
    waits_longer(&kube.kubelet_configuration(node).await.ok()?)
}

/// The same of what a kubelet says of its configuration. One that knows the setting tells its default, too.
fn waits_longer(configz: &Value) -> Option<bool> {
    let period = configz["kubeletconfig"]["crashLoopBackOff"]["maxContainerRestartPeriod"].as_str()?;
    Some(period != LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_a_kubelet_that_knows_the_setting_is_told() {
        let of = |back_off: Value| waits_longer(&json!({"kubeletconfig": {"crashLoopBackOff": back_off}}));
        assert_eq!(of(json!({"maxContainerRestartPeriod": "5m0s"})), Some(true));
        assert_eq!(of(json!({"maxContainerRestartPeriod": "1s"})), Some(false));
        assert_eq!(of(json!({})), None);
        assert_eq!(waits_longer(&json!({"kubeletconfig": {}})), None);
    }
}
