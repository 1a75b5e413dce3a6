//! The admin API: the contract, and what it refuses.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use rheos_control_api::limits::{BODY_LIMIT, ID_LIMIT};
use rheos_control_api::{ErrorBody, JobView, Phase, SavepointResponse, SavepointView};
use rheos_worker::admin::router;
use tower::ServiceExt;

use crate::fake::Fake;

async fn ask(router: &Router, request: Request<Body>) -> (StatusCode, Vec<u8>) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    (status, to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec())
}

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

fn post(path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::post(path).body(body.into()).unwrap()
}

#[tokio::test]
async fn a_job_is_shown_and_takes_savepoints_and_stops() {
    let fake = Fake::start(2, 2, false, "");
    let router = router(fake.handle.clone(), None);
    fake.until(|view| view.state == Phase::Running).await;
    assert_eq!(ask(&router, get("/healthz")).await.0, StatusCode::OK);
    assert_eq!(ask(&router, get("/readyz")).await.0, StatusCode::OK);
    let (status, body) = ask(&router, get("/v1/job")).await;
    let view: JobView = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, view.state, view.workers.len()), (StatusCode::OK, Phase::Running, 2));
    let (_, metrics) = ask(&router, get("/metrics")).await;
    assert!(String::from_utf8(metrics).unwrap().contains("rheos_job_running{"));

    let poll = tokio::spawn({
        let (router, path) = (router.clone(), format!("/v1/job?after={}", view.version));
        async move { ask(&router, get(&path)).await }
    });
    let (status, body) = ask(&router, post("/v1/savepoints", r#"{"id":"a"}"#)).await;
    let response: SavepointResponse = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, StatusCode::OK);
    assert!(matches!(response.savepoint, SavepointView::Completed { .. }));
    let (_, body) = poll.await.unwrap();
    assert!(serde_json::from_slice::<JobView>(&body).unwrap().version > view.version, "the long poll saw the change");

    let (status, body) = ask(&router, post("/v1/savepoints", "")).await;
    let response: SavepointResponse = serde_json::from_slice(&body).unwrap();
    assert!(status == StatusCode::OK && response.id.starts_with("sp-"), "an id is made up");

    assert_eq!(ask(&router, post("/v1/stop", "")).await.0, StatusCode::ACCEPTED);
    fake.end().await;
    assert_eq!(ask(&router, post("/v1/stop", "")).await.0, StatusCode::CONFLICT);
    assert_eq!(ask(&router, get("/readyz")).await.0, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn bad_requests_are_refused_with_a_reason_and_change_nothing() {
    let fake = Fake::start(1, 2, false, "");
    let router = router(fake.handle.clone(), None);
    fake.until(|view| view.state == Phase::Running).await;
    let long_id = format!(r#"{{"id":"{}"}}"#, "a".repeat(ID_LIMIT + 1));
    let cases = [
        (get("/v1/nothing"), StatusCode::NOT_FOUND),
        (get("/v1/../etc/passwd"), StatusCode::NOT_FOUND),
        (get("/v1/savepoints"), StatusCode::METHOD_NOT_ALLOWED),
        (post("/v1/job", ""), StatusCode::METHOD_NOT_ALLOWED),
        (get("/v1/job?after=x"), StatusCode::BAD_REQUEST),
        (get("/v1/job?before=1"), StatusCode::BAD_REQUEST),
        (post("/v1/savepoints", "{"), StatusCode::BAD_REQUEST),
        (post("/v1/savepoints", r#"{"id":7}"#), StatusCode::BAD_REQUEST),
        (post("/v1/savepoints", r#"{"id":"../a"}"#), StatusCode::BAD_REQUEST),
        (post("/v1/savepoints", r#"{"id":""}"#), StatusCode::BAD_REQUEST),
        (post("/v1/savepoints", r#"{"idd":"a"}"#), StatusCode::BAD_REQUEST),
        (post("/v1/savepoints", long_id), StatusCode::BAD_REQUEST),
        (post("/v1/savepoints", " ".repeat(BODY_LIMIT)), StatusCode::BAD_REQUEST),
        (post("/v1/savepoints", " ".repeat(BODY_LIMIT + 1)), StatusCode::PAYLOAD_TOO_LARGE),
        (Request::post("/v1/stop").header("origin", "http://evil").body(Body::empty()).unwrap(), StatusCode::FORBIDDEN),
    ];
    for (request, expected) in cases {
        let shown = format!("{} {}", request.method(), request.uri());
        let (status, body) = ask(&router, request).await;
        assert_eq!(status, expected, "{shown}");
        let error: ErrorBody = serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{shown}: {error}"));
        assert!(!error.error.is_empty());
    }
    let view = fake.handle.view();
    assert!(view.savepoints.is_empty() && !view.stopping);
    fake.handle.abort().await;
    fake.end().await;
}
