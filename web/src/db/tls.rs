//! Encryption: the certificates that are trusted, and the expiry of the server's, which nobody else tells the metrics.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use crate::config::{Credentials, Database};
use crate::metrics::Gauge;

/// The TLS connector, where the database is to be reached encrypted. The server's certificate must come from the
/// authority in `ca.crt`, and must carry the host's name, as the operator's certificates carry those of its Services.
/// Its expiry goes into `expiry`, in seconds since 1970.
pub fn connector(database: &Database, expiry: &Arc<Gauge>) -> Result<Option<MakeRustlsConnect>> {
    let Credentials::Folder(folder) = &database.credentials else { return Ok(None) };
    if !database.tls {
        return Ok(None);
    }
    let path = folder.join("ca.crt");
    let pem = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.with_context(|| format!("{} is not PEM", path.display()))?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = ExpiryVerifier::new(roots, Arc::clone(&provider), Arc::clone(expiry))
        .with_context(|| format!("{} has no authority's certificate", path.display()))?;
    // "Dangerous" is any verifier that is not the library's own; this one leaves the decision to that.
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Some(MakeRustlsConnect::new(config)))
}

/// The library's own verification, which notes when a certificate that holds expires.
#[derive(Debug)]
struct ExpiryVerifier {
    verifier: Arc<WebPkiServerVerifier>,
    expiry: Arc<Gauge>,
}

impl ExpiryVerifier {
    fn new(roots: RootCertStore, provider: Arc<CryptoProvider>, expiry: Arc<Gauge>) -> Result<Arc<Self>> {
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        Ok(Arc::new(Self { verifier, expiry }))
    }
}

/// The expiry of a certificate, in seconds since 1970.
fn expiry(certificate: &CertificateDer<'_>) -> Option<i64> {
    let certificate = Certificate::from_der(certificate).ok()?;
    i64::try_from(certificate.tbs_certificate.validity.not_after.to_unix_duration().as_secs()).ok()
}

impl ServerCertVerifier for ExpiryVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        if let Some(seconds) = expiry(end_entity) {
            self.expiry.set(seconds);
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
