//! Warning events of a namespace.

use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};

use super::age_seconds;
use crate::{
    error::Result,
    kube::{Kube, ObjectRef},
};

/// Older events, in seconds, tell of what may be over.
const FRESH: u64 = 300;

/// An event, as far as it matters here.
#[derive(Debug, Clone)]
pub(super) struct Warning {
    kind: String,
    pub name: String,
    pub reason: String,
    pub message: String,
    age: u64,
}

impl Warning {
    /// `Reason: message`.
    pub fn line(&self) -> String {
        format!("{}: {}", self.reason, self.message)
    }
}

/// Fresh Warning events, newest first.
#[derive(Debug, Default)]
pub(super) struct Events(Vec<Warning>);

impl Events {
    /// Asks for those of a namespace; one request.
    pub async fn warnings(kube: &Kube, namespace: &str) -> Result<Self> {
        let api: Api<Event> = Api::namespaced(kube.client(), namespace);
        let params = ListParams::default().fields("type=Warning").limit(500);
        let list = kube.call("list events", || api.list(&params)).await?;
        Ok(Events::from(list.items))
    }

    /// Those about one object.
    pub fn of<'a>(&'a self, object: &'a ObjectRef) -> impl Iterator<Item = &'a Warning> {
        self.0.iter().filter(|warning| warning.kind == object.kind && warning.name == object.name)
    }

    /// Those about an object or what it makes, such as a Deployment's ReplicaSets, which are named after it.
    pub fn of_descendants<'a>(&'a self, object: &'a ObjectRef) -> impl Iterator<Item = &'a Warning> {
        self.0.iter().filter(|warning| {
            (warning.kind == object.kind && warning.name == object.name)
                || (matches!(warning.kind.as_str(), "ReplicaSet" | "Job")
                    && warning.name.strip_prefix(&object.name).is_some_and(|rest| rest.starts_with('-')))
        })
    }
}

impl From<Vec<Event>> for Events {
    fn from(events: Vec<Event>) -> Self {
        let mut warnings: Vec<Warning> = events
            .into_iter()
            .filter_map(|event| {
                let series = event.series.and_then(|series| series.last_observed_time).map(|time| time.0);
                let time = series
                    .or(event.last_timestamp.map(|time| time.0))
                    .or(event.event_time.map(|time| time.0))
                    .or(event.metadata.creation_timestamp.map(|time| time.0))?;
                Some(Warning {
                    kind: event.involved_object.kind?,
                    name: event.involved_object.name?,
                    reason: event.reason.unwrap_or_default(),
                    message: event.message.unwrap_or_default().trim().to_owned(),
                    age: age_seconds(&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time)),
                })
            })
            .filter(|warning| warning.age <= FRESH)
            .collect();
        warnings.sort_by_key(|warning| warning.age);
        Events(warnings)
    }
}
