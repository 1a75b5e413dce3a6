//! [pure] A decision while it is being made.

use std::time::Duration;

use jiff::Timestamp;
use rheos_api::ValidatedJob;
use rheos_api::rollout::{Assigned, AssignedState};
use rheos_api::status::{Pending, Phase, StreamJobStatus};
use rheos_control_api::JobView;

use crate::conditions::{self, reasons};
use crate::reconcile::action::Target;
use crate::reconcile::{Action, Decision, EventKind, EventNote, Observed, PodFacts, Wanted};
use crate::time;

/// How soon to look again while something changes that may not be watched.
pub(super) const SOON: Duration = Duration::from_secs(5);
/// How soon to look again while something changes that is watched.
pub(super) const WATCHED: Duration = Duration::from_secs(30);
/// How soon to look again at a job that is well.
const LATER: Duration = Duration::from_secs(60);

/// Something that is wrong, or that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// What is known so far.
pub(crate) struct Draft<'a> {
    pub(crate) observed: &'a Observed,
    pub(crate) now: Timestamp,
    pub(crate) status: StreamJobStatus,
    pub(crate) actions: Vec<Action>,
    events: Vec<EventNote>,
    requeue: Duration,
    /// The worst that is wrong is the first.
    pub(crate) trouble: Vec<Note>,
    /// What is under way.
    pub(crate) progress: Option<Note>,
    acted: bool,
    pending: Option<(String, &'static str)>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(observed: &'a Observed, now: Timestamp) -> Self {
        Self {
            observed,
            now,
            status: observed.status.clone(),
            actions: Vec::new(),
            events: Vec::new(),
            requeue: LATER,
            trouble: Vec::new(),
            progress: None,
            acted: false,
            pending: None,
        }
    }

    /// Takes over what the coordinator says about what runs.
    pub(super) fn look(&mut self) {
        let Some(view) = self.view() else { return };
        let (state, generation) = (view.state, i64::try_from(view.generation).unwrap_or(i64::MAX));
        let stable = completed_a_checkpoint(view, self.assigned());
        // A pod that leaves stops the job for itself only.
        let leaves = view.leaving || self.coordinator().is_some_and(|pod| pod.deleting_since.is_some());
        let cause = view.restarts.last_cause.clone();
        let moved = i64::try_from(view.restarts.moved).unwrap_or(i64::MAX);
        let now = self.now_text();
        let Some(assigned) = &mut self.status.assigned else { return };
        if super::assign::is_live(state) {
            assigned.state = AssignedState::Active;
        } else if assigned.state == AssignedState::Active && (state == Phase::Finished || (state == Phase::Suspended && !leaves)) {
            assigned.state = AssignedState::Stopped;
        }
        let seen = assigned.generation.replace(generation.max(assigned.generation.unwrap_or(0)));
        let run = assigned.run.clone();
        self.status.generation = Some(generation.max(self.status.generation.unwrap_or(0)));
        // Generation 0 is a coordinator that has started nothing yet.
        if let Some(seen) = seen.filter(|seen| *seen > 0) {
            // One of them began because it was told to.
            let planned = i64::from((seen + 1..=generation).contains(&moved));
            if generation - seen > planned {
                let cause = cause.unwrap_or_else(|| "an engine was lost".to_owned());
                super::restarts::count(self, generation - seen - planned, cause);
            }
        }
        if stable && self.status.stable.as_ref() != Some(&run) {
            let first = self.status.stable.as_ref().is_none_or(|stable| stable.revision != run.revision);
            let nonce = self.acted_nonce(&run.revision);
            self.status.stable = Some(run.clone());
            self.status.restore_nonce = Some(nonce);
            if first {
                self.event(EventKind::Normal, reasons::STABLE, format!("revision {} completed a checkpoint", run.revision));
            }
        }
        if state == Phase::Finished && self.status.finished_at.is_none() {
            self.status.finished_at = Some(now);
            self.status.phase = Phase::Finished;
            self.status.rollout = None;
            self.event(EventKind::Normal, reasons::FINISHED, "every source has ended and everything is committed".to_owned());
        }
    }

    /// The highest nonce that is acted on once a revision is stable.
    fn acted_nonce(&self, revision: &str) -> i64 {
        let before = self.status.restore_nonce.unwrap_or(0);
        let snapshot = self.observed.snapshots.iter().find(|snapshot| snapshot.revision == revision);
        let nonce = snapshot.and_then(|snapshot| snapshot.spec.restore.as_ref()).map_or(0, |restore| restore.nonce);
        before.max(nonce)
    }

    /// What the coordinator was last told.
    pub(super) fn assigned(&self) -> Option<&Assigned> {
        self.status.assigned.as_ref()
    }

    /// Whether something was assigned that may still run.
    pub(super) fn is_active(&self) -> bool {
        self.assigned().is_some_and(|assigned| assigned.state == AssignedState::Active)
    }

    /// The pod that was last told to lead, if it is still there.
    pub(super) fn coordinator(&self) -> Option<&'a PodFacts> {
        let name = self.assigned()?.coordinator.as_str();
        self.observed.pods.iter().find(|pod| pod.name == name)
    }

    /// What the coordinator says, if it speaks of the assignment in force.
    pub(super) fn view(&self) -> Option<&'a JobView> {
        let view = self.coordinator()?.view()?;
        (view.assignment == Some(self.observed.status.assignment)).then_some(view)
    }

    /// Whether rows flow as they were last told to.
    pub(super) fn is_running(&self) -> bool {
        self.is_active()
            && self.status.assignment == self.observed.status.assignment
            && self.view().is_some_and(|view| view.state == Phase::Running)
    }

    /// Writes down whether what was assigned runs.
    pub(super) fn set_assigned_state(&mut self, state: AssignedState) {
        if let Some(assigned) = &mut self.status.assigned {
            assigned.state = state;
        }
    }

    /// The job as its author wants it, where that can be read.
    pub(super) fn wanted_job(&self) -> Option<&'a ValidatedJob> {
        match &self.observed.wanted {
            Wanted::Valid { job, .. } => Some(job),
            Wanted::Invalid(_) | Wanted::SqlMissing(_) => None,
        }
    }

    /// Says again what was wrong before.
    pub(super) fn keep_trouble(&mut self) {
        let before = conditions::get(&self.observed.status.conditions, conditions::DEGRADED);
        if let Some(before) = before.filter(|condition| condition.status == "True") {
            let (reason, message) = (reasons::known(&before.reason), before.message.clone());
            self.trouble(reason, message);
        }
    }

    /// Since when something is in a stage; the time is in a status field.
    pub(super) fn age(&self, since: &str) -> Duration {
        time::since_text(since, self.now)
    }

    pub(super) fn now_text(&self) -> String {
        time::text(self.now)
    }

    /// Does something to a running job, unless something is done already.
    pub(super) fn act(&mut self, action: Action) {
        if !std::mem::replace(&mut self.acted, true) {
            self.actions.push(action);
        }
        self.look_again(SOON);
    }

    /// Whether a coordinator is told something already.
    pub(super) fn has_acted(&self) -> bool {
        self.acted
    }

    /// Names the act that is under way.
    pub(super) fn pending(&mut self, id: String, kind: &'static str) {
        self.pending = Some((id, kind));
    }

    /// Looks again after this time at the latest.
    pub(super) fn look_again(&mut self, after: Duration) {
        self.requeue = self.requeue.min(after.max(Duration::from_millis(100)));
    }

    /// Looks again when `limit` has passed since a time.
    pub(super) fn look_at(&mut self, since: &str, limit: Duration) {
        self.look_again(limit.saturating_sub(self.age(since)));
    }

    /// Tells people, once for each reason.
    pub(super) fn event(&mut self, kind: EventKind, reason: &'static str, message: impl Into<String>) {
        if self.events.iter().any(|event| event.reason == reason) {
            return;
        }
        self.events.push(EventNote { kind, reason, message: message.into() });
    }

    pub(super) fn trouble(&mut self, reason: &'static str, message: impl Into<String>) {
        self.trouble.push(Note { reason, message: message.into() });
    }

    pub(super) fn progress(&mut self, reason: &'static str, message: impl Into<String>) {
        self.waits(reason, message);
        self.look_again(SOON);
    }

    /// Something is under way that a watch will tell the end of.
    pub(super) fn waits(&mut self, reason: &'static str, message: impl Into<String>) {
        self.progress.get_or_insert(Note { reason, message: message.into() });
        self.look_again(WATCHED);
    }

    /// Deletes a pod, unless it is being deleted.
    pub(super) fn delete_pod(&mut self, pod: &PodFacts, grace_seconds: Option<u32>) {
        if pod.deleting_since.is_none() {
            let target = Target { name: pod.name.clone(), uid: pod.uid.clone(), resource_version: pod.resource_version.clone() };
            self.actions.push(Action::DeletePod { target, grace_seconds });
        }
        self.look_again(SOON);
    }

    pub(super) fn finish(mut self) -> Decision {
        let before = self.observed.status.pending.as_ref();
        self.status.pending = self.pending.take().map(|(id, kind)| {
            let since = before.filter(|pending| pending.id == id).map_or_else(|| self.now_text(), |pending| pending.since.clone());
            Pending { id, kind: kind.to_owned(), since }
        });
        self.actions.sort_by_key(Action::rank);
        Decision { actions: self.actions, status: self.status, events: self.events, requeue: Some(self.requeue) }
    }
}

/// Whether a run is known to work: it completed a checkpoint of its own, or all of its work.
fn completed_a_checkpoint(view: &JobView, assigned: Option<&Assigned>) -> bool {
    let first = assigned.and_then(|assigned| assigned.generation).and_then(|first| u64::try_from(first).ok());
    let first = first.unwrap_or(view.generation);
    let checkpointed = view.checkpoints.history.iter().any(|checkpoint| checkpoint.generation >= first);
    match view.state {
        Phase::Finished => true,
        Phase::Running | Phase::Suspended => checkpointed,
        _ => false,
    }
}
