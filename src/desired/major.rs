//! A database keeps its major version: another one's files cannot be read, and an upgrade is nothing that a change of
//! images does by the way.

use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::kube::{cnpg::ClusterStatus, operator::Version};

/// The image that a running database keeps, as the manifest has one of another major version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptImage {
    /// The image that it runs.
    pub image: String,
    /// The major version that it runs.
    pub major: u64,
    /// The major version of the manifest's image.
    pub offered: u64,
}

impl KeptImage {
    /// Compares the manifest of a database with the one that is `live`.
    pub fn of(manifest: &DynamicObject, live: &DynamicObject) -> Option<KeptImage> {
        let status = ClusterStatus::of(live);
        let image = live.data.pointer("/spec/imageName").and_then(Value::as_str).unwrap_or(&status.image);
        let of_image = |image: &str| Version::of_image(image).map(|version| version.0);
        let major = status.major.or_else(|| of_image(image))?;
        let offered = of_image(manifest.data.pointer("/spec/imageName")?.as_str()?)?;
        (major != offered && !image.is_empty()).then(|| KeptImage { image: image.to_owned(), major, offered })
    }

    /// Sets the image in the manifest.
    pub fn put_into(&self, manifest: &mut DynamicObject) {
        manifest.data["spec"]["imageName"] = json!(self.image);
    }

    /// For people.
    pub fn describe(&self) -> String {
        format!(
            "the database stays on PostgreSQL {} ({}), though this stackctl brings {}: a change of the major version is \
             never made by the way",
            self.major, self.image, self.offered
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(image: &str, major: Option<u64>) -> DynamicObject {
        let info = major.map(|major| json!({"image": image, "majorVersion": major}));
        let status = json!({"pgDataImageInfo": info});
        serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": {"imageName": image}, "status": status}))
            .unwrap()
    }

    #[test]
    fn another_major_version_is_not_taken_over_in_either_direction() {
        for (live, major, offered, keeps) in [
            ("local/pg:17.5-ab", Some(17), "pg:18.4-system-trixie", true),
            ("pg:18.4", Some(18), "local/pg:17.5", true),
            ("pg:17.4", None, "pg:18.0", true),
            ("pg:18.3", Some(18), "pg:18.4", false),
            ("pg@sha256:ab", None, "pg:18.4", false),
            ("pg@sha256:ab", Some(17), "pg:18.4", true),
        ] {
            let mut manifest = cluster(offered, None);
            let kept = KeptImage::of(&manifest, &cluster(live, major));
            assert_eq!(kept.is_some(), keeps, "{live} → {offered}");
            if let Some(kept) = kept {
                kept.put_into(&mut manifest);
                assert_eq!(manifest.data["spec"]["imageName"], live);
            }
        }
    }
}
