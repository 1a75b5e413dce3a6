//! [io] From a manifest file to a job that can run: read, validated, planned. Every mistake that can be seen without
//! starting anything is told here, all at once.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rheos_api::manifest::MANIFEST_LIMIT;
use rheos_api::validated::SqlSource;
use rheos_api::{ValidatedJob, parse_manifest, stream_job, validate};
use rheos_dataflow::sink::Delivery;
use rheos_sql::{PlanOptions, Planned};

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
    let text = read(file).map_err(|problem| vec![format!("{shown}: {problem}")])?;
    let mut manifest = parse_manifest(&text).map_err(|error| vec![format!("{shown}: {error}")])?;
    if let Some(parallelism) = parallelism {
        manifest.spec.parallelism = parallelism;
    }
    let job = validate(&manifest).map_err(|errors| errors.iter().map(|error| format!("{shown}: {error}")).collect::<Vec<_>>())?;
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

fn read(file: &Path) -> Result<String, String> {
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
    let options = PlanOptions { accepts_changelog: rheos_connectors::accepts_changelog, ..PlanOptions::default() };
    let planned = rheos_sql::plan(sql, &options).map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let problems = rheos_connectors::check(&planned.graph, delivery);
    match problems.is_empty() {
        true => Ok(planned),
        false => Err(problems.iter().map(ToString::to_string).collect()),
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
