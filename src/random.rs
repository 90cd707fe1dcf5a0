//! Secrets by chance, from the system's random numbers.

use anyhow::Context as _;

use crate::error::{Result, failed};

/// 32 characters that are safe in every place where an S3 key may stand: RFC 4648's base 32.
pub const BASE32: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// 64 characters that are safe in addresses and shells: RFC 4648's base 64 for URLs.
pub const BASE64URL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A secret of `length` characters of `alphabet`, each as likely as any other. `what` is what it is for, in errors.
///
/// # Errors
/// The machine gives no random numbers.
pub fn secret(what: &str, alphabet: &[u8], length: usize) -> Result<String> {
    debug_assert!(256 % alphabet.len() == 0, "some characters would be more likely than others");
    let mut bytes = vec![0; length];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| failed("this machine gives no random numbers"))
        .with_context(|| format!("cannot make {what}"))?;
    Ok(bytes.iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_long_and_differ() {
        for alphabet in [BASE32, BASE64URL] {
            let (one, two) = (secret("a key", alphabet, 40).unwrap(), secret("a key", alphabet, 40).unwrap());
            assert!(one.len() == 40 && one != two);
            assert!(one.bytes().all(|byte| alphabet.contains(&byte)), "{one}");
        }
    }
}
