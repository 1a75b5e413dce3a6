//! [pure] What shall run: the spec, the last good one where the spec cannot be had, or what ran before an upgrade failed.

use std::borrow::Cow;
use std::time::Duration;

use rheos_api::ValidatedJob;
use rheos_api::rollout::{RolloutKind, Run};
use rheos_api::stream_job::{DesiredState, StreamJobSpec, UpgradeMode};

use crate::conditions::reasons;
use crate::diff;
use crate::lifecycle::Draft;
use crate::reconcile::{Snapshot, Wanted};

/// How long to wait for a ConfigMap before it is looked for again, should the watch not tell of it.
const SQL_AGAIN: Duration = Duration::from_secs(10);

/// What shall be.
pub(super) enum Goal<'a> {
    /// There is nothing that could run.
    Nothing,
    /// The job shall stand still.
    Suspended,
    /// The job shall run.
    Run(Box<Plan<'a>>),
}

/// What shall run, and how to get there.
pub(super) struct Plan<'a> {
    /// What shall run.
    pub(super) run: Run,
    /// What its pods are built from.
    pub(super) snapshot: Cow<'a, Snapshot>,
    /// The settings that change without new pods, and the policies.
    pub(super) settings: &'a ValidatedJob,
    /// Why, should it not run yet.
    pub(super) kind: RolloutKind,
    /// Whether its state begins with what `spec.restore` names.
    pub(super) restore: bool,
    /// Whether its state has nothing of what runs now.
    pub(super) fresh: bool,
}

impl Plan<'_> {
    /// Pods that it needs at a parallelism.
    pub(super) fn members(&self, parallelism: i64) -> u32 {
        crate::build::assignment::members(count(parallelism), self.snapshot.job.worker.slots)
    }

    /// Whether the state that it starts from is what ran before.
    pub(super) fn carries_state(&self) -> bool {
        !self.fresh && self.kind != RolloutKind::RollBack
    }
}

/// A parallelism as the worker counts it.
pub(super) fn count(parallelism: i64) -> u32 {
    u32::try_from(parallelism).unwrap_or(1).max(1)
}

/// Finds out what shall be.
pub(super) fn goal<'a>(draft: &mut Draft<'a>) -> Goal<'a> {
    let observed = draft.observed;
    match &observed.wanted {
        Wanted::Valid { spec, job } => {
            if job.state == DesiredState::Suspended {
                return Goal::Suspended;
            }
            wanted(draft, spec, job)
        }
        Wanted::Invalid(errors) => {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            draft.trouble(reasons::INVALID_SPEC, errors.join("; "));
            as_before(draft)
        }
        Wanted::SqlMissing(why) => {
            draft.trouble(reasons::SQL_NOT_FOUND, why.clone());
            draft.look_again(SQL_AGAIN);
            as_before(draft)
        }
    }
}

/// What the spec asks for, unless it was tried in vain or cannot be done.
fn wanted<'a>(draft: &mut Draft<'a>, spec: &'a StreamJobSpec, job: &'a ValidatedJob) -> Goal<'a> {
    let acted = draft.status.restore_nonce.unwrap_or(0);
    let revision = diff::revision(spec, acted);
    let parallelism = i64::from(job.parallelism);
    if let Some(rejected) = &draft.status.rejected {
        if rejected.revision == revision {
            let message =
                format!("revision {revision} was taken back ({}: {}); change the spec to try again", rejected.reason, rejected.message);
            let wish = (parallelism != rejected.parallelism).then_some(parallelism);
            draft.trouble(reasons::ROLLED_BACK, message);
            return last_good(draft, wish, Some(job));
        }
        draft.status.rejected = None;
    }
    let changed = draft.assigned().is_none_or(|assigned| assigned.run.revision != revision);
    if changed && let Some(why) = refused(draft, spec, job) {
        draft.trouble(reasons::CHANGE_REFUSED, why);
        return last_good(draft, Some(parallelism), Some(job));
    }
    let (state_id, fresh, restore) = state(draft, &revision, spec, job);
    let first = draft.assigned().is_none();
    let same = draft.assigned().is_some_and(|assigned| assigned.run.revision == revision);
    let snapshot = match draft.observed.snapshots.iter().find(|snapshot| snapshot.revision == revision) {
        Some(snapshot) => Cow::Borrowed(snapshot),
        None => Cow::Owned(snapshot_of(draft, &revision, spec, job)),
    };
    let kind = if first || same { RolloutKind::Start } else { RolloutKind::Upgrade };
    Goal::Run(Box::new(Plan { run: Run { revision, parallelism, state_id }, snapshot, settings: job, kind, restore, fresh }))
}

/// The snapshot that will exist once it is created.
fn snapshot_of(draft: &Draft<'_>, revision: &str, spec: &StreamJobSpec, job: &ValidatedJob) -> Snapshot {
    let (mut spec, mut job) = (spec.clone(), job.clone());
    spec.sql_from = None;
    spec.worker.image.get_or_insert_with(|| draft.observed.default_image.clone());
    job.worker.image.get_or_insert_with(|| draft.observed.default_image.clone());
    Snapshot {
        revision: revision.to_owned(),
        name: crate::names::config_map(&draft.observed.job.name, revision),
        uid: String::new(),
        resource_version: String::new(),
        created: None,
        spec,
        job,
    }
}

