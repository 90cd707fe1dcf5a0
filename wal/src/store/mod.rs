//! The bucket, whoever's it is: what is asked of it, and what its refusals mean.

mod azure;
mod google;
mod s3;
#[cfg(test)]
mod tests;

use std::error::Error as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::client::HttpConnector;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    BackoffConfig, Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, RetryConfig, TagSet,
};

use crate::Environment;
use crate::command::{Command, Provider};
use crate::compression::Compression;
use crate::http::{Answer, Http};
use crate::layout::{self, WalName};
use crate::stop::{Code, Result, Stop};
use crate::trust;

/// Files are kept in memory while they are sent or unwrapped; longer ones are left to barman, which reads them piece by
/// piece. PostgreSQL's segments have 16 MiB where nobody has chosen another size.
pub const LONGEST_IN_MEMORY: u64 = 128 << 20;
/// How often boto tries in all, unless `AWS_MAX_ATTEMPTS` says otherwise.
const ATTEMPTS: usize = 5;
/// Nothing is tried again later than this after its beginning: PostgreSQL itself asks again, and waits meanwhile.
const TRIED_AGAIN_WITHIN: Duration = Duration::from_secs(2);
/// Variables that name a proxy.
const PROXIES: [&str; 6] = ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];
/// The store's own words that are passed on, at most.
const LONGEST_MESSAGE: usize = 400;

/// A server's folder in a bucket.
pub struct Remote {
    objects: Arc<dyn ObjectStore>,
    lists: Arc<dyn PaginatedListStore>,
    http: Http,
    base: String,
    /// Whether the store compares what arrives with a digest that is sent with it.
    compares: bool,
}

/// A stored form of a WAL file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// The key in the bucket.
    pub key: String,
    /// The name without the suffix of a compression.
    pub name: String,
    /// What it is wrapped in.
    pub compression: Option<Compression>,
    /// The object's length.
    pub size: u64,
}

/// What became of an object that was to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It was made.
    New,
    /// There is one under its key already, which was left alone.
    Exists,
    /// The store cannot make an object on condition that there is none.
    Unsupported,
}

/// What every kind of store is opened with.
struct Opening<'a, C> {
    command: &'a Command,
    env: &'a Environment,
    connector: C,
    retry: RetryConfig,
}

impl<C> Opening<'_, C> {
    fn variable(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Hands over when one of these is set: it means something that is not known here.
    fn none_of(&self, names: &[&str]) -> Result<()> {
        match names.iter().find(|name| self.variable(name).is_some()) {
            Some(name) => Err(Stop::Handover(format!("{name} is set"))),
            None => Ok(()),
        }
    }
}

/// What a kind of store makes of a command.
struct Opened<T> {
    store: T,
    /// The path of the address, with what barman does to it.
    path: String,
}

impl Remote {
    /// Opens the store that a command names; waits `patience` for each answer, unless the command says otherwise.
    ///
    /// # Errors
    /// A handover for anything that is not known here. Nothing is asked of the store yet.
    pub fn open(command: &Command, env: &Environment, patience: Duration) -> Result<Self> {
        let variables: &[&str] = match command.provider {
            Provider::S3 => &["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"],
            Provider::Azure | Provider::Google => &["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"],
        };
        let bundle = trust::bundle(env, variables).map(PathBuf::from);
        let http = Http::new(command.read_timeout.unwrap_or(patience), bundle);
        Self::with(command, env, http.clone(), http)
    }

    /// With a connector of its own, which connects by `http`.
    fn with<C>(command: &Command, env: &Environment, http: Http, connector: C) -> Result<Self>
    where
        C: HttpConnector + Clone,
    {
        let attempts = env.get("AWS_MAX_ATTEMPTS").and_then(|text| text.parse().ok()).unwrap_or(ATTEMPTS);
        let backoff = BackoffConfig { max_backoff: Duration::from_millis(800), ..BackoffConfig::default() };
        let retry = RetryConfig { backoff, max_retries: attempts.max(1) - 1, retry_timeout: TRIED_AGAIN_WITHIN };
        let opening = Opening { command, env, connector, retry };
        opening.none_of(&PROXIES)?;
        match command.provider {
            Provider::S3 => Self::of(s3::open(&opening)?, command, http, true),
            Provider::Azure => Self::of(azure::open(&opening)?, command, http, false),
            Provider::Google => Self::of(google::open(&opening)?, command, http, false),
        }
    }

    fn of<T>(opened: Opened<T>, command: &Command, http: Http, compares: bool) -> Result<Self>
    where
        T: ObjectStore + PaginatedListStore,
    {
        let base = layout::base(&opened.path, &command.server);
        let plain = Path::parse(&base).is_ok_and(|parsed| parsed.as_ref() == base);
        if !plain {
            return Err(Stop::Handover(format!("the folder {base} is not a plain path")));
        }
        let store = Arc::new(opened.store);
        Ok(Self { objects: store.clone(), lists: store, http, base, compares })
    }

    /// The key that barman keeps a file under, without a suffix.
    pub fn key(&self, name: &WalName) -> String {
        name.key(&self.base)
    }

