//! One `stackctl` at a time works on a stack: a Lease in the cluster says who.
//!
//! The holder renews it; one whose process died loses it after [`EXPIRY`]. Every write names the resource
//! version that it builds on, so of two that try at the same moment one gets it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, PostParams, Preconditions},
    core::Status,
};
use tokio::{
    sync::{Mutex, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval_at, sleep, timeout},
};

use super::{Kube, api_error, post_params};
use crate::{
    error::{Failure, Result, failed},
    names::{FIELD_MANAGER, MANAGED_BY},
};

/// A lease that was not renewed for so long is nobody's.
const EXPIRY: Duration = Duration::from_secs(30);
/// How often the holder renews.
const RENEW: Duration = Duration::from_secs(5);
/// Giving it back may take this long; at the end of a command nobody should wait for what expires by itself.
const CLOSE: Duration = Duration::from_secs(5);
/// How often acquiring starts over when others write at the same time.
const ATTEMPTS: usize = 5;

/// A lease that is held and renewed until it is closed. Dropped without closing, it expires.
pub struct Lock {
    kube: Kube,
    namespace: String,
    name: String,
    /// The lease as last written; whoever writes it holds the mutex.
    written: Arc<Mutex<Lease>>,
    renewal: JoinHandle<()>,
}

impl Lock {
    /// Takes the Lease `name` in `namespace` for `holder`, a text for whoever is refused, e.g.
    /// `alice@laptop, process 123`. Who takes it over from a holder that cannot renew it is told to `lost`.
    ///
    /// Clocks of machines differ: a lease that looks expired is taken over only after its holder let another
    /// renewal pass, which takes 7 s.
    ///
    /// # Errors
    /// Someone holds it (says who and since when); the namespace does not exist; the API's refusal.
    pub async fn acquire(
        kube: &Kube,
        namespace: &str,
        name: &str,
        holder: &str,
        lost: &watch::Sender<Option<String>>,
    ) -> Result<Lock> {
        let api: Api<Lease> = Api::namespaced(kube.client(), namespace);
        let doing = format!("take the lock (Lease {namespace}/{name})");
        let params = params();
        let (mut suspect, mut sent): (Option<Lease>, Option<Lease>) = (None, None);
        for _ in 0..ATTEMPTS {
            let found = kube.call(&doing, || api.get_opt(name)).await?;
            let answer = match found {
                None => {
                    let lease = lease(name, holder, 0);
                    sent = Some(lease.clone());
                    kube.attempt(&doing, || api.create(&params, &lease)).await?
                }
                Some(found) => {
                    let moved = suspect.as_ref().is_some_and(|suspect| version(suspect) != version(&found));
                    // The answer to our own creation or takeover was lost: a try before this one has succeeded.
                    if sent.as_ref().is_some_and(|sent| same_taking(&found, sent)) {
                        return Ok(Lock::holding(kube, namespace, name, found, lost.clone()));
                    }
                    if moved || fresh(&found) {
                        return Err(refused(&found).into());
                    }
                    if suspect.is_none() && holder_of(&found).is_some() {
                        suspect = Some(found);
                        sleep(RENEW + Duration::from_secs(2)).await;
                        continue;
                    }
                    let mut mine = lease(name, holder, transitions(&found) + 1);
                    mine.metadata.resource_version.clone_from(&found.metadata.resource_version);
                    sent = Some(mine.clone());
                    kube.attempt(&doing, || api.replace(name, &params, &mine)).await?
                }
            };
            match answer {
                Ok(written) => return Ok(Lock::holding(kube, namespace, name, written, lost.clone())),
                // Somebody else was faster: look again.
                Err(status) if status.is_conflict() || status.is_already_exists() => {}
                Err(status) => return Err(cannot(&status, &doing, namespace).into()),
            }
        }
        Err(failed(format!("cannot {doing}: others write it all the time")).remedy("run the same command again").into())
    }

    /// Tells whether somebody holds the Lease `name` in `namespace`, as far as its times tell.
    ///
    /// # Errors
    /// The API's refusal.
    pub async fn is_held(kube: &Kube, namespace: &str, name: &str) -> Result<bool> {
        let api: Api<Lease> = Api::namespaced(kube.client(), namespace);
        let found = kube.call("look at the lock", || api.get_opt(name)).await?;
        Ok(found.is_some_and(|found| fresh(&found)))
    }

