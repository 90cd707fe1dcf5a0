//! The routes, and what all requests pass through.

pub mod api;
mod assets;
mod guard;
mod health;
pub mod listing;
pub mod pages;

use std::sync::Arc;

use actix_web::dev::ServiceResponse;
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, PayloadConfig, ServiceConfig};
use actix_web::{App as ActixApp, Error, HttpRequest, HttpResponse, Resource, Route};

use crate::app::{App, Shared};
use crate::db::DbError;
use crate::problem::Problem;
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
        config.app_data(shared.clone()).route("/metrics", web::get().to(health::metrics));
    }
}

fn routes(config: &mut ServiceConfig) {
    let at = |path: &str, routes: Vec<Route>| {
        routes.into_iter().fold(web::resource(path.to_owned()), Resource::route).default_service(web::to(not_allowed))
    };
    config
        .service(at("/healthz", vec![get().to(health::live)]))
        .service(at("/readyz", vec![get().to(health::ready)]))
        .service(at("/", vec![get().to(pages::home)]))
        .service(at("/users", vec![get().to(pages::list), web::post().to(pages::create)]))
        .service(at("/users/new", vec![get().to(pages::new)]))
        .service(at("/users/{id}", vec![get().to(pages::view), web::post().to(pages::update)]))
        .service(at("/users/{id}/edit", vec![get().to(pages::edit)]))
        .service(at("/users/{id}/delete", vec![get().to(pages::confirm_delete), web::post().to(pages::delete)]))
        .service(at("/info", vec![get().to(pages::info)]))
        .service(at("/static/app-{digest}.css", vec![get().to(assets::css)]))
        .service(at("/favicon.svg", vec![get().to(assets::icon)]))
        .service(at(API[0].0, vec![get().to(api::list), web::post().to(api::create)]))
        .service(at(API[1].0, vec![get().to(api::read), web::put().to(api::update), web::delete().to(api::delete)]))
        .service(at(API[2].0, vec![get().to(api::openapi)]));
}

/// The route of `GET`; `HEAD` is answered like it, and the server leaves the body out.
fn get() -> Route {
    use actix_web::guard::{Any, Get, Head};
    web::route().guard(Any(Get()).or(Head()))
}

async fn not_found(app: Data<App>, req: HttpRequest) -> HttpResponse {
    error(&app.shared, req.path(), StatusCode::NOT_FOUND, "There is nothing at this address.")
}

async fn not_allowed(app: Data<App>, req: HttpRequest) -> HttpResponse {
    error(&app.shared, req.path(), StatusCode::METHOD_NOT_ALLOWED, "This address does not answer to this method.")
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
