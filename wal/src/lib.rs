//! `barman-cloud-wal-archive` and `barman-cloud-wal-restore`: barman's own take a third of a second of CPU for every
//! question, nearly all of it to start; a failover asks several, one after the other. These take a hundredth.
//!
//! The arguments, the exit codes and the layout in the store are barman's, so that either reads what the other wrote.
//! What is not understood here down to the last option is handed to barman's own program ([`handover`]), which is the
//! next one of the same name in `PATH`.
//!
//! - [`command`]: the command line
//! - [`layout`]: names of WAL files, and where they are kept
//! - [`compression`]: what an archived file is wrapped in
//! - [`segment`]: whether a WAL segment is whole
//! - [`http`]: connections that give up in time, and [`trust`]: whose certificates are believed
//! - [`store`]: the bucket
//! - [`archive`] and [`restore`]: the two programs

pub mod archive;
pub mod command;
pub mod compression;
pub mod handover;
pub mod http;
pub mod layout;
pub mod restore;
pub mod segment;
pub mod stop;
pub mod store;
pub mod trust;

use std::collections::BTreeMap;
use std::time::Duration;

use command::{Command, Program};
use stop::{Code, Result, Stop};

/// The environment: names and values.
pub type Environment = BTreeMap<String, String>;

/// Longer than any segment takes on a line that is worth archiving over; PostgreSQL asks again.
const WHOLE_RUN: Duration = Duration::from_secs(600);

/// Does what the command line asks.
///
/// # Errors
/// [`Stop`]: what went wrong, with the exit code, or why barman's own program is to do it.
pub fn run(program: Program, args: &[String], env: &Environment) -> Result<()> {
    let command = Command::parse(program, args)?;
    for variable in ["BARMAN_HOOK", "BARMAN_PHASE"] {
        if env.contains_key(variable) {
            return Err(Stop::Handover(format!("{variable} is set")));
        }
    }
    // One thread waits; names are looked up on another one, which nobody waits for at the end.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Stop::general(format!("cannot start: {error}")))?;
    let done = runtime.block_on(async {
        let work = async {
            match program {
                Program::Archive => archive::archive(&command, env).await,
                Program::Restore => restore::restore(&command, env).await,
            }
        };
        tokio::time::timeout(WHOLE_RUN, work).await.unwrap_or_else(|_| {
            Err(Stop::Failed { code: Code::Network, message: format!("not done within {WHOLE_RUN:?}: given up") })
        })
    });
    runtime.shutdown_background();
    done
}