    fn holding(kube: &Kube, namespace: &str, name: &str, lease: Lease, lost: watch::Sender<Option<String>>) -> Lock {
        let written = Arc::new(Mutex::new(lease));
        let api: Api<Lease> = Api::namespaced(kube.client(), namespace);
        let renewal = tokio::spawn(renew(kube.clone(), api, Arc::clone(&written), lost));
        Lock { kube: kube.clone(), namespace: namespace.to_owned(), name: name.to_owned(), written, renewal }
    }

    /// Gives it back. It is no error when the lease is gone, with its namespace or because somebody took it
    /// over, or when the server does not answer any more: then it expires.
    pub async fn close(self) {
        // A renewal under way is let finish: its answer carries the version that the deletion is bound to.
        let Ok(lease) = timeout(CLOSE, self.written.lock()).await.map(|lease| lease.clone()) else { return };
        self.renewal.abort();
        let api: Api<Lease> = Api::namespaced(self.kube.client(), &self.namespace);
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: lease.metadata.uid,
                resource_version: lease.metadata.resource_version,
            }),
            ..DeleteParams::default()
        };
        let doing = format!("give back the lock (Lease {}/{})", self.namespace, self.name);
        match timeout(CLOSE, self.kube.attempt(&doing, || api.delete(&self.name, &params))).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!("{error:#}"),
            Err(_) => tracing::warn!("cannot {doing}: the API server does not answer"),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// Renews until the lease is gone or somebody else's.
async fn renew(kube: Kube, api: Api<Lease>, written: Arc<Mutex<Lease>>, lost: watch::Sender<Option<String>>) {
    let params = params();
    let mut ticks = interval_at(tokio::time::Instant::now() + RENEW, RENEW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut current = written.lock().await;
        let mut next = current.clone();
        let Some(name) = next.metadata.name.clone() else { return };
        if let Some(spec) = &mut next.spec {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        let replaced = kube.attempt("renew the lock", || api.replace(&name, &params, &next)).await;
        match replaced {
            Ok(Ok(lease)) => *current = lease,
            Ok(Err(status)) if status.is_not_found() => return,
            Ok(Err(status)) if status.is_conflict() => {
                // Ours, when the answer to an earlier renewal was lost; else taken over while we could not renew.
                match kube.call("renew the lock", || api.get_opt(&name)).await {
                    Ok(Some(lease)) if same_holding(&lease, &current) => *current = lease,
                    Ok(Some(lease)) => {
                        lost.send_replace(Some(holder_of(&lease).unwrap_or("somebody").to_owned()));
                        return;
                    }
                    Ok(None) => return,
                    Err(error) => tracing::warn!("{error:#}"),
                }
            }
            Ok(Err(status)) => tracing::warn!("cannot renew the lock: {}", status.message),
            Err(error) => tracing::warn!("{error:#}"),
        }
    }
}

fn params() -> PostParams {
    post_params(FIELD_MANAGER)
}

fn lease(name: &str, holder: &str, transitions: i32) -> Lease {
    let labels = BTreeMap::from([(MANAGED_BY.to_owned(), FIELD_MANAGER.to_owned())]);
    let now = MicroTime(Timestamp::now());
    Lease {
        metadata: ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() },
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_duration_seconds: Some(i32::try_from(EXPIRY.as_secs()).unwrap_or(i32::MAX)),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }),
    }
}

fn version(lease: &Lease) -> &str {
    lease.metadata.resource_version.as_deref().unwrap_or_default()
}

fn holder_of(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn transitions(lease: &Lease) -> i32 {
    lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0)
}

/// Whether both tell of one holder that took it at one moment: the moment is told to the microsecond.
fn same_taking(one: &Lease, other: &Lease) -> bool {
    let micros = |time: &MicroTime| time.0.as_microsecond();
    let of = |lease: &Lease| {
        let spec = lease.spec.as_ref()?;
        Some((spec.holder_identity.clone()?, spec.acquire_time.as_ref().map(micros)?, spec.lease_transitions))
    };
    of(one).is_some() && of(one) == of(other)
}

