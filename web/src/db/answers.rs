//! What the addresses of one name answer to an attempt to connect.

use std::io::{Error, ErrorKind};
use std::net::IpAddr;

use anyhow::{Result, anyhow};

/// Tries a name's addresses one after the other, and returns the first connection.
///
/// # Errors
/// When none is made. The error is a refusal only where every address refused: behind one that was silent the server may
/// be there, and go on as it was.
pub async fn first_of<T, F>(addresses: &[IpAddr], connect: impl Fn(IpAddr) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let mut failed = None;
    for address in addresses {
        match connect(*address).await {
            Ok(made) => return Ok(made),
            Err(error) if failed.as_ref().is_none_or(is_refusal) => failed = Some(error),
            Err(_) => {}
        }
    }
    Err(failed.unwrap_or_else(|| anyhow!("its name has no address")))
}

/// Tells whether a connection was refused: nobody listened at that moment, no server that goes on as it was.
pub fn is_refusal(error: &anyhow::Error) -> bool {
    has_kind(error, ErrorKind::ConnectionRefused)
}

/// Tells whether no answer came to TCP's first packet.
pub fn is_silence(error: &anyhow::Error) -> bool {
    has_kind(error, ErrorKind::TimedOut)
}

fn has_kind(error: &anyhow::Error, kind: ErrorKind) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<Error>()).any(|error| error.kind() == kind)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const REFUSED: Option<ErrorKind> = Some(ErrorKind::ConnectionRefused);
    const SILENT: Option<ErrorKind> = Some(ErrorKind::TimedOut);

    /// Connects to addresses whose answers these are, `None` being a connection; returns the address.
    async fn tried<const N: usize>(answers: [Option<ErrorKind>; N]) -> Result<IpAddr> {
        let addresses: Vec<_> = (0..N).map(|n| IpAddr::from(Ipv4Addr::from(n as u32))).collect();
        let of = |address| addresses.iter().position(|known| *known == address).and_then(|n| answers[n]);
        first_of(
            &addresses,
            |address| async move { of(address).map_or(Ok(address), |kind| Err(Error::from(kind).into())) },
        )
        .await
    }

    #[tokio::test]
    async fn nobody_listens_only_where_every_address_refuses() {
        for answers in [[REFUSED, SILENT], [SILENT, REFUSED], [SILENT, SILENT]] {
            let error = tried(answers).await.unwrap_err();
            assert!(!is_refusal(&error) && is_silence(&error), "{answers:?}: {error}");
        }
        assert!(is_refusal(&tried([REFUSED, REFUSED]).await.unwrap_err()));
        assert!(!is_refusal(&tried([]).await.unwrap_err()), "a name without an address tells nothing");
    }

    #[tokio::test]
    async fn the_first_address_that_answers_is_connected_to() {
        for first in [REFUSED, SILENT] {
            assert_eq!(tried([first, None, None]).await.unwrap(), IpAddr::from([0, 0, 0, 1]));
        }
    }
}
