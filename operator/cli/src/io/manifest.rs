//! [io] Manifests from files: read, checked as the cluster and the workers check them.

use std::io::Read;
use std::path::Path;

use rheos_api::manifest::{MANIFEST_LIMIT, parse_value};
use rheos_api::{StreamJob, ValidatedJob, parse_manifest, validate};
use rheos_sql::Planned;
use serde_json::Value;

use super::cluster::Cluster;
use crate::exit::{self, Failure, Outcome};
use crate::plan;

/// Fields of metadata that only an apiserver writes: the output of `kubectl get -o yaml` is a manifest too.
const SERVERS_OWN: [&str; 8] =
    ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "selfLink", "deletionTimestamp", "ownerReferences"];

/// A manifest that has passed every check that needs no cluster.
#[derive(Debug)]
pub struct Manifest {
    /// What it says, with every default in place.
    pub job: StreamJob,
    /// The same, validated.
    pub validated: ValidatedJob,
    /// As it was written, to be applied: nothing in it that the person did not write.
    pub written: Value,
    /// How the file is called in messages.
    pub shown: String,
}

impl Manifest {
    /// Reads a file, or standard input for `-`.
    ///
    /// # Errors
    /// Every mistake that can be seen.
    pub fn read(file: &Path) -> Outcome<Self> {
        let shown = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
        let text = text(file).map_err(|error| Failure::invalid(format!("{shown}: cannot be read: {error}")))?;
        let job = parse_manifest(&text).map_err(|error| Failure::invalid(format!("{shown}: {error}")))?;
        let mut written = parse_value(&text).map_err(|error| Failure::invalid(format!("{shown}: {error}")))?;
        let at = |problem: String| format!("{shown}: {problem}");
        let validated = validate(&job).map_err(|errors| Failure::mistakes(errors.iter().map(|error| at(error.to_string())).collect()))?;
        if let Some(problem) = plan::spread(&job.spec) {
            return Err(Failure::invalid(at(problem)));
        }
        if let Some(fields) = written.as_object_mut() {
            fields.remove("status");
        }
        if let Some(metadata) = written.get_mut("metadata").and_then(Value::as_object_mut) {
            SERVERS_OWN.iter().for_each(|field| drop(metadata.remove(*field)));
        }
        Ok(Self { job, validated, written, shown })
    }

    /// The job's name.
    pub fn name(&self) -> &str {
        &self.job.metadata.name
    }

    /// The namespace that the manifest goes to.
    ///
    /// # Errors
    /// Manifest and command line name two.
    pub fn place(&self, cluster: &Cluster, asked: Option<&str>) -> Outcome<Cluster> {
        match (&self.job.metadata.namespace, asked) {
            (Some(own), Some(asked)) if own != asked => {
                Err(Failure::invalid(format!("{}: metadata.namespace is {own}, and --namespace says {asked}", self.shown)))
            }
            (Some(own), _) => Ok(cluster.at(own)),
            (None, _) => Ok(cluster.clone()),
        }
    }

    /// Plans the SQL; one that is in a ConfigMap is read from `cluster`.
    ///
    /// # Errors
    /// Every mistake in the SQL, or why it cannot be had.
    pub async fn plan(&self, cluster: Option<&Cluster>) -> Outcome<(String, Planned)> {
        let sql = match (&self.job.spec.sql, cluster) {
            (Some(sql), _) => sql.clone(),
            (None, Some(cluster)) => cluster.sql(&self.job.spec).await.map_err(|failure| Failure { code: exit::INVALID, ..failure })?,
            (None, None) => return Err(Failure::invalid(format!("{}: spec.sqlFrom: no cluster to read it from", self.shown))),
        };
        let shown = &self.shown;
        let planned = plan::plan(&sql, self.job.spec.delivery)
            .map_err(|problems| Failure::mistakes(problems.into_iter().map(|problem| format!("{shown}: {problem}")).collect()))?;
        Ok((sql, planned))
    }
}

fn text(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let limit = MANIFEST_LIMIT as u64 + 1;
    match file == Path::new("-") {
        true => std::io::stdin().lock().take(limit).read_to_string(&mut text)?,
        false => std::fs::File::open(file)?.take(limit).read_to_string(&mut text)?,
    };
    Ok(text)
}
