//! What the pages refer to is there.

use std::{fs, path::Path};

use clap::CommandFactory;
use stackctl::cli::Cli;

fn pages() -> Vec<(String, String)> {
    let mut pages = Vec::new();
    let mut folders = vec![super::file("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"] {
        let path = super::file(name);
        pages.push((path.display().to_string(), fs::read_to_string(&path).unwrap()));
    }
    pages
}

#[test]
fn every_link_leads_to_a_file() {
    for (page, text) in pages() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = Path::new(&page).parent().unwrap().join(target);
            assert!(path.exists(), "{page} links to {link}");
        }
    }
}

#[test]
fn every_command_that_a_page_shows_is_one() {
    let root = Cli::command();
    let known: Vec<&str> = root.get_subcommands().map(clap::Command::get_name).collect();
    for (page, text) in pages() {
        for line in text.lines() {
            for (at, _) in line.match_indices("stackctl ") {
                let before = line[..at].chars().next_back();
                let is_command = matches!(before, Some('`')) || line[..at].ends_with("$ ");
                let word: String = line[at + "stackctl ".len()..]
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '-')
                    .collect();
                if is_command && !word.is_empty() && !word.starts_with('-') {
                    assert!(known.contains(&word.as_str()), "{page} shows `stackctl {word}`: {line}");
                }
            }
        }
    }
}

#[test]
fn the_readme_is_a_way_in_and_no_manual() {
    let lines = fs::read_to_string(super::file("README.md")).unwrap().lines().count();
    assert!(lines <= 150, "README.md has {lines} lines: the rest belongs to docs/");
}
