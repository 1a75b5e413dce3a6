//! [io] A client of the admin API: no redirects, a deadline on everything, bounded answers.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::assignment::Assignment;
use crate::limits::{LEAVE_WAIT, POLL_LIMIT, RESPONSE_LIMIT, SAVEPOINT_WAIT};
use crate::paths;
use crate::token::Token;
use crate::view::{ErrorBody, JobView, SavepointRequest, SavepointResponse};

/// How long an ordinary request may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer, or not the expected one.
    #[error("the admin API at {address} does not answer: {source}")]
    Transport {
        /// Base address.
        address: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// The server refused.
    #[error("the admin API at {address} refused ({status}): {message}")]
    Refused {
        /// Base address.
        address: String,
        /// Status code.
        status: u16,
        /// The server's reason.
        message: String,
    },
    /// The answer is not what the contract says.
    #[error("the admin API at {address} gave an answer that cannot be read: {message}")]
    Unreadable {
        /// Base address.
        address: String,
        /// Why.
        message: String,
    },
}

/// A worker's admin API.
#[derive(Debug, Clone)]
pub struct Client {
    address: String,
    http: reqwest::Client,
    token: Option<Token>,
}

impl Client {
    /// A client of `http://host:port`. Nothing is sent.
    ///
    /// # Errors
    /// The TLS set-up of the process is not usable.
    pub fn new(address: &str) -> Result<Self, ClientError> {
        let address = address.trim_end_matches('/').to_owned();
        let http = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|source| ClientError::Transport { address: address.clone(), source })?;
        Ok(Self { address, http, token: None })
    }

    /// A client of another address that shares this one's connections and settings: one of a thousand costs little.
    #[must_use]
    pub fn at(&self, address: &str) -> Self {
        Self { address: address.trim_end_matches('/').to_owned(), http: self.http.clone(), token: None }
    }

    /// The same, with the job's token on every request.
    #[must_use]
    pub fn with_token(self, token: Token) -> Self {
        Self { token: Some(token), ..self }
    }

    /// The job as it is now.
    ///
    /// # Errors
    /// See [`ClientError`]; the same holds for all methods.
    pub async fn job(&self) -> Result<JobView, ClientError> {
        self.call(Method::GET, paths::JOB, None::<&()>, REQUEST_TIMEOUT).await
    }

    /// The job once its version is above `version`, or as it is when the server's patience ends.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn job_after(&self, version: u64) -> Result<JobView, ClientError> {
        let path = format!("{}?after={version}", paths::JOB);
        self.call(Method::GET, &path, None::<&()>, POLL_LIMIT + REQUEST_TIMEOUT).await
    }

    /// Takes a savepoint; waits a while for it. Safe to repeat with the same id.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn savepoint(&self, id: Option<&str>) -> Result<SavepointResponse, ClientError> {
        let body = SavepointRequest { id: id.map(str::to_owned) };
        self.call(Method::POST, paths::SAVEPOINTS, Some(&body), SAVEPOINT_WAIT + REQUEST_TIMEOUT).await
    }

    /// Asks the job to stop with a checkpoint; does not wait for it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn stop(&self) -> Result<JobView, ClientError> {
        self.call(Method::POST, paths::STOP, None::<&()>, REQUEST_TIMEOUT).await
    }

    /// Gives a pod an assignment: it is the job's coordinator from then on. Does not wait for the job to run. Safe to
    /// repeat; a version that is not higher than the known one is refused with status 409.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn assign(&self, assignment: &Assignment) -> Result<JobView, ClientError> {
        self.call(Method::PUT, paths::ASSIGNMENT, Some(assignment), REQUEST_TIMEOUT).await
    }

    /// Tells a pod that it goes; answers when no engine runs there any more.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn leave(&self) -> Result<JobView, ClientError> {
        self.call(Method::POST, paths::LEAVE, None::<&()>, LEAVE_WAIT + REQUEST_TIMEOUT).await
    }

    /// Whether rows can flow.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn is_ready(&self) -> Result<bool, ClientError> {
        let request = self.authorized(self.http.get(format!("{}{}", self.address, paths::READY)).timeout(REQUEST_TIMEOUT));
        let response = request.send().await.map_err(|source| self.transport(source))?;
        Ok(response.status().is_success())
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        timeout: Duration,
    ) -> Result<T, ClientError> {
        let mut request = self.authorized(self.http.request(method, format!("{}{path}", self.address)).timeout(timeout));
        if let Some(body) = body {
            request = request.json(body);
        }
        let mut response = request.send().await.map_err(|source| self.transport(source))?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|source| self.transport(source))? {
            if bytes.len() + chunk.len() > RESPONSE_LIMIT {
                return Err(self.unreadable(format!("longer than {RESPONSE_LIMIT} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        if !matches!(status, StatusCode::OK | StatusCode::ACCEPTED) {
            let message = serde_json::from_slice::<ErrorBody>(&bytes)
                .map_or_else(|_| String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]).into_owned(), |body| body.error);
            return Err(ClientError::Refused { address: self.address.clone(), status: status.as_u16(), message });
        }
        serde_json::from_slice(&bytes).map_err(|error| self.unreadable(error.to_string()))
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        }
    }

    fn transport(&self, source: reqwest::Error) -> ClientError {
        ClientError::Transport { address: self.address.clone(), source }
    }

    fn unreadable(&self, message: String) -> ClientError {
        ClientError::Unreadable { address: self.address.clone(), message }
    }
}
