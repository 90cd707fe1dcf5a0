//! The API's description, held against the routes and their answers.

use std::collections::BTreeSet;

use actix_web::http::Method;
use serde_json::Value;
use testbed::http::Answer;
use user_app::routes::API;

use crate::support::app::App;

fn document() -> Value {
    serde_json::from_str(user_app::routes::api::OPENAPI).unwrap()
}

#[test]
fn it_lists_every_route_and_no_other() {
    let described: BTreeSet<(String, String)> = document()["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().filter(|k| *k != "parameters").map(|m| (path.clone(), m.to_uppercase()))
        })
        .collect();
    let routed: BTreeSet<(String, String)> =
        API.iter().flat_map(|(path, methods)| methods.iter().map(|m| ((*path).to_owned(), m.to_string()))).collect();
    assert_eq!(described, routed);

    // And the list of routes is what the program answers to.
    let app = App::start();
    assert_eq!(app.get("/api/v1/openapi.json").json(), document());
    for (path, methods) in API {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let status = app.send(method.as_str(), &path.replace("{id}", "1"), &[], "").status;
            assert_eq!(status != 405, methods.contains(&method), "{method} {path}: {status}");
        }
    }
}

#[test]
fn answers_are_as_described() {
    let app = App::start();
    let document = document();
    let user = r#"{"name":"Ada","email":"ada@example.org"}"#;
    let (all, one) = ("/api/v1/users", "/api/v1/users/{id}");
    let calls: [(&str, &str, &str, &str, u16); 17] = [
        ("post", all, all, user, 201),
        ("post", all, all, user, 409),
        ("post", all, all, "{", 400),
        ("post", all, all, r#"{"name":"","email":""}"#, 422),
        ("get", all, all, "", 200),
        ("get", all, "/api/v1/users?limit=1&q=ada", "", 200),
        ("get", all, "/api/v1/users?limit=0", "", 400),
        ("get", one, "/api/v1/users/1", "", 200),
        ("get", one, "/api/v1/users/2", "", 404),
        ("put", one, "/api/v1/users/1", user, 200),
        ("put", one, "/api/v1/users/2", user, 404),
        ("put", one, "/api/v1/users/1", "[]", 400),
        ("put", one, "/api/v1/users/1", r#"{"name":"Ada","email":"x"}"#, 422),
        ("delete", one, "/api/v1/users/1", "", 204),
        ("delete", one, "/api/v1/users/1", "", 404),
        ("get", one, "/api/v1/users/x", "", 404),
        ("get", "/api/v1/openapi.json", "/api/v1/openapi.json", "", 200),
    ];
    for (method, path, address, body, status) in calls {
        let answer = app.json(&method.to_uppercase(), address, "", body);
        assert_eq!(answer.status, status, "{method} {address}: {answer:?}");
        conforms(&document, &document["paths"][path][method]["responses"][status.to_string()], &answer);
    }
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => {
            resolve(document, document.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference} leads nowhere")))
        }
        None => value,
    }
}

fn conforms(document: &Value, described: &Value, answer: &Answer) {
    let described = resolve(document, described);
    assert!(described.is_object(), "status {} is not described", answer.status);
    let Some(content) = described["content"].as_object() else {
        assert!(answer.body.is_empty(), "{answer:?}");
        return;
    };
    let schema = content.get(answer.header("content-type")).unwrap_or_else(|| panic!("not described: {answer:?}"));
    check(document, &schema["schema"], &answer.json(), "answer");
    for name in described["headers"].as_object().into_iter().flatten().map(|(name, _)| name.to_lowercase()) {
        let optional = ["x-data-stale", "x-data-position", "idempotency-replayed"].contains(&name.as_str());
        assert!(optional || !answer.header(&name).is_empty(), "no {name}: {answer:?}");
    }
}

/// The part of JSON Schema that the document uses.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    let schema = resolve(document, schema);
    let fits = match schema["type"].as_str().unwrap_or_else(|| panic!("{at}: no type in {schema}")) {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "boolean" => value.is_boolean(),
        other => panic!("{at}: type {other}"),
    };
    assert!(fits, "{at}: {value} is no {}", schema["type"]);
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{at}: {value}");
    }
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(value.get(required.as_str().unwrap()).is_some(), "{at}: no {required}");
    }
    for item in value.as_array().into_iter().flatten() {
        check(document, &schema["items"], item, &format!("{at}[]"));
    }
    if let (Some(members), Some(properties)) = (value.as_object(), schema["properties"].as_object()) {
        for (name, member) in members {
            let described = properties.get(name).unwrap_or_else(|| panic!("{at}.{name} is not described"));
            check(document, described, member, &format!("{at}.{name}"));
        }
    }
}
