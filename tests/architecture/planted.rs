//! How the sources are read, shown with sources that are planted.

use std::collections::BTreeMap;
use std::path::Path;

use crate::krate::Crate;
use crate::{circles, prose, rooms, source};

fn planted(files: &[(&str, &str)]) -> Crate {
    let files: BTreeMap<&Path, &str> = files.iter().map(|(file, text)| (Path::new(*file), *text)).collect();
    Crate::read(Path::new("lib.rs"), &|file| files.get(file).map(|text| (*text).to_owned()))
}

/// `user → used: names`
fn arrows(files: &[(&str, &str)]) -> Vec<String> {
    let krate = planted(files);
    let tell = |((user, used), names): ((usize, usize), std::collections::BTreeSet<String>)| {
        format!("{} → {}: {}", krate.name(user), krate.name(used), names.into_iter().collect::<Vec<_>>().join(" "))
    };
    krate.arrows().into_iter().map(tell).collect()
}

fn found_circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let krate = planted(files);
    let arrows = krate.arrows().into_keys().collect();
    let circles = circles::circles(&krate, &arrows).into_iter();
    circles.map(|circle| circle.into_iter().map(|file| krate.name(file)).collect()).collect()
}

const LIB: (&str, &str) = ("lib.rs", "mod a; mod b; mod c;");

#[test]
fn trees_of_imports_lead_to_the_files_that_define_what_they_name() {
    let a = "use crate::{b::{deep::{self, Inner as Other}, B}, c::*};\nfn f() { deep::g(); }";
    let found = arrows(&[
        LIB,
        ("a.rs", a),
        ("b/mod.rs", "pub mod deep; pub struct B;"),
        ("b/deep.rs", "pub struct Inner; pub fn g() {}"),
        ("c.rs", ""),
    ]);
    assert_eq!(found, ["a.rs → b/mod.rs: B", "a.rs → b/deep.rs: Inner g", "a.rs → c.rs: *"]);
}

#[test]
fn a_path_outside_of_use_counts_and_one_in_text_does_not() {
    let a = r##"
        //! crate::c::X
        /* crate::c::X /* nested */ crate::c::X */
        fn f<'a>(x: &'a str) -> crate::b::B { let y = '"'; "crate::c::X"; r#"" crate::c::X"#; x }
        pub(in crate::c) struct Z;
    "##;
    let found = arrows(&[LIB, ("a.rs", a), ("b.rs", "pub struct B;"), ("c.rs", "pub struct X;")]);
    assert_eq!(found, ["a.rs → b.rs: B"]);
}

#[test]
fn a_reexport_is_no_place_to_hide() {
    let found = arrows(&[
        LIB,
        ("a.rs", "use crate::b::Thing; use crate::c::Given;"),
        ("b/mod.rs", "mod inner; pub use inner::Thing;"),
        ("b/inner.rs", "pub struct Thing;"),
        ("c.rs", "pub use crate::b::Thing as Given;"),
    ]);
    assert_eq!(found, ["a.rs → b/inner.rs: Thing", "b/mod.rs → b/inner.rs: Thing", "c.rs → b/inner.rs: Thing"]);
}

#[test]
fn super_and_self_are_followed_from_modules_inside_a_file_too() {
    let found = arrows(&[
        LIB,
        ("a/mod.rs", "mod one; mod two;"),
        (
            "a/one.rs",
            "use super::two::Two; mod inside { use super::super::two::f; use super::Two; fn g() { super::super::super::b::h() } }",
        ),
        ("a/two.rs", "pub struct Two; pub fn f() {}"),
        ("b.rs", "pub fn h() {}"),
        ("c.rs", ""),
    ]);
    assert_eq!(found, ["a/one.rs → a/two.rs: Two f", "a/one.rs → b.rs: h"]);
}

