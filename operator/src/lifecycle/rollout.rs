//! [pure] From what runs to what shall run.
//!
//! `Preparing` (the new pods start beside the running job) -> `Saving` (a savepoint, where one is asked for) -> `Stopping`
//! (the old job stops with a checkpoint) -> `Starting` (the new coordinator is told; the old pods go once rows flow). It is
//! over when the new run has completed a checkpoint. Where old and new pods find no room at the same time, the old job stops
//! first, its pods go, and it is `Preparing` again. Before `Starting`, a new run that cannot start is taken back without
//! touching the old one; in `Starting`, the last stable run comes back, by the same way. A run that is taken back is not
//! stopped with a checkpoint: what it would save is of the SQL that is taken back.

use std::time::Duration;

use rheos_api::rollout::{AssignedState, Rejected, Rollout, RolloutKind, RolloutStage};
use rheos_api::stream_job::UpgradeMode;

use super::assign::{self, Told};
use super::draft::Note;
use super::stop::{self, Stop};
use super::target::Plan;
use crate::build::assignment::members;
use crate::conditions::reasons;
use crate::lifecycle::{Draft, failure, pods, problems, report, rest, savepoints};
use crate::reconcile::action::Target;
use crate::reconcile::{Action, EventKind, PodFacts};

/// How long room for the new pods beside the old ones is waited for.
const ROOM_PATIENCE: Duration = Duration::from_secs(30);

/// Goes one step on.
pub(super) fn decide(draft: &mut Draft<'_>, plan: &Plan<'_>) {
    begin(draft, plan);
    pods::ensure_surroundings(draft);
    match draft.status.rollout.as_ref().map(|rollout| rollout.stage) {
        Some(RolloutStage::Preparing) => prepare(draft, plan),
        Some(RolloutStage::Saving) => save(draft, plan),
        Some(RolloutStage::Stopping) => halt(draft, plan),
        Some(RolloutStage::Starting) => verify(draft, plan),
        None => keep(draft, plan),
    }
    clear(draft, plan);
}

/// Writes down that a change begins, that its goal is another, or that there is nothing to change any more.
fn begin(draft: &mut Draft<'_>, plan: &Plan<'_>) {
    let runs = draft.assigned().is_some_and(|assigned| {
        assigned.state == AssignedState::Active && assigned.run.revision == plan.run.revision && assigned.run.state_id == plan.run.state_id
    });
    if let Some(rollout) = &mut draft.status.rollout
        && rollout.to.revision == plan.run.revision
        && rollout.to.state_id == plan.run.state_id
        && (runs || rollout.stage != RolloutStage::Starting)
    {
        rollout.to.parallelism = plan.run.parallelism;
        if !(runs && rollout.stage < RolloutStage::Starting) {
            return;
        }
    }
    draft.status.rollout = None;
    if runs {
        return;
    }
    let now = draft.now_text();
    draft.status.rollout = Some(Rollout {
        to: plan.run.clone(),
        kind: plan.kind,
        stage: RolloutStage::Preparing,
        since: now.clone(),
        stage_since: now,
        restore: plan.restore,
        stop_first: false,
        savepoint: None,
    });
    let to = &plan.run.revision;
    match plan.kind {
        RolloutKind::Start => {}
        RolloutKind::Upgrade => draft.event(EventKind::Normal, reasons::UPGRADING, format!("revision {to} takes over")),
        RolloutKind::RollBack => draft.event(EventKind::Warning, reasons::ROLLING_BACK, format!("revision {to} comes back")),
    }
}

fn enter(draft: &mut Draft<'_>, stage: RolloutStage) {
    let now = draft.now_text();
    if let Some(rollout) = &mut draft.status.rollout {
        rollout.stage = stage;
        rollout.stage_since = now;
    }
}

/// The new pods start; the old ones run.
fn prepare(draft: &mut Draft<'_>, plan: &Plan<'_>) {
    let count = plan.members(plan.run.parallelism);
    pods::ensure(draft, &plan.snapshot, count);
    if plan.kind != RolloutKind::RollBack {
        heal_old(draft, plan);
    }
    if pods::ready(draft.observed, &plan.run.revision, count).is_none() || draft.has_acted() {
        wait_for_pods(draft, plan);
    } else if !draft.is_active() {
        begin_run(draft, plan);
    } else {
        end_old(draft, plan);
    }
}

/// What runs makes way.
fn end_old(draft: &mut Draft<'_>, plan: &Plan<'_>) {
    if savepoints::upgrade_needs_one(draft, plan) {
        enter(draft, RolloutStage::Saving);
        save(draft, plan);
    } else {
        enter(draft, RolloutStage::Stopping);
        halt(draft, plan);
    }
}

