//! `docs/reference.md` from the command line's own definitions.

use std::{fmt::Write as _, time::Duration};

use clap::{Arg, ArgAction, Command, CommandFactory};
use stackctl::{
    cli::{Cli, Global},
    config::{Config, Options},
    error::{self, Kind},
    ui::{Event, PhaseId, State},
};

#[test]
fn the_reference_is_made_from_the_command_line() {
    super::check("docs/reference.md", &reference());
}

fn reference() -> String {
    let mut root = Cli::command();
    root.build();
    let mut page = String::from(
        "# Reference\n\n<!-- Made by `cargo xtask docs` from the definitions in src/: not to be changed by hand. -->\n\n\
         Flags come before `STACKCTL_*` variables, variables before the configuration file, and that before defaults. A \
         variable that is set and empty counts as not set.\n",
    );
    page.push_str("\n## Options of every command\n\n");
    let global: Vec<&Arg> = root.get_arguments().filter(|arg| arg.is_global_set()).collect();
    page.push_str(&options(&global));
    page.push_str("\n## Commands\n");
    for command in root.get_subcommands().filter(|command| command.get_name() != "help") {
        describe(&mut page, command, "stackctl");
    }
    page.push_str("\n## Configuration file\n\n");
    page.push_str("`~/.config/stackctl/config.toml` (TOML; `--config` names another). An unknown key is refused.\n\n");
    page.push_str("| key | as the option |\n|---|---|\n");
    for key in configuration_keys("").iter().filter(|key| *key != "sizes") {
        writeln!(page, "| `{key}` | `--{key}` |").unwrap();
    }
    let sizes: Vec<String> = configuration_keys("[sizes]\n").iter().map(|key| format!("`{key}`")).collect();
    writeln!(page, "\nThe table `[sizes]` has {} ([what they are](operations.md#sizes)).", sizes.join(", ")).unwrap();
    page.push_str("\n## Exit codes\n\n| code | name in JSON | when |\n|---|---|---|\n");
    page.push_str("| 0 | | done |\n");
    for (kind, when) in KINDS {
        writeln!(page, "| {} | `{}` | {when} |", kind.exit_code(), kind.name()).unwrap();
    }
    page.push_str("\n## Events\n\nWith `-o json` commands that take time print a line for each event; an example of each:\n\n```json\n");
    for event in events() {
        writeln!(page, "{}", serde_json::to_string(&event).unwrap()).unwrap();
    }
    page.push_str("```\n\nA command that fails prints a last line:\n\n```json\n");
    let kind = Kind::Timeout;
    let line = serde_json::json!({"event": "error", "kind": kind.name(), "exit_code": kind.exit_code(),
        "message": "what happened, to what, and why", "remedies": ["what to do about it"]});
    writeln!(page, "{line}\n```").unwrap();
    page
}

const KINDS: [(Kind, &str); 6] = [
    (Kind::Failed, "something went wrong"),
    (Kind::Usage, "the command line or the configuration is wrong"),
    (Kind::Missing, "something is missing on this machine"),
    (Kind::Verdict, "a drill's verdict is \"fail\""),
    (Kind::Timeout, "a deadline passed"),
    (Kind::Interrupted, "the user interrupted"),
];

fn describe(page: &mut String, command: &Command, above: &str) {
    let name = format!("{above} {}", command.get_name());
    let level = "#".repeat(name.split(' ').count() + 1);
    writeln!(page, "\n{level} `{name}`\n").unwrap();
    if let Some(about) = command.get_about() {
        writeln!(page, "{}.\n", about.to_string().trim_end_matches('.')).unwrap();
    }
    let own: Vec<&Arg> = command.get_arguments().filter(|arg| !arg.is_global_set() && !is_built_in(arg)).collect();
    if !own.is_empty() {
        page.push_str(&options(&own));
    }
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        describe(page, below, &name);
    }
}

fn is_built_in(arg: &Arg) -> bool {
    matches!(arg.get_id().as_str(), "help" | "version")
}

