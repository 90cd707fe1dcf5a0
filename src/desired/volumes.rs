//! Whether the volumes that there are can become what is wanted: they may grow, where their class lets them, and never
//! shrink.

use std::collections::BTreeMap;

use super::{backup, monitoring};
use crate::{
    assets::monitoring::NAMESPACE,
    backup::STORE,
    cli::Optional,
    config::BackupStore,
    context::Context,
    database,
    error::{Failure, Result, failed},
    kube::volumes::{SizeChange, VolumeClaim, size_change},
};

/// A size that is wanted, and the option that says so.
struct WantedSize<'a> {
    size: &'a str,
    option: &'static str,
}

/// Says which volume of the stack cannot become what is wanted; `None` where all can.
///
/// # Errors
/// The cluster does not answer, or the user may not read its volume claims.
pub async fn unfit_volume(cx: &Context) -> Result<Option<Failure>> {
    let (kube, stack, cluster) = (cx.kube().await?, &cx.config.stack, cx.database().await?);
    let data = WantedSize { size: &stack.storage, option: "--storage" };
    let wal = stack.sizes.wal_storage.as_deref().map(|size| WantedSize { size, option: "sizes.wal-storage" });
    let store = backup::wanted(cx).and_then(|backup| match &backup.store {
        BackupStore::InCluster { storage } => Some(WantedSize { size: storage, option: "--backup-storage" }),
        BackupStore::Bucket { .. } => None,
    });
    let claims = kube.volume_claims(&stack.namespace).await?;
    if claims.is_empty() {
        return Ok(None);
    }
    let live = kube.get(&database::reference(&stack.namespace, &cluster)).await?;
    let spec = live.map(|live| live.data["spec"].clone()).unwrap_or_default();
    let mut growing: BTreeMap<String, (String, &WantedSize)> = BTreeMap::new();
    for claim in &claims {
        let of_database = claim.cluster.as_deref() == Some(&cluster);
        // The operator goes by what the Cluster says: a claim that somebody has made larger than that is left so.
        let (wanted, said) = match (claim.role.as_deref(), &wal, &store) {
            (Some("PG_WAL"), None, _) if of_database => return Ok(Some(wal_taken_away(&stack.namespace, claim))),
            (Some("PG_WAL"), Some(wal), _) if of_database => (wal, spec["walStorage"]["size"].as_str()),
            (Some("PG_DATA"), ..) if of_database => (&data, spec["storage"]["size"].as_str()),
            (None, _, Some(store)) if claim.name == STORE => (store, Some(claim.size.as_str())),
            _ => continue,
        };
        if said.is_some_and(|said| size_change(said, wanted.size) == SizeChange::Shrinks) {
            return Ok(Some(shrinks(&stack.namespace, claim, wanted)));
        }
        if size_change(&claim.size, wanted.size) == SizeChange::Grows {
            let name = format!("{}/{}", stack.namespace, claim.name);
            growing.insert(claim.class.clone().unwrap_or_default(), (name, wanted));
        }
    }
    let prometheus = growing_prometheus(cx).await?;
    let of_prometheus =
        prometheus.as_ref().map(|(claim, size)| (claim, WantedSize { size, option: "sizes.prometheus-storage" }));
    if let Some((claim, wanted)) = &of_prometheus {
        let name = format!("{NAMESPACE}/{}", claim.name);
        growing.entry(claim.class.clone().unwrap_or_default()).or_insert((name, wanted));
    }
    for (class, (claim, wanted)) in growing {
        if !kube.class_lets_grow(&class).await? {
            return Ok(Some(cannot_grow(&claim, &class, wanted)));
        }
    }
    Ok(None)
}

/// Prometheus' claim, if it is to grow, and to what. One that is larger than wanted stays: monitoring is for every stack of
/// the cluster, and another one may want it so.
async fn growing_prometheus(cx: &Context) -> Result<Option<(VolumeClaim, String)>> {
    let wanted = cx.config.stack.sizes.prometheus_storage.as_ref();
    let Some(wanted) = wanted.filter(|_| !cx.config.without.contains(&Optional::Monitoring)) else { return Ok(None) };
    let claim = monitoring::prometheus_claim(cx).await?;
    Ok(claim.filter(|claim| size_change(&claim.size, wanted) == SizeChange::Grows).map(|claim| (claim, wanted.clone())))
}

/// Has Prometheus' volume grow to what is wanted: the template that it was made by cannot be changed.
///
/// # Errors
/// The API's refusal.
pub async fn grow_prometheus(cx: &Context) -> Result<()> {
    match growing_prometheus(cx).await? {
        Some((claim, wanted)) => cx.kube().await?.grow_claim(NAMESPACE, &claim.name, &wanted).await,
        None => Ok(()),
    }
}

fn shrinks(namespace: &str, claim: &VolumeClaim, wanted: &WantedSize) -> Failure {
    let VolumeClaim { name, size, .. } = claim;
    failed(format!(
        "PersistentVolumeClaim {namespace}/{name} has {size} and cannot shrink to the {} of {}: nothing was changed",
        wanted.size, wanted.option
    ))
    .remedy(format!("give {} {size}, or more", wanted.option))
    .remedy("for a smaller database: back it up, and restore it into a new stack of another namespace")
}

fn wal_taken_away(namespace: &str, claim: &VolumeClaim) -> Failure {
    let VolumeClaim { name, size, .. } = claim;
    failed(format!(
        "PersistentVolumeClaim {namespace}/{name} has the WAL of an instance, and a volume for WAL cannot be taken away: \
         nothing was changed"
    ))
    .remedy(format!("keep it: wal-storage = \"{size}\" in the table [sizes] of the configuration file, or the --size that had it"))
}

fn cannot_grow(claim: &str, class: &str, wanted: &WantedSize) -> Failure {
    failed(format!(
        "PersistentVolumeClaim {claim} cannot grow to the {} of {}: its StorageClass {class} does not allow it; nothing was \
         changed",
        wanted.size, wanted.option
    ))
    .remedy(format!(
        "if its provisioner can: kubectl patch storageclass {class} -p '{{\"allowVolumeExpansion\":true}}'"
    ))
    .remedy(format!("leave {} at what it was, or bring up a new stack of this size and restore a backup into it", wanted.option))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_claim_its_size_and_the_option() {
        let claim = VolumeClaim { name: "user-db-1".into(), size: "2Gi".into(), ..VolumeClaim::default() };
        let wanted = WantedSize { size: "1Gi", option: "--storage" };
        let told = shrinks("team-a", &claim, &wanted);
        for part in ["team-a/user-db-1", "2Gi", "1Gi", "--storage"] {
            assert!(told.to_string().contains(part), "{told}");
        }
        assert_eq!(told.remedies[0], "give --storage 2Gi, or more");
        assert!(wal_taken_away("team-a", &claim).remedies[0].contains("wal-storage = \"2Gi\""));
        assert!(cannot_grow("team-a/user-db-1", "slow", &wanted).to_string().contains("StorageClass slow"));
    }
}
