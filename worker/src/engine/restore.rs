//! [io] From the generation's start record to what each worker imports.
//!
//! The record and its manifest are read first: they decide what may run at all. State is read after that, while the
//! process connects to its peers and builds its dataflow; each worker decodes its own on its own thread.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::try_join_all;
use rheos_checkpoint::CommitPermit;
use rheos_checkpoint::manifest::Manifest;
use rheos_checkpoint::workflow::{Publisher, RestorePoint};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::key_group::Subtask;
use rheos_dataflow::snapshot::restore::{self, FileRead};
use rheos_dataflow::stage::StageImport;
use tokio::runtime::Handle;

use super::failure::of_store;
use super::prepare::Prepared;
use super::wire::Start;

/// Where a generation begins.
pub(super) struct Point {
    pub(super) point: RestorePoint,
    /// Process 0.
    pub(super) publisher: Option<Publisher>,
    pub(super) permit: Option<CommitPermit>,
}

/// Reads and checks it.
pub(super) async fn point(prepared: &Prepared, start: &Start) -> Result<Point> {
    let protocol = &prepared.protocol;
    let (point, publisher) = if start.process == 0 {
        let (publisher, point) = protocol.attach(start.generation, start.start_record).await.map_err(|e| of_store(&e))?;
        (point, Some(publisher))
    } else {
        (protocol.restore_point(start.generation, start.start_record).await.map_err(|e| of_store(&e))?, None)
    };
    if let Some(manifest) = &point.manifest {
        restore::check(&prepared.plan.graph, prepared.job.max_parallelism, manifest, prepared.job.allow_non_restored_state)?;
    }
    let permit = publisher.as_ref().map(|publisher| publisher.start_permit().clone());
    Ok(Point { point, publisher, permit })
}

/// What `Job::imports` is.
type Imports = Arc<dyn Fn(u32) -> Result<Vec<StageImport>> + Send + Sync>;
/// One worker's state as it lies in the store, by stage.
type Raw = Vec<Vec<(FileRead, Vec<Bytes>)>>;

/// Begins to read the state of `workers`; the function waits for a worker's part and decodes it.
pub(super) fn imports(prepared: &Arc<Prepared>, runtime: &Handle, workers: Range<usize>, manifest: Option<Arc<Manifest>>) -> Imports {
    let Some(manifest) = manifest else { return Arc::new(|_| Ok(Vec::new())) };
    let mut coming = BTreeMap::new();
    for worker in workers {
        let (sender, receiver) = std::sync::mpsc::channel();
        coming.insert(worker as u32, receiver);
        let (prepared, manifest) = (Arc::clone(prepared), Arc::clone(&manifest));
        runtime.spawn(async move {
            let _ = sender.send(read(&prepared, worker as u32, &manifest).await);
        });
    }
    let coming = Mutex::new(coming);
    let prepared = Arc::clone(prepared);
    Arc::new(move |worker| {
        let lost = || DataflowError::new("restore", ErrorKind::Bug, format!("the state of worker {worker} was not read"));
        let receiver = coming.lock().unwrap_or_else(PoisonError::into_inner).remove(&worker).ok_or_else(lost)?;
        let raw: Raw = receiver.recv().map_err(|_| lost())??;
        let groups = subtask(&prepared, worker).key_groups();
        raw.into_iter().enumerate().map(|(stage, files)| restore::import(&prepared.plan, stage, &groups, &manifest, files)).collect()
    })
}

pub(super) fn subtask(prepared: &Prepared, worker: u32) -> Subtask {
    Subtask { index: worker, workers: prepared.job.parallelism, groups: prepared.job.max_parallelism }
}

async fn read(prepared: &Prepared, worker: u32, manifest: &Manifest) -> Result<Raw> {
    let groups = subtask(prepared, worker).key_groups();
    let stages = (0..prepared.plan.stages.len()).map(|stage| {
        let files = restore::reads(&prepared.plan, stage, &groups, manifest).into_iter().map(|file| async {
            let blocks = prepared.protocol.read_state(&file.file).await.map_err(|e| of_store(&e))?;
            Ok::<_, DataflowError>((file, blocks))
        });
        try_join_all(files)
    });
    try_join_all(stages).await
}
