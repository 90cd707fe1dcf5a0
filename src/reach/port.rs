//! The local port that is listened on.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use tokio::net::TcpListener;

use crate::error::{Failure, Result, failed, usage};

/// Listens on 127.0.0.1, on `port` or a free one.
///
/// # Errors
/// The port is taken or may not be used (exit code 2).
pub async fn listen(port: Option<u16>) -> Result<TcpListener> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0)));
    Ok(TcpListener::bind(address).await.map_err(|error| cannot_listen(address, &error))?)
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> Failure {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let who = owner::of(port).unwrap_or_else(|| "another program".into());
            usage(format!("port {port} of this machine is in use by {who}"))
                .remedy("name another port with --port, or none: then a free one is taken")
        }
        io::ErrorKind::PermissionDenied => usage(format!("the user may not listen on port {port}"))
            .remedy("name a port above 1023 with --port, or none: then a free one is taken"),
        _ => failed(format!("cannot listen on {address}: {error}")),
    }
}

/// Who listens on a port, as far as Linux tells: programs of other users keep to themselves.
mod owner {
    use std::{fs, path::Path};

    /// The state `LISTEN` in the kernel's table.
    const LISTENING: &str = "0A";

    /// `name (process 123)`, if it can be found out.
    pub fn of(port: u16) -> Option<String> {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
        let sockets: Vec<String> = tables.iter().flat_map(|table| listening(table, port)).collect();
        let links: Vec<String> = sockets.iter().map(|inode| format!("socket:[{inode}]")).collect();
        for process in fs::read_dir("/proc").ok()?.flatten() {
            let name = process.file_name();
            let Some(id) = name.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) else { continue };
            if holds(&process.path(), &links) {
                let program = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                return Some(format!("{} (process {id})", program.trim()));
            }
        }
        None
    }

    fn holds(process: &Path, links: &[String]) -> bool {
        let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
        let targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        targets.into_iter().any(|target| links.iter().any(|link| Path::new(link) == target))
    }

    /// The inodes of the sockets that listen on the port.
    fn listening(table: &str, port: u16) -> Vec<String> {
        let wanted = format!(":{port:04X}");
        let socket = |line: &str| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, state) = (fields.next()?, fields.nth(1)?);
            let inode = fields.nth(5)?;
            (local.ends_with(&wanted) && state == LISTENING).then(|| inode.to_owned())
        };
        table.lines().filter_map(socket).collect()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn only_sockets_that_listen_on_that_port() {
            let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0\n\
                1: 0100007F:1F90 0100007F:A000 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0 100 0\n\
                2: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4713 1 0 100 0\n";
            assert_eq!(listening(table, 8080), ["4711"]);
            assert!(listening(table, 80).is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_is_named_with_who_has_it() {
        let listener = listen(None).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = listen(Some(port)).await.unwrap_err();
        assert_eq!(crate::error::kind_of(&error).exit_code(), 2);
        let text = crate::error::one_line(&error);
        assert!(text.contains(&format!("port {port} of this machine is in use by ")), "{text}");
        if cfg!(target_os = "linux") {
            assert!(text.contains(&format!("(process {})", std::process::id())), "{text}");
        }
    }
}
