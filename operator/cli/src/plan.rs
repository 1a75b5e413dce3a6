//! [pure] Planning as the workers do it: what they would refuse is refused before anything is sent.

use rheos_api::{StreamJobSpec, stream_job};
use rheos_dataflow::sink::Delivery;
use rheos_sql::{PlanOptions, Planned};

/// Plans a SQL text and checks the options of its tables.
///
/// # Errors
/// Every mistake found, with line and column.
pub fn plan(sql: &str, delivery: stream_job::Delivery) -> Result<Planned, Vec<String>> {
    let options = PlanOptions {
        accepts_changelog: rheos_connectors::accepts_changelog,
        emits_changelog: rheos_connectors::emits_changelog,
        looks_up: rheos_connectors::looks_up,
        ..PlanOptions::default()
    };
    let texts = |errors: Vec<String>| errors.into_iter().map(|error| format!("spec.sql: {error}")).collect::<Vec<_>>();
    let planned = rheos_sql::plan(sql, &options).map_err(|errors| texts(errors.iter().map(ToString::to_string).collect()))?;
    let delivery = match delivery {
        stream_job::Delivery::ExactlyOnce => Delivery::ExactlyOnce,
        stream_job::Delivery::AtLeastOnce => Delivery::AtLeastOnce,
        stream_job::Delivery::AtMostOnce => Delivery::AtMostOnce,
    };
    let problems = rheos_connectors::check(&planned.graph, delivery);
    match problems.is_empty() {
        true => Ok(planned),
        false => Err(texts(problems.iter().map(|(table, problem)| planned.locate(table, problem)).collect())),
    }
}

/// What is wrong with the sharing out of a job's workers over its pods.
pub fn spread(spec: &StreamJobSpec) -> Option<String> {
    let (parallelism, slots) = (u32::try_from(spec.parallelism).ok()?, u32::try_from(spec.worker.slots).ok()?);
    let members = rheos_operator::build::assignment::members(parallelism, slots);
    (!parallelism.is_multiple_of(members)).then(|| {
        let (less, more) = (parallelism / members * members, parallelism.next_multiple_of(members));
        format!(
            "spec.parallelism: {parallelism} workers cannot be spread evenly over {members} pods of at most {slots} (spec.worker.slots); use \
             {less} or {more}"
        )
    })
}