#[test]
fn another_crate_of_a_modules_name_is_another_crate() {
    let found = arrows(&[
        LIB,
        ("a.rs", "use b::Api; use ::c::X; fn f(_: Api) { b::g(); }"),
        ("b.rs", "pub struct Api;"),
        ("c.rs", "pub struct X;"),
    ]);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn what_is_compiled_for_tests_only_does_not_count() {
    let a = "#[cfg(test)] use crate::b::B;\n#[cfg(test)]\nmod tests { use crate::c::X; fn f() { if true {} } }\n\
             #[cfg(test)] #[path = \"more_tests.rs\"] mod more;\n#[cfg(test)] fn g() -> [u8; 2] { crate::b::h() }\n\
             #[cfg(not(test))] fn i() { crate::c::j() }";
    let found = arrows(&[
        LIB,
        ("a.rs", a),
        ("more_tests.rs", "use crate::b::B;"),
        ("b.rs", "pub struct B;"),
        ("c.rs", "pub struct X;"),
    ]);
    assert_eq!(found, ["a.rs → c.rs: j"]);
}

#[test]
fn an_arrow_upwards_is_told_with_both_files_and_the_names() {
    let krate = planted(&[
        LIB,
        ("a.rs", "use crate::b::B;"),
        ("b.rs", "use crate::a::{x, y}; pub struct B;"),
        ("c.rs", "pub fn unnamed() {}"),
    ]);
    let order = ["", "a", "b"];
    assert_eq!(rooms::upwards(&order, &krate, &krate.arrows()), ["b ↑ a: b.rs → a.rs: x, y"]);
    assert_eq!(rooms::homeless(&order, &krate), ["c.rs"]);
}

#[test]
fn a_room_inside_a_room_has_a_place_of_its_own() {
    let path = |path: &str| path.split("::").map(str::to_owned).collect::<Vec<_>>();
    let order = ["", "a", "a::top", "b"];
    assert_eq!(rooms::room(&order, &path("a::top::x")), Some((2, "a::top")));
    assert_eq!(rooms::room(&order, &path("a::topmost")), Some((1, "a")));
    assert_eq!(rooms::room(&order, &path("ab")), None);
    assert_eq!(rooms::room(&order, &[]), Some((0, "")));
}

#[test]
fn a_circle_of_three_is_found() {
    let found = found_circles(&[
        LIB,
        ("a.rs", "use crate::b::y; pub fn x() {}"),
        ("b.rs", "use crate::c::z; pub fn y() {}"),
        ("c.rs", "pub fn z() { crate::a::x() }"),
    ]);
    assert_eq!(found, [["a.rs", "b.rs", "c.rs"]]);
}

#[test]
fn a_module_and_its_own_children_may_use_each_other() {
    let a = "mod one; mod two; pub struct A; fn f() { one::g(); two::h(); }";
    let found = found_circles(&[
        LIB,
        ("a/mod.rs", a),
        ("a/one.rs", "use super::A; pub fn g() {}"),
        ("a/two.rs", "use super::{A, one::g}; pub fn h() {}"),
        ("b.rs", ""),
        ("c.rs", ""),
    ]);
    assert_eq!(found, Vec::<Vec<String>>::new());
}

#[test]
fn its_children_may_not_be_in_a_circle_without_it_nor_with_others() {
    let siblings = found_circles(&[
        LIB,
        ("a/mod.rs", "mod one; mod two; pub struct A; fn f() { one::g(); }"),
        ("a/one.rs", "use super::{A, two::h}; pub fn g() {}"),
        ("a/two.rs", "use super::one::g; pub fn h() {}"),
        ("b.rs", ""),
        ("c.rs", ""),
    ]);
    assert_eq!(siblings, [["a/one.rs", "a/two.rs"]]);
    let through_another = found_circles(&[
        LIB,
        ("a/mod.rs", "mod one; fn f() { one::g(); }"),
        ("a/one.rs", "use crate::b::B; pub fn g() {}"),
        ("b.rs", "use crate::a::f; pub struct B;"),
        ("c.rs", ""),
    ]);
    assert_eq!(through_another, [["a/mod.rs", "a/one.rs", "b.rs"]]);
}

#[test]
fn types_are_counted_where_they_are_items() {
    let read = source::read(
        "pub struct One; enum Two { Struct } impl Trait for One { type Output = u8; }\n\
         pub(crate) trait Three {} mod inside { pub type Four = u8; } const fn f() { struct Local; }\n\
         #[cfg(test)] struct Hidden;",
    );
    let names: Vec<&str> = read.types.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["One", "Two", "Three", "Four"]);
    assert_eq!(read.types[2].1, 2, "the line");
    assert!(read.items.contains("f") && !read.items.contains("Four"));
}

#[test]
fn public_doc_comments_are_read_with_their_lines() {
    let read = source::read(
        "//! The file.\n//! More.\n\n/// Private.\nstruct A;\n/// Public,\n/// in two lines.\n#[derive(Debug)]\n\
         pub(crate) struct B {\n    /// A field.\n    pub c: u8,\n}\n#[cfg(test)]\n/// Of a test.\npub struct D;",
    );
    assert_eq!(read.doc, Some(("The file.".into(), 1)));
    assert_eq!(read.docs, [("Public,".to_owned(), 6), ("A field.".to_owned(), 10)]);
}

#[test]
fn a_first_sentence_without_a_subject_is_found() {
    for wrong in ["As [`cache`].", "It is late.", "Looks.", "Does it.", "Runs them; ends", "They are"] {
        assert!(prose::fault(wrong).is_some(), "{wrong}");
    }
    for right in
        ["The primary's Lease.", "This process's PATH", "Assets.tar of the app", "Items: two", "`up`.", "Itself"]
    {
        assert_eq!(prose::fault(right), None, "{right}");
    }
}
