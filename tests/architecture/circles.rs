//! Circles of files: each uses the next one, and the last one the first. A module and its own children may.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::krate::Crate;

/// A shortest circle of every knot of files; a knot in which one file is the parent of all the others is taken
/// apart without that parent.
pub fn circles(krate: &Crate, arrows: &BTreeSet<(usize, usize)>) -> Vec<Vec<usize>> {
    let all: BTreeSet<usize> = arrows.iter().flat_map(|(from, to)| [*from, *to]).collect();
    let mut found = Vec::new();
    look(krate, arrows, &all, &mut found);
    found
}

fn look(krate: &Crate, arrows: &BTreeSet<(usize, usize)>, files: &BTreeSet<usize>, found: &mut Vec<Vec<usize>>) {
    for knot in knots(arrows, files) {
        let parent = knot.iter().find(|parent| {
            knot.iter().all(|file| krate.modules[*file].path.starts_with(&krate.modules[**parent].path))
        });
        match parent {
            Some(parent) => {
                let rest: BTreeSet<usize> = knot.iter().filter(|file| *file != parent).copied().collect();
                look(krate, arrows, &rest, found);
            }
            None => found.extend(shortest(arrows, &knot)),
        }
    }
}

/// The sets of two and more files each of which reaches each other one.
fn knots(arrows: &BTreeSet<(usize, usize)>, files: &BTreeSet<usize>) -> Vec<BTreeSet<usize>> {
    let reached: BTreeMap<usize, BTreeSet<usize>> =
        files.iter().map(|file| (*file, reach(arrows, files, *file).into_keys().collect())).collect();
    let mut knots: Vec<BTreeSet<usize>> = Vec::new();
    for file in files {
        if knots.iter().any(|knot| knot.contains(file)) {
            continue;
        }
        let knot: BTreeSet<usize> =
            reached[file].iter().filter(|other| reached[other].contains(file)).copied().collect();
        if knot.len() > 1 {
            knots.push(knot);
        }
    }
    knots
}

/// What can be reached from a file, and from where it was reached first.
fn reach(arrows: &BTreeSet<(usize, usize)>, files: &BTreeSet<usize>, from: usize) -> BTreeMap<usize, usize> {
    let (mut seen, mut next) = (BTreeMap::new(), VecDeque::from([from]));
    while let Some(file) = next.pop_front() {
        for (_, to) in arrows.range((file, 0)..=(file, usize::MAX)).filter(|(_, to)| files.contains(to)) {
            if !seen.contains_key(to) {
                seen.insert(*to, file);
                next.push_back(*to);
            }
        }
    }
    seen
}

/// The shortest circle of a knot, beginning with its first file.
fn shortest(arrows: &BTreeSet<(usize, usize)>, knot: &BTreeSet<usize>) -> Option<Vec<usize>> {
    let circles = knot.iter().map(|start| {
        let before = reach(arrows, knot, *start);
        let mut circle = vec![*start];
        let mut at = before[start];
        while at != *start {
            circle.push(at);
            at = before[&at];
        }
        circle[1..].reverse();
        circle
    });
    circles.min_by_key(Vec::len)
}
