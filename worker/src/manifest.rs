//! [io] From a manifest file to a job that can run: read, validated, planned. Every mistake that can be seen without
//! starting anything is told here, all at once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rheos_api::manifest::MANIFEST_LIMIT;
use rheos_api::validated::{SqlSource, StoragePolicy};
use rheos_api::{StreamJob, ValidatedJob, parse_manifest, stream_job, validate};
use rheos_dataflow::coordinator::Pacing;
use rheos_dataflow::sink::Delivery;
use rheos_sql::{PlanOptions, Planned};

/// Shortest epoch: of a busy job, ms.
const EPOCH_MIN_MS: i64 = 10;
/// Longest epoch: of an idle job, ms.
const EPOCH_MAX_MS: i64 = 200;
/// Epochs that may be open behind the newest one.
const EPOCH_WINDOW: u64 = 4;

/// A job that can run.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The manifest, validated.
    pub job: ValidatedJob,
    /// The SQL text.
    pub sql: String,
    /// Its plan.
    pub planned: Planned,
    /// Folder of the manifest.
    pub base_dir: PathBuf,
}

/// Reads, validates and plans a manifest. `parallelism` stands in for the manifest's.
///
/// # Errors
/// Every mistake, a line each.
pub fn load(file: &Path, parallelism: Option<i64>) -> Result<Loaded, Vec<String>> {
    let shown = file.display();
    let mut manifest = parse(file)?;
    if let Some(parallelism) = parallelism {
        manifest.spec.parallelism = parallelism;
    }
    let job = check(file, &manifest)?;
    let sql = match &job.sql {
        SqlSource::Inline(sql) => sql.clone(),
        SqlSource::ConfigMapKey(_) => {
            return Err(vec![format!("{shown}: spec.sqlFrom: there is no ConfigMap outside a cluster; write the SQL into spec.sql")]);
        }
    };
    let planned = plan(&sql, delivery(job.delivery))
        .map_err(|errors| errors.iter().map(|error| format!("{shown}: spec.sql: {error}")).collect::<Vec<_>>())?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let base_dir = folder.canonicalize().map_err(|error| vec![format!("{}: {error}", folder.display())])?;
    Ok(Loaded { job, sql, planned, base_dir })
}

/// Reads and validates a manifest; its SQL is not looked at.
///
/// # Errors
/// Every mistake, a line each.
pub fn validated(file: &Path) -> Result<ValidatedJob, Vec<String>> {
    check(file, &parse(file)?)
}

fn parse(file: &Path) -> Result<StreamJob, Vec<String>> {
    let text = read(file).map_err(|problem| vec![format!("{}: {problem}", file.display())])?;
    parse_manifest(&text).map_err(|error| vec![format!("{}: {error}", file.display())])
}

fn check(file: &Path, manifest: &StreamJob) -> Result<ValidatedJob, Vec<String>> {
    validate(manifest).map_err(|errors| errors.iter().map(|error| format!("{}: {error}", file.display())).collect())
}

