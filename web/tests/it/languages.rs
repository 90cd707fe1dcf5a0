//! Names, addresses and searches in any language.

use serde_json::json;
use testbed::http::encode;

use crate::support::app::App;
use crate::support::postgres::Postgres;

fn register(app: &App, name: &str, email: &str) -> u16 {
    app.json("POST", "/api/v1/users", "", &json!({"name": name, "email": email}).to_string()).status
}

fn found(app: &App, search: &str) -> Vec<String> {
    let list = app.get(&format!("/api/v1/users?limit=100&q={}", encode(search))).json();
    list["users"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_search_finds_names_in_every_script_without_case_and_accents() {
    let app = App::start();
    for (n, (name, searches)) in [
        ("École Éloïse", ["ecole", "ÉCOLE", "e\u{301}loi\u{308}se", "ISE"]),
        ("Ångström", ["ÅNGSTRÖM", "angstrom", "ngSTR", "ång"]),
        ("Жуков Пётр", ["жуков", "ПЁТР", "петр", "КОВ П"]),
        ("ΣΊΣΥΦΟΣ", ["σίσυφος", "σισυφοσ", "υΦ", "ΣΎ"]),
        ("Łukasz Straße", ["lukasz", "STRASSE", "straße", "ŁU"]),
        ("İrem Işık", ["irem", "ışık", "ISIK", "İREM"]),
        ("王伟", ["王", "伟", "王伟", "\u{200b}王伟"]),
        ("はな ガーデン", ["は", "ガーデ", "ｶﾞｰﾃﾞﾝ", "な ガ"]),
        ("محمّد دنה", ["محمد", "مد", "דנ", "دن"]),
        ("հայ ԳԱՐ", ["ՀԱՅ", "գար", "Հ", "ար"]),
        ("ｆｕｌｌ", ["FULL", "full", "ｕＬ", "ul"]),
        ("100%_\\", ["%", "_", "\\", "0%_"]),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(register(&app, name, &format!("n{n}@case.example")), 201, "{name}");
        for search in searches {
            let found = found(&app, search);
            let expected = if name.starts_with("محم") && search == "דנ" { 0 } else { 1 };
            assert_eq!(
                found.iter().filter(|found| *found == name).count(),
                expected,
                "{search:?} and {name:?}: {found:?}"
            );
        }
    }
    assert_eq!(found(&app, "ecole жуков"), Vec::<String>::new());
    assert_eq!(found(&app, "N3@CASE"), ["ΣΊΣΥΦΟΣ"], "by address");
}

#[test]
fn rare_and_frequent_names_are_found_among_many_in_the_order_of_the_list() {
    let database = App::database();
    let postgres = Postgres::shared();
    postgres.psql(
        &database,
        "INSERT INTO users (name, email, gender) \
         SELECT CASE WHEN n IN (7, 11001) THEN 'Zq Åse' WHEN n % 40 = 0 THEN 'Émile' ELSE 'Anna' END || ' ' || n, 'u' || n || '@example.org', 'other' \
         FROM generate_series(1, 12000) AS n; ANALYZE users",
    );
    let app = App::on(postgres.port, &database);
    for search in ["zq", "ZQ åSE", "zq a"] {
        assert_eq!(found(&app, search), ["Zq Åse 11001", "Zq Åse 7"], "{search}");
    }
    assert_eq!(found(&app, "xq"), Vec::<String>::new());
    let ids = |query: &str| -> Vec<i64> {
        let list = app.get(&format!("/api/v1/users?{query}")).json();
        list["users"].as_array().unwrap().iter().map(|user| user["id"].as_i64().unwrap()).collect()
    };
    let every_fortieth = |last: i64| -> Vec<i64> { (0..50).map(|n| last - 40 * n).collect() };
    assert_eq!(ids("q=emile"), every_fortieth(12_000));
    assert_eq!(ids("q=emile&before=10040"), every_fortieth(10_000));
    assert_eq!(ids("q=emile&after=8000"), every_fortieth(10_000), "the nearest to it, newest first");
    assert_eq!(ids("q=zq&after=7"), [11_001]);
    assert_eq!(ids("q=a").len(), 50);
    assert_eq!(ids("q=%CC%81").len(), 50, "an accent alone is nothing to search for");
}

#[test]
fn an_internationalised_address_is_one_however_it_is_typed() {
    let database = App::database();
    let app = App::on(Postgres::shared().port, &database);
    assert_eq!(register(&app, "Max", "max@müller.example"), 201);
    for same in
        ["MAX@MÜLLER.example", "max@mu\u{308}ller.example", "max@xn--mller-kva.example", "Max@XN--MLLER-KVA.EXAMPLE"]
    {
        assert_eq!(register(&app, "Eve", same), 409, "{same}");
    }
    assert_eq!(app.get("/api/v1/users/1").json()["email"], "max@müller.example");
    assert_eq!(found(&app, "@MULLER"), ["Max"]);
    assert_eq!(register(&app, "Local", "用户@例え.jp"), 201);
    assert_eq!(register(&app, "Local", "用户@xn--r8jz45g.jp"), 409);
    // The version before kept the ASCII form, and may do so while an update rolls.
    Postgres::shared()
        .psql(&database, "INSERT INTO users (name, email, gender) VALUES ('Old', 'Old@xn--strae-oqa.example', 'male')");
    assert_eq!(register(&app, "New", "old@straße.example"), 409);
    let old = app.get("/api/v1/users?q=xn--strae").json()["users"][0]["id"].as_i64().unwrap();
    let put = |id: i64, email: &str| {
        app.json("PUT", &format!("/api/v1/users/{id}"), "", &json!({"name": "A", "email": email}).to_string()).status
    };
    assert_eq!(put(1, "old@straße.example"), 409, "nor by a change");
    assert_eq!(put(old, "old@straße.example"), 200, "but its owner may");
    assert_eq!(put(old, "old@xn--strae-oqa.example"), 200);
    assert_eq!(put(99, "old@straße.example"), 404);
}

#[test]
fn names_that_show_as_nothing_or_reorder_text_are_refused() {
    let app = App::start();
    for (n, name) in
        ["\u{200b}\u{2060}", "\u{3164}", "\u{2800} \u{2800}", "\u{feff}", "gpj\u{202e}exe", "a\u{2067}b", "a\u{2029}b"]
            .iter()
            .enumerate()
    {
        assert_eq!(register(&app, name, &format!("n{n}@case.example")), 422, "{name:?}");
    }
    for (n, name) in ["👩\u{200d}💻 李 محمد", "דנה", "e\u{301}", "नि\u{200d}र"].iter().enumerate() {
        assert_eq!(register(&app, name, &format!("s{n}@case.example")), 201, "{name:?}");
    }
}

#[test]
fn text_of_any_direction_keeps_to_its_place_on_every_page() {
    let database = App::database();
    let app = App::on(Postgres::shared().port, &database);
    // A name from before overrides were refused.
    let name = "דנה \u{202e}\u{2069}x";
    Postgres::shared().psql(
        &database,
        &format!("INSERT INTO users (name, email, gender) VALUES ('{name}', 'דנה@example.org', 'other')"),
    );
    let shown = format!("<bdi>{name}</bdi>");
    let mail = "<bdi>דנה@example.org</bdi>";
    let list = app.get("/users").body;
    assert!(list.contains(&format!("<bdi><a href=\"/users/1\">{name}</a></bdi>")) && list.contains(mail), "{list}");
    let view = app.get("/users/1").body;
    assert!(view.contains(&shown) && view.contains(mail), "{view}");
    assert!(view.contains("<title>\u{2068}דנה x\u{2069} · User registry</title>"), "{view}");
    let delete = app.get("/users/1/delete").body;
    assert!(delete.contains(&format!("Delete {shown}?")) && delete.contains(&format!("{shown} ({mail})")), "{delete}");
    assert!(delete.contains("<title>Delete \u{2068}דנה x\u{2069} ·"), "{delete}");
    let edit = app.get("/users/1/edit").body;
    assert_eq!(edit.matches("dir=\"auto\"").count(), 2, "{edit}");
    let search = app.get(&format!("/users?q={}", encode("אין\u{202e}"))).body;
    assert!(
        search.contains("“<bdi>אין\u{202e}</bdi>”") && search.contains("matching “\u{2068}אין\u{2069}”"),
        "{search}"
    );
}
