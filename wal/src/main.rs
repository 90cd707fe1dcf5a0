//! One program under two names: `barman-cloud-wal-archive` and `barman-cloud-wal-restore` are links to it.

use std::io::Write as _;
use std::process::ExitCode;

use barman_cloud_wal::command::Program;
use barman_cloud_wal::stop::{Code, Stop};
use barman_cloud_wal::{Environment, handover, run};

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let called = args.next().unwrap_or_default();
    let Some(program) = Program::called(&called) else {
        return fail(Code::Input, "call this program as barman-cloud-wal-archive or barman-cloud-wal-restore");
    };
    let raw: Vec<_> = args.collect();
    // Of an argument or a variable that is no text, barman makes what it can.
    let texts: Option<Vec<String>> = raw.iter().map(|arg| arg.to_str().map(str::to_owned)).collect();
    let env: Environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let outcome = match &texts {
        Some(args) => run(program, args, &env),
        None => Err(Stop::Handover("an argument is not UTF-8".into())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Failed { code, message }) => fail(code, &message),
        // Comes back only if there is nobody to hand over to.
        Err(Stop::Handover(reason)) => fail(Code::General, &handover::hand_over(program, &raw, &reason)),
    }
}

fn fail(code: Code, message: &str) -> ExitCode {
    // With nobody to read it the exit code still tells.
    let _ = writeln!(std::io::stderr(), "ERROR: {message}");
    ExitCode::from(code as u8)
}
