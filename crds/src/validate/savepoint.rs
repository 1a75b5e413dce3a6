//! [pure] The rules about `Savepoint` resources, and about the savepoints that a job asks for itself.

use std::time::Duration;

use super::{Errors, FieldError};
use crate::names::{self, JOB_NAME_LIMIT, JobName};
use crate::savepoint::Savepoint;
use crate::stream_job::Savepoints;
use crate::validated::{SavepointsPolicy, Schedule, ValidatedSavepoint};
use crate::{API_VERSION, SAVEPOINT_KIND};

/// Shortest time between two periodic savepoints.
pub const MIN_SAVEPOINT_PERIOD: Duration = Duration::from_secs(60);
/// Most periodic savepoints to keep.
pub const HISTORY_LIMIT: i64 = 100;

/// Checks a savepoint.
///
/// # Errors
/// Every violated rule, in the order of the fields.
pub fn validate_savepoint(savepoint: &Savepoint) -> Result<ValidatedSavepoint, Vec<FieldError>> {
    let mut errors = Errors::default();
    errors.head((&savepoint.api_version, API_VERSION), (&savepoint.kind, SAVEPOINT_KIND));
    if let Err(problem) = names::subdomain(&savepoint.metadata.name) {
        errors.add("metadata.name", problem, "use lower-case letters, digits, inner dashes and dots");
    }
    let job = JobName::new(&savepoint.spec.job);
    if let Err(problem) = &job {
        errors.add("spec.job", problem, format!("name a StreamJob: 1 to {JOB_NAME_LIMIT} lower-case letters, digits and inner dashes"));
    }
    match job {
        Ok(job) if errors.0.is_empty() => {
            Ok(ValidatedSavepoint { name: savepoint.metadata.name.clone(), job, disposal: savepoint.spec.disposal })
        }
        _ => Err(errors.0),
    }
}

/// Checks `spec.savepoints` of a job.
pub(super) fn periodic(savepoints: &Savepoints, errors: &mut Errors) -> Option<SavepointsPolicy> {
    let every = savepoints.every.as_ref().map(|every| errors.duration("spec.savepoints.every", every, MIN_SAVEPOINT_PERIOD));
    let cron = savepoints.cron.as_ref().filter(|cron| match cron.check() {
        Ok(()) => true,
        Err(problem) => {
            errors.add("spec.savepoints.cron", problem, "write minute, hour, day, month and day of week, for example 0 3 * * MON-FRI");
            false
        }
    });
    if savepoints.every.is_some() && savepoints.cron.is_some() {
        errors.add("spec.savepoints.cron", "stands beside spec.savepoints.every", "remove one of the two");
    }
    let history = errors.integer("spec.savepoints.historyLimit", savepoints.history_limit, 1..=HISTORY_LIMIT, "savepoints to keep");
    let max_age = savepoints.max_age.as_ref().map(|age| errors.duration("spec.savepoints.maxAge", age, MIN_SAVEPOINT_PERIOD));
    let schedule = match (every.flatten(), cron) {
        (Some(every), _) => Some(Schedule::Every(every)),
        (None, Some(cron)) => Some(Schedule::Cron(cron.clone())),
        (None, None) => None,
    };
    Some(SavepointsPolicy { schedule, history_limit: history?, max_age: max_age.flatten(), on_delete: savepoints.on_delete })
}
