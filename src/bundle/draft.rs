//! A bundle's folder while it is being filled.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tempfile::TempDir;

use super::{BundledComponent, ImageFile, Index, ListedFile, SCHEMA, cannot_write, platform, sha256_file};
use crate::error::{Result, failed};

/// A bundle that is being made, beside the place where it is going to be. Dropped before it is finished, it is gone.
#[derive(Debug)]
pub struct BundleDraft {
    folder: TempDir,
    to: PathBuf,
    index: Index,
}

impl BundleDraft {
    /// Starts with nothing; `to` must not be there, or be empty.
    ///
    /// # Errors
    /// Something is there, or the file system refuses.
    pub fn new(to: &Path, kubernetes: &str) -> Result<BundleDraft> {
        let to = std::path::absolute(to).with_context(|| format!("cannot use {}", to.display()))?;
        if fs::read_dir(&to).is_ok_and(|mut entries| entries.next().is_some()) || to.is_file() {
            return Err(failed(format!("{} is there already", to.display()))
                .remedy("name a folder that is not there, or remove this one")
                .into());
        }
        let parent = to.parent().unwrap_or(&to);
        fs::create_dir_all(parent).map_err(|error| cannot_write(parent, &error))?;
        // Beside it, so that it can be renamed.
        let folder = tempfile::Builder::new().prefix(".stackctl-bundle-").tempdir_in(parent);
        let folder = folder.map_err(|error| cannot_write(parent, &error))?;
        let index = Index {
            schema: SCHEMA,
            platform: platform(),
            kubernetes: kubernetes.to_owned(),
            components: Vec::new(),
            files: Vec::new(),
            engine_images: Vec::new(),
            stack_images: Vec::new(),
            web_image: None,
            sidecar_image: None,
            preload: None,
            kubernetes_binaries: None,
        };
        Ok(BundleDraft { folder, to, index })
    }

    /// Where the file `path` of the bundle is to be written; its folder is made.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn place(&self, path: &str) -> Result<PathBuf> {
        let place = self.folder.path().join(path);
        let parent = place.parent().unwrap_or(self.folder.path());
        fs::create_dir_all(parent).map_err(|error| cannot_write(parent, &error))?;
        Ok(place)
    }

    /// Lists the file `path`, which was written.
    ///
    /// # Errors
    /// It is not there.
    pub fn add_file(&mut self, path: &str) -> Result<()> {
        let place = self.folder.path().join(path);
        let size = fs::metadata(&place).with_context(|| format!("cannot read {}", place.display()))?.len();
        self.index.files.push(ListedFile { path: path.to_owned(), sha256: sha256_file(&place)?, size });
        Ok(())
    }

    /// Notes a component.
    pub fn add_component(&mut self, component: BundledComponent) {
        self.index.components.push(component);
    }

    /// Notes the images of upstream's that are in the file `path`.
    pub fn add_stack_images(&mut self, path: &str, images: &[String]) {
        let files = images.iter().map(|image| ImageFile { path: path.to_owned(), image: image.clone() });
        self.index.stack_images.extend(files);
    }

    /// Notes the images that were built: of the web app, and of the backup sidecar.
    pub fn set_built_images(&mut self, web: ImageFile, sidecar: ImageFile) {
        (self.index.web_image, self.index.sidecar_image) = (Some(web), Some(sidecar));
    }

    /// Writes `bundle.json` and puts the folder into its place.
    ///
    /// # Errors
    /// The file system refuses, or something came into its place meanwhile.
    pub fn finish(mut self) -> Result<PathBuf> {
        self.index.files.sort_by(|a, b| a.path.cmp(&b.path));
        let path = self.folder.path().join("bundle.json");
        let text = serde_json::to_string_pretty(&self.index).context("the bundle's index cannot be written as text")?;
        fs::write(&path, text + "\n").map_err(|error| cannot_write(&path, &error))?;
        // A temporary folder is for its owner alone; a bundle is not.
        fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o755))
            .map_err(|error| cannot_write(&self.to, &error))?;
        // The system replaces an empty folder, and no other.
        fs::rename(self.folder.path(), &self.to).map_err(|error| cannot_write(&self.to, &error))?;
        Ok(self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Bundle;

    fn draft(to: &Path) -> BundleDraft {
        let mut draft = BundleDraft::new(to, "v1.35.4").unwrap();
        fs::write(draft.place("images/a.tar").unwrap(), "images").unwrap();
        draft.add_file("images/a.tar").unwrap();
        draft.add_stack_images("images/a.tar", &["x/y:1".into()]);
        let component =
            BundledComponent { name: "y".into(), image: Some("x/y:1".into()), ..BundledComponent::default() };
        draft.add_component(component);
        draft
    }

    #[test]
    fn what_was_made_is_a_bundle_and_what_was_not_finished_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("deep/bundle");
        drop(draft(&to));
        assert_eq!(fs::read_dir(dir.path().join("deep")).unwrap().count(), 0);
        assert_eq!(draft(&to).finish().unwrap(), to);
        let bundle = Bundle::open(&to).unwrap();
        assert_eq!(bundle.image("y").unwrap(), "x/y:1");
        assert_eq!(bundle.stack_images().unwrap()[0].path, "images/a.tar");
        assert_eq!(fs::read_to_string(bundle.verified("images/a.tar").unwrap()).unwrap(), "images");
        assert_eq!(fs::read_dir(dir.path().join("deep")).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_holds_something_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty");
        fs::create_dir(&empty).unwrap();
        draft(&empty).finish().unwrap();
        for there in [empty.clone(), empty.join("bundle.json")] {
            let error = BundleDraft::new(&there, "v1").unwrap_err();
            assert!(error.to_string().contains("is there already"), "{error:#}");
        }
        assert!(Bundle::open(&empty).is_ok());
    }
}
