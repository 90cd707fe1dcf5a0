//! Commands in what is printed: each can be pasted as it stands, and acts on the stack that it was printed for, or on its
//! cluster. The flags that say which one are put in here, at the door, so that no text has to think of them.

use std::{
    borrow::Cow,
    sync::{LazyLock, OnceLock},
};

/// The flags that name the stack where a plain command would act on another, and the commands that they are given to.
#[derive(Debug)]
struct TargetFlags {
    flags: String,
    commands: Vec<String>,
}

/// Flags that are looked for when the first text wants them.
type Late = LazyLock<String, Box<dyn FnOnce() -> String + Send>>;

static TARGET: OnceLock<TargetFlags> = OnceLock::new();
static KUBECTL: OnceLock<Late> = OnceLock::new();

/// What follows `kubectl` in a command that acts on a cluster; in a sentence other words do.
const OF_KUBECTL: [&str; 19] = [
    "-n", "annotate", "apply", "auth", "cordon", "create", "delete", "describe", "edit", "exec", "get", "label",
    "logs", "patch", "rollout", "scale", "taint", "top", "uncordon",
];

/// Sets the flags, once for this process; `commands` are the names of stackctl's commands.
pub fn set_target_flags(flags: &[String], commands: Vec<String>) {
    if !flags.is_empty() {
        let _ = TARGET.set(TargetFlags { flags: joined(flags), commands });
    }
}

/// Sets what tells the flags by which kubectl acts on the stack's cluster, once for this process. It is asked no earlier
/// than a text has a command of kubectl's in it: by then the cluster, and the context that it gives the user, are there.
pub fn set_kubectl_flags(flags: impl FnOnce() -> Vec<String> + Send + 'static) {
    let _ = KUBECTL.set(Late::new(Box::new(move || joined(&flags()))));
}

fn joined(flags: &[String]) -> String {
    let flags: Vec<_> = flags.iter().map(|flag| quoted(flag)).collect();
    flags.join(" ")
}

/// The text with the flags in every command of stackctl's and of kubectl's.
pub fn with_target(text: &str) -> Cow<'_, str> {
    with_flags(text, str::to_owned)
}

/// The same for a line of JSON, within whose strings the commands are.
pub fn json_with_target(line: &str) -> Cow<'_, str> {
    with_flags(line, |flags| {
        let escaped = serde_json::Value::from(flags).to_string();
        escaped.trim_matches('"').to_owned()
    })
}

fn with_flags(text: &str, escaped: impl Fn(&str) -> String) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    if let Some(target) = TARGET.get() {
        let takes = |word: &str| target.commands.iter().any(|command| command == word);
        text = Cow::Owned(insert(&text, "stackctl ", &escaped(&target.flags), takes));
    }
    if let Some(kubectl) = KUBECTL.get()
        && text.contains("kubectl ")
        && !kubectl.is_empty()
    {
        text = Cow::Owned(insert(&text, "kubectl ", &escaped(kubectl), |word| OF_KUBECTL.contains(&word)));
    }
    text
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

fn insert(text: &str, program: &str, flags: &str, takes: impl Fn(&str) -> bool) -> String {
    let (mut done, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(program) {
        let (before, after) = rest.split_at(at + program.len());
        let is_word = !rest[..at].ends_with(|c: char| c.is_alphanumeric() || "-_/.".contains(c));
        let word: String = after.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
        done.push_str(before);
        if is_word && takes(&word) {
            done.push_str(flags);
            done.push(' ');
        }
        rest = after;
    }
    done.push_str(rest);
    done
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
            let takes = |word: &str| commands.iter().any(|command| command == word);
            assert_eq!(insert(text, "stackctl ", "-n b", takes), expected);
        }
    }

    #[test]
    fn commands_of_kubectl_name_the_cluster_and_sentences_about_it_stay() {
        for (text, expected) in [
            ("kubectl -n monitoring delete pvc data-0", "kubectl --context b -n monitoring delete pvc data-0"),
            (
                "kubectl get pods, then kubectl describe node n",
                "kubectl --context b get pods, then kubectl --context b describe node n",
            ),
            ("kubectl top pods must list them", "kubectl --context b top pods must list them"),
            ("kubectl --context a get pods", "kubectl --context a get pods"),
            ("kubectl config get-contexts lists them", "kubectl config get-contexts lists them"),
            ("kubectl would refuse it", "kubectl would refuse it"),
        ] {
            assert_eq!(insert(text, "kubectl ", "--context b", |word| OF_KUBECTL.contains(&word)), expected);
        }
    }

    #[test]
    fn names_that_a_shell_would_take_apart_are_quoted() {
        assert_eq!(quoted("arn:aws:eks:eu-1:1:cluster/prod"), "arn:aws:eks:eu-1:1:cluster/prod");
        assert_eq!(quoted("my cluster"), "'my cluster'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
