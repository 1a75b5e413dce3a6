//! [io] The admin API of a job: health, readiness, status, metrics, savepoint, stop, results; of a pod: assignment, leave.
//!
//! The contract is [`rheos_control_api`]. Everything is bounded: bodies, requests at a time, waiting. No request names
//! a file. A request that carries an `Origin` comes from a web page and is refused: pages may reach the loopback too.
//! With a token, only whether the process lives is told without it.

pub mod metric_names;
pub mod metrics;
mod results;

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
use axum::routing::{get, post, put};
use axum::serve::ListenerExt;
use rheos_control_api::limits::{self, BODY_LIMIT, CONCURRENCY_LIMIT, POLL_LIMIT, SAVEPOINT_WAIT};
use rheos_control_api::{ErrorBody, Phase, SavepointRequest, SavepointResponse, SavepointView, Token, paths};
use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::supervise::driver::wall_millis;
use crate::supervise::handle::{Handle, Refusal};

/// Media type of the metrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a request of a web page is told.
const NO_PAGES: &str = "requests of web pages are not served";
/// A connection that takes nothing for so long is closed by the kernel, with all that waits for it.
const DEAD_CLIENT: Duration = Duration::from_secs(60);

/// A server at work.
#[derive(Debug)]
pub struct Serving {
    task: JoinHandle<()>,
    end: Arc<Notify>,
}

impl Serving {
    /// Lets clients have what they are being sent, at most for so long, and ends.
    pub async fn end(mut self, patience: Duration) {
        self.end.notify_one();
        if timeout_at(deadline(patience), &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// Serves until it is ended, to everybody who reaches it. Gives the address, with its port.
///
/// # Errors
/// The address cannot be bound.
pub async fn serve(address: SocketAddr, handle: Handle) -> Result<(SocketAddr, Serving), String> {
    let describe = |error: std::io::Error| format!("the admin API cannot listen on {address}: {error}");
    make_room();
    let listener = TcpListener::bind(address).await.map_err(describe)?;
    let bound = listener.local_addr().map_err(describe)?;
    let end = Arc::new(Notify::new());
    let ended = Arc::clone(&end);
    let task = tokio::spawn(async move {
        let server = axum::serve(listener.tap_io(watch_over), router(handle, None));
        if let Err(error) = server.with_graceful_shutdown(async move { ended.notified().await }).await {
            tracing::error!(%error, "the admin API has ended");
        }
    });
    Ok((bound, Serving { task, end }))
}

/// Each client of results is an open file: as many as the system lets this process have.
fn make_room() {
    let files = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

fn watch_over(stream: &mut TcpStream) {
    let give_up = |stream: &TcpStream| Ok(sockopt::set_tcp_user_timeout(stream, DEAD_CLIENT.as_millis() as u32)?);
    if let Err(error) = stream.set_nodelay(true).and_then(|()| give_up(stream)) {
        tracing::debug!(%error, "a connection of the admin API cannot be set up");
    }
}

/// Serves for ever; with a token, to those who have it.
pub async fn serve_on(listener: TcpListener, handle: Handle, token: Option<Token>) {
    make_room();
    if let Err(error) = axum::serve(listener.tap_io(watch_over), router(handle, token)).await {
        tracing::error!(%error, "the admin API has ended");
    }
}

/// The API over a supervisor, or over a pod.
pub fn router(handle: Handle, token: Option<Token>) -> Router {
    let limited = Router::new()
        .route(paths::METRICS, get(metrics))
        .route(paths::JOB, get(job))
        .route(paths::SAVEPOINTS, post(savepoint))
        .route(paths::STOP, post(stop))
        .route(paths::ASSIGNMENT, put(assign))
        .route_layer(from_fn_with_state(Arc::new(Semaphore::new(CONCURRENCY_LIMIT)), limit));
    // Probes are outside the limit: a flood of questions must not get the process restarted. So is the way out.
    let guarded = Router::new()
        .route(paths::READY, get(ready))
        .route(paths::LEAVE, post(leave))
        // Streams last for long, and have a limit of their own.
        .route(paths::RESULTS, get(results::list))
        .route(&format!("{}/{{table}}", paths::RESULTS), get(results::stream))
        .merge(limited)
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "there is nothing here") })
        .method_not_allowed_fallback(|| async { refuse(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method") })
        .layer(from_fn_with_state(token.map(Arc::new), guard));
    Router::new().route(paths::HEALTH, get(|| async { "ok\n" })).merge(guarded).layer(DefaultBodyLimit::max(BODY_LIMIT)).with_state(handle)
}

/// Lets those pass who have the token.
async fn guard(State(token): State<Option<Arc<Token>>>, request: Request, next: Next) -> Response {
    let Some(token) = token else { return next.run(request).await };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match given.and_then(|given| given.strip_prefix("Bearer ")) {
        Some(given) if token.matches(given) => next.run(request).await,
        _ => {
            let refusal = refuse(StatusCode::UNAUTHORIZED, "this needs the job's token: Authorization: Bearer <token>");
            ([(header::WWW_AUTHENTICATE, "Bearer")], refusal).into_response()
        }
    }
}

fn refuse(status: StatusCode, error: impl Into<String>) -> Response {
    (status, Json(ErrorBody { error: error.into() })).into_response()
}

async fn limit(State(semaphore): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        return refuse(StatusCode::FORBIDDEN, NO_PAGES);
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
    let text = metrics::render(&handle.view(), handle.results().figures(), wall_millis());
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

/// `PUT /v1/assignment`.
async fn assign(State(handle): State<Handle>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return refuse(rejection.status(), format!("the body cannot be read; at most {BODY_LIMIT} bytes are")),
    };
    match serde_json::from_slice(&body) {
        Ok(assignment) => answer(&handle, handle.assign(assignment).await),
        Err(error) => refuse(StatusCode::BAD_REQUEST, format!("the body is no assignment: {error}")),
    }
}

/// `POST /v1/leave`.
async fn leave(State(handle): State<Handle>) -> Response {
    answer(&handle, handle.leave().await)
}

fn answer(handle: &Handle, result: Result<(), Refusal>) -> Response {
    let status = match &result {
        Ok(()) => return Json(handle.view()).into_response(),
        Err(Refusal::Invalid(_)) => StatusCode::BAD_REQUEST,
        Err(Refusal::Conflict(_)) => StatusCode::CONFLICT,
        Err(Refusal::Failed(_)) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    refuse(status, result.err().map(Refusal::into_message).unwrap_or_default())
}

fn deadline(after: Duration) -> Instant {
    Instant::now() + after
}
