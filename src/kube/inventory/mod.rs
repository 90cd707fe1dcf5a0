//! What stackctl applied, remembered in the cluster: a ConfigMap with one key for each part.
//!
//! Objects are recorded before they are applied, so that an interrupted run leaves nothing unknown, and
//! struck off after they are gone. What was there before stackctl came is marked as adopted, on record and on the
//! object itself, and never deleted; what other stacks use too is struck off and kept.

mod notes;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ObjectMeta, Patch},
};
use serde_json::json;
use tokio::sync::OnceCell;

use super::{
    ApplyOptions, Change, Entry, INVENTORY, Kube, ObjectRef, OnApply, api_error, apply,
    delete::{self, DeleteEvent, OnDelete},
    live, merge_params, post_params,
    shared::{self, KeepReason, OtherStacks, may_be_shared},
};
use crate::{
    error::Result,
    names::{APP_NAME, FIELD_MANAGER, MANAGED_BY},
};
use notes::{DATABASE, InventoryNotes, ORIGIN, Parts, parse};

/// The inventory of one stack. Parts may be worked on side by side.
pub struct Inventory {
    kube: Kube,
    namespace: String,
    parts: Mutex<Parts>,
    notes: Mutex<InventoryNotes>,
    others: OnceCell<OtherStacks>,
}

impl Inventory {
    /// The stack's inventory, by one request; empty where there is none yet.
    ///
    /// # Errors
    /// The server does not answer or forbids it, or the ConfigMap is not one of ours.
    pub async fn load(kube: &Kube, namespace: &str) -> Result<Self> {
        let api: Api<ConfigMap> = Api::namespaced(kube.client(), namespace);
        let found = kube.call("read the inventory", || api.get_opt(INVENTORY)).await?;
        let (parts, notes) = parse(found.unwrap_or_default(), namespace)?;
        let (kube, namespace) = (kube.clone(), namespace.to_owned());
        Ok(Inventory { kube, namespace, parts: Mutex::new(parts), notes: Mutex::new(notes), others: OnceCell::new() })
    }

    /// Reads it once more: what was read before the lock was taken may have been changed by its former holder.
    ///
    /// # Errors
    /// As [`Inventory::load`].
    pub async fn reload(&self) -> Result<()> {
        let now = Inventory::load(&self.kube, &self.namespace).await?;
        *self.locked() = std::mem::take(&mut *now.locked());
        *self.notes() = now.notes().clone();
        Ok(())
    }

    /// The Cluster that the app uses; `None`: the one of the manifests.
    pub fn database(&self) -> Option<String> {
        self.notes().database.clone()
    }

    /// The note on what made the stack; `None`: a version that made none, or there is no stack yet.
    pub fn origin(&self) -> Option<String> {
        self.notes().origin.clone()
    }

    /// Notes what made the stack; writes nothing when that is noted already.
    ///
    /// # Errors
    /// The server does not answer or forbids it.
    pub async fn note_origin(&self, origin: &str) -> Result<()> {
        if self.notes().origin.as_deref() == Some(origin) {
            return Ok(());
        }
        let patch = Patch::Merge(json!({"metadata": {"annotations": {ORIGIN: origin}}}));
        let (params, api, doing) = (merge_params(FIELD_MANAGER), self.api(), self.doing());
        match self.kube.attempt(&doing, || api.patch(INVENTORY, &params, &patch)).await? {
            Ok(_) => {}
            // Nothing of a part is on record yet: the namespace is somebody else's.
            Err(status) if status.is_not_found() => {
                self.create(&doing).await?;
                self.kube.call(&doing, || api.patch(INVENTORY, &params, &patch)).await?;
            }
            Err(status) => return Err(api_error::status_failure(&status, &doing).into()),
        }
        self.notes().origin = Some(origin.to_owned());
        Ok(())
    }

