//! SHA-256 of texts, files and folders.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

/// Collects named inputs into one digest. Names and lengths go in too, so that no two different
/// lists of inputs look alike.
#[derive(Debug, Clone, Default)]
pub struct Inputs(Sha256);

impl Inputs {
    /// Adds one input.
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        for bytes in [name.as_bytes(), value.as_ref()] {
            self.0.update((bytes.len() as u64).to_le_bytes());
            self.0.update(bytes);
        }
        self
    }

    /// Adds every file below a folder: path, whether it may be run, contents.
    ///
    /// # Errors
    /// When something in it cannot be read.
    pub fn add_folder(&mut self, folder: &Path) -> Result<&mut Self> {
        for path in files(folder)? {
            let full = folder.join(&path);
            let contents = fs::read(&full).with_context(|| format!("cannot read {}", full.display()))?;
            let run = full.metadata()?.permissions().mode() & 0o111 != 0;
            self.add(&format!("{} {run}", path.display()), contents);
        }
        Ok(self)
    }

    /// The first 16 hexadecimal digits.
    pub fn key(&self) -> String {
        hex(&self.0.clone().finalize())[..16].to_owned()
    }
}

/// The SHA-256 of a file, in lower-case hexadecimal digits.
///
/// # Errors
/// When it cannot be read.
pub fn file(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(length) => hash.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context(format!("cannot read {}", path.display())),
        }
    }
}

/// From this size on a digest is worth remembering, in bytes.
const LARGE: u64 = 16 << 20;

/// The digest of [`file`], but what was found is kept beside a large file, for as long as it has not changed.
///
/// # Errors
/// When it cannot be read.
pub fn remembered(path: &Path) -> Result<String> {
    let metadata = path.metadata().with_context(|| format!("cannot read {}", path.display()))?;
    if metadata.len() < LARGE {
        return file(path);
    }
    let state = format!("{} {:?} ", metadata.len(), metadata.modified()?);
    let mut note = path.as_os_str().to_owned();
    note.push(".sha256");
    if let Ok(text) = fs::read_to_string(&note)
        && let Some(digest) = text.strip_prefix(&state)
    {
        return Ok(digest.to_owned());
    }
    let digest = file(path)?;
    fs::write(&note, format!("{state}{digest}")).context("cannot keep a digest")?;
    Ok(digest)
}

/// Every regular file below a folder, relative to it, in order.
///
/// # Errors
/// When a folder cannot be read.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![PathBuf::new()];
    while let Some(below) = left.pop() {
        let full = folder.join(&below);
        let entries = fs::read_dir(&full).with_context(|| format!("cannot read {}", full.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = below.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                left.push(path);
            } else if kind.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(inputs: &[(&str, &str)]) -> String {
        let mut all = Inputs::default();
        for (name, value) in inputs {
            all.add(name, value);
        }
        all.key()
    }

    #[test]
    fn a_key_depends_on_every_name_and_value_and_on_where_one_ends() {
        let one = key(&[("version", "1.0"), ("file", "text")]);
        assert_eq!(one, key(&[("version", "1.0"), ("file", "text")]));
        assert_ne!(one, key(&[("version", "1.1"), ("file", "text")]));
        assert_ne!(one, key(&[("version", "1.0"), ("other", "text")]));
        assert_ne!(key(&[("ab", "c")]), key(&[("a", "bc")]));
        assert_eq!(one.len(), 16);
    }

    #[test]
    fn a_folder_s_key_sees_names_contents_and_the_right_to_run() {
        let dir = tempfile::tempdir().unwrap();
        let of = || Inputs::default().add_folder(dir.path()).unwrap().key();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/a"), "1").unwrap();
        let first = of();
        fs::write(dir.path().join("sub/a"), "2").unwrap();
        let second = of();
        fs::set_permissions(dir.path().join("sub/a"), fs::Permissions::from_mode(0o755)).unwrap();
        let third = of();
        fs::rename(dir.path().join("sub/a"), dir.path().join("a")).unwrap();
        let all = [&first, &second, &third, &of()].map(Clone::clone);
        assert!((1..4).all(|i| !all[..i].contains(&all[i])), "{all:?}");
    }

    #[test]
    fn a_file_s_digest_is_its_sha256() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "abc").unwrap();
        assert_eq!(file(&path).unwrap(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
