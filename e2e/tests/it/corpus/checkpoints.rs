//! Damaged checkpoint stores. `_good` is a job's whole store with the job beside it; a case is a folder with the objects
//! that differ, and a file `expect`:
//!
//! ```text
//! missing: g2/e5.manifest
//! from: savepoints/before
//! expect: g2/e5.manifest cannot be used: it is missing
//! ```
//!
//! `missing` names objects that are gone (a folder: all below it), `from` the savepoint to start from; paths begin at the
//! job's root in the store. `expect` is a part of the error of a restore.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rheos_checkpoint::Protocol;
use rheos_checkpoint::paths::{JobPaths, ObjectPath};
use rheos_checkpoint::workflow::Restore;
use rheos_connectors::Environment;
use rheos_dataflow::key_group::Subtask;
use rheos_dataflow::plan::ExecutionPlan;
use rheos_dataflow::sink::{Delivery, SinkContext};
use rheos_dataflow::snapshot::restore;
use rheos_dataflow::stage::StageTask;
use rheos_worker::manifest::{Loaded, load};

use super::{Watch, expectations};

/// The good store and its job.
const GOOD: &str = "_good";
/// The job's place in that store.
const NAMESPACE: &str = "local";
/// The job's id in it.
const UID: &str = "corpus";

pub(super) fn findings(case: &Path, watch: &mut Watch) -> Vec<String> {
    let good = case.with_file_name(GOOD);
    let loaded = load(&good.join("job.yaml"), None).expect("the job is good");
    let temporary = tempfile::tempdir().unwrap();
    let job = JobPaths::new(NAMESPACE, loaded.job.name.as_str(), UID).unwrap();
    let root = temporary.path().join(job.root().as_str());
    copy(&good.join("store"), &root);
    let expected = expectations(&case.join("expect"));
    for (_, path) in expected.iter().filter(|(key, _)| key == "missing") {
        let path = root.join(path);
        if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
    }
    copy(case, &root);
    std::fs::remove_file(root.join("expect")).unwrap();
    let from = expected.iter().find(|(key, _)| key == "from").map(|(_, from)| job.root().join(&ObjectPath::parse(from).unwrap()));
    let expect = expected.iter().find(|(key, _)| key == "expect").map(|(_, text)| text).expect("what to expect");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = watch.time(|| runtime.block_on(restored(&loaded, temporary.path(), job, from)));
    match found {
        Err(error) if error.contains(expect) => Vec::new(),
        found if found.as_ref() == Ok(expect) => Vec::new(),
        found => vec![format!("expected {expect}\n    found {found:?}")],
    }
}

/// Copies a folder over another.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let from = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

/// What a new generation does before its first row: begins, reads the checkpoint and every block of state, and gives it to
/// the operators.
async fn restored(loaded: &Loaded, store: &Path, paths: JobPaths, from: Option<ObjectPath>) -> Result<String, String> {
    let (job, graph) = (&loaded.job, &loaded.planned.graph);
    let opened = rheos_checkpoint::open(&format!("file://{}", store.display()), &BTreeMap::new()).map_err(|e| e.to_string())?;
    let protocol = Protocol::new(opened, paths, 1);
    let request = from.map(|folder| Restore { request: "corpus".to_owned(), store: None, folder, first: false });
    let begun = protocol.begin(request.as_ref()).await.map_err(|e| e.to_string())?;
    let Some(manifest) = &begun.point.manifest else { return Ok("began from nothing".to_owned()) };
    restore::check(graph, job.max_parallelism, manifest, false).map_err(|e| e.to_string())?;
    let environment = Environment::new(&loaded.base_dir, tokio::runtime::Handle::current());
    let connectors = rheos_connectors::connectors(graph, &environment).map_err(|e| e.to_string())?;
    let plan = ExecutionPlan::cut(graph.clone());
    let subtask = Subtask { index: 0, workers: 1, groups: job.max_parallelism };
    let groups = subtask.key_groups();
    let mut blocks = 0;
    for stage in 0..plan.stages.len() {
        let mut tables = Vec::new();
        for read in restore::reads(&plan, stage, &groups, manifest) {
            let mut rows = Vec::new();
            for file in &read.files {
                let bytes = protocol.read_state(file).await.map_err(|e| e.to_string())?;
                blocks += bytes.len();
                rows.extend(restore::decode(&read.operator, file, bytes, &groups).map_err(|e| e.to_string())?);
            }
            tables.push((read.operator, read.table, rows.into()));
        }
        let import = restore::import(&plan, stage, manifest, tables).map_err(|e| e.to_string())?;
        let context = SinkContext { job_uid: UID.to_owned(), generation: begun.generation, subtask, delivery: Delivery::ExactlyOnce };
        let mut task =
            StageTask::new(&plan, stage, &context, &connectors, manifest.epoch + 1, Arc::new(|| {})).map_err(|e| e.to_string())?;
        task.restore(import).map_err(|e| e.to_string())?;
    }
    Ok(format!("restored {blocks} blocks of epoch {}", manifest.epoch))
}
