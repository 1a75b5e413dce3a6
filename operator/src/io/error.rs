//! [pure] Why a reconcile did not come to its end.

use crate::runtime::leader::NotLeading;
use crate::runtime::runner::Retry;

/// Why a reconcile did not come to its end. What an author of a job has done wrong is never one of these: that is a
/// decision, and stands in the job's status.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The apiserver refused a read or did not answer.
    #[error("{what}: {source}")]
    Api {
        /// What was attempted.
        what: String,
        /// Why it failed.
        source: Box<kube::Error>,
    },
    /// What was seen is not what is there any more.
    #[error("{what}: the object has changed since it was read; looking again")]
    Stale {
        /// What was attempted.
        what: String,
    },
    /// A coordinator did not answer.
    #[error("{what}: {message}")]
    Worker {
        /// What was attempted.
        what: String,
        /// Why it failed.
        message: String,
    },
    /// This process does not lead.
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
    /// A value that was built cannot be sent.
    #[error("{what} cannot be written as JSON: {source}")]
    Encode {
        /// What.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
}

impl Error {
    /// Wraps an error of the apiserver.
    pub fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        move |source| match &source {
            kube::Error::Api(status) if status.code == 409 => Self::Stale { what: what.into() },
            _ => Self::Api { what: what.into(), source: Box::new(source) },
        }
    }
}

impl Retry for Error {
    fn is_retryable(&self) -> bool {
        !matches!(self, Self::Encode { .. })
    }

    fn label(&self) -> &'static str {
        match self {
            Self::Api { .. } => "api",
            Self::Stale { .. } => "stale",
            Self::Worker { .. } => "worker",
            Self::NotLeading(_) => "not_leading",
            Self::Encode { .. } => "encode",
        }
    }
}
