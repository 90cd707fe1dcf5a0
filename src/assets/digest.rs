//! What tells two contents apart where a whole SHA-256 is too long: in a tag, or in an annotation.

use sha2::{Digest as _, Sha256};

/// The first 12 hex digits of a hash.
pub fn short_digest(hash: Sha256) -> String {
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
