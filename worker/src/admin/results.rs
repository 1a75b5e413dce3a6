//! [io] `GET /v1/results` and `GET /v1/results/<table>`: what a client may ask, and how it is answered.
//!
//! A pod that does not coordinate the job passes the question on to the one that does, once: the job's Service may lead a
//! client to any of its pods.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Json, Response};
use reqwest::redirect::Policy;
use rheos_connectors::results::encode::ResultFormat;
use rheos_control_api::paths;

use super::refuse;
use crate::results::{Ask, From, Refusal};
use crate::supervise::handle::Handle;

/// Where a browser's `EventSource` goes on from.
const LAST_EVENT_ID: &str = "last-event-id";
/// Marks a question that another pod has passed on.
const PASSED_ON: &str = "rheos-passed-on";
/// Connecting to that pod may take this long.
const CONNECT: Duration = Duration::from_secs(3);

/// `GET /v1/results`.
pub(super) async fn list(State(handle): State<Handle>, uri: Uri, headers: HeaderMap) -> Response {
    if headers.contains_key(header::ORIGIN) {
        return refuse(StatusCode::FORBIDDEN, super::NO_PAGES);
    }
    match handle.results().view().await {
        Ok(view) => Json(view).into_response(),
        Err(Refusal::Elsewhere(why)) => ask_there(&handle, &uri, &headers, why).await,
        Err(refusal) => refused(refusal),
    }
}

/// `GET /v1/results/<table>[?after=<cursor>][&view=true][&from=oldest|newest][&follow=false][&format=ndjson|sse|arrow]`.
pub(super) async fn stream(
    State(handle): State<Handle>,
    Path(table): Path<String>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    if headers.contains_key(header::ORIGIN) {
        return refuse(StatusCode::FORBIDDEN, super::NO_PAGES);
    }
    let ask = match ask(query.as_deref().unwrap_or_default(), &headers) {
        Ok(ask) => ask,
        Err(problem) => return refuse(StatusCode::BAD_REQUEST, problem),
    };
    match handle.results().subscribe(&table, ask).await {
        Ok(subscription) => {
            let mut response = Response::new(Body::from_stream(subscription.chunks.into_stream()));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(subscription.format.media_type()));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            insert(headers, paths::CURSOR_HEADER, &subscription.cursor.to_string());
            if let Some(rows) = subscription.view_rows {
                insert(headers, paths::VIEW_ROWS_HEADER, &rows.to_string());
            }
            response
        }
        Err(Refusal::Elsewhere(why)) => ask_there(&handle, &uri, &headers, why).await,
        Err(refusal) => refused(refusal),
    }
}

