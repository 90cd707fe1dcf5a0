//! The command line, as barman's programs have it. Only what is understood to the last letter is accepted; for anything
//! else, mistakes included, barman's own program is asked, which then also says what is wrong.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use crate::compression::{Compression, Level};
use crate::stop::{Result, Stop};

/// Which of the two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `barman-cloud-wal-archive`
    Archive,
    /// `barman-cloud-wal-restore`
    Restore,
}

impl Program {
    /// The one that was called, by the name that it was called by.
    pub fn called(name: &OsStr) -> Option<Self> {
        let name = Path::new(name).file_name()?;
        [Self::Archive, Self::Restore].into_iter().find(|program| name == program.name())
    }

    /// The file's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Archive => "barman-cloud-wal-archive",
            Self::Restore => "barman-cloud-wal-restore",
        }
    }
}

/// Whose store it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Provider {
    /// S3, from whatever maker
    #[default]
    S3,
    /// Azure Blob Storage
    Azure,
    /// Google Cloud Storage
    Google,
}

/// `--addressing-style`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Addressing {
    /// As boto chooses.
    #[default]
    Auto,
    /// `https://bucket.host/key`
    Virtual,
    /// `https://host/bucket/key`
    Path,
}

/// `--azure-credential`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AzureCredential {
    /// `default`
    Default,
    /// `managed-identity`
    ManagedIdentity,
}

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// The bucket, and the folder in it.
    pub url: String,
    /// The folder's folder.
    pub server: String,
    /// `--cloud-provider`
    pub provider: Provider,
    /// `--endpoint-url`
    pub endpoint: Option<String>,
    /// `--addressing-style`
    pub addressing: Addressing,
    /// `--read-timeout`
    pub read_timeout: Option<Duration>,
    /// `--azure-credential`
    pub azure_credential: Option<AzureCredential>,
    /// `--encryption`
    pub encryption: Option<String>,
    /// `--sse-kms-key-id`
    pub kms_key: Option<String>,
    /// What to wrap an archived file in.
    pub compression: Option<Compression>,
    /// `--compression-level`
    pub level: Option<Level>,
    /// Of every archived file.
    pub tags: Vec<(String, String)>,
    /// Of history files, if there are any.
    pub history_tags: Vec<(String, String)>,
    /// The file to archive, with its path; or the name of the one to restore.
    pub wal: String,
    /// Where to restore it.
    pub destination: String,
    /// `--no-partial`
    pub no_partial: bool,
}

/// The arguments that are yet to be read.
struct Arguments<'a> {
    left: std::slice::Iter<'a, String>,
}

impl<'a> Arguments<'a> {
    /// The value of an option: behind its `=`, or the next argument.
    fn value(&mut self, option: &str, attached: Option<&'a str>) -> Result<&'a str> {
        let value = attached.or_else(|| self.left.next().map(String::as_str).filter(|next| !next.starts_with('-')));
        value.filter(|value| !value.is_empty()).ok_or_else(|| Stop::Handover(format!("{option} has no value")))
    }

    /// Every argument up to the next option, as Python's argparse has it.
    fn values(&mut self) -> &'a [String] {
        let all = self.left.as_slice();
        let count = all.iter().position(|next| next.starts_with('-')).unwrap_or(all.len());
        self.left = all[count..].iter();
        &all[..count]
    }
}

impl Command {
    /// Reads the arguments behind the program's name.
    ///
    /// # Errors
    /// A handover when there is any that is not known here.
    pub fn parse(program: Program, args: &[String]) -> Result<Self> {
        let (mut command, mut positional) = (Self::default(), Vec::new());
        let mut arguments = Arguments { left: args.iter() };
        while let Some(argument) = arguments.left.next() {
            if !argument.starts_with('-') {
                positional.push(argument.clone());
                continue;
            }
            let (option, attached) = match argument.split_once('=') {
                Some((option, value)) if option.starts_with("--") => (option, Some(value)),
                _ => (argument.as_str(), None),
            };
            let known = command.common(option, attached, &mut arguments)?
                || match program {
                    Program::Archive => command.archive(option, attached, &mut arguments)?,
                    Program::Restore => command.restore(option, attached)?,
                };
            if !known {
                return Err(Stop::Handover(format!("the option {option} is not known here")));
            }
        }
        let count = positional.len();
        let mut next = positional.into_iter();
        let expected = match program {
            Program::Archive => 3,
            Program::Restore => 4,
        };
        let mut take = || next.next().filter(|one| !one.is_empty()).filter(|_| count == expected);
        let (Some(url), Some(server), Some(wal)) = (take(), take(), take()) else {
            return Err(Stop::Handover(format!("{count} positional arguments instead of {expected}, or an empty one")));
        };
        (command.url, command.server, command.wal) = (url, server, wal);
        if program == Program::Restore {
            command.destination = take().ok_or_else(|| Stop::Handover("the destination is empty".into()))?;
        }
        Ok(command)
    }

