//! The process from its start to its orderly end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix_web::rt::{self, System};
use actix_web::web::Data;
use actix_web::{App, HttpServer};
use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::{Shared, VERSION};
use crate::config::Config;
use crate::db::watch::Watch;
use crate::listen::listen;
use crate::metrics::Metrics;
use crate::rate::Limiter;
use crate::{chores, migrations, routes};

/// The time after which an idle client is let go. Longer than the minute after which common proxies
/// let go of theirs, so that it is they who close and no request meets a closing connection.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// The seconds that requests under way have at the end; their own deadline is shorter.
const SHUTDOWN_SECONDS: u64 = 20;
/// The open connections to one thread at most; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;

/// Serves until SIGTERM or SIGINT. Then the pod is not ready any more, the cluster has time to notice, no new
/// connections are taken, and the rest of the requests is answered.
pub fn serve(config: Config) -> Result<()> {
    let started = Instant::now();
    System::new().block_on(async move {
        let metrics = Arc::new(Metrics::default());
        let watch = Watch::new(Arc::clone(&metrics));
        let shared = Arc::new(Shared {
            limiter: Limiter::new(config.rates),
            draining: AtomicBool::new(false),
            watch: Arc::clone(&watch),
            metrics,
            started,
            config,
        });
        let config = &shared.config;
        rt::spawn(watch.run(config.database.clone(), migrations::newest()?));
        rt::spawn(chores::run(Arc::clone(&shared)));

        let for_metrics = routes::metrics_routes(Data::from(Arc::clone(&shared)));
        let mut metrics_server = HttpServer::new(move || App::new().configure(for_metrics.clone()))
            .workers(1)
            .disable_signals()
            .shutdown_timeout(1);
        for listener in listen(&config.metrics_listen)? {
            metrics_server = metrics_server.listen(listener)?;
        }
        let metrics_server = metrics_server.run();
        let for_workers = Arc::clone(&shared);
        let mut server = HttpServer::new(move || routes::application(Arc::clone(&for_workers)))
            .workers(config.workers)
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(Duration::from_secs(10))
            .max_connections(MAX_CONNECTIONS)
            .disable_signals()
            .shutdown_timeout(SHUTDOWN_SECONDS);
        let front = config.front.as_ref().map(|front| front.listen.as_str());
        for address in [config.listen.as_str()].into_iter().chain(front) {
            for listener in listen(address)? {
                server = server.listen(listener)?;
            }
        }
        let server = server.run();
        tracing::info!(version = VERSION, listen = config.listen, front, workers = config.workers, "serving");

        let (handle, metrics_handle) = (server.handle(), metrics_server.handle());
        let serving = rt::spawn(server);
        let serving_metrics = rt::spawn(metrics_server);
        wait_for_the_end().await?;
        tracing::info!("draining");
        shared.draining.store(true, Ordering::Relaxed);
        tokio::time::sleep(shared.config.drain).await;
        handle.stop(true).await;
        serving.await??;
        metrics_handle.stop(false).await;
        serving_metrics.await??;
        tracing::info!("ended in order");
        Ok(())
    })
}

async fn wait_for_the_end() -> Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}
