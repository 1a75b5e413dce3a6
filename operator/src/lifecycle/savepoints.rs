//! [pure] Savepoints of a job that is there: one in flight, with a deadline, a few tries with growing pauses, and what an
//! upgrade waits for before what a schedule asked for.
//!
//! That the coordinator is asked is written into the Savepoint before it is asked, with the id; asking again under an id has
//! no second effect. See [`super::disposal`] for what happens when one is deleted.

use std::time::Duration;

use rheos_api::rollout::RolloutKind;
use rheos_api::savepoint::{SavepointPhase, SavepointStatus};
use rheos_api::status::LastSavepoint;
use rheos_api::stream_job::UpgradeMode;
use rheos_control_api::SavepointView;

use super::schedule;
use super::target::Plan;
use crate::build::savepoint::{self, Origin};
use crate::conditions::reasons;
use crate::lifecycle::{Draft, failure};
use crate::reconcile::{Action, EventKind, SavepointFacts};
use crate::{names, time};

/// Kind of the act in `status.pending`.
const SAVEPOINT_KIND: &str = "Savepoint";
/// Tries of one savepoint.
pub(super) const ATTEMPTS: u32 = 3;
/// The pause before the second try; doubles.
const BACKOFF: Duration = Duration::from_secs(10);
/// Time beyond a checkpoint's own that a savepoint may take.
const MARGIN: Duration = Duration::from_secs(60);
/// A checkpoint's own time where the spec cannot be read.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// How far the savepoint of an upgrade is.
pub(super) enum Saving {
    /// Under way.
    Waits,
    /// There, or it cannot be had and the mode does not insist.
    Done,
    /// It failed.
    Failed(String),
}

/// Whether an upgrade asks for a savepoint of what runs. What never completed a checkpoint has nothing to save, and must
/// not keep a person from correcting it.
pub(super) fn upgrade_needs_one(draft: &Draft<'_>, plan: &Plan<'_>) -> bool {
    let policy = &plan.settings.upgrade;
    let asked = policy.savepoint_on_upgrade || policy.mode == UpgradeMode::Savepoint;
    let runs = draft.assigned().map(|assigned| (&assigned.run.revision, &assigned.run.state_id));
    let proven = draft.status.stable.as_ref().map(|stable| (&stable.revision, &stable.state_id));
    asked && runs == proven && plan.kind == RolloutKind::Upgrade && !runs_no_more(draft)
}

/// Whether what was assigned cannot be saved any more.
fn runs_no_more(draft: &Draft<'_>) -> bool {
    draft.coordinator().is_none() || draft.view().and_then(failure).is_some()
}

/// Sees to the savepoint that an upgrade waits for.
pub(super) fn for_upgrade(draft: &mut Draft<'_>, plan: &Plan<'_>) -> Saving {
    if runs_no_more(draft) {
        let message = "no savepoint is taken before the upgrade: the job does not run; it goes on from its last checkpoint";
        draft.event(EventKind::Warning, reasons::SAVEPOINT_FAILED, message);
        return Saving::Done;
    }
    let job = &draft.observed.job;
    let known = draft.status.rollout.as_ref().and_then(|rollout| rollout.savepoint.clone());
    let name = known.unwrap_or_else(|| names::savepoint(&job.name, &format!("{}-{}", plan.run.revision, job.spec_generation)));
    if let Some(rollout) = &mut draft.status.rollout {
        rollout.savepoint = Some(name.clone());
    }
    ask_for(draft, name, Origin::Upgrade)
}

/// Sees to a savepoint that the operator asks for itself.
pub(super) fn ask_for(draft: &mut Draft<'_>, name: String, origin: Origin) -> Saving {
    let Some(found) = draft.observed.savepoints.iter().find(|savepoint| savepoint.name == name) else {
        let object = savepoint::savepoint(&draft.observed.job, &name, origin);
        draft.actions.push(Action::CreateSavepoint { name, object: Box::new(object) });
        draft.look_again(super::draft::SOON);
        return Saving::Waits;
    };
    match found.status.phase {
        SavepointPhase::Completed => Saving::Done,
        SavepointPhase::Failed => Saving::Failed(found.status.message.clone().unwrap_or_else(|| format!("Savepoint {name} failed"))),
        SavepointPhase::Pending | SavepointPhase::InProgress | SavepointPhase::Disposing => Saving::Waits,
    }
}

