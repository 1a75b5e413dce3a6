//! [io] Liveness, readiness and metrics over HTTP.
//!
//! Alive: every reconcile loop turns and no watch hangs, so that a controller that silently stopped is restarted. Ready:
//! the process reconciles, or waits for a lease that another one holds; not yet while the lease cannot be read or the first
//! lists are not complete, so that a right that was not given fails the installation. Only a deadlock fails liveness, never
//! a slow apiserver.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use super::client::{Freshness, WATCH_STALE};

/// A reconcile loop that did not turn for this long is stuck: longer than the deadline of one reconcile.
pub const LOOP_STALE: Duration = Duration::from_secs(180);

/// Says how long a loop has not turned.
pub type Canary = Box<dyn Fn() -> Duration + Send + Sync>;

/// What the process waits for before it is of use. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Readiness {
    missing: Arc<Mutex<Option<String>>>,
}

impl Default for Readiness {
    /// A process that has just begun.
    fn default() -> Self {
        Self { missing: Arc::new(Mutex::new(Some("the process starts".to_owned()))) }
    }
}

impl Readiness {
    /// It reconciles, or another process does.
    pub fn ready(&self) {
        self.set(None);
    }

    /// It cannot do its work before this is there.
    pub fn waits_for(&self, what: impl Into<String>) {
        self.set(Some(what.into()));
    }

    /// What is missing.
    pub fn missing(&self) -> Option<String> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, missing: Option<String>) {
        *self.missing.lock().unwrap_or_else(PoisonError::into_inner) = missing;
    }
}

/// What the probes look at.
pub struct Health {
    readiness: Readiness,
    canaries: Vec<(&'static str, Canary)>,
    freshness: Freshness,
    registry: Registry,
}

impl Health {
    /// `canaries` name the loops.
    pub fn new(readiness: Readiness, canaries: Vec<(&'static str, Canary)>, freshness: Freshness, registry: Registry) -> Self {
        Self { readiness, canaries, freshness, registry }
    }

    /// What hangs; nothing when the process is well.
    pub fn complaints(&self) -> Vec<String> {
        let loops = self.canaries.iter().filter_map(|(name, quiet)| {
            let quiet = quiet();
            (quiet >= LOOP_STALE).then(|| format!("the loop of {name} has not turned for {} s", quiet.as_secs()))
        });
        let watches = self.freshness.stale(WATCH_STALE);
        loops.chain(watches.into_iter().map(|path| format!("the watch {path} hangs"))).collect()
    }
}

/// The paths: `/healthz`, `/readyz`, `/metrics`.
pub fn router(health: Arc<Health>) -> Router {
    Router::new().route("/healthz", get(alive)).route("/readyz", get(ready)).route("/metrics", get(metrics)).with_state(health)
}

/// Serves until the process ends.
///
/// # Errors
/// The listener broke.
pub async fn serve(listener: TcpListener, health: Arc<Health>) -> std::io::Result<()> {
    axum::serve(listener, router(health)).await
}

async fn alive(State(health): State<Arc<Health>>) -> Response {
    let complaints = health.complaints();
    if complaints.is_empty() {
        return "alive\n".into_response();
    }
    for complaint in &complaints {
        tracing::error!("not alive: {complaint}");
    }
    (StatusCode::SERVICE_UNAVAILABLE, complaints.join("\n")).into_response()
}

async fn ready(State(health): State<Arc<Health>>) -> Response {
    match health.readiness.missing() {
        None => "ready\n".into_response(),
        Some(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")).into_response(),
    }
}

async fn metrics(State(health): State<Arc<Health>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &health.registry) {
        Ok(()) => ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::runtime::metrics::{KindLabels, Metrics};

    async fn ask(health: &Arc<Health>, path: &str) -> (StatusCode, String) {
        let request = http::Request::get(path).body(axum::body::Body::empty()).unwrap();
        let response = router(Arc::clone(health)).oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_loop_that_stopped_turning_fails_liveness_and_nothing_else() {
        let (metrics, registry) = Metrics::new();
        metrics.queue_depth.get_or_create(&KindLabels { kind: "StreamJob" }).set(7);
        let stuck: Canary = Box::new(|| LOOP_STALE);
        let readiness = Readiness::default();
        let health = Arc::new(Health::new(readiness.clone(), vec![("StreamJob", stuck)], Freshness::default(), registry));
        let (status, text) = ask(&health, "/healthz").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("StreamJob"), "{text}");
        readiness.ready();
        assert_eq!(ask(&health, "/readyz").await.0, StatusCode::OK);
        let (_, text) = ask(&health, "/metrics").await;
        assert!(text.contains("rheos_operator_queue_depth{kind=\"StreamJob\"} 7"), "{text}");
    }

    #[tokio::test]
    async fn a_process_that_waits_for_something_is_not_ready_and_says_for_what() {
        let readiness = Readiness::default();
        let health = Arc::new(Health::new(readiness.clone(), Vec::new(), Freshness::default(), Registry::default()));
        assert_eq!(ask(&health, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        readiness.waits_for("the first lists of Pod");
        let (status, text) = ask(&health, "/readyz").await;
        assert_eq!((status, text.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "the first lists of Pod\n"));
        assert_eq!(ask(&health, "/healthz").await.0, StatusCode::OK);
        readiness.ready();
        assert_eq!(ask(&health, "/readyz").await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_process_whose_loops_turn_is_alive() {
        let turning: Canary = Box::new(|| Duration::from_secs(1));
        let health = Arc::new(Health::new(Readiness::default(), vec![("StreamJob", turning)], Freshness::default(), Registry::default()));
        assert_eq!(ask(&health, "/healthz").await.0, StatusCode::OK);
    }
}
