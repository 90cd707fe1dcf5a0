//! The embedded manifests, by part.

use super::{ASSETS, Part, monitoring};
use crate::error::Result;
use anyhow::Context as _;
use kube::core::DynamicObject;

impl Part {
    /// The embedded manifests, file by file in the order of their names.
    ///
    /// # Errors
    /// Only if an embedded file is broken, which a unit test rules out.
    pub fn embedded(self) -> Result<Vec<DynamicObject>> {
        let mut objects = Vec::new();
        let Some(dir) = ASSETS.get_dir(self.name()) else { return Ok(objects) };
        let mut files: Vec<_> = dir.files().collect();
        files.sort_by_key(|file| file.path());
        for file in files {
            let name = file.path().display().to_string();
            let text = file.contents_utf8().with_context(|| format!("{name} is not UTF-8"))?;
            objects.extend(parse(text, &name)?);
        }
        if self == Part::Monitoring {
            objects.extend(monitoring::generated()?);
        }
        Ok(objects)
    }
}

/// Parses a file of one or more YAML documents; `name` is for errors.
///
/// # Errors
/// Broken YAML, or a document that is no Kubernetes object.
pub fn parse(text: &str, name: &str) -> Result<Vec<DynamicObject>> {
    let documents: Vec<serde_json::Value> =
        serde_saphyr::from_multiple(text).map_err(|error| anyhow::anyhow!("{name} is not valid YAML: {error}"))?;
    let mut objects = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        let object: DynamicObject =
            serde_json::from_value(document).with_context(|| format!("{name} holds something that is no object"))?;
        if object.types.is_none() || object.metadata.name.is_none() {
            anyhow::bail!("{name} holds an object without apiVersion, kind or name");
        }
        objects.push(object);
    }
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_manifest_parses() {
        for part in Part::ALL.into_iter().filter(|part| !matches!(part, Part::Operator | Part::Restored)) {
            assert!(!part.embedded().unwrap().is_empty(), "{part} is empty");
        }
    }

    #[test]
    fn a_document_that_is_no_object_is_refused() {
        for text in ["a: 1", "- 1", "kind: Service\napiVersion: v1\nmetadata: {}", "a: [", "kind: A\nkind: B"] {
            let error = parse(text, "x.yaml").unwrap_err();
            assert!(error.to_string().contains("x.yaml"), "{error}");
        }
    }

    #[test]
    fn empty_documents_are_passed_over() {
        let objects =
            parse("---\n# nothing\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n", "x").unwrap();
        assert_eq!(objects.len(), 1);
    }
}
