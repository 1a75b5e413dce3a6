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
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::Portforwarder;
use kube::{Api, ResourceExt};
use rheos_api::kube::StreamJob;
use rheos_control_api::limits::RESPONSE_LIMIT;
use rheos_control_api::{ErrorBody, JobView, Token, paths};
use rheos_operator::build::secret::TOKEN_KEY;
use rheos_operator::{build, labels, names};

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

    async fn get(&self, path: &str) -> Result<Bytes, String> {
        let asked = tokio::time::timeout(LOOK_TIMEOUT, self.ask(path)).await;
        asked.unwrap_or_else(|_| Err(format!("pod {} did not answer within {} s", self.pod, LOOK_TIMEOUT.as_secs())))
    }

    async fn ask(&self, path: &str) -> Result<Bytes, String> {
        let port = build::ADMIN_PORT as u16;
        let forward = self.pods.portforward(&self.pod, &[port]).await;
        let forward =
            forward.map_err(|error| super::cluster::refusal(&format!("forwarding a port of pod {}", self.pod), &error).to_string())?;
        let mut forward = Forward(forward);
        let stream = forward.0.take_stream(port).ok_or("the port was not forwarded")?;
        let problem = forward.0.take_error(port);
        let silent = |error: hyper::Error| format!("pod {} does not answer: {error}", self.pod);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(silent)?;
        let request = Request::get(path)
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.reveal()))
            .body(Empty::<Bytes>::new())
            .map_err(|error| format!("no request: {error}"))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(silent)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), RESPONSE_LIMIT).collect().await;
            let body = body.map_err(|error| format!("the answer of pod {} broke off: {error}", self.pod))?.to_bytes();
            if status.is_success() {
                return Ok(body);
            }
            let why = serde_json::from_slice::<ErrorBody>(&body).map_or_else(|_| status.to_string(), |body| body.error);
            Err(format!("pod {} refuses ({}): {why}", self.pod, status.as_u16()))
        };
        // The kubelet tells on a channel of its own why a port cannot be reached.
        let told = async {
            match problem {
                Some(problem) => match problem.await {
                    Some(why) => why,
                    None => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        let connection = async {
            let _ = connection.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = exchange => answer,
            why = told => Err(format!("pod {}: {why}", self.pod)),
            () = connection => Err("the connection has ended".to_owned()),
        }
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
