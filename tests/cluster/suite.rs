//! A test on a cluster as a list of steps: all of them from nothing to nothing, or some on a cluster that is kept.

use std::{cell::OnceCell, env, time::Instant};

use crate::{cli::Stackctl, machine, objects::Objects};

/// Names of steps with commas between: only these, on a cluster that is kept; empty: the stack is set up, no more.
const KEEP: &str = "STACKCTL_TEST_KEEP";
/// When set, the steps are listed and none is run.
const LIST: &str = "STACKCTL_TEST_LIST";

/// The stack that the steps work on.
pub struct Stack {
    pub stackctl: Stackctl,
    objects: OnceCell<Objects>,
}

impl Stack {
    fn new(profile: &'static str) -> Self {
        Self { stackctl: Stackctl::new(profile), objects: OnceCell::new() }
    }

    /// A connection of the test's own, made when it is wanted first: the stack is up by then.
    pub fn objects(&self) -> &Objects {
        self.objects.get_or_init(|| Objects::connect(&self.stackctl))
    }
}

/// A part of the test that can be run by itself on a healthy stack, and leaves one.
pub struct Step {
    pub name: &'static str,
    /// What it shows, as a sentence.
    pub shows: &'static str,
    pub run: fn(&Stack),
    /// Whether the stack has to be up before: not for those that bring it up or take it down.
    pub on_stack: bool,
}

impl Step {
    pub const fn new(name: &'static str, shows: &'static str, run: fn(&Stack)) -> Self {
        Self { name, shows, run, on_stack: true }
    }

    #[must_use]
    pub const fn without_stack(self) -> Self {
        Self { on_stack: false, ..self }
    }
}

/// A test of several steps, on a profile of its own: a developer's cluster is left alone.
pub struct Suite {
    /// The command that runs it.
    pub command: &'static str,
    pub profile: &'static str,
    /// Brings the stack up for steps that are run alone; nothing to do where it is up.
    pub set_up: fn(&Stack),
    /// In the order of the whole run, of which the first ones bring the stack up and the last ones take it down.
    pub steps: Vec<Step>,
}

impl Suite {
    /// Runs all steps from nothing to nothing, or those that the environment names on a cluster that is kept.
    pub fn run(&self) {
        if env::var_os(LIST).is_some() {
            println!();
            for step in &self.steps {
                println!("step {:<22} {}", step.name, step.shows);
            }
            return;
        }
        let stack = Stack::new(self.profile);
        match env::var(KEEP) {
            Ok(names) => self.on_kept_cluster(&stack, &names),
            Err(_) => {
                machine::begin(&stack.stackctl);
                self.steps.iter().for_each(|step| self.step(&stack, step));
            }
        }
    }

    fn on_kept_cluster(&self, stack: &Stack, names: &str) {
        let named = names.split(',').filter(|name| !name.is_empty()).map(|name| {
            let found = self.steps.iter().find(|step| step.name == name);
            found.unwrap_or_else(|| panic!("there is no step `{name}`: {} --list tells them", self.command))
        });
        let steps: Vec<&Step> = named.collect();
        if steps.is_empty() || steps.iter().any(|step| step.on_stack) {
            tell("the stack is set up where it is not");
            (self.set_up)(stack);
        }
        steps.iter().for_each(|step| self.step(stack, step));
        if steps.last().is_none_or(|step| step.name != "delete") {
            println!("the cluster is kept: `{} --keep delete` deletes it", self.command);
        }
    }

    fn step(&self, stack: &Stack, step: &Step) {
        println!("=== {}: {}", step.name, step.shows);
        let (began, failed) = (Instant::now(), Failed { suite: self, step, stack });
        (step.run)(stack);
        drop(failed);
        println!("=== {}: passed in {:.0} s", step.name, began.elapsed().as_secs_f64());
    }
}

/// Tells in which state a step failed, which step that is, and how it is run alone.
struct Failed<'a> {
    suite: &'a Suite,
    step: &'a Step,
    stack: &'a Stack,
}

impl Drop for Failed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.stack.stackctl.print_evidence();
            let (name, command) = (self.step.name, self.suite.command);
            println!("=== {name}: failed. On the cluster that is left, this step alone: {command} --keep {name}");
        }
    }
}

/// Tells what a step does next.
pub fn tell(what: &str) {
    println!("--- {what}");
}
