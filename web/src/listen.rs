//! The sockets that the program listens on: for IPv4 and IPv6 together, also where the machine has only one of them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

/// The connections that wait in the kernel to be accepted, at most.
const BACKLOG: i32 = 2048;

/// Listens on an address, `host:port`; on every one that a name has. `[::]` is every address of IPv6 and of IPv4 where the
/// machine has IPv6, and every address of IPv4 where it has not.
///
/// # Errors
/// When the address can't be read, or can't be listened on.
pub fn listen(address: &str) -> Result<Vec<TcpListener>> {
    let addresses = address.to_socket_addrs().with_context(|| format!("{address} is no address to listen on"))?;
    let listeners: io::Result<Vec<_>> = addresses.map(|address| listen_with(address, open)).collect();
    listeners.with_context(|| {
        format!("cannot listen on {address}: give another one in LISTEN, PROXY_LISTEN or METRICS_LISTEN")
    })
}

fn listen_with(address: SocketAddr, open: fn(SocketAddr) -> io::Result<TcpListener>) -> io::Result<TcpListener> {
    match open(address) {
        Err(e) if address.ip().is_unspecified() && address.is_ipv6() && has_no_ipv6(&e) => {
            tracing::info!("this machine has no IPv6: listening on IPv4 alone");
            open((IpAddr::from(Ipv4Addr::UNSPECIFIED), address.port()).into())
        }
        other => other,
    }
}

/// Tells whether IPv6 is missing: its sockets (`ipv6.disable=1`), or its addresses (`disable_ipv6`).
fn has_no_ipv6(error: &io::Error) -> bool {
    /// Linux's number of "address family not supported", which has no kind in the standard library.
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == io::ErrorKind::AddrNotAvailable
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Whatever the machine's default is (net.ipv6.bindv6only).
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn without_ipv6_it_listens_on_ipv4() {
        for no in [io::Error::from_raw_os_error(97), io::Error::from(io::ErrorKind::AddrNotAvailable)] {
            assert!(has_no_ipv6(&no));
        }
        let without = |address: SocketAddr| match address {
            SocketAddr::V6(_) => Err(io::Error::from_raw_os_error(97)),
            SocketAddr::V4(_) => open(address),
        };
        let listener = listen_with("[::]:0".parse().unwrap(), without).unwrap();
        assert!(listener.local_addr().unwrap().is_ipv4());
        TcpStream::connect(("127.0.0.1", listener.local_addr().unwrap().port())).unwrap();
        assert!(
            listen_with("[::1]:0".parse().unwrap(), without).is_err(),
            "one address of IPv6 has no other in its place"
        );
    }

    #[test]
    fn one_socket_serves_both() {
        let listener = listen("[::]:0").unwrap().remove(0);
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        if listener.local_addr().unwrap().is_ipv6() && TcpListener::bind("[::1]:0").is_ok() {
            TcpStream::connect(("::1", port)).unwrap();
        }
        assert!(listen(&format!("127.0.0.1:{port}")).is_err(), "a port that is taken is told");
        assert!(listen("nowhere").is_err());
    }
}
