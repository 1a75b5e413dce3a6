//! [pure] Telling the coordinator what to run: at the start, and whenever the pods, their number or the settings change.

use std::time::Duration;

use rheos_api::rollout::{Assigned, AssignedState, Run};
use rheos_api::savepoint::SavepointPhase;
use rheos_api::status::Phase;
use rheos_api::validated::RestoreSource;
use rheos_control_api::{Assignment, RestoreOrder};

use super::target::{Plan, count};
use crate::build;
use crate::conditions::reasons;
use crate::lifecycle::draft::SOON;
use crate::lifecycle::{Draft, pods};
use crate::reconcile::{Action, EventKind, PodFacts, Snapshot};
use crate::time;

/// Kind of the act in `status.pending`.
pub(super) const GENERATION_KIND: &str = "Generation";
/// How long a restore source that is not there is waited for before it is looked for again.
const RESTORE_AGAIN: Duration = Duration::from_secs(10);

/// A run and what it is told with.
pub(super) struct Told<'p> {
    pub(super) run: Run,
    pub(super) snapshot: &'p Snapshot,
    pub(super) plan: &'p Plan<'p>,
    pub(super) restore: bool,
}

impl Told<'_> {
    fn members(&self) -> u32 {
        build::assignment::members(count(self.run.parallelism), self.snapshot.job.worker.slots)
    }
}

/// Starts a run on its pods. Says whether it was told.
pub(super) fn start(draft: &mut Draft<'_>, plan: &Plan<'_>) -> bool {
    let told = Told { run: plan.run.clone(), snapshot: &plan.snapshot, plan, restore: plan.restore };
    let Some(members) = pods::ready(draft.observed, &told.run.revision, told.members()) else { return false };
    let Ok(restore) = restore_order(draft, &told) else { return false };
    tell(draft, &told, &members, restore)
}

/// Keeps a run that was started in step with its pods and its settings: tells the coordinator whatever it does not know.
pub(super) fn serve(draft: &mut Draft<'_>, told: &mut Told<'_>) {
    let Some(assigned) = draft.assigned().cloned() else { return };
    if draft.has_acted() {
        return;
    }
    let wish = told.run.parallelism;
    for parallelism in [wish, assigned.run.parallelism] {
        told.run.parallelism = parallelism;
        let Some(members) = pods::ready(draft.observed, &told.run.revision, told.members()) else { continue };
        let Ok(restore) = restore_order(draft, told) else { continue };
        let mut assignment = content(told, &members, restore.clone());
        if told.run == assigned.run && incarnations(&members) < assigned.incarnations {
            // The pods are seen as they were before the assignment in force: who tells them starts what has gone.
            draft.look_again(SOON);
            return;
        }
        if build::assignment::digest(&assignment, &members) != assigned.digest {
            say_what_changes(draft, &assigned, told);
            tell(draft, told, &members, restore);
            return;
        }
        let Some(leader) = members.first() else { return };
        match leader.view() {
            // It takes nothing any more, and will be replaced or come back.
            Some(view) if view.leaving => {}
            // It has lost, or never got, what it was told: the same again.
            Some(view) if view.assignment.is_none_or(|known| known < draft.status.assignment) && !refused_as_stale(draft, leader) => {
                assignment.version = draft.status.assignment;
                give(draft, leader, assignment);
            }
            // It knows more than the status, or lost the fence: only a higher version goes on from there.
            Some(view) if view.assignment != Some(draft.status.assignment) || is_fenced(view) => {
                tell(draft, told, &members, restore);
            }
            _ => {}
        }
        return;
    }
}

fn say_what_changes(draft: &mut Draft<'_>, assigned: &Assigned, told: &Told<'_>) {
    let (old, new) = (assigned.run.parallelism, told.run.parallelism);
    if old != new {
        draft.event(EventKind::Normal, reasons::RESCALING, format!("the job goes from {old} to {new} workers"));
    }
}

/// Whether a coordinator said that it knows this version with other content.
fn refused_as_stale(draft: &Draft<'_>, leader: &PodFacts) -> bool {
    draft.observed.refusals.iter().any(|refusal| refusal.action == "Assign" && refusal.code == 409 && refusal.object == leader.name)
}

fn is_fenced(view: &rheos_control_api::JobView) -> bool {
    view.state == Phase::Failed && view.failure.as_ref().is_some_and(|failure| failure.kind == reasons::FENCED_KIND)
}

