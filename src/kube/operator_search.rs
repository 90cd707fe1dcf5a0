//! Looks for the operator that serves a cluster's databases, whoever installed it.

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Service},
};
use kube::{Api, ResourceExt as _, api::ListParams};

use super::{
    Kube, ObjectRef, cnpg, live,
    operator::{CnpgOperator, PLUGIN, SIDECAR_IMAGE, container, is_ours},
};
use crate::{
    error::{Result, failed},
    names::{OPERATOR, OPERATOR_DEPLOYMENT, selector},
};

/// The label of a plugin's Service with the plugin's name.
const PLUGIN_LABEL: &str = "cnpg.io/pluginName";
/// The variable, or key of the operator's ConfigMap, with the namespaces that the operator watches; none: all.
const WATCHED: &str = "WATCH_NAMESPACE";
/// The CustomResourceDefinition of databases.
const CLUSTERS: &str = "clusters.postgresql.cnpg.io";

impl Kube {
    /// The operator that serves the cluster's databases, or as stackctl would install it; looked for when first asked for.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn operator(&self) -> Result<&CnpgOperator> {
        self.operator.get_or_try_init(|| CnpgOperator::find(self)).await
    }
}

impl CnpgOperator {
    /// The operator that there is, or as stackctl would install it.
    ///
    /// # Errors
    /// The API server does not answer. A refusal is none: where the cluster has the operator's kinds, and the user may
    /// change nothing of the whole cluster, its administrators have seen to an operator.
    async fn find(kube: &Kube) -> Result<CnpgOperator> {
        let deployments: Api<Deployment> = Api::all(kube.client());
        let labelled = ListParams::default().labels(&selector(OPERATOR));
        let named = ListParams::default().fields(&format!("metadata.name={OPERATOR_DEPLOYMENT}"));
        let doing = "look for an operator of CloudNativePG";
        let (labelled, named) = tokio::try_join!(
            kube.attempt(doing, || deployments.list(&labelled)),
            kube.attempt(doing, || deployments.list(&named)),
        )?;
        let (Ok(labelled), Ok(named)) = (labelled, named) else {
            let is_there = kube.is_confined().await? && kube.knows(cnpg::API_VERSION, "Cluster").await?;
            return Ok(if is_there { CnpgOperator::hidden() } else { CnpgOperator::default() });
        };
        let mut all: Vec<Deployment> = labelled.items;
        all.extend(named.items);
        let found = all.iter().find(|one| is_ours(one.labels())).or_else(|| all.first());
        let Some(found) = found else { return Ok(CnpgOperator::default()) };
        let mut operator = CnpgOperator::of(found);
        // Whoever may change nothing of the whole cluster cannot call its operator his own.
        let is_confined = kube.is_confined().await?;
        operator.is_foreign |= is_confined;
        if operator.is_foreign {
            operator.watched = watched(kube, found, &operator.namespace).await?;
            operator.find_plugin(kube, is_confined).await?;
        }
        Ok(operator)
    }

    /// Looks for a plugin beside a foreign operator; `any`: by whomever.
    async fn find_plugin(&mut self, kube: &Kube, any: bool) -> Result<()> {
        let services: Api<Service> = Api::namespaced(kube.client(), &self.namespace);
        let ours = ListParams::default().labels(&format!("{PLUGIN_LABEL}={PLUGIN}"));
        let found = kube.attempt("look for the barman-cloud plugin", || services.list(&ours)).await?;
        if !found.is_ok_and(|found| found.items.iter().any(|service| any || !is_ours(service.labels()))) {
            return Ok(());
        }
        self.plugin_is_foreign = true;
        let (deployments, all): (Api<Deployment>, _) =
            (Api::namespaced(kube.client(), &self.namespace), ListParams::default());
        let found = kube.call("look for the barman-cloud plugin", || deployments.list(&all)).await?;
        let is_plugin = |one: &&Deployment| {
            container(one).is_some_and(|it| it.env.iter().flatten().any(|variable| variable.name == SIDECAR_IMAGE))
        };
        if let Some(plugin) = found.items.iter().find(is_plugin) {
            self.plugin = plugin.name_any();
        }
        Ok(())
    }

    /// Refuses a cluster that has the operator's kinds, and nobody that serves them: remnants of somebody's.
    ///
    /// # Errors
    /// There are such remnants, or the API server does not answer.
    pub async fn refuse_remnants(&self, kube: &Kube) -> Result<()> {
        if self.is_foreign || self.version.is_some() {
            return Ok(());
        }
        let definition = ObjectRef::cluster("apiextensions.k8s.io/v1", "CustomResourceDefinition", CLUSTERS);
        let Some(found) = kube.get(&definition).await? else { return Ok(()) };
        if live::Live::of(&found.metadata).is_ours() {
            return Ok(());
        }
        Err(failed(format!(
            "the cluster has somebody else's definition of databases ({definition}) and no operator of CloudNativePG \
             that stackctl can see; nothing was changed"
        ))
        .remedy("if an operator runs where you may not look: ask its owner for the right to list Deployments")
        .remedy(format!(
            "if nobody uses it any more: kubectl get {CLUSTERS} --all-namespaces must be empty, then kubectl delete crd \
             {CLUSTERS}"
        ))
        .into())
    }
}

/// The namespaces that an operator is told to watch, by its environment or by the ConfigMap that it reads.
async fn watched(kube: &Kube, deployment: &Deployment, namespace: &str) -> Result<Vec<String>> {
    let Some(container) = container(deployment) else { return Ok(Vec::new()) };
    let variable = container.env.iter().flatten().find(|variable| variable.name == WATCHED);
    let mut list = variable.and_then(|variable| variable.value.clone()).unwrap_or_default();
    let argument = container.args.iter().flatten().find_map(|argument| argument.strip_prefix("--config-map-name="));
    if let Some(name) = argument {
        let maps: Api<ConfigMap> = Api::namespaced(kube.client(), namespace);
        let found = kube.attempt("read the operator's configuration", || maps.get_opt(name)).await?;
        let value = found.ok().flatten().and_then(|map| map.data?.remove(WATCHED));
        list = value.unwrap_or(list);
    }
    Ok(list.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect())
}
