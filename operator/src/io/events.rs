//! [io] Events on jobs and savepoints, told once.
//!
//! A decision repeats what it has to tell as long as it holds; here the same words about the same object are published
//! again only after [`QUIET`], and kube's recorder then counts them up in one Event. Losing an event harms nobody: it is
//! published after the actions, and a failure is only logged.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};

use crate::reconcile::{EventKind, EventNote};

/// How long the same words about the same object are not repeated.
pub const QUIET: Duration = Duration::from_secs(300);
/// Notes that are remembered, over all objects; beyond it the oldest are forgotten.
pub const REMEMBERED: usize = 8192;
/// Longest note, bytes: what the apiserver takes.
pub const NOTE_LIMIT: usize = 1024;

/// Publishes events.
pub struct Events {
    recorder: Recorder,
    told: Mutex<BTreeMap<(String, &'static str, String), Instant>>,
}

impl Events {
    /// `instance` names this process.
    pub fn new(client: Client, instance: String) -> Self {
        let reporter = Reporter { controller: crate::labels::OPERATOR_NAME.to_owned(), instance: Some(instance) };
        Self { recorder: Recorder::new(client, reporter), told: Mutex::default() }
    }

    /// Publishes what is new among `notes` about an object.
    pub async fn publish(&self, about: &ObjectReference, notes: &[EventNote]) {
        for note in notes.iter().filter(|note| self.is_new(about, note, Instant::now())) {
            let mut text = note.message.clone();
            if text.len() > NOTE_LIMIT {
                text = super::facts::cut(text).chars().take(NOTE_LIMIT / 4).collect();
            }
            let event = Event {
                type_: match note.kind {
                    EventKind::Normal => EventType::Normal,
                    EventKind::Warning => EventType::Warning,
                },
                reason: note.reason.to_owned(),
                note: Some(text),
                action: "Reconcile".to_owned(),
                secondary: None,
            };
            if let Err(error) = self.recorder.publish(&event, about).await {
                tracing::warn!(object = about.name, reason = note.reason, "an event could not be published: {error}");
            }
        }
    }

    fn is_new(&self, about: &ObjectReference, note: &EventNote, now: Instant) -> bool {
        let key = (about.uid.clone().unwrap_or_default(), note.reason, note.message.clone());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&key).is_some_and(|at| now.duration_since(*at) < QUIET) {
            return false;
        }
        if told.len() >= REMEMBERED {
            told.retain(|_, at| now.duration_since(*at) < QUIET);
        }
        if told.len() >= REMEMBERED {
            told.clear();
        }
        told.insert(key, now);
        true
    }
}
