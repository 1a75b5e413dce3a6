//! [pure] What a decision is.

use std::time::Duration;

use rheos_api::status::StreamJobStatus;

use crate::reconcile::Action;

/// What shall be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What to do, in this order, once `status` is written; the first failure ends it.
    pub actions: Vec<Action>,
    /// What to write first; nothing is written when it equals what was read.
    pub status: StreamJobStatus,
    /// What to tell people.
    pub events: Vec<EventNote>,
    /// When to look again even if nothing happens.
    pub requeue: Option<Duration>,
}

/// An event on the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventNote {
    /// How grave.
    pub kind: EventKind,
    /// One word for programs.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
}

/// How grave an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The usual course.
    Normal,
    /// Somebody may have to look.
    Warning,
}
