//! What users type: names, addresses, and what stands on pages.

#![no_main]

use libfuzzer_sys::fuzz_target;
use user_app::address::Address;
use user_app::db::position::Position;
use user_app::models::{RawUser, ValidUser};
use user_app::text;

fuzz_target!(|input: (&str, &str, Option<&str>)| {
    let (name, email, gender) = input;
    let raw = RawUser { name: name.into(), email: email.into(), gender: gender.map(str::to_owned) };
    if let Ok(user) = ValidUser::parse(&raw) {
        // The table's own checks, and what a page can show.
        assert!((1..=100).contains(&user.name().chars().count()));
        assert!(text::is_visible(user.name()) && user.name().trim() == user.name());
        assert!(!user.name().chars().any(|c| text::is_unprintable(c) || text::is_reordering(c)));
        kept(user.email());
        let again = RawUser {
            name: user.name().into(),
            email: user.email().as_str().into(),
            gender: Some(user.gender().as_str().into()),
        };
        assert_eq!(ValidUser::parse(&again).as_ref(), Ok(&user), "what is shown in the form is taken as it is");
    }
    if let Ok(address) = Address::parse(name) {
        kept(&address);
    }
    if let Some(position) = Position::parse(name) {
        assert_eq!(Position::parse(&position.to_string()), Some(position));
    }
    let isolated = text::isolated(name);
    assert_eq!(isolated.chars().filter(|c| text::is_reordering(*c)).count(), 2, "only the isolation's own two");
});

/// An address is kept in one form, which is taken again as it is.
fn kept(address: &Address) {
    let text = address.as_str();
    assert!(text.len() <= 254 && text.matches('@').count() == 1 && !text.contains('\0'));
    assert_eq!(Address::parse(text).as_ref(), Ok(address));
    if let Some(ascii) = address.in_ascii() {
        assert!(ascii.len() <= 254);
        assert_eq!(Address::parse(ascii).map(|again| again.as_str().to_owned()).as_deref(), Ok(text));
    }
}
