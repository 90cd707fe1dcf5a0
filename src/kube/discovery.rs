//! The kinds that a cluster serves, asked for in two requests (aggregated discovery).

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use kube::{
    Client,
    api::ApiResource,
    discovery::{Discovery, Scope},
};

/// A kind as the cluster serves it.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    pub resource: ApiResource,
    pub namespaced: bool,
}

/// `apiVersion` → kind → how it is served.
type KnownKinds = HashMap<String, HashMap<String, Resolved>>;

/// What is known of a cluster's kinds, and since when.
#[derive(Default)]
pub(super) struct Kinds {
    known: RwLock<(KnownKinds, Option<Instant>)>,
}

impl Kinds {
    /// Asks the cluster and replaces what was known.
    pub async fn load(&self, client: &Client) -> kube::Result<()> {
        let discovery = Discovery::new(client.clone()).run_aggregated().await?;
        let mut known = KnownKinds::new();
        for group in discovery.groups() {
            for version in group.versions() {
                for (resource, capabilities) in group.versioned_resources(version) {
                    let namespaced = capabilities.scope == Scope::Namespaced;
                    known
                        .entry(resource.api_version.clone())
                        .or_default()
                        .insert(resource.kind.clone(), Resolved { resource, namespaced });
                }
            }
        }
        // A panic while the lock is held is impossible here; what is inside is a plain map anyway.
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = (known, Some(Instant::now()));
        Ok(())
    }

    /// How the cluster serves a kind, as far as known.
    pub fn get(&self, api_version: &str, kind: &str) -> Option<Resolved> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.0.get(api_version)?.get(kind).cloned()
    }

    /// How long ago the cluster was asked.
    pub fn age(&self) -> Duration {
        let asked = self.known.read().unwrap_or_else(PoisonError::into_inner).1;
        asked.map_or(Duration::MAX, |asked| asked.elapsed())
    }
}
