//! The `stackctl` binary: installs the TLS provider, runs, and maps the outcome to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    // One provider for the whole process; a second installation is the only way to fail, and then one is there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            stackctl::ui::err(&format!("error: cannot start: {error}"));
            return ExitCode::from(1);
        }
    };
    let code = runtime.block_on(stackctl::run());
    // A blocked read of a closed terminal must not hold the process.
    runtime.shutdown_background();
    ExitCode::from(code)
}
