//! The probes of the cluster: is the process alive, and should requests come here?

use actix_web::{HttpResponse, web};

use crate::app::{App, Shared, VERSION};

/// Answers the liveness probe. It never asks the database: a restart would not bring it back.
pub async fn live() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("ok\n")
}

/// Answers the readiness probe, with the reason where the pod is not ready.
pub async fn ready(app: web::Data<App>) -> HttpResponse {
    if app.shared.is_ready() {
        return HttpResponse::Ok().content_type("text/plain").body("ready\n");
    }
    let reason = if app.shared.is_draining() {
        "shutting down".to_owned()
    } else {
        app.shared.watch.view().reason.unwrap_or_else(|| "the database has not answered yet".into())
    };
    tracing::debug!(reason, "not ready");
    // The reason stays in the log: it may name hosts.
    HttpResponse::ServiceUnavailable().content_type("text/plain").body("not ready\n")
}

/// Answers with the text for Prometheus, on its own port.
pub async fn metrics(shared: web::Data<Shared>) -> HttpResponse {
    let text = shared.metrics.render(VERSION, &shared.config.pod);
    HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text)
}