/// Keeps what runs alive while its successor is being prepared.
fn heal_old(draft: &mut Draft<'_>, plan: &Plan<'_>) {
    let Some(assigned) = draft.assigned().cloned().filter(|assigned| assigned.state == AssignedState::Active) else { return };
    if draft.view().and_then(failure).is_some() {
        return;
    }
    let Some(snapshot) = draft.observed.snapshots.iter().find(|snapshot| snapshot.revision == assigned.run.revision) else { return };
    pods::ensure(draft, snapshot, members(super::target::count(assigned.run.parallelism), snapshot.job.worker.slots));
    assign::serve(draft, &mut Told { run: assigned.run, snapshot, plan, restore: assigned.restore });
}

/// Says what the new pods wait for; takes the new run back when that is of no use.
fn wait_for_pods(draft: &mut Draft<'_>, plan: &Plan<'_>) {
    let reason = if draft.is_active() { reasons::PREPARING } else { reasons::DEPLOYING };
    draft.waits(reason, format!("the pods of revision {} start", plan.run.revision));
    let worst = worst(draft, plan);
    let Some(rollout) = draft.status.rollout.clone() else { return };
    let age = draft.age(&rollout.since);
    let hopeless = worst.as_ref().is_some_and(|note| problems::is_of_the_revision(note.reason)) && age >= problems::GRACE;
    let limit = plan.settings.upgrade.deadline;
    if let Some(note) = &worst {
        draft.trouble(note.reason, note.message.clone());
    }
    let no_room = worst.as_ref().filter(|note| draft.is_active() && problems::is_want_of_room(note.reason) && !draft.has_acted());
    if let Some(note) = no_room {
        if age >= ROOM_PATIENCE {
            make_room(draft, plan, note);
            return;
        }
        draft.look_at(&rollout.since, ROOM_PATIENCE);
    }
    if (hopeless || age >= limit) && can_go_back(draft, plan) {
        let late = || Note { reason: reasons::DEADLINE_EXCEEDED, message: "its pods did not become ready in time".to_owned() };
        take_back(draft, plan, &worst.unwrap_or_else(late));
    }
    draft.look_at(&rollout.since, if age < problems::GRACE { problems::GRACE } else { limit });
}

/// The old job stops before the new pods are there.
fn make_room(draft: &mut Draft<'_>, plan: &Plan<'_>, why: &Note) {
    if let Some(rollout) = &mut draft.status.rollout {
        rollout.stop_first = true;
    }
    let message = format!("there is no room for old and new pods at the same time, so the old ones stop first ({})", why.message);
    draft.event(EventKind::Normal, reasons::MAKING_ROOM, message);
    end_old(draft, plan);
}

/// What most keeps the new pods from being ready.
fn worst(draft: &Draft<'_>, plan: &Plan<'_>) -> Option<Note> {
    let count = plan.members(plan.run.parallelism);
    let pods = (0..count).filter_map(|index| pods::newest(draft.observed, &plan.run.revision, index));
    let mut notes: Vec<Note> = pods.filter_map(problems::of).collect();
    notes.extend(draft.observed.refusals.iter().filter(|refusal| !problems::passes_by_itself(refusal)).map(problems::of_refusal));
    notes.sort_by_key(|note| !problems::is_of_the_revision(note.reason));
    notes.into_iter().next()
}

/// A savepoint is waited for.
fn save(draft: &mut Draft<'_>, plan: &Plan<'_>) {
    pods::ensure(draft, &plan.snapshot, plan.members(plan.run.parallelism));
    heal_old(draft, plan);
    draft.progress(reasons::SAVING, "a savepoint is taken before the upgrade");
    match savepoints::for_upgrade(draft, plan) {
        savepoints::Saving::Waits => {}
        savepoints::Saving::Done => {
            enter(draft, RolloutStage::Stopping);
            halt(draft, plan);
        }
        savepoints::Saving::Failed(message) => {
            let note = Note { reason: reasons::SAVEPOINT_FAILED, message };
            match can_go_back(draft, plan) {
                true => take_back(draft, plan, &note),
                false => draft.trouble(note.reason, note.message),
            }
        }
    }
}

