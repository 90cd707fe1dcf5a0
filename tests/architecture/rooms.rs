//! The order of the rooms: what stands further up may use what stands further down, never the other way round.

use crate::krate::{Arrows, Crate};

/// The rooms of the library, the uppermost first. A module belongs to the longest entry that its path begins with;
/// inside a room every file may use every other one, as long as no circle of files comes of it.
pub const ORDER: &[&str] = &[
    "",
    "commands",
    // what a command does
    "drills",
    "drills::runner",
    "drills::live_view",
    "drills::scenarios",
    "drills::observer",
    "drills::journal",
    "drills::undo",
    "drills::final_state",
    "drills::prober",
    "drills::environment",
    "drills::actions",
    "drills::preconditions",
    "drills::target",
    "drills::model",
    "load",
    "phases",
    "restore",
    "reach",
    // what should be there, and what is
    "status",
    "checks",
    "monitoring",
    "leftovers",
    "desired",
    "address",
    "backup",
    "database",
    // what a command works with
    "progress",
    "tools",
    "context",
    "fetch",
    "bundle",
    "assets",
    "config",
    "cli",
    // the other doors, and what everything may use
    "part",
    "kube",
    "ui",
    "poll",
    "random",
    "error",
    "stats",
    "names",
];

/// Where a module stands in an order of rooms, and the room's name; nothing for a module that no room is named for.
pub fn room<'a>(order: &[&'a str], path: &[String]) -> Option<(usize, &'a str)> {
    let begins = |room: &str| room.split("::").zip(path).filter(|(named, part)| named == part).count();
    let fits = |room: &str| if room.is_empty() { path.is_empty() } else { begins(room) == room.split("::").count() };
    order
        .iter()
        .enumerate()
        .filter(|(_, room)| fits(room))
        .map(|(at, room)| (at, *room))
        .max_by_key(|(_, room)| room.len())
}

/// Modules that no room is named for.
pub fn homeless(order: &[&str], krate: &Crate) -> Vec<String> {
    let modules = krate.modules.iter().filter(|module| !module.is_test && room(order, &module.path).is_none());
    modules.map(|module| module.file.display().to_string()).collect()
}

/// Every arrow from a room to one further up, in words.
pub fn upwards(order: &[&str], krate: &Crate, arrows: &Arrows) -> Vec<String> {
    let mut found = Vec::new();
    for ((user, used), names) in arrows {
        let place = |module: usize| room(order, &krate.modules[module].path);
        let (Some((from, lower)), Some((to, upper))) = (place(*user), place(*used)) else { continue };
        if to < from {
            let names = names.iter().cloned().collect::<Vec<_>>().join(", ");
            found.push(format!("{lower} ↑ {upper}: {} → {}: {names}", krate.name(*user), krate.name(*used)));
        }
    }
    found.sort();
    found
}
