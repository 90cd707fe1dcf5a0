//! Commands of stackctl's own in what is printed: each can be pasted as it stands, and acts on the stack that it was printed
//! for. The flags that say which one are put in here, at the door, so that no text has to think of them.

use std::{borrow::Cow, sync::OnceLock};

/// The flags that name the stack where a plain command would act on another, and the commands that they are given to.
#[derive(Debug)]
struct TargetFlags {
    flags: String,
    commands: Vec<String>,
}

static TARGET: OnceLock<TargetFlags> = OnceLock::new();

/// Sets the flags, once for this process; `commands` are the names of stackctl's commands.
pub fn set_target_flags(flags: &[String], commands: Vec<String>) {
    if !flags.is_empty() {
        let flags: Vec<_> = flags.iter().map(|flag| quoted(flag)).collect();
        let _ = TARGET.set(TargetFlags { flags: flags.join(" "), commands });
    }
}

/// The text with the flags in every command of stackctl's.
pub fn with_target(text: &str) -> Cow<'_, str> {
    match TARGET.get() {
        Some(target) => insert(text, &target.flags, &target.commands),
        None => Cow::Borrowed(text),
    }
}

/// The same for a line of JSON, within whose strings the commands are.
pub fn json_with_target(line: &str) -> Cow<'_, str> {
    match TARGET.get() {
        Some(target) => {
            let escaped = serde_json::Value::from(target.flags.as_str()).to_string();
            insert(line, escaped.trim_matches('"'), &target.commands)
        }
        None => Cow::Borrowed(line),
    }
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

fn insert<'a>(text: &'a str, flags: &str, commands: &[String]) -> Cow<'a, str> {
    const PROGRAM: &str = "stackctl ";
    if !text.contains(PROGRAM) {
        return Cow::Borrowed(text);
    }
    let (mut done, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(PROGRAM) {
        let (before, after) = rest.split_at(at + PROGRAM.len());
        let is_word = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || "-_/.".contains(c));
        let word: String = after.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
        done.push_str(before);
        if is_word && commands.contains(&word) {
            done.push_str(flags);
            done.push(' ');
        }
        rest = after;
    }
    done.push_str(rest);
    Cow::Owned(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_into_commands_and_into_nothing_else() {
        let commands = ["up", "status", "failover-drill"].map(str::to_owned);
        for (text, expected) in [
            ("stackctl up", "stackctl -n b up"),
            (
                "run stackctl status, then stackctl up --force-conflicts",
                "run stackctl -n b status, then stackctl -n b up --force-conflicts",
            ),
            ("stackctl failover-drill disaster", "stackctl -n b failover-drill disaster"),
            ("stackctl upgrades nothing", "stackctl upgrades nothing"),
            ("made by stackctl 0.2.0", "made by stackctl 0.2.0"),
            ("stackctl --profile x up", "stackctl --profile x up"),
            ("/usr/bin/stackctl up", "/usr/bin/stackctl up"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(insert(text, "-n b", &commands), expected);
        }
    }

    #[test]
    fn names_that_a_shell_would_take_apart_are_quoted() {
        assert_eq!(quoted("arn:aws:eks:eu-1:1:cluster/prod"), "arn:aws:eks:eu-1:1:cluster/prod");
        assert_eq!(quoted("my cluster"), "'my cluster'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
