//! [io] The live figures of a job: its coordinator's admin API, reached through the apiserver.
//!
//! The way is a port-forward, the one of `kubectl port-forward`: a WebSocket to the apiserver, from there to the kubelet,
//! and into the pod. The apiserver's pod proxy would be simpler and does not do: it uses the request's `Authorization`
//! up for itself, and it comes from the control plane's network, which policies and clouds keep apart from pods. So the
//! job's token travels encrypted and is seen by nobody on the way; a person needs the right to forward ports and to read
//! the one Secret.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::Portforwarder;
use kube::{Api, ResourceExt};
use rheos_api::kube::StreamJob;
use rheos_control_api::limits::RESPONSE_LIMIT;
use rheos_control_api::{ErrorBody, JobView, ResultsView, Token, paths};
use rheos_operator::build::secret::TOKEN_KEY;
use rheos_operator::{build, labels, names};
use tokio::task::JoinHandle;

use super::cluster::{Cluster, ask};
use crate::pages::status::PodLine;

/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// A way to the coordinator of a job.
pub struct Live {
    pods: Api<Pod>,
    pod: String,
    token: Token,
}

impl Live {
    /// Finds the coordinator and the token.
    ///
    /// # Errors
    /// Why there are no live figures: nothing runs, or the rights do not suffice.
    pub async fn find(cluster: &Cluster, job: &StreamJob) -> Result<Self, String> {
        let assigned = job.status.as_ref().and_then(|status| status.assigned.as_ref());
        let pod = assigned.map(|assigned| assigned.coordinator.clone()).filter(|pod| !pod.is_empty());
        let pod = pod.ok_or("no pod leads the job now")?;
        let name = names::token(&job.name_any(), &job.uid().unwrap_or_default());
        let secret = ask(&format!("reading the job's token (Secret {name})"), cluster.api::<Secret>().get(&name)).await;
        let secret = secret.map_err(|failure| failure.to_string())?;
        let bytes = secret.data.unwrap_or_default().remove(TOKEN_KEY).ok_or_else(|| format!("Secret {name} has no key {TOKEN_KEY}"))?;
        let token = Token::parse(&String::from_utf8_lossy(&bytes.0)).map_err(|why| format!("Secret {name}: {why}"))?;
        Ok(Self { pods: cluster.api(), pod, token })
    }

