//! [io] Spans to an OpenTelemetry collector, by OTLP over HTTP, if one was named.
//!
//! Spans are sent in batches by a thread of their own: a collector that is away costs the spans that its queue does not
//! hold, and nothing else. The standard variables `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG`, `OTEL_BSP_*` and
//! `OTEL_RESOURCE_ATTRIBUTES` hold.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::registry::LookupSpan;

/// The service in every span.
pub const SERVICE: &str = "rheos-operator";
/// How long one batch may take to be sent.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last batches may take when the process ends.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// Where a collector takes spans, below its address.
const PATH: &str = "/v1/traces";

/// Sends the spans of this process.
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Sends to the collector at `endpoint` (`http://collector:4318`), with the threads of `runtime`.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(endpoint: &str, runtime: Handle) -> Result<Self, String> {
        let client = reqwest::Client::builder().timeout(SEND_TIMEOUT).build().map_err(|error| error.to_string())?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Sender { client, runtime })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}{PATH}", endpoint.trim_end_matches('/')))
            .build()
            .map_err(|error| format!("{endpoint}: {error}"))?;
        let resource = Resource::builder().with_service_name(SERVICE).build();
        Ok(Self { provider: SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build() })
    }

    /// What takes the spans from the program.
    pub fn layer<S: Subscriber + for<'span> LookupSpan<'span>>(&self) -> OpenTelemetryLayer<S, SdkTracer> {
        tracing_opentelemetry::layer().with_tracer(self.provider.tracer(SERVICE))
    }

    /// Sends what is left. Blocks for at most some seconds; the runtime must still turn.
    pub fn finish(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(END_TIMEOUT) {
            tracing::warn!("the last spans were not sent: {error}");
        }
    }
}

/// The client that sends batches. They are made on a thread outside the runtime, and sent inside.
#[derive(Debug)]
struct Sender {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let answer = client.execute(request.try_into()?).await?;
            let response = Response::builder().status(answer.status());
            Ok::<_, HttpError>(response.body(answer.bytes().await?)?)
        });
        sent.await?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::routing::post;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_span_arrives_at_the_collector_with_its_service_and_fields() {
        let got: Arc<Mutex<Vec<u8>>> = Arc::default();
        let heard = Arc::clone(&got);
        let taken = post(move |body: Bytes| async move { heard.lock().unwrap().extend_from_slice(&body) });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, Router::new().route(PATH, taken)).await });
        let traces = Traces::new(&format!("http://{address}/"), Handle::current()).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(traces.layer()), || {
            tracing::info_span!("reconcile", kind = "StreamJob", object = "shop/q5").in_scope(|| {});
        });
        tokio::task::spawn_blocking(move || traces.finish()).await.unwrap();
        let body = String::from_utf8_lossy(&got.lock().unwrap()).into_owned();
        for text in [SERVICE, "reconcile", "StreamJob", "shop/q5"] {
            assert!(body.contains(text), "no {text} in {body:?}");
        }
        serving.abort();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_collector_that_is_away_holds_up_nothing() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let traces = Traces::new(&format!("http://{address}"), Handle::current()).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(traces.layer()), || {
            (0..10_000).for_each(|_| tracing::info_span!("reconcile").in_scope(|| {}));
        });
        let end = tokio::task::spawn_blocking(move || traces.finish());
        tokio::time::timeout(END_TIMEOUT * 5, end).await.unwrap().unwrap();
    }
}
