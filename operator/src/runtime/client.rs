//! [io] The client of the apiserver: kube's own stack, and around it the latency of every request and the freshness of
//! every watch.
//!
//! A watch asks the server to end it after [`WATCH_TIMEOUT`], and is then asked for anew. So a watch that has not been
//! asked for again for clearly longer is one that nobody polls: [`Freshness::stale`] says which, and liveness fails.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::{Layer, Service};

use super::gate::Gate;
use super::metrics::{Metrics, RequestLabels};

/// How long the server keeps one watch request open. Shorter than the idle timeouts of common load balancers (240 s).
pub const WATCH_TIMEOUT: Duration = Duration::from_secs(200);
/// A watch that was not asked for again for this long hangs: its timeout, the longest backoff and room to list.
pub const WATCH_STALE: Duration = Duration::from_secs(330);

/// When each watch was last asked for.
#[derive(Debug, Clone, Default)]
pub struct Freshness {
    asked: Arc<Mutex<BTreeMap<String, Instant>>>,
}

impl Freshness {
    /// The watches, by path and selector, that have not been asked for in `limit`.
    pub fn stale(&self, limit: Duration) -> Vec<String> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|(_, at)| at.elapsed() >= limit).map(|(path, _)| path.clone()).collect()
    }

    /// A watch that lists anew is not one that nobody polls.
    fn renew(&self, path: &str) {
        if let Some(at) = self.asked.lock().unwrap_or_else(PoisonError::into_inner).get_mut(path) {
            *at = Instant::now();
        }
    }

    fn note(&self, path: &str) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), Instant::now());
    }
}

/// A client for `config` that measures; with a gate, one whose writes pass only while this process leads.
///
/// # Errors
/// The TLS settings cannot be used.
pub fn connect(config: Config, observer: &Observer, gate: Option<&Gate>) -> Result<Client, kube::Error> {
    let builder = ClientBuilder::try_from(config)?;
    Ok(match gate {
        Some(gate) => builder.with_layer(gate).with_layer(observer).build(),
        None => builder.with_layer(observer).build(),
    })
}

/// The layer that looks at requests.
#[derive(Debug, Clone)]
pub struct Observer {
    /// Where latencies go.
    pub metrics: Arc<Metrics>,
    /// Where watches are noted.
    pub freshness: Freshness,
}

impl<S> Layer<S> for Observer {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, observer: self.clone() }
    }
}

/// A service that is looked at.
#[derive(Debug, Clone)]
pub struct Observed<S> {
    inner: S,
    observer: Observer,
}

impl<S, B> Service<Request<Body>> for Observed<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (verb, resource) = name(request.method(), request.uri());
        match verb {
            "WATCH" => self.observer.freshness.note(&watched(request.uri())),
            "LIST" => self.observer.freshness.renew(&watched(request.uri())),
            _ => {}
        }
        let metrics = Arc::clone(&self.observer.metrics);
        let started = Instant::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = answer.as_ref().map_or(0, |response| response.status().as_u16());
            let labels = RequestLabels { verb: verb.to_owned(), resource, code };
            metrics.api_seconds.get_or_create(&labels).observe(started.elapsed().as_secs_f64());
            answer
        })
    }
}

/// What tells a watch from another: its path and its selector.
fn watched(uri: &http::Uri) -> String {
    let query = uri.query().unwrap_or_default();
    let selector = query.split('&').find(|pair| pair.starts_with("labelSelector=")).unwrap_or_default();
    format!("{}?{selector}", uri.path())
}

/// The verb as RBAC names it, and the plural with its subresource. Names of objects are left out: they are not bounded.
fn name(method: &Method, uri: &http::Uri) -> (&'static str, String) {
    let parts: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    let skip = match parts.first() {
        Some(&"api") => 2,
        Some(&"apis") => 3,
        _ => return ("OTHER", "other".to_owned()),
    };
    let rest = parts.get(skip..).unwrap_or_default();
    let rest = if rest.first() == Some(&"namespaces") && rest.len() > 2 { &rest[2..] } else { rest };
    let mut resource = rest.first().copied().unwrap_or("other").to_owned();
    if let Some(subresource) = rest.get(2) {
        resource = format!("{resource}/{subresource}");
    }
    let query = uri.query().unwrap_or_default();
    let verb = match *method {
        Method::GET if query.split('&').any(|pair| pair == "watch=true") => "WATCH",
        Method::GET if rest.len() < 2 => "LIST",
        Method::GET => "GET",
        Method::POST => "CREATE",
        Method::PUT => "UPDATE",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    };
    (verb, resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_is_not_asked_for_again_is_stale_and_another_does_not_hide_it() {
        let freshness = Freshness::default();
        let uri = |selector: &str| format!("/api/v1/pods?limit=1&labelSelector={selector}&watch=true").parse().unwrap();
        freshness.note(&watched(&uri("a")));
        freshness.note(&watched(&uri("b")));
        freshness.renew("/api/v1/nodes?");
        assert_eq!(freshness.stale(Duration::ZERO), ["/api/v1/pods?labelSelector=a", "/api/v1/pods?labelSelector=b"]);
        assert!(freshness.stale(WATCH_STALE).is_empty());
    }

    #[test]
    fn requests_are_named_by_verb_and_kind_and_never_by_object() {
        let of = |method: Method, uri: &str| name(&method, &uri.parse().unwrap());
        for (method, uri, verb, resource) in [
            (Method::GET, "/api/v1/pods?watch=true&limit=1", "WATCH", "pods"),
            (Method::GET, "/api/v1/namespaces/a/pods?limit=500", "LIST", "pods"),
            (Method::GET, "/apis/rheos.dev/v1alpha1/namespaces/a/streamjobs/b", "GET", "streamjobs"),
            (Method::PATCH, "/apis/rheos.dev/v1alpha1/namespaces/a/streamjobs/b/status", "PATCH", "streamjobs/status"),
            (Method::POST, "/api/v1/namespaces/a/secrets", "CREATE", "secrets"),
            (Method::GET, "/version", "OTHER", "other"),
        ] {
            assert_eq!(of(method, uri), (verb, resource.to_owned()), "{uri}");
        }
    }
}