/// Goes one step on with all savepoints of the job.
pub(super) fn decide(draft: &mut Draft<'_>) {
    schedule::decide(draft);
    let job = draft.observed.job.name.clone();
    let mine: Vec<&SavepointFacts> =
        draft.observed.savepoints.iter().filter(|savepoint| savepoint.spec.job == job && savepoint.deleting_since.is_none()).collect();
    let flying: Vec<&SavepointFacts> = of(&mine, SavepointPhase::InProgress);
    for savepoint in &flying {
        follow(draft, savepoint);
    }
    let mut waiting = of(&mine, SavepointPhase::Pending);
    waiting.sort_by_key(|savepoint| (rank(draft, savepoint), savepoint.created, savepoint.name.clone()));
    supersede(draft, &mut waiting);
    let free = flying.is_empty() && draft.is_running() && !draft.has_acted();
    let mut begun = !free;
    for savepoint in waiting {
        let pause = pause(draft, savepoint);
        if !begun && pause.is_none() {
            begun = true;
            begin(draft, savepoint);
        } else if !draft.is_running() && savepoint.status.attempts == 0 {
            say(draft, savepoint, "waits for the job to run");
        }
        if let Some(pause) = pause {
            draft.look_again(pause);
        }
    }
}

fn of<'a>(all: &[&'a SavepointFacts], phase: SavepointPhase) -> Vec<&'a SavepointFacts> {
    all.iter().filter(|savepoint| savepoint.status.phase == phase).copied().collect()
}

/// What goes first: what something waits for, then what people asked for, then what the schedule did.
fn rank(draft: &Draft<'_>, savepoint: &SavepointFacts) -> u8 {
    let waited_for = draft.status.rollout.as_ref().is_some_and(|rollout| rollout.savepoint.as_ref() == Some(&savepoint.name));
    if waited_for { 0 } else { 1 + u8::from(schedule::is_periodic(draft, savepoint)) }
}

/// Of several periodic ones that wait, only the newest is taken.
fn supersede(draft: &mut Draft<'_>, waiting: &mut Vec<&SavepointFacts>) {
    let periodic: Vec<&SavepointFacts> = waiting.iter().filter(|savepoint| schedule::is_periodic(draft, savepoint)).copied().collect();
    let Some((newest, older)) = periodic.split_last() else { return };
    for savepoint in older {
        let message = format!("superseded by {}", newest.name);
        let status = SavepointStatus {
            phase: SavepointPhase::Failed,
            message: Some(message),
            finished_at: Some(draft.now_text()),
            ..savepoint.status.clone()
        };
        write(draft, savepoint, status);
    }
    waiting.retain(|savepoint| !older.iter().any(|old| old.name == savepoint.name));
}

/// How long a savepoint that was tried still has to wait.
fn pause(draft: &Draft<'_>, savepoint: &SavepointFacts) -> Option<Duration> {
    let failed = savepoint.status.finished_at.as_ref()?;
    let pause = BACKOFF.saturating_mul(1 << savepoint.status.attempts.saturating_sub(1).min(8));
    pause.checked_sub(draft.age(failed)).filter(|rest| !rest.is_zero())
}

fn say(draft: &mut Draft<'_>, savepoint: &SavepointFacts, message: &str) {
    write(draft, savepoint, SavepointStatus { message: Some(message.to_owned()), ..savepoint.status.clone() });
}

fn write(draft: &mut Draft<'_>, savepoint: &SavepointFacts, status: SavepointStatus) {
    if status != savepoint.status {
        draft.actions.push(Action::WriteSavepoint { target: schedule::target(savepoint), status: Box::new(status) });
        draft.look_again(super::draft::SOON);
    }
}

