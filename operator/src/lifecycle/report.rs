//! [pure] What people and programs are told: phase, conditions, figures.
//!
//! A healthy job changes its status at most once in [`FIGURES_EVERY`]: what only counts on is not written for its own sake,
//! and no message holds a figure that counts on.

use std::time::Duration;

use jiff::Timestamp;
use rheos_api::rollout::{RolloutKind, RolloutStage};
use rheos_api::status::{CheckpointStatus, ParallelismStatus, Phase};
use rheos_api::stream_job::DesiredState;
use rheos_control_api::JobView;

use super::{assign, problems};
use crate::build;
use crate::conditions::{self, Finding, reasons};
use crate::lifecycle::Draft;
use crate::reconcile::Answer;
use crate::time;

/// How often figures alone are written.
pub(super) const FIGURES_EVERY: Duration = Duration::from_secs(60);

/// Says that nothing is done while the annotation stands.
pub(super) fn paused(draft: &mut Draft<'_>) {
    let message = format!("annotation {} stops all acts on the job; remove it to go on", crate::labels::PAUSED);
    put(draft, Finding::new(conditions::RECONCILIATION_PAUSED, true, reasons::PAUSED, message));
}

/// What was refused is wrong, unless it passes by itself.
pub(super) fn refusals(draft: &mut Draft<'_>) {
    for refusal in &draft.observed.refusals {
        draft.look_again(super::draft::SOON);
        let note = problems::of_refusal(refusal);
        if !problems::passes_by_itself(refusal) && !draft.trouble.contains(&note) {
            draft.trouble.push(note);
        }
    }
}

/// Writes all of it.
pub(super) fn report(draft: &mut Draft<'_>) {
    let running = draft.is_running();
    draft.status.phase = phase(draft, running);
    draft.status.observed_generation = Some(draft.observed.job.spec_generation);
    draft.status.selector = Some(build::selector(&draft.observed.job.name));
    if let Some(rollout) = draft.status.rollout.as_ref().filter(|_| draft.status.assigned.is_none()) {
        draft.status.revision = Some(rollout.to.revision.clone());
    }
    draft.status.parallelism = ParallelismStatus {
        desired: draft.wanted_job().map_or(draft.status.parallelism.desired, |job| i64::from(job.parallelism)),
        running: match draft.view().filter(|_| running) {
            Some(view) => i64::from(view.parallelism),
            None if draft.is_active() && is_unsure(draft) => draft.status.parallelism.running,
            None => 0,
        },
    };
    for finding in findings(draft, running) {
        put(draft, finding);
    }
    events_of_trouble(draft);
    figures(draft);
}

/// Whether the coordinator was not heard of, for a moment perhaps.
fn is_unsure(draft: &Draft<'_>) -> bool {
    draft.coordinator().is_some_and(|pod| pod.ready && !matches!(pod.answer, Answer::View(_)))
}

fn put(draft: &mut Draft<'_>, finding: Finding) {
    let (generation, now) = (draft.observed.job.spec_generation, draft.now);
    conditions::set(&mut draft.status.conditions, finding, generation, now);
}

fn phase(draft: &Draft<'_>, running: bool) -> Phase {
    let before = draft.status.phase;
    if draft.status.finished_at.is_some() && matches!(before, Phase::Failed | Phase::Finished) {
        return before;
    }
    if draft.wanted_job().is_some_and(|job| job.state == DesiredState::Suspended) {
        return before;
    }
    if running {
        return Phase::Running;
    }
    if before == Phase::Suspended && draft.status.rollout.is_none() && !draft.is_active() {
        return before;
    }
    if is_unsure(draft) && draft.status.rollout.is_none() && draft.is_active() && !draft.has_acted() {
        return before;
    }
    match &draft.status.rollout {
        Some(rollout) if rollout.stage < RolloutStage::Stopping && draft.is_active() => match rollout.kind {
            RolloutKind::RollBack => Phase::RollingBack,
            RolloutKind::Upgrade => Phase::Upgrading,
            RolloutKind::Start => Phase::Deploying,
        },
        Some(rollout) => match rollout.kind {
            RolloutKind::Start => Phase::Deploying,
            RolloutKind::Upgrade => Phase::Upgrading,
            RolloutKind::RollBack => Phase::RollingBack,
        },
        None => match draft.assigned() {
            None => Phase::Created,
            Some(assigned)
                if matches!(before, Phase::Running | Phase::Rescaling)
                    && assigned.run.parallelism != draft.observed.status.parallelism.running
                    && draft.observed.status.parallelism.running > 0 =>
            {
                Phase::Rescaling
            }
            Some(_) if before == Phase::Rescaling && draft.view().is_none_or(|view| assign::is_live(view.state)) => Phase::Rescaling,
            Some(_) if matches!(before, Phase::Running | Phase::Failing) => Phase::Failing,
            Some(_) => Phase::Deploying,
        },
    }
}

fn findings(draft: &Draft<'_>, running: bool) -> Vec<Finding> {
    let suspended = draft.status.phase == Phase::Suspended;
    let suspension = match suspended {
        true => Finding::new(conditions::SUSPENDED, true, reasons::SUSPENDED, "the job stands still; set spec.state to Running to go on"),
        false => Finding::new(conditions::SUSPENDED, false, reasons::NOT_SUSPENDED, ""),
    };
    vec![
        ready(draft, running),
        progressing(draft, running),
        degraded(draft),
        checkpoint_healthy(draft, running),
        restorable(draft),
        suspension,
        Finding::new(conditions::RECONCILIATION_PAUSED, false, reasons::NOT_PAUSED, ""),
    ]
}

