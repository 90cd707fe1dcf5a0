//! `barman-cloud-wal-archive`: one file of `pg_wal` into the store.
//!
//! A segment or a history file that is there already is never replaced: with the same content it is archived, with
//! another one it is refused, since it is the history of another primary (an empty object is nobody's). Barman replaces it. An unfinished segment and
//! the label of a base backup are replaced here too: the one of a later promotion is the one that counts.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write};
use std::time::Duration;

use crate::Environment;
use crate::command::Command;
use crate::compression::Compression;
use crate::layout::{Kind, WalName};
use crate::segment;
use crate::stop::{Code, Result, Stop};
use crate::store::{LONGEST_IN_MEMORY, Made, Remote, Variant};

/// As long as boto waits for an answer: nobody waits for the end of an upload but the next one.
const PATIENCE: Duration = Duration::from_secs(60);

/// Archives the file that the command names.
///
/// # Errors
/// It is not a WAL file, not whole, in the store with another content, or the store does not take it.
pub async fn archive(command: &Command, env: &Environment) -> Result<()> {
    let Some(name) = WalName::of_path(&command.wal) else {
        let message = format!("{} is an invalid name for a WAL file", command.wal);
        return Err(Stop::Failed { code: Code::Input, message });
    };
    if command.compression == Some(Compression::Xz) {
        return Err(Stop::Handover("xz is asked for".into()));
    }
    let remote = Remote::open(command, env, PATIENCE)?;
    let mut content = Content::open(&command.wal, &name)?;
    let key = format!("{}{}", remote.key(&name), command.compression.map_or("", Compression::suffix));
    let tags = match name.kind() {
        Kind::History if !command.history_tags.is_empty() => &command.history_tags,
        _ => &command.tags,
    };

    if matches!(name.kind(), Kind::Partial | Kind::Backup) {
        return remote.replace(&key, content.wrap(command)?, tags).await;
    }
    let there = match remote.variants(&name).await {
        Ok(variants) => Some(variants),
        // Keys that may write and not list: what is there under this very key is found when it is written.
        Err(_) if remote.was_forbidden() => None,
        Err(stop) => return Err(stop),
    };
    if let Some(variant) = there.iter().flatten().find(|variant| variant.name == name.as_str()) {
        // What a store that lost its power may keep of an upload that it never acknowledged.
        if variant.size == 0 && variant.key == key {
            return remote.replace(&key, content.wrap(command)?, tags).await;
        }
        return compare(&remote, variant, content).await;
    }
    match remote.make(&key, content.wrap(command)?, tags).await? {
        Made::New => Ok(()),
        Made::Exists => {
            let compression = command.compression;
            let variant = Variant { key, name: name.as_str().to_owned(), compression, size: 0 };
            compare(&remote, &variant, content).await
        }
        Made::Unsupported if there.is_some() => remote.replace(&key, content.wrap(command)?, tags).await,
        Made::Unsupported => {
            Err(Stop::Handover("this store can neither be listed nor written to on a condition".into()))
        }
    }
}

/// A file to archive. It is read by pieces: of what it is wrapped in, less has to be kept.
struct Content<'a> {
    path: &'a str,
    file: File,
    length: u64,
}

impl<'a> Content<'a> {
    fn open(path: &'a str, name: &WalName) -> Result<Self> {
        let cannot = |error: io::Error| Stop::general(format!("cannot read {path}: {error}"));
        let mut file = File::open(path).map_err(cannot)?;
        let length = file.metadata().map_err(cannot)?.len();
        if length > LONGEST_IN_MEMORY {
            return Err(Stop::Handover(format!("{path} has {length} bytes")));
        }
        if name.kind() == Kind::Segment {
            let mut head = Vec::with_capacity(segment::HEADER);
            (&mut file).take(segment::HEADER as u64).read_to_end(&mut head).map_err(cannot)?;
            let whole = segment::check(&head, length);
            whole.map_err(|reason| Stop::general(format!("{path} is not archived: {reason}")))?;
        }
        Ok(Self { path, file, length })
    }

    /// As it goes to the store.
    fn wrap(&mut self, command: &Command) -> Result<Vec<u8>> {
        let wrapped = self.file.rewind().and_then(|()| match command.compression {
            Some(one) => one.compress(&mut self.file, self.length, command.level),
            None => {
                let mut all = Vec::with_capacity(usize::try_from(self.length).unwrap_or_default());
                self.file.read_to_end(&mut all)?;
                if all.len() as u64 != self.length {
                    return Err(io::Error::other("its length changed while it was read"));
                }
                Ok(all)
            }
        });
        wrapped.map_err(|error| Stop::general(format!("cannot read and wrap {}: {error}", self.path)))
    }
}

/// Takes what is stored, and fails at the first byte that the file does not have.
struct Comparison<'a> {
    file: &'a mut File,
    piece: Vec<u8>,
    differs: bool,
}

impl Write for Comparison<'_> {
    fn write(&mut self, stored: &[u8]) -> io::Result<usize> {
        self.piece.resize(stored.len(), 0);
        match self.file.read_exact(&mut self.piece) {
            Ok(()) if self.piece == stored => Ok(stored.len()),
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
            _ => {
                self.differs = true;
                Err(io::Error::other("another content"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether what is stored is the same.
async fn compare(remote: &Remote, stored: &Variant, mut content: Content<'_>) -> Result<()> {
    let Variant { key, compression, size, .. } = stored;
    if *size > LONGEST_IN_MEMORY || *compression == Some(Compression::Xz) {
        return Err(Stop::Handover(format!("{key} is there")));
    }
    let wrapped = remote.fetch(key).await?;
    let cannot = |error: io::Error| Stop::general(format!("cannot read {}: {error}", content.path));
    content.file.rewind().map_err(cannot)?;
    let mut comparison = Comparison { file: &mut content.file, piece: Vec::new(), differs: false };
    let compared = match compression {
        None => comparison.write_all(&wrapped).map(|()| wrapped.len() as u64),
        Some(one) => one.decompress(&wrapped, &mut comparison),
    };
    match compared {
        Ok(length) if length == content.length => Ok(()),
        Err(error) if !comparison.differs => Err(refused(key, &format!("it cannot be read: {error}"))),
        _ => Err(refused(key, "its content is another one")),
    }
}

fn refused(key: &str, why: &str) -> Stop {
    let message = format!(
        "{key} is in the archive already, and {why}: it is not replaced. Another primary may have archived it; find out \
         which one is right, and move the object away if it is this one"
    );
    Stop::Failed { code: Code::Operation, message }
}
