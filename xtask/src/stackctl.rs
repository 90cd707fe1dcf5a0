//! The program itself, as the developer tasks build and start it.

use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::Result;

use crate::compile::{self, Profile};

/// How it is compiled, and what has been: once per run is enough.
#[derive(Debug)]
pub struct Stackctl {
    profile: Profile,
    built: Mutex<Option<PathBuf>>,
}

/// The program as it is released.
pub static RELEASE: Stackctl = Stackctl { profile: Profile::Dist, built: Mutex::new(None) };
/// The program as tests use it: where those have been compiled, it is there.
pub static DEBUG: Stackctl = Stackctl { profile: Profile::Dev, built: Mutex::new(None) };

impl Stackctl {
    /// Builds it, once per run, and returns where it is.
    ///
    /// # Errors
    /// When it does not compile.
    pub fn build(&self) -> Result<PathBuf> {
        let mut built = self.built.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(path) = &*built {
            return Ok(path.clone());
        }
        let path = compile::program("stackctl", self.profile)?;
        *built = Some(path.clone());
        Ok(path)
    }
}
