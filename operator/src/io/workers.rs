//! [io] Calls to the pods of jobs, behind a trait so that tests can put a model there.
//!
//! Only addresses that the apiserver reports for pods of a job are ever called, and only on the admin port: the operator
//! opens nothing that a user named.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rheos_control_api::{Assignment, Client, ClientError, JobView};

use super::cache::Key;
use super::token::MasterKey;
use crate::runtime::metrics::{Metrics, RequestLabels};

/// The admin port of a worker pod.
pub const ADMIN_PORT: u16 = 7180;
/// How long a look at a job, or an order to it, may take before the pod counts as silent.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the request for a savepoint is waited for. It goes on without us; asking again is harmless.
pub const SAVEPOINT_PATIENCE: Duration = Duration::from_secs(1);

/// A pod of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The job.
    pub job: Key,
    /// Its uid.
    pub job_uid: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's address.
    pub address: IpAddr,
}

/// Why a call had no effect that we know of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The pod answered that it will not do it.
    Refused {
        /// HTTP status.
        status: u16,
        /// Its reason.
        message: String,
    },
    /// There was no answer. The call may have had its effect.
    Silent(String),
}

impl CallError {
    /// What a person reads.
    pub fn message(&self) -> String {
        match self {
            Self::Refused { status, message } => format!("refused ({status}): {message}"),
            Self::Silent(message) => message.clone(),
        }
    }
}

/// The result of a call.
pub type Call<T> = Result<T, CallError>;

/// What the operator says to the pods of jobs. Every call is safe to repeat.
pub trait Workers: Send + Sync + 'static {
    /// The job as the pod sees it.
    fn job(&self, target: &Target) -> impl Future<Output = Call<JobView>> + Send;
    /// The same, once its version is above `version` or the server's patience ends.
    fn job_after(&self, target: &Target, version: u64) -> impl Future<Output = Call<JobView>> + Send;
    /// Makes the pod the coordinator of what the assignment says.
    fn assign(&self, target: &Target, assignment: &Assignment) -> impl Future<Output = Call<JobView>> + Send;
    /// Stops the job with a checkpoint.
    fn stop(&self, target: &Target) -> impl Future<Output = Call<JobView>> + Send;
    /// Takes a savepoint under an id; does not wait for it.
    fn savepoint(&self, target: &Target, id: &str) -> impl Future<Output = Call<()>> + Send;
}

/// The real pods.
#[derive(Clone)]
pub struct Pods {
    http: Client,
    key: MasterKey,
    metrics: Arc<Metrics>,
}

impl Pods {
    /// # Errors
    /// No HTTP client can be made.
    pub fn new(key: MasterKey, metrics: Arc<Metrics>) -> Result<Self, ClientError> {
        Ok(Self { http: Client::new("http://unset.invalid")?, key, metrics })
    }

    fn client(&self, target: &Target) -> Call<Client> {
        let token = self.key.token(&target.job.namespace, &target.job.name, &target.job_uid).map_err(CallError::Silent)?;
        let address = std::net::SocketAddr::new(target.address, ADMIN_PORT);
        Ok(self.http.at(&format!("http://{address}")).with_token(token))
    }

    async fn call<T>(&self, act: &str, limit: Duration, call: impl Future<Output = Result<T, ClientError>>) -> Call<T> {
        let started = Instant::now();
        let outcome = match tokio::time::timeout(limit, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(ClientError::Refused { status, message, .. })) => Err(CallError::Refused { status, message }),
            Ok(Err(error)) => Err(CallError::Silent(chain(&error))),
            Err(_) => Err(CallError::Silent(format!("no answer in {} s", limit.as_secs()))),
        };
        let code = match &outcome {
            Ok(_) => 200,
            Err(CallError::Refused { status, .. }) => *status,
            Err(CallError::Silent(_)) => 0,
        };
        let labels = RequestLabels { verb: act.to_owned(), resource: "job".to_owned(), code };
        self.metrics.worker_seconds.get_or_create(&labels).observe(started.elapsed().as_secs_f64());
        outcome
    }
}

impl Workers for Pods {
    async fn job(&self, target: &Target) -> Call<JobView> {
        let client = self.client(target)?;
        self.call("look", CALL_TIMEOUT, client.job()).await
    }

    async fn job_after(&self, target: &Target, version: u64) -> Call<JobView> {
        let client = self.client(target)?;
        let limit = rheos_control_api::limits::POLL_LIMIT + CALL_TIMEOUT;
        self.call("follow", limit, client.job_after(version)).await
    }

    async fn assign(&self, target: &Target, assignment: &Assignment) -> Call<JobView> {
        let client = self.client(target)?;
        self.call("assign", CALL_TIMEOUT, client.assign(assignment)).await
    }

    async fn stop(&self, target: &Target) -> Call<JobView> {
        let client = self.client(target)?;
        self.call("stop", CALL_TIMEOUT, client.stop()).await
    }

    async fn savepoint(&self, target: &Target, id: &str) -> Call<()> {
        let client = self.client(target)?;
        match tokio::time::timeout(SAVEPOINT_PATIENCE, self.call("savepoint", CALL_TIMEOUT, client.savepoint(Some(id)))).await {
            Ok(outcome) => outcome.map(drop),
            Err(_) => Ok(()),
        }
    }
}

/// The error and its causes; HTTP clients say the useful part last.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