/// Passes a question on to the pod that coordinates the job, and the answer back as it comes.
async fn ask_there(handle: &Handle, uri: &Uri, headers: &HeaderMap, why: String) -> Response {
    let Some(there) = handle.results().elsewhere().filter(|_| !headers.contains_key(PASSED_ON)) else {
        return refused(Refusal::Elsewhere(why));
    };
    let place = match handle.results().place() {
        Ok(place) => place,
        Err(refusal) => return refused(refusal),
    };
    let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let asked = async {
        let client = reqwest::Client::builder().redirect(Policy::none()).no_proxy().connect_timeout(CONNECT).build()?;
        let mut request = client.get(format!("http://{there}{path}")).header(PASSED_ON, "1");
        for name in [header::AUTHORIZATION, header::ACCEPT, HeaderName::from_static(LAST_EVENT_ID)] {
            if let Some(value) = headers.get(&name) {
                request = request.header(name, value);
            }
        }
        request.send().await
    };
    let answer = match asked.await {
        Ok(answer) => answer,
        Err(error) => return refused(Refusal::Busy(format!("the pod that coordinates the job does not answer: {error}"))),
    };
    let (status, given) = (answer.status(), answer.headers().clone());
    let rest = futures::stream::unfold(Some((answer, place)), |this| async move {
        let (mut answer, place) = this?;
        match answer.chunk().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some((answer, place)))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    let mut response = Response::new(Body::from_stream(rest));
    *response.status_mut() = status;
    for name in [header::CONTENT_TYPE.as_str(), header::CACHE_CONTROL.as_str(), paths::CURSOR_HEADER, paths::VIEW_ROWS_HEADER] {
        if let (Ok(name), Some(value)) = (HeaderName::from_bytes(name.as_bytes()), given.get(name)) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

fn refused(refusal: Refusal) -> Response {
    let (status, message) = match refusal {
        Refusal::Elsewhere(message) | Refusal::Conflict(message) => (StatusCode::CONFLICT, message),
        Refusal::NoTable(message) => (StatusCode::NOT_FOUND, message),
        Refusal::Bad(message) => (StatusCode::BAD_REQUEST, message),
        Refusal::Gone(message) => (StatusCode::GONE, message),
        Refusal::Busy(message) => (StatusCode::SERVICE_UNAVAILABLE, message),
    };
    refuse(status, message)
}

fn ask(query: &str, headers: &HeaderMap) -> Result<Ask, String> {
    let (mut after, mut view, mut from, mut follow, mut format) = (None, false, None, true, None);
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match (name, value) {
            ("after", cursor) => after = Some(cursor.parse()?),
            ("view", "true" | "false") => view = value == "true",
            ("follow", "true" | "false") => follow = value == "true",
            ("from", "oldest") => from = Some(From::Oldest),
            ("from", "newest") => from = Some(From::Newest),
            ("format", "ndjson" | "json") => format = Some(ResultFormat::Json),
            ("format", "sse") => format = Some(ResultFormat::Events),
            ("format", "arrow") => format = Some(ResultFormat::Arrow),
            _ => {
                let part: String = part.chars().take(80).collect();
                return Err(format!(
                    "{part:?} is not understood; write after=<cursor>, view=true, from=oldest|newest, follow=false, format=ndjson|sse|arrow"
                ));
            }
        }
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // Where the client has got to in this very stream counts more than where it began.
    if let Some(id) = text(LAST_EVENT_ID).filter(|id| !id.is_empty()) {
        after = Some(id.parse()?);
        view = false;
    }
    let from = match (after, view, from) {
        (Some(_), true, _) | (Some(_), _, Some(_)) | (_, true, Some(_)) => {
            return Err("after, view and from each say where to begin: give one".to_owned());
        }
        (Some(cursor), ..) => From::After(cursor),
        (None, true, _) => From::View,
        (None, false, from) => from.unwrap_or(From::Oldest),
    };
    let format = format.or_else(|| accepted(text(header::ACCEPT.as_str())?)).unwrap_or(ResultFormat::Json);
    Ok(Ask { from, follow, format })
}

/// The first format that a client names.
fn accepted(accept: &str) -> Option<ResultFormat> {
    let formats = [ResultFormat::Json, ResultFormat::Events, ResultFormat::Arrow];
    accept.split(',').find_map(|range| {
        let kind = range.split(';').next().unwrap_or_default().trim();
        formats.into_iter().find(|format| format.media_type() == kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str, headers: &[(&'static str, &'static str)]) -> Result<Ask, String> {
        let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
        ask(query, &headers)
    }

    #[test]
    fn a_client_says_where_to_begin_and_in_which_form() {
        let plain = Ask { from: From::Oldest, follow: true, format: ResultFormat::Json };
        assert_eq!(asked("", &[]), Ok(plain));
        assert_eq!(asked("view=true&format=sse", &[]), Ok(Ask { from: From::View, format: ResultFormat::Events, ..plain }));
        assert_eq!(asked("from=newest&follow=false", &[]), Ok(Ask { from: From::Newest, follow: false, ..plain }));
        let after = From::After("7-3-0000000a".parse().unwrap());
        assert_eq!(asked("after=7-3-0000000a", &[]), Ok(Ask { from: after, ..plain }));
        let events = [("accept", "text/html, text/event-stream;q=0.9"), ("last-event-id", "7-3-0000000a")];
        assert_eq!(asked("view=true", &events), Ok(Ask { from: after, format: ResultFormat::Events, ..plain }), "it had the view before");
        assert_eq!(asked("format=arrow", &events).unwrap().format, ResultFormat::Arrow);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for wrong in [
            "x=1",
            "after=",
            "after=7",
            "view",
            "view=1",
            "format=xml",
            "from=here",
            "after=7-3&view=true",
            "after=7-3&from=newest",
            "view=true&from=oldest",
        ] {
            assert!(asked(wrong, &[]).is_err(), "{wrong}");
        }
    }
}
