//! What can be chosen of a stack: by flags and variables, in the configuration file, or by an earlier `up`.

use std::path::PathBuf;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Options;
use crate::{
    cli::{Extra, Optional, Size},
    error::{Result, usage},
};

/// The choices that were made; what is `None` was left to others, at last to the default. The names are those of the
/// flags, and are kept in records: they stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Choices {
    pub bundle: Option<PathBuf>,
    pub registry: Option<String>,
    pub image_mirror: Option<String>,
    pub pull_secret: Option<String>,
    pub priority_class: Option<String>,
    pub size: Option<Size>,
    pub instances: Option<u32>,
    pub storage: Option<String>,
    pub storage_class: Option<String>,
    pub backup_s3: Option<String>,
    pub backup_s3_region: Option<String>,
    pub backup_s3_ca: Option<String>,
    pub backup_storage: Option<String>,
    pub backup_keep: Option<String>,
    pub backup_schedule: Option<String>,
    pub host: Option<String>,
    pub ingress_class: Option<String>,
    pub gateway: Option<String>,
    pub tls_secret: Option<String>,
    pub tls_issuer: Option<String>,
    pub trusted_proxies: Option<String>,
    pub nodes: Option<u32>,
    pub cpus: Option<u32>,
    pub memory: Option<String>,
    pub without: Option<Vec<Optional>>,
    pub with: Option<Vec<Extra>>,
}

/// The choice of a bucket; those that are about it begin with its name.
const BUCKET: &str = "backup-s3";
/// The choices that are about the address of the app, and of the choice of a host.
const OF_HOST: [&str; 5] = ["ingress-class", "gateway", "tls-secret", "tls-issuer", "trusted-proxies"];
/// Choices of which one takes the place of the others.
const INSTEAD: [(&str, &[&str]); 4] = [
    ("gateway", &["ingress-class", "tls-secret", "tls-issuer"]),
    ("ingress-class", &["gateway"]),
    ("tls-secret", &["gateway", "tls-issuer"]),
    ("tls-issuer", &["gateway", "tls-secret"]),
];

/// Choices by their names.
pub(super) type Named = Map<String, Value>;

impl Choices {
    /// The choices of a command's flags and variables.
    ///
    /// # Errors
    /// A bundle whose path is not UTF-8, or cannot be made absolute.
    pub fn of_flags(options: &Options) -> Result<Choices> {
        let up = options.up;
        let stack = up.map(|up| &up.stack).or(options.stack);
        let bundle = stack.map(|stack| &stack.source).or(options.source).and_then(|source| source.bundle.as_ref());
        let bundle = match bundle {
            None => None,
            Some(path) if path.to_str().is_none() => {
                return Err(usage(format!("the path of the bundle {} is not UTF-8", path.display())).into());
            }
            // Another command is given from another folder.
            Some(path) => Some(std::path::absolute(path).with_context(|| format!("cannot use {}", path.display()))?),
        };
        let mut choices = Choices { bundle, ..Choices::default() };
        if let Some(stack) = stack.cloned() {
            choices.registry = stack.registry;
            choices.image_mirror = stack.image_mirror;
            choices.pull_secret = stack.pull_secret;
            choices.priority_class = stack.priority_class;
            choices.size = stack.size;
            choices.instances = stack.instances;
            choices.storage = stack.storage;
            choices.storage_class = stack.storage_class;
            choices.backup_s3 = stack.backup_s3;
            choices.backup_s3_region = stack.backup_s3_region;
            choices.backup_s3_ca = stack.backup_s3_ca;
            choices.backup_storage = stack.backup_storage;
            choices.backup_keep = stack.backup_keep;
            choices.backup_schedule = stack.backup_schedule;
            choices.host = stack.host;
            choices.ingress_class = stack.ingress_class;
            choices.gateway = stack.gateway;
            choices.tls_secret = stack.tls_secret;
            choices.tls_issuer = stack.tls_issuer;
            choices.trusted_proxies = stack.trusted_proxies;
            choices.without = Some(stack.without).filter(|parts| !parts.is_empty());
            choices.with = Some(stack.with).filter(|extras| !extras.is_empty());
        }
        if let Some(up) = up {
            choices.nodes = up.nodes;
            choices.cpus = up.cpus;
            choices.memory.clone_from(&up.memory);
        }
        Ok(choices)
    }

    /// The choices that were made, by name.
    ///
    /// # Errors
    /// A path that is not UTF-8.
    pub fn named(&self) -> Result<Named> {
        let Value::Object(mut named) = serde_json::to_value(self).context("a choice cannot be written as text")? else {
            return Ok(Named::new());
        };
        named.retain(|_, value| !value.is_null());
        Ok(named)
    }

    /// The choices with these names; names that nobody knows are passed over.
    ///
    /// # Errors
    /// A value that its choice cannot have.
    pub fn of_named(named: Named) -> Result<Choices> {
        Ok(serde_json::from_value(Value::Object(named))?)
    }
}

