//! A Service leads to a new pod within a tenth of a second.
//!
//! By default kube-proxy gathers changes for up to a second before it acts on them (`minSyncPeriod`, for clusters with
//! thousands of Services). A failover needs two in a row: the old primary is taken out, the new one is put in. kubeadm
//! keeps the setting in a ConfigMap, at a depth that minikube's `--extra-config` does not reach.

use ::kube::{
    Api,
    api::{Patch, PatchParams},
};
use anyhow::Context as _;
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::ConfigMap};
use serde_json::json;

use crate::{error::Result, kube::Kube};

const NAMESPACE: &str = "kube-system";
/// The name of the ConfigMap and of the DaemonSet.
const PROXY: &str = "kube-proxy";
/// The key of the configuration in the ConfigMap.
const KEY: &str = "config.conf";
/// The setting in the configuration, once for each kind of rules.
const SETTING: &str = "minSyncPeriod:";
/// The longest that kube-proxy gathers changes.
const PERIOD: &str = "100ms";
/// The annotation of kube-proxy's pods with the setting that they were started with.
const STARTED_WITH: &str = "stackctl/min-sync-period";

/// Whether kube-proxy, where the cluster has it from kubeadm, may gather changes for longer.
///
/// # Errors
/// The API's.
pub async fn are_slow(kube: &Kube) -> Result<bool> {
    let Some((maps, proxies)) = read(kube).await? else { return Ok(false) };
    let started_with = proxies.spec.and_then(|spec| spec.template.metadata?.annotations?.remove(STARTED_WITH));
    let settings = configuration(&maps);
    Ok(quick(settings) != settings || (settings.contains(SETTING) && started_with.as_deref() != Some(PERIOD)))
}

/// Tells kube-proxy to act on changes soon. Its pods are replaced; the rules that they have made stay meanwhile.
///
/// # Errors
/// The API's.
pub async fn quicken(kube: &Kube) -> Result<()> {
    let Some((map, _)) = read(kube).await? else { return Ok(()) };
    let (maps, proxies) = apis(kube);
    let change = json!({"data": {KEY: quick(configuration(&map))}});
    maps.patch(PROXY, &PatchParams::default(), &Patch::Merge(&change)).await.context("cannot set up kube-proxy")?;
    let started_with = json!({"spec": {"template": {"metadata": {"annotations": {STARTED_WITH: PERIOD}}}}});
    proxies
        .patch(PROXY, &PatchParams::default(), &Patch::Merge(&started_with))
        .await
        .context("cannot restart kube-proxy")?;
    Ok(())
}

fn apis(kube: &Kube) -> (Api<ConfigMap>, Api<DaemonSet>) {
    (Api::namespaced(kube.client(), NAMESPACE), Api::namespaced(kube.client(), NAMESPACE))
}

async fn read(kube: &Kube) -> Result<Option<(ConfigMap, DaemonSet)>> {
    let (maps, proxies) = apis(kube);
    let map = maps.get_opt(PROXY).await.context("cannot read kube-proxy's configuration")?;
    let proxies = proxies.get_opt(PROXY).await.context("cannot read kube-proxy's DaemonSet")?;
    Ok(map.zip(proxies))
}

fn configuration(map: &ConfigMap) -> &str {
    map.data.as_ref().and_then(|data| data.get(KEY)).map_or("", String::as_str)
}

/// The configuration with the setting wherever it is.
fn quick(configuration: &str) -> String {
    let line = |line: &str| match line.split_once(SETTING) {
        Some((indent, _)) if indent.trim().is_empty() => format!("{indent}{SETTING} {PERIOD}"),
        _ => line.to_owned(),
    };
    configuration.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_rules_is_set_and_nothing_else() {
        let before = "iptables:\n  masqueradeAll: false\n  minSyncPeriod: 0s\n  syncPeriod: 0s\nnftables:\n  minSyncPeriod: 1s\n";
        let after = "iptables:\n  masqueradeAll: false\n  minSyncPeriod: 100ms\n  syncPeriod: 0s\nnftables:\n  minSyncPeriod: 100ms\n";
        assert_eq!(quick(before), after);
        assert_eq!(quick(after), after);
        assert_eq!(quick("mode: ipvs\n"), "mode: ipvs\n");
    }
}