    /// Options of both programs. Returns whether it is one.
    fn common<'a>(&mut self, option: &str, attached: Option<&'a str>, rest: &mut Arguments<'a>) -> Result<bool> {
        let mut value = || rest.value(option, attached);
        match option {
            "--cloud-provider" => {
                self.provider = match value()? {
                    "aws-s3" => Provider::S3,
                    "azure-blob-storage" => Provider::Azure,
                    "google-cloud-storage" => Provider::Google,
                    other => return Err(Stop::Handover(format!("the cloud provider {other} is not known here"))),
                }
            }
            "--endpoint-url" => self.endpoint = Some(value()?.to_owned()),
            "--addressing-style" => {
                self.addressing = match value()? {
                    "auto" => Addressing::Auto,
                    "virtual" => Addressing::Virtual,
                    "path" => Addressing::Path,
                    other => return Err(Stop::Handover(format!("the addressing style {other} is not known here"))),
                }
            }
            "--read-timeout" => {
                let seconds = value()?.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
                let seconds = seconds.ok_or_else(|| Stop::Handover("an unusual read timeout".into()))?;
                self.read_timeout = Some(Duration::from_secs(seconds));
            }
            "--azure-credential" | "--credential" => {
                self.azure_credential = Some(match value()? {
                    "default" => AzureCredential::Default,
                    "managed-identity" => AzureCredential::ManagedIdentity,
                    other => return Err(Stop::Handover(format!("the Azure credential {other} is not known here"))),
                });
            }
            // These say what happened in one line, whatever is asked for.
            "-v" | "-vv" | "-vvv" | "-q" | "-qq" | "-qqq" | "--verbose" | "--quiet" if attached.is_none() => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn archive<'a>(&mut self, option: &str, attached: Option<&'a str>, rest: &mut Arguments<'a>) -> Result<bool> {
        let compression = match option {
            "-z" | "--gzip" => Some(Compression::Gzip),
            "-j" | "--bzip2" => Some(Compression::Bzip2),
            "--xz" => Some(Compression::Xz),
            "--snappy" => Some(Compression::Snappy),
            "--zstd" => Some(Compression::Zstd),
            "--lz4" => Some(Compression::Lz4),
            _ => None,
        };
        if compression.is_some() {
            if attached.is_some() || self.compression.is_some_and(|other| Some(other) != compression) {
                return Err(Stop::Handover("two compressions, or one with a value".into()));
            }
            self.compression = compression;
            return Ok(true);
        }
        match option {
            "--compression-level" => self.level = Some(level(rest.value(option, attached)?)?),
            "-e" | "--encryption" => {
                let value = rest.value(option, attached)?;
                if !["AES256", "aws:kms"].contains(&value) {
                    return Err(Stop::Handover(format!("the encryption {value} is not known here")));
                }
                self.encryption = Some(value.to_owned());
            }
            "--sse-kms-key-id" => self.kms_key = Some(rest.value(option, attached)?.to_owned()),
            "--tags" | "--history-tags" if attached.is_none() => {
                let tags = rest.values().iter().map(|text| tag(text)).collect::<Result<Vec<_>>>()?;
                let into = if option == "--tags" { &mut self.tags } else { &mut self.history_tags };
                if !std::mem::replace(into, tags).is_empty() {
                    return Err(Stop::Handover(format!("{option} is given twice")));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn restore(&mut self, option: &str, attached: Option<&str>) -> Result<bool> {
        let known = option == "--no-partial" && attached.is_none();
        self.no_partial |= known;
        Ok(known)
    }
}

fn level(text: &str) -> Result<Level> {
    Ok(match text.to_lowercase().as_str() {
        "low" => Level::Low,
        "medium" => Level::Medium,
        "high" => Level::High,
        other => match other.parse() {
            Ok(number) => Level::Number(number),
            Err(_) => return Err(Stop::Handover(format!("the compression level {text} is not known here"))),
        },
    })
}

/// `key,value` as a row of CSV; one with quotes is left to Python.
fn tag(text: &str) -> Result<(String, String)> {
    let parts: Vec<&str> = text.split(',').collect();
    match parts.as_slice() {
        [key, value] if !text.contains(['"', '\r', '\n']) && !key.is_empty() => {
            Ok(((*key).to_owned(), (*value).to_owned()))
        }
        _ => Err(Stop::Handover(format!("the tag {text} is not a plain key,value"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(program: Program, line: &str) -> Result<Command> {
        Command::parse(program, &line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_the_plugin_passes_is_understood() {
        let line = "--zstd -e AES256 --compression-level=high --endpoint-url http://s:7070 --tags a,b c,d --history-tags e,f \
                    --cloud-provider aws-s3 s3://backups/team db 000000010000000000000001";
        let command = parse(Program::Archive, line).unwrap();
        let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = Command {
            url: "s3://backups/team".into(),
            server: "db".into(),
            endpoint: Some("http://s:7070".into()),
            encryption: Some("AES256".into()),
            compression: Some(Compression::Zstd),
            level: Some(Level::High),
            tags: vec![tag("a", "b"), tag("c", "d")],
            history_tags: vec![tag("e", "f")],
            wal: "000000010000000000000001".into(),
            ..Command::default()
        };
        assert_eq!(command, expected);

        let line = "--endpoint-url=http://s:7070 --cloud-provider azure-blob-storage --credential managed-identity \
                    s3://b/ db --read-timeout=60 -vv --no-partial 00000002.history pg_wal/RECOVERYHISTORY";
        let command = parse(Program::Restore, line).unwrap();
        let expected = Command {
            url: "s3://b/".into(),
            server: "db".into(),
            provider: Provider::Azure,
            endpoint: Some("http://s:7070".into()),
            read_timeout: Some(Duration::from_secs(60)),
            azure_credential: Some(AzureCredential::ManagedIdentity),
            wal: "00000002.history".into(),
            destination: "pg_wal/RECOVERYHISTORY".into(),
            no_partial: true,
            ..Command::default()
        };
        assert_eq!(command, expected);
    }

    #[test]
    fn anything_else_is_barmans() {
        for line in [
            "",
            "--help",
            "-V",
            "--test s3://b db x",
            "-t s3://b db x",
            "s3://b db",
            "s3://b db x y",
            "--endpoint-url",
            "--endpoint-url --zstd s3://b db x",
            "--endp http://s s3://b db x",
            "--aws-profile p s3://b db x",
            "-P p s3://b db x",
            "--zstd --gzip s3://b db x",
            "--zstd=3 s3://b db x",
            "-e aes256 s3://b db x",
            "-eAES256 s3://b db x",
            "--encryption-scope s s3://b db x",
            "--max-block-size 4MB s3://b db x",
            "--kms-key-name k s3://b db x",
            "--tag a,b s3://b db x",
            "--tags a --zstd s3://b db x",
            "--tags \"a,b\" --zstd s3://b db x",
            // argparse takes all of it for tags
            "--tags a,b s3://b db x",
            "--compression-level hard s3://b db x",
            "--read-timeout 0 s3://b db x",
            "--cloud-provider other s3://b db x",
            "--no-partial s3://b db x",
            "-- s3://b db x",
        ] {
            let parsed = parse(Program::Archive, line);
            assert!(matches!(parsed, Err(Stop::Handover(_))), "{line}: {parsed:?}");
        }
        for line in [
            "s3://b db x",
            "s3://b db x y z",
            "-p 4 s3://b db x y",
            "--spool-dir d s3://b db x y",
            "--zstd s3://b db x y",
        ] {
            let parsed = parse(Program::Restore, line);
            assert!(matches!(parsed, Err(Stop::Handover(_))), "{line}: {parsed:?}");
        }
    }
}