/// What of `lower` still holds below `upper`: what it did not choose itself. Asked for a store in the cluster, or for
/// another bucket, nothing is left of the bucket below.
pub(super) fn below(upper: &Named, lower: &Named) -> Named {
    let another = match upper.get(BUCKET) {
        Some(asked) => lower.get(BUCKET) != Some(asked),
        None => upper.contains_key("backup-storage"),
    };
    let replaces = |(choice, others): &(&str, &[&str]), name: &String| {
        upper.contains_key(*choice) && others.contains(&name.as_str())
    };
    let is_overruled = |name: &String| {
        upper.contains_key(name)
            || another && name.starts_with(BUCKET)
            || INSTEAD.iter().any(|choice| replaces(choice, name))
    };
    lower.iter().filter(|(name, _)| !is_overruled(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Whether a choice goes where these are forgotten: it is one of them, or is about one.
pub(super) fn is_forgotten(forgotten: &[String], name: &str) -> bool {
    forgotten.iter().any(|choice| {
        choice == name || choice == BUCKET && name.starts_with(BUCKET) || choice == "host" && OF_HOST.contains(&name)
    })
}

/// Both together; where both chose, the upper one counts.
pub(super) fn stacked(upper: &Named, lower: &Named) -> Named {
    let mut both = below(upper, lower);
    both.extend(upper.clone());
    both
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use serde_json::json;

    use super::*;
    use crate::cli::{Cli, FORGETTABLE};

    fn named(value: Value) -> Named {
        let Value::Object(named) = value else { panic!("no object: {value}") };
        named
    }

    #[test]
    fn a_choice_is_named_like_the_flag_of_up_that_makes_it_and_can_be_forgotten() {
        let Value::Object(all) = serde_json::to_value(Choices::default()).unwrap() else { unreachable!() };
        let command = Cli::command();
        let up = command.find_subcommand("up").unwrap();
        for name in all.keys() {
            assert!(up.get_arguments().any(|arg| arg.get_long() == Some(name)), "--{name}");
            assert!(FORGETTABLE.contains(&name.as_str()), "--forget {name}");
        }
        assert_eq!(FORGETTABLE.len(), all.len() + 1, "and all of them");
    }

    #[test]
    fn the_upper_choice_counts_and_the_others_stay() {
        let (upper, lower) =
            (named(json!({"instances": 5, "bundle": "/a"})), named(json!({"instances": 7, "storage": "2Gi"})));
        assert_eq!(below(&upper, &lower), named(json!({"storage": "2Gi"})));
        assert_eq!(stacked(&upper, &lower), named(json!({"bundle": "/a", "instances": 5, "storage": "2Gi"})));
    }

    #[test]
    fn what_was_said_of_a_bucket_goes_with_the_bucket() {
        let lower = named(json!({"backup-s3": "http://a,b,c", "backup-s3-region": "eu-1", "backup-keep": "2w"}));
        let keep = named(json!({"backup-keep": "2w"}));
        assert_eq!(below(&named(json!({"backup-storage": "9Gi"})), &lower), keep);
        assert_eq!(below(&named(json!({"backup-s3": "http://d,e,f"})), &lower), keep);
        let same = below(&named(json!({"backup-s3": "http://a,b,c"})), &lower);
        assert_eq!(same, named(json!({"backup-s3-region": "eu-1", "backup-keep": "2w"})));
    }

    #[test]
    fn a_way_to_the_app_replaces_the_other_and_goes_with_the_host() {
        let lower = named(json!({"host": "a.example.com", "ingress-class": "x", "tls-secret": "s"}));
        assert_eq!(below(&named(json!({"gateway": "n/g"})), &lower), named(json!({"host": "a.example.com"})));
        let issued = below(&named(json!({"tls-issuer": "i"})), &lower);
        assert_eq!(issued, named(json!({"host": "a.example.com", "ingress-class": "x"})));
        assert_eq!(below(&named(json!({"ingress-class": "y"})), &named(json!({"gateway": "n/g"}))), Named::new());
        let left = |forgotten: &str| {
            let forgotten = [forgotten.to_owned()];
            lower.keys().filter(|name| !is_forgotten(&forgotten, name)).cloned().collect::<Vec<_>>()
        };
        assert!(left("host").is_empty());
        assert_eq!(left("tls-secret"), ["host", "ingress-class"]);
    }

    #[test]
    fn choices_are_read_as_they_were_written_and_unknown_ones_are_passed_over() {
        let choices = Choices {
            instances: Some(5),
            without: Some(vec![Optional::Monitoring]),
            bundle: Some("/b".into()),
            ..Choices::default()
        };
        let mut written = choices.named().unwrap();
        assert_eq!(written, named(json!({"bundle": "/b", "instances": 5, "without": ["monitoring"]})));
        written.insert("of-a-version-to-come".into(), json!(true));
        assert_eq!(Choices::of_named(written).unwrap(), choices);
        assert!(Choices::of_named(named(json!({"instances": "many"}))).is_err());
    }
}
