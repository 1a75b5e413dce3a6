//! [pure] What can go wrong inside a dataflow, and who has to act on it.

use std::fmt;

/// A failure of an operator, source or sink. It fails the epoch: the engine stops and the job rolls back.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {kind}: {message}")]
pub struct DataflowError {
    /// The operator or connector that failed, by the name a person knows it by.
    pub place: String,
    /// Who has to act.
    pub kind: ErrorKind,
    /// What went wrong and, where known, what to do.
    pub message: String,
}

/// Who has to act on an error; decides whether a restart can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A later try can succeed (network, storage away).
    Transient,
    /// The input data cannot be processed (malformed record, overflow); a restart meets it again.
    Data,
    /// The SQL, manifest or options are wrong.
    User,
    /// A store or server refuses our credentials or our rights; what has to change lies beside the job.
    Denied,
    /// Persisted state is missing, corrupted or does not belong to this plan. Never continue with empty state.
    State,
    /// A newer generation has taken over; this one must exit.
    Fenced,
    /// A broken invariant of Rheos itself.
    Bug,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transient => "transient failure",
            Self::Data => "bad data",
            Self::User => "invalid job",
            Self::Denied => "access denied",
            Self::State => "bad state",
            Self::Fenced => "fenced",
            Self::Bug => "internal error",
        })
    }
}

impl DataflowError {
    /// An error of `kind` at `place`.
    pub fn new(place: impl Into<String>, kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self { place: place.into(), kind, message: message.to_string() }
    }

    /// Names the place, unless whoever raised the error knew it better.
    pub fn at(mut self, place: &str) -> Self {
        if self.place.is_empty() {
            self.place = place.to_owned();
        }
        self
    }
}

/// Arrow kernels fail on data (overflow, bad cast) or on our own misuse; the place is added by the stage.
impl From<arrow::error::ArrowError> for DataflowError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::new("", ErrorKind::Data, error)
    }
}

/// An expression failed on a row.
impl From<datafusion_common::DataFusionError> for DataflowError {
    fn from(error: datafusion_common::DataFusionError) -> Self {
        Self::new("", ErrorKind::Data, error.strip_backtrace())
    }
}

/// Shorthand of this crate.
pub type Result<T, E = DataflowError> = std::result::Result<T, E>;
