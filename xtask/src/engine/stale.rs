//! What an engine leaves behind whose machine was switched off or whose processes were all ended at once.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::say::say;

/// Files with a process id, each with the program that it should belong to. The engine looks only whether a
/// process of that number is there, and a new one may have got it.
const PID_FILES: [(&str, &str); 2] =
    [("/var/run/docker.pid", "dockerd"), ("/var/run/docker/containerd/containerd.pid", "containerd")];
/// The socket of the system's own containerd: where it is there, the engine waits for it to answer.
const SOCKET: &str = "/run/containerd/containerd.sock";

/// Removes what would keep a new engine from starting, and nothing that a running one holds.
pub fn remove() {
    for (file, program) in PID_FILES {
        let file = Path::new(file);
        if fs::read_to_string(file).is_ok_and(|pid| !belongs(&pid, program, Path::new("/proc"))) {
            forget(file);
        }
    }
    let socket = Path::new(SOCKET);
    if socket.exists() && nobody_listens(socket) {
        forget(socket);
    }
}

/// Whether the process of this number runs this program.
fn belongs(pid: &str, program: &str, processes: &Path) -> bool {
    let Ok(pid) = pid.trim().parse::<u32>() else { return false };
    fs::read_to_string(processes.join(pid.to_string()).join("comm")).is_ok_and(|name| name.trim() == program)
}

fn nobody_listens(socket: &Path) -> bool {
    UnixStream::connect(socket).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

fn forget(file: &Path) {
    say(&format!("removing {}, left by an engine that is gone", file.display()));
    // If it cannot be removed, the engine says what is wrong.
    let _ = fs::remove_file(file);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_number_belongs_only_to_a_process_of_that_program() {
        let processes = tempfile::tempdir().unwrap();
        fs::create_dir(processes.path().join("7")).unwrap();
        fs::write(processes.path().join("7/comm"), "dockerd\n").unwrap();
        assert!(belongs("7\n", "dockerd", processes.path()));
        assert!(!belongs("7", "containerd", processes.path()), "the number was given to another");
        assert!(!belongs("8", "dockerd", processes.path()), "it is gone");
        assert!(!belongs("", "dockerd", processes.path()));
    }

    #[test]
    fn a_socket_is_stale_when_its_listener_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        assert!(!nobody_listens(&path));
        drop(listener);
        assert!(nobody_listens(&path));
    }
}