fn content(told: &Told<'_>, members: &[&PodFacts], restore: Option<RestoreOrder>) -> Assignment {
    build::assignment::assignment(told.plan.settings, &told.run.state_id, count(told.run.parallelism), members, restore)
}

/// Writes a new assignment down, then gives it. Says whether it did.
fn tell(draft: &mut Draft<'_>, told: &Told<'_>, members: &[&PodFacts], restore: Option<RestoreOrder>) -> bool {
    let Some(leader) = members.first() else { return false };
    if draft.has_acted() || waits_for_another(draft, leader) {
        draft.progress(reasons::DEPLOYING, "the pod that leads the job finishes its last checkpoint");
        return false;
    }
    let known = draft.observed.pods.iter().filter_map(PodFacts::view).filter_map(|view| view.assignment).max().unwrap_or(0);
    let version = draft.status.assignment.max(known).saturating_add(1);
    let mut assignment = content(told, members, restore);
    if draft.status.revision.as_ref() != Some(&told.run.revision) {
        draft.status.recent_restarts.clear();
    }
    draft.status.assignment = version;
    draft.status.revision = Some(told.run.revision.clone());
    draft.status.assigned = Some(Assigned {
        run: told.run.clone(),
        coordinator: leader.name.clone(),
        digest: build::assignment::digest(&assignment, members),
        since: draft.now_text(),
        state: AssignedState::Active,
        incarnations: incarnations(members),
        generation: None,
        restore: told.restore,
    });
    assignment.version = version;
    give(draft, leader, assignment);
    true
}

fn incarnations(members: &[&PodFacts]) -> i64 {
    members.iter().map(|pod| pod.incarnation).sum()
}

fn give(draft: &mut Draft<'_>, leader: &PodFacts, assignment: Assignment) {
    let Some(address) = leader.address else { return };
    draft.pending(format!("assignment-{}", assignment.version), GENERATION_KIND);
    draft.act(Action::Assign { pod: leader.name.clone(), address, assignment: Box::new(assignment) });
}

/// Whether another pod still leads the job and has time left to leave it well.
fn waits_for_another(draft: &Draft<'_>, leader: &PodFacts) -> bool {
    let others = draft.observed.pods.iter().filter(|pod| pod.name != leader.name);
    others.filter(|pod| pod.view().is_some_and(|view| view.coordinator && is_live(view.state))).any(|pod| {
        let snapshot = draft.observed.snapshots.iter().find(|snapshot| snapshot.revision == pod.revision);
        let patience = snapshot.map_or(Duration::from_secs(30), |snapshot| Duration::from_secs(build::pod::leave_seconds(&snapshot.job)));
        pod.deleting_since.is_none_or(|since| time::since(since, draft.now) < patience)
    })
}

/// Whether engines run, or soon will, in a state.
pub(super) fn is_live(state: Phase) -> bool {
    !matches!(state, Phase::Created | Phase::Suspended | Phase::Finished | Phase::Failed)
}

/// What a run starts from while its state is empty; an error where that is not known yet.
fn restore_order(draft: &mut Draft<'_>, told: &Told<'_>) -> Result<Option<RestoreOrder>, ()> {
    let proven = draft.status.stable.as_ref().is_some_and(|stable| stable.state_id == told.run.state_id);
    let Some(restore) = told.plan.settings.restore.as_ref().filter(|_| told.restore && !proven) else { return Ok(None) };
    let uri = match &restore.from {
        RestoreSource::Uri(uri) => uri.clone(),
        RestoreSource::Savepoint(name) => {
            let savepoint = draft.observed.savepoints.iter().find(|savepoint| savepoint.name == *name);
            let complete = savepoint.filter(|savepoint| savepoint.status.phase == SavepointPhase::Completed);
            match complete.and_then(|savepoint| savepoint.status.uri.clone()) {
                Some(uri) => uri,
                None => {
                    let why = savepoint.map_or("is not there", |_| "is not complete");
                    draft.trouble(reasons::RESTORE_SOURCE_MISSING, format!("Savepoint {name} of spec.restore {why}"));
                    draft.look_again(RESTORE_AGAIN);
                    return Err(());
                }
            }
        }
    };
    Ok(Some(RestoreOrder { uri, allow_non_restored_state: restore.allow_non_restored_state }))
}