fn same_holding(one: &Lease, other: &Lease) -> bool {
    let of = |lease: &Lease| {
        lease
            .spec
            .as_ref()
            .map(|spec| (spec.holder_identity.clone(), spec.acquire_time.clone(), spec.lease_transitions))
    };
    one.metadata.uid == other.metadata.uid && of(one) == of(other)
}

/// How long ago it was renewed, in seconds; negative when the holder's clock is ahead of ours.
fn age(lease: &Lease) -> Option<i64> {
    let renewed = lease.spec.as_ref()?.renew_time.as_ref()?;
    Some(Timestamp::now().duration_since(renewed.0).as_secs())
}

fn expiry(lease: &Lease) -> i64 {
    lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or(0).into()
}

/// Whether it is held, as far as its times tell.
fn fresh(lease: &Lease) -> bool {
    let expiry = expiry(lease);
    holder_of(lease).is_some() && age(lease).is_some_and(|age| age.abs() <= expiry)
}

fn refused(lease: &Lease) -> Failure {
    let spec = lease.spec.as_ref();
    let holder = holder_of(lease).unwrap_or("somebody");
    let since = spec
        .and_then(|spec| spec.acquire_time.as_ref())
        .map_or_else(String::new, |time| format!(" since {}", time.0.strftime("%Y-%m-%d %H:%M:%S UTC")));
    let left = age(lease).map_or(0, |age| (expiry(lease) - age).max(0));
    failed(format!("someone else is at work on this stack: {holder}{since}")).remedy(format!(
        "wait until it is done; if that process is dead, its lock expires in {left} s: then run the same command again"
    ))
}

fn cannot(status: &Status, doing: &str, namespace: &str) -> Failure {
    if status.is_not_found() {
        return failed(format!("cannot {doing}: there is no namespace {namespace}"))
            .remedy("stackctl up makes it; name another one with --namespace");
    }
    api_error::status_failure(status, doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renewed(seconds_ago: i64) -> Lease {
        let mut lease = lease("x", "alice@laptop, process 1", 0);
        let spec = lease.spec.as_mut().unwrap();
        let time = Timestamp::from_second(Timestamp::now().as_second() - seconds_ago).unwrap();
        spec.renew_time = Some(MicroTime(time));
        spec.acquire_time = Some(MicroTime(Timestamp::from_second(0).unwrap()));
        lease
    }

    #[test]
    fn a_lease_is_fresh_while_it_is_renewed() {
        assert!(fresh(&renewed(0)) && fresh(&renewed(29)));
        assert!(!fresh(&renewed(32)), "expired");
        assert!(fresh(&renewed(-20)), "the holder's clock is ahead");
        assert!(!fresh(&renewed(-3600)), "so far ahead that only watching it tells");
        let mut given_back = renewed(0);
        given_back.spec.as_mut().unwrap().holder_identity = Some(String::new());
        assert!(!fresh(&given_back));
        assert!(!fresh(&Lease::default()));
    }

    #[test]
    fn what_the_holder_has_sent_itself_is_known_again() {
        let sent = lease("x", "alice@laptop, process 1", 0);
        // The server keeps microseconds, and gives the object a version.
        let mut found = sent.clone();
        found.metadata.resource_version = Some("7".into());
        let acquired = found.spec.as_mut().unwrap().acquire_time.as_mut().unwrap();
        acquired.0 = Timestamp::from_microsecond(acquired.0.as_microsecond()).unwrap();
        assert!(same_taking(&found, &sent));
        assert!(!same_taking(&renewed(0), &sent), "another taking by one who calls himself the same");
        assert!(!same_taking(&lease("x", "bob@desk, process 7", 0), &sent));
        assert!(!same_taking(&Lease::default(), &Lease::default()));
    }

    #[test]
    fn a_refusal_says_who_since_when_and_for_how_long() {
        let failure = refused(&renewed(10));
        assert!(failure.message.ends_with("alice@laptop, process 1 since 1970-01-01 00:00:00 UTC"), "{failure}");
        assert!(failure.remedies[0].contains("expires in 20 s") || failure.remedies[0].contains("expires in 19 s"));
    }
}
