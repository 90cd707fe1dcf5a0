//! The connection to the database, encrypted: only a server that the authority vouches for is believed.

use std::path::Path;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

use crate::support::app::App;
use crate::support::eventually;
use crate::support::postgres::Postgres;

/// 1 January 2033, UTC.
const EXPIRY: f64 = 1_988_150_400.0;

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Must be in no log, whatever happens.
const PASSWORD: &str = "not-to-be-told";

/// A server with a certificate for `localhost` from this authority.
fn server(authority: &CertifiedIssuer<'static, KeyPair>) -> Postgres {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = date_time_ymd(2033, 1, 1);
    let certificate = params.signed_by(&key, authority).unwrap();
    Postgres::start_encrypted(&certificate.pem(), &key.serialize_pem())
}

/// A folder as Kubernetes mounts the operator's secrets.
fn credentials(authority: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("username", "app"), ("password", PASSWORD), ("dbname", "postgres"), ("ca.crt", authority)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn settings<'a>(host: &'a str, credentials: &'a Path) -> [(&'a str, &'a str); 3] {
    [("DB_HOST", host), ("DB_SSLMODE", "verify-full"), ("DB_CREDENTIALS_DIR", credentials.to_str().unwrap())]
}

#[test]
fn a_server_with_the_authoritys_certificate_is_believed_and_its_expiry_told() {
    let authority = authority();
    let postgres = server(&authority);
    crate::support::app::migrate(postgres.port, "postgres");
    let credentials = credentials(&authority.pem());
    let app = App::with(postgres.port, "postgres", &settings("localhost", credentials.path()));
    assert_eq!(app.get("/api/v1/users").status, 200);
    let plain = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                 WHERE application_name = 'user-app' AND NOT ssl";
    assert_eq!(postgres.psql("postgres", plain), "0");
    assert_eq!(app.metric("user_app_db_certificate_expiry_timestamp_seconds"), EXPIRY);
    assert!(!app.logged().contains(PASSWORD));
}

#[test]
fn another_authoritys_certificate_and_another_hosts_are_refused() {
    let authority = authority();
    let postgres = server(&authority);
    crate::support::app::migrate(postgres.port, "postgres");
    let (right, wrong) = (credentials(&authority.pem()), credentials(&self::authority().pem()));
    for (host, credentials) in [("localhost", &wrong), ("127.0.0.1", &right)] {
        let app = App::unready(postgres.port, "postgres", &settings(host, credentials.path()));
        let told = || app.logged().contains("certificate");
        eventually("the log says why", Duration::from_secs(5), told);
        assert_eq!(app.get("/readyz").status, 503, "{host}: {}", app.logged());
        assert!(!app.logged().contains(PASSWORD));
    }
}
