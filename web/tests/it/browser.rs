//! The pages in a real browser, with JavaScript and without, by mouse and by keyboard, on desk and phone.

use std::io::Write as _;

use testbed::proxy::Proxy;

use crate::support::app::App;
use crate::support::browser::{Browser, DESKTOP, DOWN, END, ENTER, Look, NARROW, PHONE, SPACE, TAB};
use crate::support::postgres::Postgres;

fn url(app: &App, path: &str) -> String {
    format!("http://{}{path}", app.address)
}

/// All that a user does, from the empty list to the deletion.
fn register_search_edit_and_delete(look: Look) {
    let app = App::start();
    let browser = Browser::open(look);
    browser.go(&url(&app, "/"));
    assert_eq!(browser.path(), "/users");
    assert!(browser.find("main").text().contains("Nobody is registered yet."));

    browser.find("a.button").follow();
    assert_eq!(browser.path(), "/users/new");
    browser.find("#name").fill("Ada Lovelace");
    browser.find("#email").fill("nobody");
    browser.find("input[value=female]").click();
    browser.find("button[type=submit]").follow();
    assert!(browser.title().starts_with("Problem: "), "{}", browser.title());
    assert_eq!(browser.focused().property("id"), "summary", "the summary has the focus");
    let beside = browser.find(".field.wrong");
    assert!(beside.text().contains("Enter an address like name@example.org."), "{}", beside.text());
    let kept = ["#name", "#email"].map(|field| browser.find(field).property("value"));
    assert_eq!(kept, ["Ada Lovelace", "nobody"]);
    assert_eq!(browser.find("input[value=female]").property("checked"), "true");
    browser.find("#summary a").click();
    assert_eq!(browser.focused().property("id"), "email", "the summary leads to the field");

    browser.find("#email").fill("ada@example.org");
    browser.find("button[type=submit]").follow();
    assert_eq!(browser.path(), "/users/1?done=registered");
    assert_eq!(browser.find(".note.good").text(), "Registered.");
    assert_eq!(browser.find("h1").text(), "Ada Lovelace");

    browser.find("a[href='/users/1/edit']").follow();
    browser.find("#name").fill("Ada King");
    browser.find("button[type=submit]").follow();
    assert_eq!((browser.path().as_str(), browser.find("h1").text().as_str()), ("/users/1?done=saved", "Ada King"));

    for (search, found) in [("KING", true), ("nobody", false)] {
        browser.go(&url(&app, "/users"));
        browser.find("#q").fill(search);
        browser.find(".search button").follow();
        assert_eq!(browser.find("#q").property("value"), search);
        assert_eq!(browser.try_find("a[href='/users/1']").is_some(), found, "{search}");
    }

    browser.go(&url(&app, "/users/1"));
    browser.find("a[href='/users/1/delete']").follow();
    browser.find("a.cancel").follow();
    assert_eq!(browser.path(), "/users/1", "keeping leads back");
    browser.find("a[href='/users/1/delete']").follow();
    browser.find("button.danger").follow();
    assert_eq!(browser.path(), "/users");
    assert!(browser.find("main").text().contains("Nobody is registered yet."));
    assert_eq!(app.get("/users/1").status, 404);
}

#[test]
fn with_javascript_everything_works() {
    register_search_edit_and_delete(DESKTOP);
}

#[test]
fn without_javascript_everything_works_too() {
    let without = Look { script: false, ..PHONE };
    {
        let browser = Browser::open(without);
        browser.go("data:text/html,<title>off</title><script>document.title='on'</script>");
        assert_eq!(browser.title(), "off", "the browser runs no script");
    }
    register_search_edit_and_delete(without);
}

#[test]
fn the_keyboard_is_enough() {
    let app = App::start();
    let browser = Browser::open(DESKTOP);
    let tab_to = |what: &str| {
        for _ in 0..20 {
            browser.keys(&TAB.to_string());
            let focused = browser.focused();
            if [focused.text(), focused.property("id"), focused.property("value")].iter().any(|is| is == what) {
                return;
            }
        }
        panic!("no {what} within 20 tabs on {}", browser.path());
    };
    let enter = || browser.leave(|| browser.keys(&ENTER.to_string()));
    browser.go(&url(&app, "/users"));
    browser.keys(&TAB.to_string());
    assert_eq!(browser.focused().text(), "Skip to content", "it comes first, and is shown when it has the focus");
    browser.keys(&ENTER.to_string());
    tab_to("Register a user");
    enter();
    tab_to("name");
    browser.keys(&format!("Grace{TAB}grace{TAB}"));
    assert_eq!(browser.focused().property("value"), "undisclosed", "of the choices, the chosen one");
    browser.keys(&format!("{DOWN}"));
    assert_eq!(browser.focused().property("value"), "female");
    tab_to("Register");
    enter();
    assert_eq!(browser.focused().property("id"), "summary");
    browser.keys(&format!("{TAB}{ENTER}"));
    assert_eq!(browser.focused().property("id"), "email");
    browser.keys(&format!("{END}@example.org"));
    enter();
    assert_eq!(browser.path(), "/users/1?done=registered");
    tab_to("Delete");
    enter();
    tab_to("Delete");
    browser.leave(|| browser.keys(&SPACE.to_string()));
    assert_eq!(browser.path(), "/users");
    assert_eq!(app.get("/users/1").status, 404);
}

