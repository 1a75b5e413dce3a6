//! [io] No write reaches the apiserver from a process that does not lead.
//!
//! A layer of the client that reconciles and events use, so that no caller can forget to ask. Reads pass: a process that
//! waits keeps nothing from anybody. The lease itself is written through a client without this layer.

use std::future::{Future, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Method, Request};
use kube::client::Body;
use tower::{BoxError, Layer, Service};

use super::leader::Leadership;

/// Lets writes pass only while this process leads.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Who is asked before every write.
    pub leadership: Leadership,
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, leadership: self.leadership.clone() }
    }
}

/// A service behind the gate.
#[derive(Debug, Clone)]
pub struct Gated<S> {
    inner: S,
    leadership: Leadership,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Error = BoxError>,
    S::Response: Send + 'static,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.leadership.check() {
            Err(refused) if *request.method() != Method::GET => Box::pin(ready(Err(refused.into()))),
            _ => Box::pin(self.inner.call(request)),
        }
    }
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt, service_fn};

    use super::*;

    async fn passes(leadership: Leadership, method: Method) -> bool {
        let inner = service_fn(|_: Request<Body>| ready(Ok::<_, BoxError>(())));
        let service = Gate { leadership }.layer(inner);
        let request = Request::builder().method(method).uri("/api/v1/pods").body(Body::empty()).unwrap();
        service.oneshot(request).await.is_ok()
    }

    #[tokio::test]
    async fn a_process_that_does_not_lead_reads_and_never_writes() {
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            assert!(passes(Leadership::always(), method.clone()).await);
            assert!(!passes(Leadership::none(), method.clone()).await, "{method}");
        }
        assert!(passes(Leadership::none(), Method::GET).await);
    }
}
