//! The routes, and what all requests pass through.

pub mod api;
mod assets;
pub mod conditions;
mod guard;
mod health;
pub mod listing;
pub mod media;
pub mod pages;
mod position;

use std::sync::Arc;

use actix_web::dev::ServiceResponse;
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, PayloadConfig, ServiceConfig};
use actix_web::{App as ActixApp, Error, HttpRequest, HttpResponse, Resource, Route};

use crate::app::{App, Shared};
use crate::db::DbError;
use crate::problem::{Problem, TOO_SLOW};
use crate::security::MAX_BODY;

/// The API's routes, for the test that holds them against its description.
pub const API: [(&str, &[Method]); 3] = [
    ("/api/v1/users", &[Method::GET, Method::POST]),
    ("/api/v1/users/{id}", &[Method::GET, Method::PUT, Method::DELETE]),
    ("/api/v1/openapi.json", &[Method::GET]),
];

/// Makes one worker thread's application.
pub fn application(
    shared: Arc<Shared>,
) -> ActixApp<
    impl actix_web::dev::ServiceFactory<
        actix_web::dev::ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl actix_web::body::MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    ActixApp::new()
        .app_data(Data::new(App::new(shared)))
        .app_data(PayloadConfig::new(MAX_BODY))
        .configure(routes)
        .default_service(web::to(not_found))
        .wrap(from_fn(guard::guard))
}

/// Makes the metrics port's application.
pub fn metrics_routes(shared: Data<Shared>) -> impl Fn(&mut ServiceConfig) + Clone {
    move |config| {
        config
            .app_data(shared.clone())
            .route("/metrics", web::get().to(health::metrics))
            .route("/metrics", web::head().to(health::metrics));
    }
}

fn routes(config: &mut ServiceConfig) {
    use Method as M;
    config
        .service(at("/healthz", [(M::GET, web::to(health::live))]))
        .service(at("/readyz", [(M::GET, web::to(health::ready))]))
        .service(at("/", [(M::GET, web::to(pages::home))]))
        .service(at("/users", [(M::GET, web::to(pages::list)), (M::POST, web::to(pages::create))]))
        .service(at("/users/new", [(M::GET, web::to(pages::new))]))
        .service(at("/users/{id}", [(M::GET, web::to(pages::view)), (M::POST, web::to(pages::update))]))
        .service(at("/users/{id}/edit", [(M::GET, web::to(pages::edit))]))
        .service(at(
            "/users/{id}/delete",
            [(M::GET, web::to(pages::confirm_delete)), (M::POST, web::to(pages::delete))],
        ))
        .service(at("/info", [(M::GET, web::to(pages::info))]))
        .service(at("/static/app-{digest}.css", [(M::GET, web::to(assets::css))]))
        .service(at("/favicon.svg", [(M::GET, web::to(assets::icon))]))
        .service(at(API[0].0, [(M::GET, web::to(api::list)), (M::POST, web::to(api::create))]))
        .service(at(
            API[1].0,
            [(M::GET, web::to(api::read)), (M::PUT, web::to(api::update)), (M::DELETE, web::to(api::delete))],
        ))
        .service(at(API[2].0, [(M::GET, web::to(api::openapi))]));
}

/// The methods that an address answers to, as the header `Allow` tells them.
#[derive(Debug, Clone)]
struct Allowed(String);

/// Makes the resource of a path. Where it answers to `GET` it does to `HEAD`, and the server leaves the body out.
fn at<const N: usize>(path: &str, routes: [(Method, Route); N]) -> Resource {
    use actix_web::guard::{Any, Get, Head};
    let mut allowed = String::new();
    for (method, _) in &routes {
        allowed.push_str(if *method == Method::GET { "GET, HEAD" } else { method.as_str() });
        allowed.push_str(", ");
    }
    let resource = web::resource(path.to_owned()).app_data(Allowed(allowed + "OPTIONS"));
    let add = |resource: Resource, (method, route): (Method, Route)| match method {
        Method::GET => resource.route(route.guard(Any(Get()).or(Head()))),
        method => resource.route(route.method(method)),
    };
    routes.into_iter().fold(resource, add).default_service(web::to(not_allowed))
}

async fn not_found(app: Data<App>, req: HttpRequest) -> HttpResponse {
    if req.method() == Method::OPTIONS && req.path() == "*" {
        return options("GET, HEAD, POST, PUT, DELETE, OPTIONS");
    }
    error(&app.shared, req.path(), StatusCode::NOT_FOUND, "There is nothing at this address.")
}

async fn not_allowed(app: Data<App>, req: HttpRequest) -> HttpResponse {
    let allowed = req.app_data::<Allowed>().map_or("OPTIONS", |allowed| &allowed.0);
    if req.method() == Method::OPTIONS {
        return options(allowed);
    }
    let text = "This address does not answer to this method.";
    let mut answer = error(&app.shared, req.path(), StatusCode::METHOD_NOT_ALLOWED, text);
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        answer.headers_mut().insert(header::ALLOW, allowed);
    }
    answer
}

fn options(allowed: &str) -> HttpResponse {
    HttpResponse::NoContent().insert_header((header::ALLOW, allowed)).finish()
}

/// Makes an error in the form that the path's visitors understand.
fn error(shared: &Shared, path: &str, status: StatusCode, text: &str) -> HttpResponse {
    if is_api(path) {
        return Problem::new(status, text).response();
    }
    pages::message(shared, status, status.canonical_reason().unwrap_or("Error"), text)
}

/// The answer to a request that the database failed. Only a database that is not reached is worth trying
/// again; the rest is a fault of this program's, and the answer has the number under which the log tells it.
fn failed(app: &App, req: &HttpRequest, error: &DbError) -> HttpResponse {
    match error {
        DbError::Unavailable if is_api(req.path()) => Problem::unavailable().response(),
        DbError::Unavailable => pages::message(
            &app.shared,
            StatusCode::SERVICE_UNAVAILABLE,
            "The database does not answer",
            "It is probably being switched over to another server. Please try again in a moment.",
        ),
        DbError::TooSlow if is_api(req.path()) => Problem::too_slow().response(),
        DbError::TooSlow => {
            pages::message(&app.shared, StatusCode::SERVICE_UNAVAILABLE, "The search took too long", TOO_SLOW)
        }
        DbError::Fault(_) => {
            let id = guard::id_of(req);
            tracing::error!(id, %error, "the request failed");
            let text = format!("The request could not be carried out. The log has the reason under {id}.");
            self::error(&app.shared, req.path(), StatusCode::INTERNAL_SERVER_ERROR, &text)
        }
    }
}

fn is_api(path: &str) -> bool {
    path.starts_with("/api/")
}
