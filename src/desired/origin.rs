//! What a stack was made by: the version of stackctl, where it took images and manifests from, and every component's
//! version. It is noted with the stack, so that an older stackctl, and another source, are known for what they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    assets,
    context::Context,
    error::{Failure, Result, failed},
    kube::operator::Version,
};

/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What made a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The version of stackctl.
    pub stackctl: String,
    /// Where images and manifests came from, in words.
    pub source: String,
    /// The version of each component, by its name.
    pub components: BTreeMap<String, String>,
}

impl Origin {
    /// What this run makes a stack by.
    ///
    /// # Errors
    /// Only if an embedded file is broken.
    pub fn of(cx: &Context) -> Result<Origin> {
        let of_bundle = |name: &str| Some(cx.bundle.as_ref()?.component(name)?.version.clone());
        let pinned = assets::components()?.components;
        let components = pinned.into_iter().filter(|one| one.image.is_some()).map(|one| {
            let version = of_bundle(&one.name).unwrap_or(one.version);
            (one.name, version)
        });
        let source = match (&cx.config.bundle, &cx.config.image_mirror) {
            (Some(folder), _) => format!("the bundle {}", folder.display()),
            (None, Some(mirror)) => format!("the mirror {mirror}"),
            (None, None) => "the images' own registries".into(),
        };
        Ok(Origin { stackctl: VERSION.into(), source, components: components.collect() })
    }

    /// The note of a stack; `None` for one whose version made none.
    pub fn parse(note: &str) -> Option<Origin> {
        serde_json::from_str(note).ok()
    }

    /// The note.
    ///
    /// # Errors
    /// Never in practice: only if it could not be written as JSON.
    pub fn note(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// Why a stack that `there` has made is not to be changed by this one: it is older.
    pub fn too_old_for(&self, there: &Origin) -> Option<Failure> {
        let (ours, theirs) = (Version::parse(&self.stackctl)?, Version::parse(&there.stackctl)?);
        (ours < theirs).then(|| {
            failed(format!(
                "the stack was made by stackctl {theirs}, and this is {ours}, which does not know what that one made; \
                 nothing was changed"
            ))
            .remedy(format!("use stackctl {theirs} or newer"))
            .remedy("or go back to this version's manifests on purpose: stackctl up --allow-downgrade")
        })
    }

    /// The components that come in another version than those that `there` has brought, e.g. `versitygw 1.7.0 → 1.8.0`.
    pub fn changes_from(&self, there: &Origin) -> Vec<String> {
        let changed = self.components.iter().filter_map(|(name, version)| {
            let before = there.components.get(name).filter(|before| *before != version)?;
            Some(format!("{name} {before} → {version}"))
        });
        changed.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(stackctl: &str, versitygw: &str) -> Origin {
        let components = BTreeMap::from([("versitygw".to_owned(), versitygw.to_owned())]);
        Origin { stackctl: stackctl.into(), source: "the bundle b".into(), components }
    }

    #[test]
    fn an_older_program_leaves_a_newer_stack_alone() {
        let ours = origin("0.2.0", "1.8.0");
        for (there, is_refused) in [("0.2.0", false), ("0.1.9", false), ("0.2.1", true), ("1.0.0", true)] {
            assert_eq!(ours.too_old_for(&origin(there, "1.8.0")).is_some(), is_refused, "{there}");
        }
    }

    #[test]
    fn what_changes_is_told_and_a_note_is_read_as_it_was_written() {
        let (before, now) = (origin("0.1.0", "1.7.0"), origin("0.1.0", "1.8.0"));
        assert_eq!(now.changes_from(&before), ["versitygw 1.7.0 → 1.8.0"]);
        assert_eq!(now.changes_from(&now), [""; 0]);
        assert_eq!(Origin::parse(&now.note().unwrap()), Some(now));
        assert_eq!(Origin::parse("of a version to come"), None);
    }
}
