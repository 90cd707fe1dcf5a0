//! What the user may do: in the whole cluster, or in one namespace alone.

use futures::future::try_join_all;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{Api, api::PostParams};

use super::Kube;
use crate::error::Result;

/// A right that a subject may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right<'a> {
    /// E.g. `create`.
    pub verb: &'a str,
    /// API group; empty for the core one.
    pub group: &'a str,
    /// Plural, e.g. `deployments`; a subresource after a slash, e.g. `pods/exec`.
    pub resource: &'a str,
    /// `None`: in the whole cluster.
    pub namespace: Option<&'a str>,
}

/// The rights without which nothing can be installed that is of the whole cluster.
const IN_THE_CLUSTER: [(&str, &str); 5] = [
    ("", "namespaces"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
];

impl Kube {
    /// Whether the API server lets us do that.
    ///
    /// # Errors
    /// The API's refusal to answer.
    pub async fn may(&self, right: Right<'_>) -> Result<bool> {
        let (resource, subresource) =
            right.resource.split_once('/').map_or((right.resource, None), |(resource, sub)| (resource, Some(sub)));
        let attributes = ResourceAttributes {
            verb: Some(right.verb.into()),
            group: Some(right.group.into()),
            resource: Some(resource.into()),
            subresource: subresource.map(Into::into),
            namespace: right.namespace.map(Into::into),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let (api, once) = (Api::all(self.client()), PostParams::default());
        let answer = self.call("ask for our permissions", || api.create(&once, &review)).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    /// Those of `rights` that the user does not have.
    ///
    /// # Errors
    /// The API's refusal to answer.
    pub async fn lacking<'a>(&self, rights: &[Right<'a>]) -> Result<Vec<Right<'a>>> {
        let allowed = try_join_all(rights.iter().map(|right| self.may(*right))).await?;
        Ok(rights.iter().zip(allowed).filter(|(_, allowed)| !allowed).map(|(right, _)| *right).collect())
    }

    /// The rights that the user lacks of those without which nothing of the whole cluster can be installed. Asked once.
    ///
    /// # Errors
    /// The API's refusal to answer.
    pub async fn lacking_in_cluster(&self) -> Result<Vec<Right<'static>>> {
        let right = |(group, resource)| Right { verb: "patch", group, resource, namespace: None };
        let ask = || async {
            // Administrators mostly have every right: one question instead of five.
            if self.may(Right { verb: "*", group: "*", resource: "*", namespace: None }).await? {
                return Ok::<_, anyhow::Error>(Vec::new());
            }
            let lacking = self.lacking(&IN_THE_CLUSTER.map(right)).await?;
            Ok(lacking.into_iter().map(|right| (right.group, right.resource)).collect())
        };
        let lacking: &Vec<_> = self.lacking_in_cluster.get_or_try_init(ask).await?;
        Ok(lacking.iter().copied().map(right).collect())
    }

    /// Whether the user may install nothing that is of the whole cluster, and has to make do with what its administrators
    /// have put there.
    ///
    /// # Errors
    /// As [`Kube::lacking_in_cluster`].
    pub async fn is_confined(&self) -> Result<bool> {
        Ok(!self.lacking_in_cluster().await?.is_empty())
    }
}