    /// Makes `new`, an object of the part `from`, the database: it is one of the part `to` from now on, and `old` one of
    /// `from`. A single write: however a run ends, nothing is in the part from which the next one would prune it.
    ///
    /// # Errors
    /// The server does not answer or forbids it, or there is no inventory.
    pub async fn exchange(&self, from: &str, to: &str, new: &ObjectRef, old: &ObjectRef) -> Result<()> {
        let moved = |entries: Vec<Entry>, out: &ObjectRef, into: &ObjectRef| {
            let mut entries: Vec<Entry> = entries
                .into_iter()
                .filter(|entry| !entry.object.same_object(out) && !entry.object.same_object(into))
                .collect();
            entries.push(Entry { object: into.clone(), adopted: false });
            entries
        };
        let (others, database) = (moved(self.entries(from), new, old), moved(self.entries(to), old, new));
        let data = json!({from: serde_json::to_string(&others)?, to: serde_json::to_string(&database)?});
        let patch = Patch::Merge(json!({"metadata": {"annotations": {DATABASE: new.name}}, "data": data}));
        let (params, api) = (merge_params(FIELD_MANAGER), self.api());
        self.kube.call(&self.doing(), || api.patch(INVENTORY, &params, &patch)).await?;
        let mut parts = self.locked();
        parts.insert(from.to_owned(), others);
        parts.insert(to.to_owned(), database);
        self.notes().database = Some(new.name.clone());
        Ok(())
    }

    /// The parts that have objects, in alphabetical order.
    pub fn parts(&self) -> Vec<String> {
        self.locked().iter().filter(|(_, entries)| !entries.is_empty()).map(|(part, _)| part.clone()).collect()
    }

    /// A part's objects.
    pub fn entries(&self, part: &str) -> Vec<Entry> {
        self.locked().get(part).cloned().unwrap_or_default()
    }

    /// A part's objects that are recorded and not in `keep`: those that [`Inventory::prune`] would delete.
    pub fn leftovers(&self, part: &str, keep: &[ObjectRef]) -> Vec<ObjectRef> {
        let entries = self.entries(part).into_iter();
        entries.map(|entry| entry.object).filter(|old| !keep.iter().any(|object| object.same_object(old))).collect()
    }

    /// Records, applies and prunes a part, in this order. Writes nothing when all is as it was; with
    /// `dry_run`, neither records nor prunes.
    ///
    /// # Errors
    /// See [`apply`](super::apply) and [`Inventory::prune`].
    pub async fn apply(
        &self,
        part: &str,
        objects: &[DynamicObject],
        options: ApplyOptions,
        on: OnApply<'_>,
        on_delete: OnDelete<'_>,
    ) -> Result<Vec<(ObjectRef, Change)>> {
        if options.dry_run {
            return apply(&self.kube, objects, options, on).await;
        }
        let references = objects.iter().map(ObjectRef::of).collect::<Result<Vec<_>>>()?;
        self.record(part, &references).await?;
        let changes = apply(&self.kube, &self.marked(part, objects).await?, options, on).await?;
        self.prune(part, &references, options.deadline, on_delete).await?;
        Ok(changes)
    }