fn ready(draft: &Draft<'_>, running: bool) -> Finding {
    let trouble = draft.trouble.first();
    match draft.status.phase {
        _ if running => Finding::new(conditions::READY, true, reasons::RUNNING, "rows flow"),
        Phase::Suspended => Finding::new(conditions::READY, false, reasons::SUSPENDED, "the job stands still, as wanted"),
        Phase::Finished => Finding::new(conditions::READY, false, reasons::FINISHED, "every source has ended and everything is committed"),
        _ if draft.is_active() && is_unsure(draft) => match draft.coordinator().map(|pod| &pod.answer) {
            Some(Answer::Silent(why)) => Finding::unknown(conditions::READY, reasons::COORDINATOR_SILENT, why.clone()),
            _ => match conditions::get(&draft.status.conditions, conditions::READY) {
                Some(before) if before.status == "True" => Finding::new(conditions::READY, true, reasons::RUNNING, before.message.clone()),
                _ => Finding::unknown(conditions::READY, reasons::COORDINATOR_SILENT, "the coordinator was not heard of yet"),
            },
        },
        Phase::Failing => {
            let message = trouble.map_or("the job restarts from its last checkpoint", |note| note.message.as_str());
            Finding::new(conditions::READY, false, trouble.map_or(reasons::RESTARTING, |note| note.reason), message)
        }
        _ => match (trouble, &draft.progress) {
            (Some(note), _) | (None, Some(note)) => Finding::new(conditions::READY, false, note.reason, note.message.clone()),
            (None, None) => Finding::new(conditions::READY, false, reasons::CREATED, "nothing runs yet"),
        },
    }
}

fn progressing(draft: &Draft<'_>, running: bool) -> Finding {
    match &draft.progress {
        Some(note) => Finding::new(conditions::PROGRESSING, true, note.reason, note.message.clone()),
        None if draft.is_active() && !running => Finding::new(conditions::PROGRESSING, true, reasons::DEPLOYING, "the job starts"),
        None => Finding::new(conditions::PROGRESSING, false, reasons::SETTLED, ""),
    }
}

fn degraded(draft: &Draft<'_>) -> Finding {
    match draft.trouble.as_slice() {
        [] => Finding::new(conditions::DEGRADED, false, reasons::HEALTHY, ""),
        [first, rest @ ..] => {
            let others =
                rest.iter().filter(|note| note.message != first.message).map(|note| format!("; {}: {}", note.reason, note.message));
            Finding::new(conditions::DEGRADED, true, first.reason, format!("{}{}", first.message, others.collect::<String>()))
        }
    }
}

fn checkpoint_healthy(draft: &Draft<'_>, running: bool) -> Finding {
    let (Some(view), Some(job)) = (draft.view().filter(|_| running), draft.wanted_job()) else {
        return Finding::unknown(conditions::CHECKPOINT_HEALTHY, reasons::NOT_RUNNING, "the job does not run");
    };
    let limit = job.checkpoint.interval.saturating_add(job.checkpoint.timeout);
    let begun = draft.assigned().and_then(|assigned| time::read(&assigned.since));
    let last = view.checkpoints.history.last().and_then(|last| Timestamp::from_millisecond(last.completed_at).ok()).max(begun);
    match last.is_some_and(|last| time::since(last, draft.now) > limit) {
        false => Finding::new(conditions::CHECKPOINT_HEALTHY, true, reasons::CHECKPOINTING, ""),
        true => {
            let why = view.checkpoints.last_failure.as_deref().unwrap_or("no failure was reported");
            let message = format!("no checkpoint is complete for more than {}: {why}", rheos_api::duration::display(limit));
            Finding::new(conditions::CHECKPOINT_HEALTHY, false, reasons::CHECKPOINTS_LATE, message)
        }
    }
}

fn restorable(draft: &Draft<'_>) -> Finding {
    let seen = draft.view().is_some_and(|view| !view.checkpoints.history.is_empty());
    match seen || draft.status.last_checkpoint.is_some() || draft.status.last_savepoint.is_some() {
        true => Finding::new(conditions::RESTORABLE, true, reasons::CHECKPOINT_AVAILABLE, ""),
        false => Finding::new(conditions::RESTORABLE, false, reasons::NO_CHECKPOINT, "no checkpoint is complete yet"),
    }
}

/// A new trouble is an event; one that lasts is not told again.
fn events_of_trouble(draft: &mut Draft<'_>) {
    let before = conditions::get(&draft.observed.status.conditions, conditions::DEGRADED);
    let before = before.filter(|condition| condition.status == "True").map(|condition| condition.reason.clone());
    if let Some(note) = draft.trouble.first().cloned()
        && before.as_deref() != Some(note.reason)
    {
        draft.event(crate::reconcile::EventKind::Warning, note.reason, note.message);
    }
}

/// The newest checkpoint, if it is time to write it or something else is written anyway.
fn figures(draft: &mut Draft<'_>) {
    let Some(new) = draft.view().and_then(last_checkpoint) else { return };
    let due = match &draft.status.last_checkpoint {
        None => true,
        Some(old) => {
            let at = time::read(&new.time).unwrap_or(draft.now);
            draft.status != draft.observed.status || time::since_text(&old.time, at) >= FIGURES_EVERY
        }
    };
    if due {
        draft.status.last_checkpoint = Some(new);
    }
}

/// The newest checkpoint of a view.
pub(super) fn last_checkpoint(view: &JobView) -> Option<CheckpointStatus> {
    let last = view.checkpoints.history.last()?;
    Some(CheckpointStatus {
        epoch: i64::try_from(last.epoch).unwrap_or(i64::MAX),
        time: time::text(Timestamp::from_millisecond(last.completed_at).ok()?),
        bytes: i64::try_from(last.bytes).unwrap_or(i64::MAX),
        duration: rheos_api::duration::display(Duration::from_millis(last.duration_ms.max(0.0) as u64)),
    })
}
