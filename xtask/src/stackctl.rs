//! The program itself, as the developer tasks build and start it.

use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::Result;

use crate::compile;

/// How it is compiled, and what has been: once per run is enough.
#[derive(Debug)]
pub struct Stackctl {
    release: bool,
    built: Mutex<Option<PathBuf>>,
}

/// As it is released.
pub static RELEASE: Stackctl = Stackctl { release: true, built: Mutex::new(None) };
/// As tests use it: where those have been compiled, it is there.
pub static DEBUG: Stackctl = Stackctl { release: false, built: Mutex::new(None) };

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
        let path = compile::program("stackctl", self.release)?;
        *built = Some(path.clone());
        Ok(path)
    }
}