/// Writes down that a savepoint is taken, then asks for it.
fn begin(draft: &mut Draft<'_>, savepoint: &SavepointFacts) {
    let attempts = savepoint.status.attempts.saturating_add(1);
    let id = if attempts == 1 { savepoint.uid.clone() } else { format!("{}-{attempts}", savepoint.uid) };
    let revision = draft.assigned().map(|assigned| assigned.run.revision.clone()).unwrap_or_default();
    let snapshot = draft.observed.snapshots.iter().find(|snapshot| snapshot.revision == revision);
    let status = SavepointStatus {
        phase: SavepointPhase::InProgress,
        id: Some(id.clone()),
        attempts,
        started_at: Some(draft.now_text()),
        finished_at: None,
        message: None,
        job_uid: Some(draft.observed.job.uid.clone()),
        storage: snapshot.and_then(|snapshot| snapshot.spec.checkpoint.storage.clone()),
        image: snapshot.and_then(|snapshot| snapshot.spec.worker.image.clone()),
        ..savepoint.status.clone()
    };
    write(draft, savepoint, status);
    draft.event(EventKind::Normal, reasons::SAVEPOINT_STARTED, format!("Savepoint {} is taken", savepoint.name));
    ask(draft, id);
}

fn ask(draft: &mut Draft<'_>, id: String) {
    let Some(leader) = draft.coordinator() else { return };
    let Some(address) = leader.address else { return };
    draft.pending(id.clone(), SAVEPOINT_KIND);
    draft.act(Action::Savepoint { pod: leader.name.clone(), address, id });
}

/// Looks how far a savepoint is.
fn follow(draft: &mut Draft<'_>, savepoint: &SavepointFacts) {
    let id = savepoint.status.id.clone().unwrap_or_else(|| savepoint.uid.clone());
    let started = savepoint.status.started_at.clone().unwrap_or_default();
    let timeout = draft.wanted_job().map_or(DEFAULT_TIMEOUT, |job| job.checkpoint.timeout);
    let limit = timeout.saturating_add(MARGIN);
    match draft.view().and_then(|view| view.savepoints.get(&id)) {
        Some(SavepointView::Completed { uri, epoch }) => complete(draft, savepoint, &id, uri, *epoch),
        Some(SavepointView::Failed { reason }) => failed(draft, savepoint, reason),
        _ if draft.age(&started) >= limit => {
            failed(draft, savepoint, &format!("it was not complete within {}", rheos_api::duration::display(limit)));
        }
        Some(SavepointView::Pending) => {
            draft.pending(id, SAVEPOINT_KIND);
            draft.look_at(&started, limit);
        }
        None if draft.is_running() && !draft.has_acted() => ask(draft, id),
        None => draft.look_at(&started, limit),
    }
}

fn complete(draft: &mut Draft<'_>, savepoint: &SavepointFacts, id: &str, uri: &str, epoch: u64) {
    let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
    let now = draft.now_text();
    let status = SavepointStatus {
        phase: SavepointPhase::Completed,
        uri: Some(uri.to_owned()),
        epoch: Some(epoch),
        finished_at: Some(now.clone()),
        message: None,
        ..savepoint.status.clone()
    };
    write(draft, savepoint, status);
    draft.status.last_savepoint = Some(LastSavepoint { id: id.to_owned(), uri: uri.to_owned(), epoch, time: now });
    draft.event(EventKind::Normal, reasons::SAVEPOINT_COMPLETED, format!("Savepoint {} is complete", savepoint.name));
}

fn failed(draft: &mut Draft<'_>, savepoint: &SavepointFacts, why: &str) {
    let attempts = savepoint.status.attempts;
    let last = attempts >= ATTEMPTS;
    let (phase, message) = match last {
        true => (SavepointPhase::Failed, format!("given up after {attempts} tries: {why}")),
        false => (SavepointPhase::Pending, format!("try {attempts} of {ATTEMPTS} failed: {why}")),
    };
    let status = SavepointStatus { phase, message: Some(message.clone()), finished_at: Some(draft.now_text()), ..savepoint.status.clone() };
    write(draft, savepoint, status);
    draft.event(EventKind::Warning, reasons::SAVEPOINT_FAILED, format!("Savepoint {}: {message}", savepoint.name));
}

/// How long ago a savepoint was made.
pub(super) fn age(savepoint: &SavepointFacts, now: jiff::Timestamp) -> Duration {
    savepoint.created.map_or(Duration::ZERO, |created| time::since(created, now))
}