    /// The objects as they are applied: those of the part that are adopted carry the mark, a namespace that is keeps its
    /// labels, of which one decides what other people's pods may do, and what stacks share names those that use it.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn marked(&self, part: &str, objects: &[DynamicObject]) -> Result<Vec<DynamicObject>> {
        let adopted: Vec<Entry> = self.entries(part).into_iter().filter(|entry| entry.adopted).collect();
        let mut objects = objects.to_vec();
        for object in &mut objects {
            let Ok(reference) = ObjectRef::of(object) else { continue };
            if adopted.iter().any(|entry| entry.object.same_object(&reference)) {
                live::adopt(object);
                if reference.is("", "Namespace") {
                    object.metadata.labels = None;
                }
            }
            if may_be_shared(&reference, &self.namespace) {
                let users = self.others().await?.users(&reference).into_iter().chain([self.namespace.as_str()]);
                shared::mark_users(object, users);
            }
        }
        Ok(objects)
    }

    /// The other stacks of the cluster, as they were when they were first asked for.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn others(&self) -> Result<&OtherStacks> {
        self.others.get_or_try_init(|| OtherStacks::read(&self.kube, &self.namespace)).await
    }

    /// Adds objects to a part; writes only if one is new. To be called before they are applied.
    ///
    /// # Errors
    /// The server does not answer or forbids it.
    pub async fn record(&self, part: &str, objects: &[ObjectRef]) -> Result<()> {
        let mut entries = self.entries(part);
        let new: Vec<ObjectRef> = objects
            .iter()
            .filter(|object| !entries.iter().any(|entry| entry.object.same_object(object)))
            .cloned()
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut known = Vec::new();
        for object in &new {
            // A kind that is not known yet has no objects that could be adopted.
            if self.kube.known(object).is_some() {
                known.push(live::scoped(&self.kube, object).await?);
            }
        }
        let found = live::metadata(&self.kube, &known).await?;
        for object in new {
            let adopted =
                found.iter().any(|(other, live)| other.same_object(&object) && (live.adopted || !live.is_ours()));
            entries.push(Entry { object, adopted });
        }
        self.write(part, entries).await
    }

    /// Deletes what a part has and `keep` has not, waits until it is gone, and records `keep` alone.
    ///
    /// # Errors
    /// The server does not answer or forbids it, or an object is not gone by the deadline (says what holds it).
    pub async fn prune(
        &self,
        part: &str,
        keep: &[ObjectRef],
        deadline: Instant,
        on: OnDelete<'_>,
    ) -> Result<Vec<ObjectRef>> {
        let kept = |object: &ObjectRef| keep.iter().any(|other| other.same_object(object));
        self.delete(part, &kept, deadline, on).await
    }

    /// Deletes a part's objects except those that `keep` holds on to, in the reverse of the order in which
    /// they were applied, waits until they are gone, and strikes them off. The inventory goes with its last part.
    /// What another stack uses is struck off and stays; what another may use stays on record too, and so does what is not in
    /// the stack's namespace where the user may change nothing else.
    ///
    /// # Errors
    /// See [`Inventory::prune`].
    pub async fn delete(
        &self,
        part: &str,
        keep: &(dyn Fn(&ObjectRef) -> bool + Send + Sync),
        deadline: Instant,
        on: OnDelete<'_>,
    ) -> Result<Vec<ObjectRef>> {
        let (mut kept, mut leaving): (Vec<Entry>, Vec<Entry>) =
            self.entries(part).into_iter().partition(|entry| keep(&entry.object));
        let is_inside = |entry: &Entry| entry.object.namespace.as_ref() == Some(&self.namespace);
        if !leaving.iter().all(is_inside) && self.kube.is_confined().await? {
            let (inside, outside) = leaving.into_iter().partition(is_inside);
            leaving = inside;
            kept.extend(outside.into_iter().inspect(|entry| {
                let why = format!("you may change namespace {} alone", self.namespace);
                on(DeleteEvent::Kept(entry.object.clone(), why));
            }));
        }
        if leaving.is_empty() {
            return Ok(Vec::new());
        }
        if leaving.iter().any(|entry| may_be_shared(&entry.object, &self.namespace)) {
            let mut others = OtherStacks::read(&self.kube, &self.namespace).await?;
            others.read_marks(&self.kube, leaving.iter().map(|entry| &entry.object)).await?;
            for entry in &leaving {
                if let Some(KeepReason::Used(_)) = others.keep(&entry.object) {
                    shared::strike_out(&self.kube, &entry.object, &self.namespace).await?;
                }
            }
            leaving.retain(|entry| {
                let Some(reason) = others.keep(&entry.object) else { return true };
                on(DeleteEvent::Kept(entry.object.clone(), reason.why().to_owned()));
                if matches!(reason, KeepReason::Unknown(_)) {
                    kept.push(entry.clone());
                }
                false
            });
        }
        let gone = delete::delete(&self.kube, &leaving, deadline, on).await?;
        self.write(part, kept).await?;
        Ok(gone)
    }

    /// Writes one part's key; the others may be written at the same time by their own.
    async fn write(&self, part: &str, entries: Vec<Entry>) -> Result<()> {
        let empty = {
            let mut parts = self.locked();
            if entries.is_empty() {
                parts.remove(part);
            } else {
                parts.insert(part.to_owned(), entries.clone());
            }
            parts.is_empty()
        };
        let (api, doing) = (self.api(), self.doing());
        if empty {
            let params = DeleteParams::default();
            return match self.kube.attempt(&doing, || api.delete(INVENTORY, &params)).await? {
                Ok(_) => Ok(()),
                Err(status) if status.is_not_found() => Ok(()),
                Err(status) => Err(api_error::status_failure(&status, &doing).into()),
            };
        }
        let value = if entries.is_empty() { None } else { Some(serde_json::to_string(&entries)?) };
        let patch = Patch::Merge(json!({"data": {part: value}}));
        let params = merge_params(FIELD_MANAGER);
        match self.kube.attempt(&doing, || api.patch(INVENTORY, &params, &patch)).await? {
            Ok(_) => return Ok(()),
            Err(status) if status.is_not_found() && value.is_none() => return Ok(()),
            Err(status) if status.is_not_found() => {}
            Err(status) => return Err(api_error::status_failure(&status, &doing).into()),
        }
        self.create(&doing).await?;
        match self.kube.attempt(&doing, || api.patch(INVENTORY, &params, &patch)).await? {
            Ok(_) => Ok(()),
            Err(status) => Err(api_error::status_failure(&status, &doing).into()),
        }
    }

    /// Creates the ConfigMap, empty, and its namespace if need be; another part may do so at the same time.
    async fn create(&self, doing: &str) -> Result<()> {
        let labels = BTreeMap::from([
            (MANAGED_BY.to_owned(), FIELD_MANAGER.to_owned()),
            (APP_NAME.to_owned(), INVENTORY.to_owned()),
        ]);
        let map = ConfigMap {
            metadata: ObjectMeta { name: Some(INVENTORY.into()), labels: Some(labels), ..ObjectMeta::default() },
            ..ConfigMap::default()
        };
        let params = post_params(FIELD_MANAGER);
        let maps = self.api();
        let mut created = self.kube.attempt(doing, || maps.create(&params, &map)).await?;
        if matches!(&created, Err(status) if status.is_not_found()) {
            // The namespace is bare; the part that has its manifest completes it.
            let namespaces: Api<Namespace> = Api::all(self.kube.client());
            let namespace = Namespace {
                metadata: ObjectMeta { name: Some(self.namespace.clone()), ..ObjectMeta::default() },
                ..Namespace::default()
            };
            match self.kube.attempt(doing, || namespaces.create(&params, &namespace)).await? {
                Ok(_) => {}
                Err(status) if status.is_already_exists() => {}
                Err(status) => return Err(api_error::status_failure(&status, doing).into()),
            }
            created = self.kube.attempt(doing, || maps.create(&params, &map)).await?;
        }
        match created {
            Ok(_) => Ok(()),
            Err(status) if status.is_already_exists() => Ok(()),
            Err(status) => Err(api_error::status_failure(&status, doing).into()),
        }
    }

    fn api(&self) -> Api<ConfigMap> {
        Api::namespaced(self.kube.client(), &self.namespace)
    }

    fn doing(&self) -> String {
        format!("write the inventory (ConfigMap {}/{INVENTORY})", self.namespace)
    }

    fn notes(&self) -> std::sync::MutexGuard<'_, InventoryNotes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
