//! [pure] Periodic savepoints: when the next one is due, and which old ones go.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rheos_api::savepoint::SavepointPhase;
use rheos_api::validated::{RestoreSource, SavepointsPolicy, Schedule};

use crate::build::savepoint::{self, Origin};
use crate::lifecycle::Draft;
use crate::reconcile::action::Target;
use crate::reconcile::{Action, SavepointFacts};
use crate::{labels, names, time};

/// Asks for the savepoint that is due, and deletes what the history limit leaves out.
pub(super) fn decide(draft: &mut Draft<'_>) {
    let Some(policy) = draft.wanted_job().map(|job| &job.savepoints) else { return };
    let mut mine: Vec<&SavepointFacts> = draft.observed.savepoints.iter().filter(|savepoint| is_periodic(draft, savepoint)).collect();
    mine.sort_by_key(|savepoint| std::cmp::Reverse((savepoint.created, &savepoint.name)));
    create(draft, policy, &mine);
    forget(draft, policy, &mine);
}

/// Whether a savepoint was asked for by the schedule of this job.
pub(super) fn is_periodic(draft: &Draft<'_>, savepoint: &SavepointFacts) -> bool {
    let origin = savepoint.labels.get(labels::ORIGIN).map(String::as_str);
    savepoint.spec.job == draft.observed.job.name && origin == Some(Origin::Periodic.label())
}

fn create(draft: &mut Draft<'_>, policy: &SavepointsPolicy, mine: &[&SavepointFacts]) {
    let Some(schedule) = &policy.schedule else { return };
    let waits = mine.iter().any(|savepoint| matches!(savepoint.status.phase, SavepointPhase::Pending | SavepointPhase::InProgress));
    if waits || !draft.is_running() {
        return;
    }
    let begin = draft.observed.snapshots.iter().filter_map(|snapshot| snapshot.created).min();
    let last = mine.first().and_then(|savepoint| savepoint.created).or(begin);
    let Some(due) = last.and_then(|last| next(schedule, last)) else { return };
    if due > draft.now {
        draft.look_again(time::since(draft.now, due));
        return;
    }
    let job = &draft.observed.job;
    let name = names::savepoint(&job.name, &due.strftime("%Y%m%d%H%M").to_string());
    let object = savepoint::savepoint(job, &name, Origin::Periodic);
    draft.actions.push(Action::CreateSavepoint { name, object: Box::new(object) });
}

/// The first time after `last` that a schedule names; nothing for one that never comes.
pub(super) fn next(schedule: &Schedule, last: Timestamp) -> Option<Timestamp> {
    match schedule {
        Schedule::Every(period) => last.checked_add(jiff::SignedDuration::try_from(*period).ok()?).ok(),
        Schedule::Cron(text) => {
            let cron: croner::Cron = text.0.parse().ok()?;
            let last = last.to_zoned(TimeZone::UTC).datetime();
            let next = cron.find_next_occurrence(&last, false).ok()?;
            next.to_zoned(TimeZone::UTC).ok().map(|next| next.timestamp())
        }
    }
}

/// Deletes old ones; never the newest that is complete, nor one that somebody refers to.
fn forget(draft: &mut Draft<'_>, policy: &SavepointsPolicy, mine: &[&SavepointFacts]) {
    let limit = policy.history_limit as usize;
    let of =
        |phase: SavepointPhase| mine.iter().filter(move |savepoint| savepoint.status.phase == phase && savepoint.deleting_since.is_none());
    let complete = of(SavepointPhase::Completed).enumerate().filter(|(place, savepoint)| {
        let age = savepoint.created.map(|created| time::since(created, draft.now));
        let old = policy.max_age.is_some_and(|limit| age.is_some_and(|age| age > limit));
        *place > 0 && (*place >= limit || old) && !is_referred_to(draft, savepoint)
    });
    let failed = of(SavepointPhase::Failed).enumerate().filter(|(place, _)| *place >= limit);
    let gone: Vec<Action> = complete.chain(failed).map(|(_, savepoint)| Action::DeleteSavepoint(target(savepoint))).collect();
    draft.actions.extend(gone);
}

/// Whether a spec or a status refers to a savepoint of this job.
fn is_referred_to(draft: &Draft<'_>, savepoint: &SavepointFacts) -> bool {
    let restore = draft.wanted_job().and_then(|job| job.restore.as_ref());
    let by_spec = restore.is_some_and(|restore| match &restore.from {
        RestoreSource::Savepoint(name) => *name == savepoint.name,
        RestoreSource::Uri(uri) => Some(uri) == savepoint.status.uri.as_ref(),
    });
    let by_rollout = draft.status.rollout.as_ref().is_some_and(|rollout| rollout.savepoint.as_ref() == Some(&savepoint.name));
    let by_status = draft.status.last_savepoint.as_ref().is_some_and(|last| Some(&last.uri) == savepoint.status.uri.as_ref());
    by_spec || by_rollout || by_status
}

/// A savepoint as it was seen.
pub(super) fn target(savepoint: &SavepointFacts) -> Target {
    Target { name: savepoint.name.clone(), uid: savepoint.uid.clone(), resource_version: savepoint.resource_version.clone() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rheos_api::cron::CronText;

    use super::*;

    #[test]
    fn the_next_time_is_after_the_last() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let cron = |text: &str| Schedule::Cron(CronText(text.to_owned()));
        for (schedule, last, due) in [
            (Schedule::Every(Duration::from_secs(90)), "2026-01-31T23:59:00Z", Some("2026-02-01T00:00:30Z")),
            (cron("30 3 * * *"), "2026-02-28T03:30:00Z", Some("2026-03-01T03:30:00Z")),
            (cron("30 3 * * *"), "2026-02-28T03:29:59Z", Some("2026-02-28T03:30:00Z")),
            (cron("*/15 9-17 * * MON-FRI"), "2026-11-20T17:50:00Z", Some("2026-11-23T09:00:00Z")),
            (cron("0 0 29 2 *"), "2026-01-01T00:00:00Z", Some("2028-02-29T00:00:00Z")),
            (cron("0 0 30 2 *"), "2026-01-01T00:00:00Z", None),
        ] {
            assert_eq!(next(&schedule, at(last)), due.map(at), "{schedule:?} after {last}");
        }
    }
}
