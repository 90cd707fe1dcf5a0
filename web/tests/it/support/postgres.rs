//! Throw-away PostgreSQL servers, for tests: what fails, fails the test.

use std::ops::Deref;
use std::sync::OnceLock;

/// See [`testbed::postgres::Postgres`].
pub struct Postgres(testbed::postgres::Postgres);

impl Deref for Postgres {
    type Target = testbed::postgres::Postgres;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Postgres {
    /// One for all tests that don't break theirs.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&["fsync=off"]))
    }

    /// A new, empty primary.
    pub fn start(settings: &[&str]) -> Self {
        Self(testbed::postgres::Postgres::start(settings).unwrap_or_else(|e| panic!("{e:#}")))
    }

    /// A new, empty primary that can encrypt.
    pub fn start_encrypted(certificate: &str, key: &str) -> Self {
        Self(testbed::postgres::Postgres::start_encrypted(certificate, key).unwrap_or_else(|e| panic!("{e:#}")))
    }

    /// A standby that follows this primary, under the given name.
    pub fn standby(&self, name: &str) -> Self {
        Self(self.0.standby(name).unwrap())
    }

    /// Makes a database with a name of its own and returns the name.
    pub fn database(&self) -> String {
        self.0.database().unwrap()
    }

    /// The answer to one command, unaligned.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        self.0.psql(database, sql).unwrap()
    }
}