/// Reads a manifest's text, up to the size that one may have.
pub(crate) fn read(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let opened = File::open(file).map_err(|error| format!("cannot be read: {error}"))?;
    opened.take(MANIFEST_LIMIT as u64 + 1).read_to_string(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    Ok(text)
}

/// Plans a SQL text and checks the options of its tables.
///
/// # Errors
/// Every mistake found.
pub fn plan(sql: &str, delivery: Delivery) -> Result<Planned, Vec<String>> {
    let options = PlanOptions {
        accepts_changelog: rheos_connectors::accepts_changelog,
        emits_changelog: rheos_connectors::emits_changelog,
        looks_up: rheos_connectors::looks_up,
        ..PlanOptions::default()
    };
    let planned = rheos_sql::plan(sql, &options).map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let problems = rheos_connectors::check(&planned.graph, delivery);
    match problems.is_empty() {
        true => Ok(planned),
        false => Err(problems.iter().map(|(table, problem)| planned.locate(table, problem)).collect()),
    }
}

/// The engine's word for a promise.
pub fn delivery(delivery: stream_job::Delivery) -> Delivery {
    match delivery {
        stream_job::Delivery::ExactlyOnce => Delivery::ExactlyOnce,
        stream_job::Delivery::AtLeastOnce => Delivery::AtLeastOnce,
        stream_job::Delivery::AtMostOnce => Delivery::AtMostOnce,
    }
}

/// How ticks and checkpoints are paced.
pub fn pacing(checkpoint_interval: Duration, checkpoint_timeout: Duration) -> Pacing {
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    Pacing {
        epoch_min: EPOCH_MIN_MS,
        epoch_max: EPOCH_MAX_MS,
        checkpoint_interval: millis(checkpoint_interval),
        checkpoint_timeout: millis(checkpoint_timeout),
        window: EPOCH_WINDOW,
    }
}

/// The URI of a store and the options that the manifest gives it; credentials are the environment's.
pub fn storage(storage: &StoragePolicy) -> (String, BTreeMap<String, String>) {
    let mut options = BTreeMap::new();
    if let Some(endpoint) = &storage.endpoint {
        options.insert("endpoint".to_owned(), endpoint.clone());
        options.insert("allow_http".to_owned(), endpoint.starts_with("http://").to_string());
    }
    if let Some(region) = &storage.region {
        options.insert("region".to_owned(), region.clone());
    }
    (storage.uri.clone(), options)
}

/// How many processes host `parallelism` workers, at most `slots` in each. All have the same number of workers.
///
/// # Errors
/// They cannot be spread evenly.
pub fn members(parallelism: u32, slots: u32) -> Result<u32, String> {
    let members = parallelism.div_ceil(slots.max(1)).max(1);
    if parallelism.is_multiple_of(members) {
        return Ok(members);
    }
    let (less, more) = (parallelism / members * members, parallelism.next_multiple_of(members));
    Err(format!(
        "spec.parallelism: {parallelism} workers cannot be spread evenly over {members} processes of at most {slots} (spec.worker.slots); \
         use {less} or {more}"
    ))
}

#[cfg(test)]
mod tests {
    use rheos_dataflow::sink::Delivery;

    use super::{members, plan};

    /// A job from Kafka to Kafka; `generator` instead of the topic that is read.
    fn problems(generator: &str, sink: &str, delivery: Delivery) -> Vec<String> {
        let kafka = "'connector' = 'kafka', 'properties.bootstrap.servers' = 'b:1', 'format' = 'json', 'topic' = 't'";
        let from = if generator.is_empty() { format!("{kafka}, 'scan.startup.mode' = 'earliest-offset'") } else { generator.to_owned() };
        let sql = format!(
            "CREATE TABLE a (n BIGINT) WITH ({from});\n\n  CREATE TABLE b (n BIGINT) WITH ({kafka}{sink});\nINSERT INTO b SELECT n FROM a;"
        );
        plan(&sql, delivery).err().unwrap_or_default()
    }

    #[test]
    fn a_plan_that_cannot_keep_the_jobs_promise_is_refused_by_name_and_place() {
        use Delivery::{AtLeastOnce, AtMostOnce, ExactlyOnce};
        for delivery in [ExactlyOnce, AtLeastOnce, AtMostOnce] {
            assert_eq!(problems("", "", delivery), Vec::<String>::new());
        }
        let weaker = problems("", ", 'sink.delivery-guarantee' = 'at-least-once'", ExactlyOnce);
        assert!(
            weaker.len() == 1 && weaker[0].starts_with("3:3: table b (kafka): ") && weaker[0].contains("promises ExactlyOnce"),
            "{weaker:?}"
        );
        assert_eq!(problems("", ", 'sink.delivery-guarantee' = 'at-least-once'", AtLeastOnce), Vec::<String>::new());
        let stronger = problems("", ", 'sink.delivery-guarantee' = 'exactly-once'", AtMostOnce);
        assert!(stronger[0].starts_with("3:3: table b (kafka): ") && stronger[0].contains("promises AtMostOnce"), "{stronger:?}");
        let repeats = problems("'connector' = 'datagen'", "", AtMostOnce);
        assert!(
            repeats.len() == 1 && repeats[0].starts_with("1:1: table a (datagen): ") && repeats[0].contains("AtMostOnce"),
            "{repeats:?}"
        );
    }

    #[test]
    fn workers_are_spread_evenly_or_refused() {
        assert_eq!([members(1, 1), members(3, 4), members(4, 3), members(6, 2)], [Ok(1), Ok(1), Ok(2), Ok(3)]);
        let refusal = members(5, 2).unwrap_err();
        assert!(refusal.contains("use 3 or 6"), "{refusal}");
    }
}
