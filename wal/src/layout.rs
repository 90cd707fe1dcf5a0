//! Names of WAL files, and the keys that barman keeps them under.

use crate::compression::Compression;

/// What a name in `pg_wal` or its archive stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `000000010000000000000001`
    Segment,
    /// `000000010000000000000001.partial`: as far as a primary came before another timeline began.
    Partial,
    /// `000000010000000000000001.00000028.backup`: where a base backup began and ended.
    Backup,
    /// `00000002.history`
    History,
}

/// The name of a file that PostgreSQL archives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalName {
    name: String,
    kind: Kind,
}

impl WalName {
    /// Reads the name at the end of a path; `None` if PostgreSQL archives no such file.
    pub fn of_path(path: &str) -> Option<Self> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let hex = |text: &str, length: usize| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let kind = match name.split_once('.') {
            None if hex(name, 24) => Kind::Segment,
            Some((timeline, "history")) if hex(timeline, 8) => Kind::History,
            Some((segment, "partial")) if hex(segment, 24) => Kind::Partial,
            Some((segment, rest)) if hex(segment, 24) => {
                rest.strip_suffix(".backup").filter(|offset| hex(offset, 8)).map(|_| Kind::Backup)?
            }
            _ => return None,
        };
        Some(Self { name: name.to_owned(), kind })
    }

    /// The name without a folder.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// What it stands for.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The key without a suffix, in the folder that `base` is: the address's path and the server's name.
    pub fn key(&self, base: &str) -> String {
        match self.kind {
            Kind::History => format!("{base}/wals/{}", self.name),
            // Timeline and the higher half of the position; barman writes this folder, and only it, in capitals.
            _ => format!("{base}/wals/{}/{}", self.name[..16].to_ascii_uppercase(), self.name),
        }
    }
}

/// The folder of a server: what [`WalName::key`] begins with. Joined as Python joins paths.
pub fn base(path: &str, server: &str) -> String {
    match path {
        "" => server.to_owned(),
        path if path.ends_with('/') => format!("{path}{server}"),
        path => format!("{path}/{server}"),
    }
}

/// The name of an archived file, and what it is wrapped in by its suffix.
pub fn unwrapped(file: &str) -> (&str, Option<Compression>) {
    let known = Compression::ALL.into_iter().find_map(|one| Some((file.strip_suffix(one.suffix())?, Some(one))));
    known.unwrap_or((file, None))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_told_apart_as_barman_does() {
        let kind = |path: &str| WalName::of_path(path).map(|name| name.kind());
        assert_eq!(kind("pg_wal/000000010000000000000001"), Some(Kind::Segment));
        assert_eq!(kind("00000001000000000000000f.partial"), Some(Kind::Partial));
        assert_eq!(kind("000000010000000000000001.00000028.backup"), Some(Kind::Backup));
        assert_eq!(kind("/x/00000002.history"), Some(Kind::History));
        for other in [
            "",
            "00000001000000000000000",
            "00000001000000000000000g",
            "0000000100000000000000011",
            "000000010000000000000001.backup",
            "000000010000000000000001.0000028.backup",
            "000000010000000000000001.00000028.backup.gz",
            "000000010000000000000001.gz",
            "00000002.partial",
            "000000010000000000000001.history",
            "00000002.history/",
            "archive_status",
        ] {
            assert_eq!(kind(other), None, "{other}");
        }
    }

    #[test]
    fn keys_are_barmans() {
        let key = |name: &str, path: &str| WalName::of_path(name).unwrap().key(&base(path, "db"));
        assert_eq!(key("000000010000000a0000000b", ""), "db/wals/000000010000000A/000000010000000a0000000b");
        assert_eq!(
            key("000000010000000A0000000B.partial", "a/b/"),
            "a/b/db/wals/000000010000000A/000000010000000A0000000B.partial"
        );
        assert_eq!(key("00000002.history", "a"), "a/db/wals/00000002.history");
    }

    proptest! {
        #[test]
        fn a_segments_name_comes_back_from_its_key(timeline: u32, log: u32, segment: u32, path in "[a-z]{0,6}(/[a-z]{1,6}){0,2}/?") {
            let name = format!("{timeline:08X}{log:08X}{segment:08X}");
            let key = WalName::of_path(&name).unwrap().key(&base(&path, "s"));
            let end = format!("s/wals/{timeline:08X}{log:08X}/{name}");
            prop_assert!(key.ends_with(&end));
            for one in Compression::ALL {
                let file = format!("{name}{}", one.suffix());
                prop_assert_eq!(unwrapped(&file), (name.as_str(), Some(one)));
            }
            prop_assert_eq!(unwrapped(&name), (name.as_str(), None));
        }
    }
}
