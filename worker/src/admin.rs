//! [io] The admin API of a job: health, readiness, status, metrics, savepoint, stop.
//!
//! The contract is [`rheos_control_api`]. Everything is bounded: bodies, requests at a time, waiting. No request names
//! a file. A request that carries an `Origin` comes from a web page and is refused: pages may reach the loopback too.

pub mod metric_names;
pub mod metrics;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, RawQuery, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use rheos_control_api::limits::{self, BODY_LIMIT, CONCURRENCY_LIMIT, POLL_LIMIT, SAVEPOINT_WAIT};
use rheos_control_api::{ErrorBody, Phase, SavepointRequest, SavepointResponse, SavepointView, paths};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::supervise::driver::{Handle, wall_millis};

/// Media type of the metrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until the task is aborted. Gives the address, with its port.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(address: SocketAddr, handle: Handle) -> Result<(SocketAddr, JoinHandle<()>), String> {
    let describe = |error: std::io::Error| format!("the admin API cannot listen on {address}: {error}");
    let listener = TcpListener::bind(address).await.map_err(describe)?;
    let bound = listener.local_addr().map_err(describe)?;
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router(handle)).await {
            tracing::error!(%error, "the admin API has ended");
        }
    });
    Ok((bound, task))
}

/// The API over a supervisor.
pub fn router(handle: Handle) -> Router {
    let limited = Router::new()
        .route(paths::METRICS, get(metrics))
        .route(paths::JOB, get(job))
        .route(paths::SAVEPOINTS, post(savepoint))
        .route(paths::STOP, post(stop))
        .route_layer(from_fn_with_state(Arc::new(Semaphore::new(CONCURRENCY_LIMIT)), limit));
    // Probes are outside the limit: a flood of questions must not get the process restarted.
    Router::new()
        .route(paths::HEALTH, get(|| async { "ok\n" }))
        .route(paths::READY, get(ready))
        .merge(limited)
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "there is nothing here") })
        .method_not_allowed_fallback(|| async { refuse(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method") })
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(handle)
}

fn refuse(status: StatusCode, error: impl Into<String>) -> Response {
    (status, Json(ErrorBody { error: error.into() })).into_response()
}

async fn limit(State(semaphore): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        return refuse(StatusCode::FORBIDDEN, "requests of web pages are not served");
    }
    match semaphore.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, format!("{CONCURRENCY_LIMIT} requests are being served; try again")),
    }
}

async fn ready(State(handle): State<Handle>) -> Response {
    match handle.view().state {
        Phase::Running => "ready\n".into_response(),
        state => (StatusCode::SERVICE_UNAVAILABLE, format!("{state:?}\n")).into_response(),
    }
}

async fn metrics(State(handle): State<Handle>) -> Response {
    let text = metrics::render(&handle.view(), wall_millis());
    ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response()
}

/// `GET /v1/job[?after=<version>]`.
async fn job(State(handle): State<Handle>, RawQuery(query): RawQuery) -> Response {
    let after = match query.as_deref().unwrap_or_default() {
        "" => None,
        query => match query.strip_prefix("after=").and_then(|version| version.parse::<u64>().ok()) {
            Some(version) => Some(version),
            None => return refuse(StatusCode::BAD_REQUEST, "the query is not understood; write ?after=<version>"),
        },
    };
    if let Some(after) = after {
        let mut watch = handle.watch();
        // Answered as it is when nothing changes, or when the job has ended and nothing ever will.
        let _ = timeout_at(deadline(POLL_LIMIT), watch.wait_for(|view| view.version > after)).await;
    }
    Json(handle.view()).into_response()
}

/// `POST /v1/savepoints`.
async fn savepoint(State(handle): State<Handle>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return refuse(rejection.status(), format!("the body cannot be read; at most {BODY_LIMIT} bytes are")),
    };
    let request = match body.as_ref() {
        b"" => Ok(SavepointRequest::default()),
        bytes => serde_json::from_slice(bytes),
    };
    let id = match request {
        Ok(SavepointRequest { id: Some(id) }) => id,
        Ok(SavepointRequest { id: None }) => format!("sp-{}", wall_millis()),
        Err(error) => return refuse(StatusCode::BAD_REQUEST, format!("the body is no savepoint request: {error}")),
    };
    if !limits::is_id(&id) {
        let rule = format!("the id is not valid; use 1 to {} lower-case letters, digits and inner dashes", limits::ID_LIMIT);
        return refuse(StatusCode::BAD_REQUEST, rule);
    }
    let mut watch = handle.watch();
    let mut savepoint = match handle.savepoint(id.clone()).await {
        Ok(savepoint) => savepoint,
        Err(problem) => return refuse(StatusCode::CONFLICT, problem),
    };
    let decided = |savepoint: Option<&SavepointView>| savepoint.is_some_and(|savepoint| *savepoint != SavepointView::Pending);
    if savepoint == SavepointView::Pending
        && let Ok(Ok(view)) = timeout_at(deadline(SAVEPOINT_WAIT), watch.wait_for(|view| decided(view.savepoints.get(&id)))).await
        && let Some(now) = view.savepoints.get(&id)
    {
        savepoint = now.clone();
    }
    match savepoint {
        SavepointView::Pending => (StatusCode::ACCEPTED, Json(SavepointResponse { id, savepoint })).into_response(),
        SavepointView::Completed { .. } => Json(SavepointResponse { id, savepoint }).into_response(),
        SavepointView::Failed { reason } => refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("savepoint {id} failed: {reason}")),
    }
}

/// `POST /v1/stop`.
async fn stop(State(handle): State<Handle>) -> Response {
    if !handle.stop().await {
        return refuse(StatusCode::CONFLICT, "the job has ended");
    }
    (StatusCode::ACCEPTED, Json(handle.view())).into_response()
}

fn deadline(after: Duration) -> Instant {
    Instant::now() + after
}