    /// The stored forms of a WAL file and of its unfinished one, in the order of their keys.
    ///
    /// # Errors
    /// The store cannot be asked. A bucket that is not there is an error too: its WAL is not known to be missing.
    pub async fn variants(&self, name: &WalName) -> Result<Vec<Variant>> {
        let prefix = self.key(name);
        let (mut found, mut page_token) = (Vec::new(), None);
        loop {
            let options = PaginatedListOptions { delimiter: Some("/".into()), page_token, ..Default::default() };
            let page = self.lists.list_paginated(Some(&prefix), options).await;
            let page = page.map_err(|error| self.stop(&format!("cannot look for {prefix}"), &error))?;
            found.extend(page.result.objects);
            page_token = page.page_token;
            if page_token.is_none() {
                break;
            }
        }
        let mut variants: Vec<_> = found
            .into_iter()
            .map(|object| {
                let key = object.location.as_ref().to_owned();
                let (name, compression) = layout::unwrapped(key.rsplit('/').next().unwrap_or_default());
                Variant { name: name.to_owned(), compression, size: object.size, key }
            })
            .filter(|found| {
                found.name.strip_suffix(".partial").unwrap_or(&found.name) == name.as_str()
                    || found.name == name.as_str()
            })
            .collect();
        variants.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(variants)
    }

    /// A whole object.
    ///
    /// # Errors
    /// It cannot be had, or not whole.
    pub async fn fetch(&self, key: &str) -> Result<Vec<u8>> {
        let failed = |error: &Error| self.stop(&format!("cannot fetch {key}"), error);
        let answer = self.objects.get(&Path::from(key)).await.map_err(|error| failed(&error))?;
        let announced = answer.meta.size;
        let content = answer.bytes().await.map_err(|error| failed(&error))?;
        if content.len() as u64 != announced {
            let text = format!("cannot fetch {key}: {} of {announced} bytes came", content.len());
            return Err(Stop::Failed { code: Code::Network, message: text });
        }
        Ok(content.into())
    }

    /// Makes an object, if there is none under this key.
    ///
    /// # Errors
    /// The store cannot be asked, or does not take it.
    pub async fn make(&self, key: &str, content: Vec<u8>, tags: &[(String, String)]) -> Result<Made> {
        match self.send(key, content, tags, PutMode::Create).await {
            Ok(()) => Ok(Made::New),
            // A conflict has more causes than this one: S3 says so when another request is under way.
            Err(error @ (Error::AlreadyExists { .. } | Error::Precondition { .. }))
                if self.http.last_answer() != Some(Answer::Status(409))
                    || in_words(&error).contains("AlreadyExists") =>
            {
                Ok(Made::Exists)
            }
            Err(Error::NotImplemented { .. }) => Ok(Made::Unsupported),
            Err(_) if self.http.last_answer() == Some(Answer::Status(501)) => Ok(Made::Unsupported),
            Err(error) => Err(self.stop(&format!("cannot store {key}"), &error)),
        }
    }

    /// Makes an object or puts it in another one's place.
    ///
    /// # Errors
    /// As [`Remote::make`].
    pub async fn replace(&self, key: &str, content: Vec<u8>, tags: &[(String, String)]) -> Result<()> {
        let sent = self.send(key, content, tags, PutMode::Overwrite).await;
        sent.map_err(|error| self.stop(&format!("cannot store {key}"), &error))
    }

    async fn send(
        &self,
        key: &str,
        content: Vec<u8>,
        tags: &[(String, String)],
        mode: PutMode,
    ) -> object_store::Result<()> {
        let mut set = TagSet::default();
        for (name, value) in tags {
            set.push(name, value);
        }
        let (path, length) = (Path::from(key), content.len() as u64);
        let options = PutOptions { mode, tags: set, ..PutOptions::default() };
        self.objects.put_opts(&path, PutPayload::from(content), options).await?;
        if !self.compares {
            let stored = self.objects.head(&path).await?.size;
            if stored != length {
                let source = format!("it has {stored} bytes there instead of {length}").into();
                return Err(Error::Generic { store: "store", source });
            }
        }
        Ok(())
    }

    /// Whether the last thing asked was refused for lack of rights.
    pub fn was_forbidden(&self) -> bool {
        self.http.last_answer() == Some(Answer::Status(403))
    }

    /// What a failure means.
    fn stop(&self, what: &str, error: &Error) -> Stop {
        match self.http.last_answer() {
            Some(Answer::Untrusted) => Stop::Handover(format!("{what}: {}", innermost(error))),
            // Another region, another way of signing, something this store does not know: barman's has more ways.
            Some(Answer::Status(status)) if (300..=400).contains(&status) || status == 501 => {
                Stop::Handover(format!("{what}: {}", in_words(error)))
            }
            Some(Answer::Unreachable | Answer::Broken) => {
                Stop::Failed { code: Code::Network, message: format!("{what}: {}", innermost(error)) }
            }
            Some(Answer::Status(_)) | None => Stop::general(format!("{what}: {}", in_words(error))),
        }
    }
}

/// The cause at the root of an error.
fn innermost(error: &Error) -> String {
    let mut cause = error.source();
    let mut text = error.to_string();
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text.chars().take(LONGEST_MESSAGE).collect()
}

/// What the store answered: its code and message if there are any.
fn in_words(error: &Error) -> String {
    let text = innermost(error);
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</").map_or(rest, |(value, _)| value))
    };
    let status = text.split_once("status code: ").map(|(_, rest)| rest.split(':').next().unwrap_or(rest));
    match (status, element("Code")) {
        (Some(status), Some(code)) => {
            format!("the store answered {status}, {code}: {}", element("Message").unwrap_or_default())
        }
        _ => text,
    }
}