/// The old job stops.
fn halt(draft: &mut Draft<'_>, plan: &Plan<'_>) {
    pods::ensure(draft, &plan.snapshot, plan.members(plan.run.parallelism));
    if draft.is_active() {
        let since = draft.status.rollout.as_ref().map(|rollout| rollout.stage_since.clone()).unwrap_or_default();
        let stopped = match plan.kind {
            RolloutKind::RollBack => stop::kill(draft),
            _ => stop_in_time(draft, plan, &since),
        };
        match stopped {
            Stop::Waits => {
                draft.progress(reasons::STOPPING, "the job stops with a checkpoint");
                return;
            }
            Stop::Clean => draft.set_assigned_state(AssignedState::Stopped),
            Stop::Broken => draft.set_assigned_state(AssignedState::Broken),
        }
    }
    if stops_first(draft) {
        enter(draft, RolloutStage::Preparing);
        prepare(draft, plan);
    } else {
        begin_run(draft, plan);
    }
}

fn stops_first(draft: &Draft<'_>) -> bool {
    draft.status.rollout.as_ref().is_some_and(|rollout| rollout.stop_first)
}

fn stop_in_time(draft: &mut Draft<'_>, plan: &Plan<'_>, since: &str) -> Stop {
    // While nothing newer can be had, an old checkpoint is no reason to take away what may still make a fresh one.
    if is_too_old(draft, plan) && draft.age(since) >= plan.settings.checkpoint.timeout + stop::MARGIN {
        too_old(draft, plan);
        return stop::ask(draft, Duration::MAX, since);
    }
    stop::with_checkpoint(draft, since, plan.settings.checkpoint.timeout)
}

/// Tells the new pods to run.
fn begin_run(draft: &mut Draft<'_>, plan: &Plan<'_>) {
    let broken = draft.assigned().is_some_and(|assigned| assigned.state == AssignedState::Broken);
    if broken && plan.kind == RolloutKind::Upgrade && is_too_old(draft, plan) {
        too_old(draft, plan);
        return;
    }
    draft.progress(reasons::DEPLOYING, format!("revision {} starts", plan.run.revision));
    if assign::start(draft, plan) {
        enter(draft, RolloutStage::Starting);
    }
}

fn is_too_old(draft: &Draft<'_>, plan: &Plan<'_>) -> bool {
    let Some(limit) = plan.settings.upgrade.max_checkpoint_age else { return false };
    let stateful = plan.settings.upgrade.mode != UpgradeMode::Stateless;
    stateful && plan.carries_state() && last_checkpoint(draft).is_some_and(|time| draft.age(&time) > limit)
}

/// When the newest checkpoint was complete: status fields may be a minute behind.
fn last_checkpoint(draft: &Draft<'_>) -> Option<String> {
    let seen = draft.view().and_then(report::last_checkpoint);
    seen.or_else(|| draft.status.last_checkpoint.clone()).map(|last| last.time)
}

fn too_old(draft: &mut Draft<'_>, plan: &Plan<'_>) {
    let time = last_checkpoint(draft).unwrap_or_default();
    let limit = plan.settings.upgrade.max_checkpoint_age.map(rheos_api::duration::display).unwrap_or_default();
    let message = format!(
        "the last checkpoint is of {time}, older than spec.upgrade.maxCheckpointAge ({limit}); the upgrade waits for a fresh one, or for a higher limit"
    );
    draft.trouble(reasons::CHECKPOINT_TOO_OLD, message);
    draft.progress(reasons::CHECKPOINT_TOO_OLD, "the upgrade waits for a fresh checkpoint");
}

/// The new run was told; it is not known to work yet.
fn verify(draft: &mut Draft<'_>, plan: &Plan<'_>) {
    keep_run(draft, plan);
    let proven = draft.status.stable.as_ref();
    if proven.is_some_and(|stable| stable.revision == plan.run.revision && stable.state_id == plan.run.state_id) && draft.is_running() {
        draft.status.rollout = None;
        return;
    }
    draft.progress(reasons::VERIFYING, format!("revision {} has not completed a checkpoint yet", plan.run.revision));
    let Some(rollout) = draft.status.rollout.clone() else { return };
    let age = draft.age(&rollout.stage_since);
    let limit = plan.settings.upgrade.deadline.saturating_add(plan.settings.checkpoint.interval);
    let failed =
        draft.view().and_then(failure).map(|failure| Note { reason: reasons::of_failure(&failure.kind), message: failure.to_string() });
    let stuck = worst(draft, plan).filter(|note| problems::is_of_the_revision(note.reason) && age >= problems::GRACE);
    let late = || Note { reason: reasons::DEADLINE_EXCEEDED, message: "it did not complete a checkpoint in time".to_owned() };
    let broken = failed.is_some();
    let note = failed.or(stuck).or_else(|| (age >= limit).then(late));
    match note {
        Some(note) if can_go_back(draft, plan) => take_back(draft, plan, &note),
        Some(_) if broken => {
            rest::fails(draft);
        }
        Some(note) => draft.trouble(note.reason, note.message),
        None => {}
    }
    draft.look_at(&rollout.stage_since, limit);
}

