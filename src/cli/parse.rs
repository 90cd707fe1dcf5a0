//! From this process's arguments and environment to a [`Cli`].

use clap::{ArgMatches, CommandFactory, Error, FromArgMatches, error::ErrorKind, parser::ValueSource};

use super::Cli;

impl Cli {
    /// The command line of this process. A variable that is set and empty counts as not set, as scripts mean it. A
    /// `--profile` is not overruled by a context that a variable or the configuration file names: what is said nearer to
    /// the command wins.
    ///
    /// # Errors
    /// Clap's: a usage error (exit code 2), or the text of `--help` and `--version` (exit code 0).
    pub fn from_process() -> Result<Cli, Error> {
        Cli::from_arguments(std::env::args_os(), |name| std::env::var_os(name).is_some_and(|value| value.is_empty()))
    }

    fn from_arguments<A>(
        arguments: impl IntoIterator<Item = A>,
        is_empty: impl Fn(&std::ffi::OsStr) -> bool,
    ) -> Result<Cli, Error>
    where
        A: Into<std::ffi::OsString> + Clone,
    {
        let mut command = without_variables(Cli::command(), &is_empty);
        let matches = command.try_get_matches_from_mut(arguments)?;
        let mut cli = Cli::from_arg_matches(&matches)?;
        match (source(&matches, "profile"), source(&matches, "context")) {
            (Some(ValueSource::CommandLine), Some(ValueSource::CommandLine)) => {
                let text = "--profile names a minikube cluster that stackctl makes, --context one that there is already: \
                            give one of them";
                return Err(command.error(ErrorKind::ArgumentConflict, text));
            }
            (Some(ValueSource::CommandLine), _) => {
                cli.global.context = None;
                cli.global.profile_wins = true;
            }
            (Some(ValueSource::EnvVariable), None) => cli.global.profile_wins = true,
            _ => {}
        }
        Ok(cli)
    }
}

fn source(matches: &ArgMatches, id: &str) -> Option<ValueSource> {
    matches.value_source(id)
}

/// The command, and those below it, without the environment variables that are set and empty.
fn without_variables(command: clap::Command, is_empty: &impl Fn(&std::ffi::OsStr) -> bool) -> clap::Command {
    let ignore = |arg: clap::Arg| {
        let ignored = arg.get_env().is_some_and(is_empty);
        if ignored { arg.env(None::<&'static str>) } else { arg }
    };
    command.mut_args(ignore).mut_subcommands(|below| without_variables(below, is_empty))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, Error> {
        Cli::from_arguments(std::iter::once("stackctl").chain(arguments.iter().copied()), |_| false)
    }

    #[test]
    fn a_profile_given_as_a_flag_is_the_target() {
        for arguments in [["down", "--profile", "scratch"], ["--profile", "scratch", "down"]] {
            let cli = parse(&arguments).unwrap();
            assert!(cli.global.profile_wins && cli.global.context.is_none(), "{arguments:?}");
        }
        assert!(!parse(&["down"]).unwrap().global.profile_wins);
        assert!(!parse(&["down", "--context", "prod"]).unwrap().global.profile_wins);
    }

    #[test]
    fn a_profile_and_a_context_are_refused_together() {
        let error = parse(&["down", "--profile", "scratch", "--context", "prod"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("give one of them"), "{error}");
    }

    #[test]
    fn every_variable_is_ignored_when_it_is_empty() {
        fn variables(command: &clap::Command) -> usize {
            let own = command.get_arguments().filter(|arg| arg.get_env().is_some()).count();
            own + command.get_subcommands().map(variables).sum::<usize>()
        }
        let none_is_left = without_variables(Cli::command(), &|_| true);
        assert!(variables(&Cli::command()) >= 17);
        assert_eq!(variables(&none_is_left), 0);
    }
}