    /// The job as its coordinator sees it.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub async fn job(&self) -> Result<JobView, String> {
        let bytes = self.get(paths::JOB).await?;
        serde_json::from_slice(&bytes).map_err(|error| format!("pod {} gave an answer that cannot be read: {error}", self.pod))
    }

    /// The coordinator's metrics, as Prometheus reads them.
    ///
    /// # Errors
    /// Why they cannot be had.
    pub async fn metrics(&self) -> Result<String, String> {
        Ok(String::from_utf8_lossy(&self.get(paths::METRICS).await?).into_owned())
    }

    /// The token, to keep it out of what is written.
    pub fn secret(&self) -> &str {
        self.token.reveal()
    }

    /// The results tables of the job.
    ///
    /// # Errors
    /// Why they cannot be had.
    pub async fn results(&self) -> Result<ResultsView, Refused> {
        let bytes = self.ask(paths::RESULTS).await?;
        let unreadable = |error| Refused { status: None, why: format!("pod {} gave an answer that cannot be read: {error}", self.pod) };
        serde_json::from_slice(&bytes).map_err(unreadable)
    }

    /// The rows of a table, from now to the end of the connection.
    ///
    /// # Errors
    /// Why they cannot be had.
    pub async fn stream(&self, table: &str, query: &str) -> Result<Streaming, Refused> {
        self.open(&format!("{}/{table}?{query}", paths::RESULTS)).await
    }

    async fn get(&self, path: &str) -> Result<Bytes, String> {
        self.ask(path).await.map_err(|refused| refused.why)
    }

    async fn ask(&self, path: &str) -> Result<Bytes, Refused> {
        let whole = async {
            let Streaming { body, pod, .. } = &mut self.open(path).await?;
            let body = Limited::new(body, RESPONSE_LIMIT).collect().await;
            body.map(|body| body.to_bytes())
                .map_err(|error| Refused { status: None, why: format!("the answer of pod {pod} broke off: {error}") })
        };
        self.in_time(whole).await
    }

    async fn in_time<T>(&self, answer: impl Future<Output = Result<T, Refused>>) -> Result<T, Refused> {
        let late = || Refused { status: None, why: format!("pod {} did not answer within {} s", self.pod, LOOK_TIMEOUT.as_secs()) };
        tokio::time::timeout(LOOK_TIMEOUT, answer).await.unwrap_or_else(|_| Err(late()))
    }

    /// Asks, and gives the answer when it begins.
    async fn open(&self, path: &str) -> Result<Streaming, Refused> {
        self.in_time(self.begin(path)).await
    }

    async fn begin(&self, path: &str) -> Result<Streaming, Refused> {
        let why = |why: String| Refused { status: None, why };
        let port = build::ADMIN_PORT as u16;
        let forward = self.pods.portforward(&self.pod, &[port]).await;
        let forward =
            forward.map_err(|error| why(super::cluster::refusal(&format!("forwarding a port of pod {}", self.pod), &error).to_string()))?;
        let mut forward = Forward(forward);
        let stream = forward.0.take_stream(port).ok_or_else(|| why("the port was not forwarded".to_owned()))?;
        let problem = forward.0.take_error(port);
        let silent = |error: hyper::Error| why(format!("pod {} does not answer: {error}", self.pod));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(silent)?;
        let connection = Connection(tokio::spawn(async move { drop(connection.await) }));
        let request = Request::get(path)
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.reveal()))
            .body(Empty::<Bytes>::new())
            .map_err(|error| why(format!("no request: {error}")))?;
        // The kubelet tells on a channel of its own why a port cannot be reached.
        let told = async {
            match problem {
                Some(problem) => match problem.await {
                    Some(told) => told,
                    None => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        let response = tokio::select! {
            response = sender.send_request(request) => response.map_err(silent)?,
            told = told => return Err(why(format!("pod {}: {told}", self.pod))),
        };
        let status = response.status();
        let cursor = response.headers().get(paths::CURSOR_HEADER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut streaming =
            Streaming { cursor, body: response.into_body(), pod: self.pod.clone(), _connection: connection, _forward: forward };
        if status.is_success() {
            return Ok(streaming);
        }
        let body = Limited::new(&mut streaming.body, RESPONSE_LIMIT).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let told = serde_json::from_slice::<ErrorBody>(&body).map_or_else(|_| status.to_string(), |body| body.error);
        Err(Refused { status: Some(status.as_u16()), why: format!("pod {} refuses ({}): {told}", self.pod, status.as_u16()) })
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Refused {
    /// Of the pod's answer, if it gave one.
    pub status: Option<u16>,
    /// In words.
    pub why: String,
}

/// An answer that comes bit by bit.
pub struct Streaming {
    /// Behind which its changes come, of results.
    pub cursor: Option<String>,
    body: Incoming,
    pod: String,
    _connection: Connection,
    _forward: Forward,
}

impl Streaming {
    /// The next bytes; nothing at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(bytes) => return Some(Ok(bytes)),
                    Err(_) => continue, // trailers
                },
                Err(error) => return Some(Err(format!("the answer of pod {} broke off: {error}", self.pod))),
            }
        }
    }
}

/// A connection that ends with its value.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A forward that ends with its value.
struct Forward(Portforwarder);

impl Drop for Forward {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The live view of a job, or why there is none.
///
/// # Errors
/// Why there is none.
pub async fn view(cluster: &Cluster, job: &StreamJob) -> Result<JobView, String> {
    Live::find(cluster, job).await?.job().await
}

/// The process that a pod hosts.
pub fn index(pod: &Pod) -> Option<u32> {
    pod.labels().get(labels::INDEX)?.parse().ok()
}

/// A pod as the pages show it.
pub fn line(pod: &Pod) -> PodLine {
    let status = pod.status.clone().unwrap_or_default();
    let container = status.container_statuses.unwrap_or_default().into_iter().find(|container| container.name == build::CONTAINER);
    let phase = status.phase.unwrap_or_else(|| "Unknown".to_owned());
    let waiting = container.as_ref().and_then(|container| container.state.as_ref()?.waiting.as_ref()?.reason.clone());
    let unscheduled = status
        .conditions
        .unwrap_or_default()
        .into_iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let state = match (&pod.metadata.deletion_timestamp, waiting, unscheduled.and_then(|condition| condition.reason)) {
        (Some(_), _, _) => "Terminating".to_owned(),
        (None, Some(reason), _) | (None, None, Some(reason)) => reason,
        (None, None, None) => phase,
    };
    PodLine {
        name: pod.name_any(),
        index: pod.labels().get(labels::INDEX).cloned().unwrap_or_default(),
        node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_else(|| "-".to_owned()),
        state,
        ready: container.as_ref().is_some_and(|container| container.ready),
        restarts: container.map_or(0, |container| container.restart_count),
        address: status.pod_ip.unwrap_or_default(),
    }
}