/// Which state a revision works on: its id, whether it begins anew, whether it begins with `spec.restore`.
fn state(draft: &Draft<'_>, revision: &str, spec: &StreamJobSpec, job: &ValidatedJob) -> (String, bool, bool) {
    let observed = &draft.observed.job;
    if let Some(rollout) = &draft.status.rollout
        && rollout.to.revision == revision
        && rollout.kind != RolloutKind::RollBack
    {
        let fresh = draft.assigned().is_none_or(|assigned| assigned.run.state_id != rollout.to.state_id);
        return (rollout.to.state_id.clone(), fresh, rollout.restore);
    }
    let Some(assigned) = draft.assigned() else {
        return (observed.uid.clone(), true, spec.restore.is_some());
    };
    if assigned.run.revision == revision {
        return (assigned.run.state_id.clone(), false, assigned.restore);
    }
    let anew = || format!("{}-{}", observed.uid, observed.spec_generation);
    let nonce = spec.restore.as_ref().map_or(0, |restore| restore.nonce);
    if nonce > draft.status.restore_nonce.unwrap_or(0) {
        return (anew(), true, true);
    }
    if job.upgrade.mode == UpgradeMode::Stateless {
        return (anew(), true, false);
    }
    // What never completed a checkpoint has left nothing behind: the state is that of what was stable before.
    let base = draft.status.stable.as_ref().map_or(&assigned.run.state_id, |stable| &stable.state_id);
    (base.clone(), false, assigned.restore && *base == assigned.run.state_id)
}

/// Why a change of revision cannot be done.
fn refused(draft: &Draft<'_>, spec: &StreamJobSpec, job: &ValidatedJob) -> Option<String> {
    let before = &draft.assigned()?.run;
    let snapshot = draft.observed.snapshots.iter().find(|snapshot| snapshot.revision == before.revision)?;
    let anew = job.upgrade.mode == UpgradeMode::Stateless
        || spec.restore.as_ref().is_some_and(|restore| restore.nonce > draft.status.restore_nonce.unwrap_or(0));
    if snapshot.job.max_parallelism != job.max_parallelism {
        let (old, new) = (snapshot.job.max_parallelism, job.max_parallelism);
        return Some(format!(
            "spec.maxParallelism cannot change ({old} to {new}): the state is cut into that many key groups; set it back"
        ));
    }
    let place = |job: &ValidatedJob| job.checkpoint.storage.as_ref().map(|storage| storage.uri.clone());
    if !anew && place(&snapshot.job) != place(job) {
        return Some(
            "spec.checkpoint.storage.uri changed, and the state is at the old place; take a Savepoint and name it in spec.restore with a \
             higher nonce, or set spec.upgrade.mode to Stateless"
                .to_owned(),
        );
    }
    None
}

/// What runs or ran last, at the wished parallelism.
fn last_good<'a>(draft: &mut Draft<'a>, parallelism: Option<i64>, settings: Option<&'a ValidatedJob>) -> Goal<'a> {
    let rejected = draft.status.rejected.as_ref().map(|rejected| rejected.revision.clone());
    let good = |run: &&Run| Some(&run.revision) != rejected.as_ref();
    let assigned = draft.assigned().map(|assigned| (assigned.run.clone(), assigned.restore)).filter(|(run, _)| good(&run));
    let stable = draft.status.stable.clone().filter(|run| good(&run)).map(|run| (run, false));
    let (kind, found) = match (assigned, stable) {
        (Some(run), _) => (RolloutKind::Start, run),
        (None, Some(run)) => (RolloutKind::RollBack, run),
        (None, None) => return Goal::Nothing,
    };
    let (mut run, restore) = found;
    let Some(snapshot) = draft.observed.snapshots.iter().find(|snapshot| snapshot.revision == run.revision) else {
        draft.trouble(reasons::ROLLED_BACK, format!("the snapshot of revision {} is gone; change the spec to go on", run.revision));
        return Goal::Nothing;
    };
    run.parallelism = parallelism.unwrap_or(run.parallelism);
    // A roll-back that is under way keeps its kind until it is stable.
    let kind = match &draft.status.rollout {
        Some(rollout) if rollout.kind == RolloutKind::RollBack && rollout.to.revision == run.revision => RolloutKind::RollBack,
        _ => kind,
    };
    let settings = settings.unwrap_or(&snapshot.job);
    Goal::Run(Box::new(Plan { run, snapshot: Cow::Borrowed(snapshot), settings, kind, restore, fresh: false }))
}

/// What was under way when the spec was last good.
fn as_before<'a>(draft: &mut Draft<'a>) -> Goal<'a> {
    let rollout = draft.status.rollout.clone();
    let snapshot =
        rollout.as_ref().and_then(|rollout| draft.observed.snapshots.iter().find(|snapshot| snapshot.revision == rollout.to.revision));
    if let (Some(rollout), Some(snapshot)) = (rollout, snapshot) {
        let fresh = draft.assigned().is_none_or(|assigned| assigned.run.state_id != rollout.to.state_id);
        let (run, kind, restore) = (rollout.to, rollout.kind, rollout.restore);
        return Goal::Run(Box::new(Plan { run, snapshot: Cow::Borrowed(snapshot), settings: &snapshot.job, kind, restore, fresh }));
    }
    if draft.status.phase == rheos_api::status::Phase::Suspended {
        return Goal::Suspended;
    }
    last_good(draft, None, None)
}
