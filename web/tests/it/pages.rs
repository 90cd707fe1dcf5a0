//! The pages, as a browser without JavaScript uses them.

use testbed::http::form;

use crate::support::app::App;

#[test]
fn registering_redirects_to_the_user() {
    let app = App::start();
    let blank = app.get("/users/new");
    assert!(
        blank.header("set-cookie").starts_with("csrf=")
            && blank.header("set-cookie").contains("; HttpOnly; SameSite=Strict")
    );
    let done = app.submit(&blank, "/users", &[("name", "Ada"), ("email", "ada@example.org"), ("gender", "female")]);
    assert_eq!((done.status, done.header("location")), (303, "/users/1?done=registered"), "{done:?}");
    let view = app.get(done.header("location"));
    assert!(view.body.contains("Registered.") && view.body.contains("ada@example.org"));
    assert!(app.get("/users").body.contains(r#"<a href="/users/1">Ada</a>"#));
    // The form sent again, as by a second click or the back button.
    let again = app.submit(&blank, "/users", &[("name", "Ada"), ("email", "ada@example.org"), ("gender", "female")]);
    assert_eq!((again.status, again.header("location")), (303, "/users/1?done=registered"));
    let other = app.submit(&blank, "/users", &[("name", "Eve"), ("email", "eve@example.org")]);
    assert_eq!(other.status, 409);
    assert!(other.body.contains("was sent before") && other.body.contains(r#"value="Eve""#));
    assert_eq!(app.submit(&other, "/users", &[("name", "Eve"), ("email", "eve@example.org")]).status, 303);
}

#[test]
fn a_wrong_form_comes_back_with_its_input_and_says_what_is_wrong() {
    let app = App::start();
    let wrong =
        app.submit(&app.get("/users/new"), "/users", &[("name", "Ada <b>"), ("email", "nobody"), ("gender", "male")]);
    assert_eq!(wrong.status, 422);
    for part in [
        r#"role="alert" tabindex="-1" autofocus"#,
        r##"<a href="#email">Enter an address like name@example.org.</a>"##,
        r#"aria-invalid="true" aria-describedby="email-error""#,
        r#"<p class="error" id="email-error">"#,
        r#"value="nobody""#,
        r#"value="male" checked"#,
        "<title>Problem: ",
    ] {
        assert!(wrong.body.contains(part), "{part} is not in {}", wrong.body);
    }
    assert!(!wrong.body.contains("<b>"), "what was typed is text");
    assert!(!wrong.body.contains(r#"aria-describedby="name-error""#), "the name is well");
    let right = app.submit(&wrong, "/users", &[("name", "Ada"), ("email", "ada@example.org"), ("gender", "male")]);
    assert_eq!(right.status, 303, "the corrected form is accepted");
    let taken = app.submit(&app.get("/users/new"), "/users", &[("name", "Eve"), ("email", "ADA@example.org")]);
    assert!(taken.status == 409 && taken.body.contains("Another user has this e-mail address."));
}

#[test]
fn editing_shows_what_is_there_and_notices_others() {
    let app = App::start();
    app.submit(&app.get("/users/new"), "/users", &[("name", "Ada"), ("email", "ada@example.org")]);
    let (mine, theirs) = (app.get("/users/1/edit"), app.get("/users/1/edit"));
    assert!(mine.body.contains(r#"value="Ada""#) && mine.body.contains(r#"value="undisclosed" checked"#));
    let version = mine.hidden("version");
    let theirs =
        app.submit(&theirs, "/users/1", &[("version", &version), ("name", "Theirs"), ("email", "ada@example.org")]);
    assert_eq!((theirs.status, theirs.header("location")), (303, "/users/1?done=saved"));
    let refused =
        app.submit(&mine, "/users/1", &[("version", &version), ("name", "Mine"), ("email", "ada@example.org")]);
    assert!(
        refused.status == 409 && refused.body.contains("Somebody else") && refused.body.contains(r#"value="Mine""#)
    );
    assert!(app.get("/users/1").body.contains("Theirs"));
    assert_eq!(app.submit(&refused, "/users/1", &[("name", "Mine"), ("email", "ada@example.org")]).status, 303);
    assert!(app.get("/users/1").body.contains("Mine"));
}

#[test]
fn deleting_asks_first() {
    let app = App::start();
    app.submit(&app.get("/users/new"), "/users", &[("name", "Ada"), ("email", "ada@example.org")]);
    let ask = app.get("/users/1/delete");
    assert!(ask.body.contains("Delete <bdi>Ada</bdi>?") && app.get("/users/1").status == 200);
    let done = app.submit(&ask, "/users/1/delete", &[]);
    assert_eq!((done.status, done.header("location")), (303, "/users"));
    assert_eq!(app.get("/users/1").status, 404);
    assert_eq!(app.submit(&ask, "/users/1/delete", &[]).status, 303, "sent twice, it took place");
}

#[test]
fn forms_of_other_sites_are_refused() {
    let app = App::start();
    let page = app.get("/users/new");
    let (csrf, key) = (page.hidden("csrf"), page.hidden("key"));
    let body = form(&[("csrf", &csrf), ("key", &key), ("name", "Ada"), ("email", "ada@example.org")]);
    let cookie = format!("csrf={csrf}");
    let post = |headers: &[(&str, &str)]| app.send("POST", "/users", headers, &body);
    assert_eq!(post(&[]).status, 403, "no cookie");
    assert_eq!(post(&[("cookie", "csrf=00000000000000000000000000000000")]).status, 403, "another cookie");
    assert_eq!(post(&[("cookie", &cookie), ("origin", "http://evil.example")]).status, 403);
    assert_eq!(post(&[("cookie", &cookie), ("sec-fetch-site", "cross-site")]).status, 403);
    let refused = post(&[]);
    assert!(refused.body.contains(r#"value="Ada""#), "the input is kept");
    assert_eq!(
        app.send("POST", "/users/1/delete", &[], &form(&[("csrf", &csrf), ("key", &key)])).status,
        404,
        "nobody to delete"
    );
    assert_eq!(post(&[("cookie", &cookie)]).status, 303);
    let unknown = form(&[("csrf", &csrf), ("key", &key), ("name", "A"), ("email", "a@b.cd"), ("admin", "1")]);
    assert_eq!(app.send("POST", "/users", &[("cookie", &cookie)], &unknown).status, 400, "an unknown field");
}

#[test]
fn the_list_searches_pages_and_escapes() {
    let app = App::start();
    for n in 1..=30 {
        let name = if n == 3 { "<script>alert(1)</script>".to_owned() } else { format!("User {n}") };
        let body = serde_json::json!({"name": name, "email": format!("u{n}@example.org")}).to_string();
        assert_eq!(app.json("POST", "/api/v1/users", "", &body).status, 201);
    }
    let first = app.get("/users").body;
    assert!(first.contains("User 30") && first.contains("User 6<") && !first.contains("User 5<"));
    assert!(first.contains(r#"href="/users?before=6""#) && !first.contains("Newer"));
    let second = app.get("/users?before=6").body;
    assert!(second.contains("User 5<") && second.contains(r#"href="/users?after=5""#) && !second.contains("Older"));
    assert!(second.contains("alert(1)") && !second.contains("<script"));
    let found = app.get("/users?q=%22%3E%3Cscript%3E").body;
    assert!(!found.contains("<script"), "what is searched for is text");
    assert!(
        app.get("/users?q=user%201&limit=5").body.contains("q=user%201&amp;limit=5&amp;before=")
            || app.get("/users?q=user%201&limit=5").body.contains("q=user%201&#38;limit=5&#38;before="),
        "links keep the search"
    );
    assert!(app.get("/users?before=x&q=zz").status == 200);
}

#[test]
fn pages_have_no_script_and_no_inline_style() {
    let app = App::start();
    app.submit(&app.get("/users/new"), "/users", &[("name", "Ada"), ("email", "ada@example.org")]);
    for path in
        ["/users", "/users?q=nix", "/users/new", "/users/1", "/users/1/edit", "/users/1/delete", "/info", "/nowhere"]
    {
        let body = app.get(path).body;
        assert!(!body.contains("<script") && !body.contains("<style") && !body.contains(" style="), "{path}");
        assert!(body.starts_with("<!doctype html>") && body.contains(r#"<html lang="en">"#), "{path}");
        let css = body.split("href=\"").find(|s| s.starts_with("/static/")).unwrap().split('"').next().unwrap();
        let css = app.get(css);
        assert!(css.status == 200 && css.header("cache-control").contains("immutable"));
    }
    let info = app.get("/info").body;
    assert!(info.contains("answers") && info.contains("Timeline") && info.contains("none is set"));
    assert!(info.contains("There is no login."), "who may use it");
    let old = app.get("/static/app-000000000000.css");
    assert_eq!((old.status, old.header("cache-control")), (200, "no-cache"), "while another version rolls out");
}
