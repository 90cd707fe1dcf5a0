//! Barman's own program, where this one does not know enough: the next of the same name in `PATH`.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::Program;

/// Set in the environment of the program that is handed over to: should that be a copy of this one, it ends instead of
/// handing over for ever.
const MARK: &str = "BARMAN_CLOUD_WAL_HANDED_OVER";

/// Becomes barman's program. Comes back only if that is not possible, with the reason in words.
pub fn hand_over(program: Program, args: &[OsString], reason: &str) -> String {
    let name = program.name();
    if std::env::var_os(MARK).is_some() {
        return format!("{reason}, which is barman's to handle, and the next {name} in PATH is this program again");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(next) = next_program(name, &path, Path::new("/proc/self/exe")) else {
        return format!("{reason}, which is barman's to handle, and there is no {name} of barman's in PATH");
    };
    let error = Command::new(&next).args(args).env(MARK, "1").exec();
    format!("{reason}, which is barman's to handle, and {} cannot be run: {error}", next.display())
}

/// The first executable file of that name in `path` that is not `own`, under whatever name or link.
pub fn next_program(name: &str, path: &OsStr, own: &Path) -> Option<PathBuf> {
    let own = std::fs::metadata(own).map(|own| (own.dev(), own.ino())).ok();
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|candidate| {
        std::fs::metadata(candidate).is_ok_and(|found| {
            found.is_file() && found.permissions().mode() & 0o111 != 0 && Some((found.dev(), found.ino())) != own
        })
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_next_program_of_the_name_is_never_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = dir.path().join(name);
            fs::create_dir(&folder).unwrap();
            folder
        };
        let (ours, linked, not_executable, barmans) = (folder("a"), folder("b"), folder("c"), folder("d"));
        let own = ours.join("tool");
        for (path, mode) in [(&own, 0o755), (&not_executable.join("tool"), 0o644), (&barmans.join("tool"), 0o755)] {
            fs::write(path, "").unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink(&own, linked.join("tool")).unwrap();
        let path = std::env::join_paths([&ours, &linked, &not_executable, &barmans]).unwrap();
        assert_eq!(next_program("tool", &path, &own), Some(barmans.join("tool")));
        let path = std::env::join_paths([&ours, &linked, &not_executable]).unwrap();
        assert_eq!(next_program("tool", &path, &own), None);
    }
}