/// Nothing changes: what runs is kept running.
fn keep(draft: &mut Draft<'_>, plan: &Plan<'_>) {
    if !rest::fails(draft) {
        keep_run(draft, plan);
    }
}

fn keep_run(draft: &mut Draft<'_>, plan: &Plan<'_>) {
    if draft.view().and_then(failure).is_some() {
        return;
    }
    pods::ensure(draft, &plan.snapshot, plan.members(plan.run.parallelism));
    if let Some(note) = worst(draft, plan) {
        draft.trouble(note.reason, note.message);
    }
    let restore = draft.assigned().is_some_and(|assigned| assigned.restore);
    assign::serve(draft, &mut Told { run: plan.run.clone(), snapshot: &plan.snapshot, plan, restore });
    if draft.assigned().is_some_and(|assigned| assigned.run.parallelism != plan.run.parallelism) {
        draft.progress(reasons::RESCALING, format!("pods for {} workers start", plan.run.parallelism));
    }
}

/// Whether there is something to go back to.
fn can_go_back(draft: &Draft<'_>, plan: &Plan<'_>) -> bool {
    let kept = |revision: &String| {
        *revision != plan.run.revision && draft.observed.snapshots.iter().any(|snapshot| snapshot.revision == *revision)
    };
    let stable = draft.status.stable.as_ref().is_some_and(|stable| kept(&stable.revision));
    let runs = draft.assigned().is_some_and(|assigned| kept(&assigned.run.revision));
    plan.settings.upgrade.rollback && plan.kind != RolloutKind::RollBack && (stable || runs)
}

/// Takes a new run back: what ran goes on, or comes back.
fn take_back(draft: &mut Draft<'_>, plan: &Plan<'_>, why: &Note) {
    draft.status.rollout = None;
    draft.status.rejected = Some(Rejected {
        revision: plan.run.revision.clone(),
        parallelism: plan.run.parallelism,
        reason: why.reason.to_owned(),
        message: why.message.clone(),
        at: draft.now_text(),
    });
    draft.event(EventKind::Warning, reasons::ROLLED_BACK, format!("revision {} is taken back: {}", plan.run.revision, why.message));
    draft.trouble.clear();
    draft.trouble(reasons::ROLLED_BACK, format!("revision {} is taken back ({}: {})", plan.run.revision, why.reason, why.message));
    draft.look_again(Duration::ZERO);
}

/// Removes what the change, or the lack of one, does not need.
fn clear(draft: &mut Draft<'_>, plan: &Plan<'_>) {
    let count = plan.members(plan.run.parallelism);
    let of_plan = |pod: &PodFacts| pod.revision == plan.run.revision && pod.index < count;
    let makes_way = stops_first(draft) && !draft.is_active();
    let running = draft.assigned().map(|assigned| assigned.run.revision.clone()).filter(|_| !makes_way);
    let changes = draft.status.rollout.as_ref().is_some_and(|rollout| rollout.stage < RolloutStage::Starting);
    let settled = draft.is_running()
        && draft.assigned().is_some_and(|assigned| assigned.run == plan.run)
        && draft
            .view()
            .is_some_and(|view| i64::from(view.parallelism) == plan.run.parallelism && view.assignment == Some(draft.status.assignment));
    if changes {
        pods::clear(draft, |pod| of_plan(pod) || Some(&pod.revision) == running.as_ref());
    } else if settled {
        pods::clear(draft, of_plan);
        forget_snapshots(draft);
    } else {
        // What was stopped a moment ago is kept until its successor runs.
        pods::clear(draft, |_| true);
    }
}

/// Deletes snapshots of revisions that nothing can go back to: kept are what runs, what is stable, and the one before.
fn forget_snapshots(draft: &mut Draft<'_>) {
    let kept = [draft.assigned().map(|assigned| &assigned.run.revision), draft.status.stable.as_ref().map(|stable| &stable.revision)];
    let mut old: Vec<_> = draft.observed.snapshots.iter().filter(|snapshot| !kept.contains(&Some(&snapshot.revision))).collect();
    old.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.created));
    let targets: Vec<Target> = old
        .into_iter()
        .skip(1)
        .map(|old| Target { name: old.name.clone(), uid: old.uid.clone(), resource_version: old.resource_version.clone() })
        .collect();
    draft.actions.extend(targets.into_iter().map(Action::DeleteConfigMap));
}
