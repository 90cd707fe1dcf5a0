//! What a release was built from and with, as an in-toto statement with a SLSA provenance. It is data: whoever publishes the
//! release signs it.

use anyhow::Result;
use serde_json::json;

use super::ReleaseSource;
use crate::bundle::digest;
use crate::run::Run;
use crate::workspace;

/// The statement on the archive `subject`, a name and a SHA-256.
pub fn statement(source: &ReleaseSource, target: &str, subject: &(String, String)) -> Result<String> {
    let tool = |name: &str| Run::new(name, 60).dir(&workspace()).args(["--version"]).output();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": subject.0, "digest": {"sha256": subject.1}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "cargo xtask dist",
                "externalParameters": {"target": target, "profile": "dist", "package": "stackctl"},
                "internalParameters": {
                    "rustc": tool("rustc")?, "cargo": tool("cargo")?, "committed": source.committed,
                    "changed": source.is_changed,
                },
                "resolvedDependencies": [
                    {"name": "source", "digest": {"gitCommit": source.commit}},
                    {"name": "Cargo.lock", "digest": {"sha256": digest::file(&workspace().join("Cargo.lock"))?}},
                ],
            },
            "runDetails": {"builder": {"id": "cargo xtask dist"}},
        },
    });
    Ok(format!("{statement:#}\n"))
}