fn options(args: &[&Arg]) -> String {
    let mut table = String::from("| option | variable | what it does |\n|---|---|---|\n");
    for arg in args.iter().filter(|arg| !arg.is_hide_set()) {
        let value = arg.get_value_names().map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
        let value = value.filter(|_| matches!(arg.get_action(), ArgAction::Set | ArgAction::Append));
        let value = value.map(|names| names.join(" ")).unwrap_or_default();
        let mut names = Vec::new();
        names.extend(arg.get_short().map(|short| format!("-{short}")));
        names.extend(arg.get_long().map(|long| format!("--{long}")));
        let mut option = names.join(", ");
        if option.is_empty() {
            option = format!("[{value}]");
        } else if !value.is_empty() {
            option = format!("{option} {value}");
        }
        let variable = arg.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
        let mut what = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let possible: Vec<String> = arg
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set() && !matches!(value.get_name(), "true" | "false"))
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if !possible.is_empty() {
            what = format!("{}.", what.trim_end_matches('.'));
            write!(what, " One of {}.", possible.join(", ")).unwrap();
        }
        let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        if !defaults.is_empty() && matches!(arg.get_action(), ArgAction::Set) {
            write!(what, " [default: {}]", defaults.join(", ")).unwrap();
        }
        writeln!(table, "| `{option}` | {variable} | {} |", what.replace('|', "\\|").replace('\n', " ")).unwrap();
    }
    table
}

/// The keys that the file, or a table of it, may have, as the reader of the file tells them when it refuses one.
fn configuration_keys(table: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, format!("{table}no-such-key = 1\n")).unwrap();
    let refused = Config::load(&Global { config: Some(path), ..Global::default() }, &Options::default()).unwrap_err();
    let text = error::one_line(&refused);
    let (_, keys) = text.split_once("expected one of ").unwrap_or_else(|| panic!("no keys in {text:?}"));
    keys.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// One of each.
fn events() -> Vec<Event> {
    let (phase, title) = (PhaseId::Database, "PostgreSQL, 3 instances".to_owned());
    let elapsed = Duration::from_millis(65_400);
    let resource = "Cluster user-app/user-db".to_owned();
    vec![
        Event::Started {
            command: "up".into(),
            target: "minikube profile stackctl".into(),
            remembered: vec!["--bundle /home/ada/bundle".into()],
            last_time: Some(Duration::from_secs(130)),
        },
        Event::PhaseStarted { phase, title: title.clone() },
        Event::PhaseSkipped { phase: PhaseId::Build, title: "Web image".into(), reason: "it is there".into() },
        Event::Doing { phase, text: "applying 3 objects".into() },
        Event::Resource { phase, resource, state: State::Waiting, detail: "1/3 instances ready".into() },
        Event::Problem {
            phase,
            resource: "Pod user-app/user-db-1".into(),
            reason: "ImagePullBackOff".into(),
            message: "the cluster's own words".into(),
            last_event: Some("Failed: the last Warning event".into()),
            last_log: vec!["the last lines of the container's log".into()],
            remedy: Some("what to do".into()),
            fatal: false,
        },
        Event::Warning { phase, text: "one sentence".into() },
        Event::Output { phase: PhaseId::Cluster, line: "a line of a tool, with -v".into() },
        Event::Measured {
            phase: PhaseId::Load,
            text: "for people".into(),
            values: serde_json::json!({"rate": 1200.0}),
        },
        Event::Plan { phase, title: title.clone(), steps: vec!["apply Cluster user-app/user-db".into()] },
        Event::PhaseDone { phase, title: title.clone(), outcome: "3/3 ready, primary user-db-1".into(), elapsed },
        Event::PhaseFailed { phase, title, error: "the error in one line".into(), elapsed },
        Event::Finished {
            command: "up".into(),
            ok: true,
            elapsed,
            requests: 144,
            facts: vec![("app".into(), "Service user-app/user-app, port 80".into())],
            next: vec![("stackctl status".into(), "every part's health".into())],
        },
    ]
}
