//! What the API server and the way to it say when something goes wrong, in words for the user.

use std::{error::Error as StdError, io};

use kube::core::Status;

use super::refusal::Refusal;
use crate::error::{Failure, Kind, failed, timed_out};

/// What stands between us and the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// Nobody listens there.
    Refused,
    /// No answer in time.
    TimedOut,
    /// The name does not resolve.
    NoSuchHost,
    /// The server's certificate, or the handshake.
    Tls,
    /// The connection broke.
    Broken,
}

/// Tells transport errors apart; `None` when the server did answer.
pub(super) fn transport(error: &kube::Error) -> Option<(Transport, String)> {
    if matches!(error, kube::Error::Api(_)) {
        return None;
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    let mut innermost = error.to_string();
    while let Some(current) = cause {
        innermost = current.to_string();
        if let Some(io) = current.downcast_ref::<io::Error>() {
            if io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
                return Some((Transport::Tls, innermost));
            }
            match io.kind() {
                io::ErrorKind::ConnectionRefused => return Some((Transport::Refused, innermost)),
                io::ErrorKind::TimedOut => return Some((Transport::TimedOut, innermost)),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                    return Some((Transport::Broken, innermost));
                }
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    return Some((Transport::TimedOut, innermost));
                }
                _ => {}
            }
        }
        if innermost.contains("failed to lookup address") || innermost.contains("dns error") {
            return Some((Transport::NoSuchHost, innermost));
        }
        if current.is::<rustls::Error>() || innermost.contains("invalid peer certificate") {
            return Some((Transport::Tls, innermost));
        }
        cause = current.source();
    }
    match error {
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
            Some((Transport::Broken, innermost))
        }
        _ => None,
    }
}

/// Whether the same request may well succeed a moment later: the server restarts, is overloaded, or is
/// between two leaders.
pub(super) fn transient(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => transient_status(status),
        _ => transport(error).is_some_and(|(kind, _)| !matches!(kind, Transport::Tls)),
    }
}

/// See [`transient`].
pub(super) fn transient_status(status: &Status) -> bool {
    matches!(status.code, 429 | 503 | 504)
        || (status.code == 500
            && ["etcdserver: ", "leader changed", "connection refused", "transport is closing"]
                .iter()
                .any(|text| status.message.contains(text)))
}

/// Whether an admission webhook could not be asked; usual for seconds after its Deployment is available.
pub(super) fn webhook_down(status: &Status) -> bool {
    status.code == 500 && status.message.contains("failed calling webhook")
}

/// Whether the object's namespace is being deleted.
pub(super) fn namespace_terminating(status: &Status) -> bool {
    status.code == 403
        && status
            .details
            .as_ref()
            .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
        || status.message.contains("because it is being terminated")
}

/// An error of a request as a failure for the user. `doing` completes "cannot …", e.g. `apply Secret a/b`.
pub fn failure(error: &kube::Error, doing: &str) -> Failure {
    match error {
        kube::Error::Api(status) => status_failure(status, doing),
        other => match transport(other) {
            Some((Transport::TimedOut, why)) => {
                timed_out(format!("cannot {doing}: the API server does not answer: {why}"))
            }
            Some((_, why)) => failed(format!("cannot {doing}: the connection to the API server failed: {why}"))
                .remedy("run the same command again once the API server answers: it goes on where it stopped"),
            None => failed(format!("cannot {doing}: {other}")),
        },
    }
}

/// See [`failure`].
pub(super) fn status_failure(status: &Status, doing: &str) -> Failure {
    let message = trim(&status.message);
    if namespace_terminating(status) {
        return failed(format!("cannot {doing}: its namespace is being deleted"))
            .remedy("wait until the namespace is gone, then run the same command again")
            .remedy("what holds it is in: kubectl get namespace NAME -o jsonpath='{.status.conditions}'");
    }
    if let Some(refusal) = Refusal::of(&message) {
        return failed(format!("cannot {doing}: {}", refusal.why)).remedy(refusal.remedy);
    }
    match status.code {
        401 => failed(format!("cannot {doing}: the API server does not accept the credentials (401 Unauthorized)"))
            .remedy("log in again, or renew the user's certificate or token in the kubeconfig"),
        403 => Failure {
            is_forbidden: true,
            ..failed(format!("cannot {doing}: the user may not: {message}"))
                .remedy("ask for these permissions, or use a context whose user has them")
                .remedy("kubectl auth can-i --list shows what the user may do")
        },
        500 if webhook_down(status) => {
            failed(format!("cannot {doing}: an admission webhook does not answer: {message}"))
                .remedy("look at the webhook's pods and their logs; the message names its Service")
        }
        504 | 408 => Failure::new(Kind::Timeout, format!("cannot {doing}: {message}")),
        _ => failed(format!("cannot {doing}: {message}")),
    }
}

/// The server's own words without what only programs need.
fn trim(message: &str) -> String {
    message.trim().trim_start_matches("Internal error occurred: ").to_owned()
}
