//! Whose certificates are believed: those of a bundle where one is named, else this machine's.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::Environment;

/// The bundle that the environment names for a store, in place of this machine's certificates.
pub fn bundle<'a>(env: &'a Environment, variables: &[&str]) -> Option<&'a str> {
    variables.iter().find_map(|name| env.get(*name)).map(String::as_str).filter(|path| !path.is_empty())
}

/// The settings of every TLS connection.
///
/// # Errors
/// In words, when there is nobody to trust.
pub fn settings(bundle: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let found = match bundle {
        Some(file) => {
            let cannot =
                |error: &dyn std::fmt::Display| format!("cannot read certificates in {}: {error}", file.display());
            let all = CertificateDer::pem_file_iter(file).map_err(|error| cannot(&error))?;
            all.collect::<Result<Vec<_>, _>>().map_err(|error| cannot(&error))?
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (taken, _) = roots.add_parsable_certificates(found);
    if taken == 0 {
        return Err(match bundle {
            Some(file) => format!("{} has no certificate", file.display()),
            None => "this machine has no trusted certificates".into(),
        });
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| format!("cannot set TLS up: {error}"))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