#[test]
fn what_keeps_people_out_of_a_page_is_found() {
    let browser = Browser::open(DESKTOP);
    browser.go(
        "data:text/html,<title>x</title><main><h1>x</h1><img src=y><p style='color:%23aaa'>hard to read</p></main>",
    );
    let barriers = browser.barriers();
    for rule in ["html-has-lang", "image-alt", "color-contrast"] {
        assert!(barriers.iter().any(|barrier| barrier.starts_with(rule)), "{rule}: {barriers:#?}");
    }
}

/// Every page once, in one look. Nothing is wider than the window, the browser complains about nothing, and where it is judged
/// nothing keeps anybody out.
fn pictures(app: &App, proxy: &Proxy, look: Look, is_judged: bool, suffix: &str) -> std::path::PathBuf {
    let browser = Browser::open(look);
    let shot = |name: &str| {
        let complaints = browser.complaints();
        // That an answer is an error is no fault of the page.
        let faults: Vec<_> = complaints.iter().filter(|text| !text.contains("the server responded with")).collect();
        assert!(faults.is_empty(), "{name}: {faults:?}");
        assert_eq!(browser.overflow(), 0, "{name} is wider than the window");
        let barriers = if is_judged { browser.barriers() } else { Vec::new() };
        assert!(barriers.is_empty(), "{name}-{suffix}: {barriers:#?}");
        browser.screenshot(&format!("{name}-{suffix}"))
    };
    for (name, path) in [
        ("list", "/users"),
        ("list-middle", "/users?limit=5&before=20"),
        ("list-search", "/users?q=turing&limit=5"),
        ("list-nobody", "/users?q=nobody-has-this"),
        ("register", "/users/new"),
        ("view", "/users/3?done=saved"),
        ("edit", "/users/3/edit"),
        ("delete", "/users/3/delete"),
        ("info", "/info"),
        ("missing", "/users/999"),
    ] {
        browser.go(&url(app, path));
        shot(name);
    }
    browser.go(&url(app, "/users/new"));
    browser.find("#name").fill("Ada Lovelace");
    browser.find("#email").fill("ada@");
    browser.find("button[type=submit]").follow();
    shot("register-errors");
    browser.find("#email").fill(&format!("ada-{suffix}@example.org"));
    proxy.cut(true);
    browser.find("button[type=submit]").follow();
    shot("register-no-database");
    browser.go(&url(app, "/users"));
    shot("list-stale");
    proxy.cut(false);
    browser.go(&url(app, "/users/new"));
    shot("register-again")
}

#[test]
fn every_page_fits_and_has_its_picture() {
    let primary = Postgres::start(&["wal_keep_size=64MB"]);
    let standby = primary.standby("standby");
    primary.wait_for_standby("standby").unwrap();
    let database = primary.database();
    crate::support::app::migrate(primary.port, &database);
    testbed::users::fill(&primary, &database, 60).unwrap();
    let proxy = Proxy::to(primary.port).unwrap();
    let read_port = standby.port.to_string();
    let settings = [
        ("DB_READ_HOST", "127.0.0.1"),
        ("DB_READ_PORT", read_port.as_str()),
        ("REQUEST_DEADLINE_MS", "1500"),
        ("POD_NAME", "user-app-5d9c7b8f6-x2x9k"),
    ];
    let app = App::with(proxy.port, &database, &settings);
    let mut folder = None;
    // Judged in the light on a desk, and in the dark where it is narrowest: each takes a second.
    for (look, dark, is_judged, name) in [
        (DESKTOP, false, true, "desktop-light"),
        (DESKTOP, true, false, "desktop-dark"),
        (PHONE, false, false, "phone-light"),
        (PHONE, true, false, "phone-dark"),
        (NARROW, true, true, "narrow-dark"),
    ] {
        folder = Some(pictures(&app, &proxy, Look { dark, ..look }, is_judged, name));
    }
    // Past the test harness, which keeps what passing tests print.
    writeln!(std::io::stderr(), "pictures of the pages: {}", folder.unwrap().display()).unwrap();
}
