//! What the WAL programs are called with: arguments, and names of files.

#![no_main]

use barman_cloud_wal::command::{Command, Program};
use barman_cloud_wal::layout::{self, WalName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: Vec<String>| {
    for program in [Program::Archive, Program::Restore] {
        if let Ok(command) = Command::parse(program, &input) {
            assert!(!command.url.is_empty() && !command.server.is_empty() && !command.wal.is_empty());
            assert!(program == Program::Archive || !command.destination.is_empty());
        }
    }
    for text in &input {
        let (name, _) = layout::unwrapped(text);
        assert!(text.starts_with(name));
        if let Some(name) = WalName::of_path(text) {
            assert!(text.ends_with(name.as_str()) && !name.as_str().contains('/'));
            let key = name.key("base");
            assert!(key.starts_with("base/wals/") && key.ends_with(name.as_str()));
            assert_eq!(WalName::of_path(&key).as_ref(), Some(&name));
        }
    }
});
