//! [io] From the generation's start record to what each worker imports.
//!
//! The record and its manifest are read first: they decide what may run at all. State is read after that, a few files
//! ahead, while the process connects to its peers and each worker loads what has come on its own thread: memory holds
//! the state once, and a little more.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use futures::{StreamExt, stream};
use rheos_checkpoint::CommitPermit;
use rheos_checkpoint::manifest::{Manifest, StateFile};
use rheos_checkpoint::workflow::{Publisher, RestorePoint};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::key_group::Subtask;
use rheos_dataflow::snapshot::TableImport;
use rheos_dataflow::snapshot::restore::{self, TableRead};
use rheos_dataflow::stage::StageImport;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::failure::of_store;
use super::prepare::Prepared;
use super::wire::Start;

/// Files of a table that are read at the same time (each about [`rheos_checkpoint::state_file::TARGET_FILE_BYTES`]).
const FILES_AHEAD: usize = 3;
/// Files of a table that wait to be loaded.
const FILES_READY: usize = 2;

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

/// Begins to read the state of `workers`; the function gives a worker its part, which comes while it is taken.
pub(super) fn imports(prepared: &Arc<Prepared>, runtime: &Handle, workers: Range<usize>, manifest: Option<Arc<Manifest>>) -> Imports {
    let Some(manifest) = manifest else { return Arc::new(|_| Ok(Vec::new())) };
    let begin = |worker| (worker as u32, begin(prepared, runtime, worker as u32, &manifest));
    let begun = Mutex::new(workers.map(begin).collect::<BTreeMap<_, _>>());
    Arc::new(move |worker| {
        let lost = || DataflowError::new("restore", ErrorKind::Bug, format!("the state of worker {worker} was not read"));
        begun.lock().unwrap_or_else(PoisonError::into_inner).remove(&worker).ok_or_else(lost)?
    })
}

pub(super) fn subtask(prepared: &Prepared, worker: u32) -> Subtask {
    Subtask { index: worker, workers: prepared.job.parallelism, groups: prepared.job.max_parallelism }
}

/// Begins to read one worker's state.
fn begin(prepared: &Arc<Prepared>, runtime: &Handle, worker: u32, manifest: &Manifest) -> Result<Vec<StageImport>> {
    let groups = subtask(prepared, worker).key_groups();
    let stage = |stage| {
        let tables = restore::reads(&prepared.plan, stage, &groups, manifest).into_iter().map(|read| {
            let (operator, table, rows) = (read.operator.clone(), read.table.clone(), read.rows());
            let (sender, coming) = mpsc::channel(FILES_READY);
            runtime.spawn(send_table(Arc::clone(prepared), read, groups.clone(), sender));
            (operator, table, TableImport::new(rows, Coming { files: Some(coming), batches: Vec::new().into_iter() }))
        });
        restore::import(&prepared.plan, stage, manifest, tables)
    };
    (0..prepared.plan.stages.len()).map(stage).collect()
}

/// A part of a table on its way.
enum Part {
    Rows(Vec<RecordBatch>),
    /// The table is whole: a reader that died must not look like the end.
    End,
}

/// Reads a table's files, some ahead, and sends their rows in order.
async fn send_table(prepared: Arc<Prepared>, read: TableRead, groups: Range<u32>, sender: mpsc::Sender<Result<Part>>) {
    let TableRead { operator, files, .. } = read;
    let open = |file: StateFile| {
        let prepared = Arc::clone(&prepared);
        async move {
            let blocks = prepared.protocol.read_state(&file).await.map_err(|e| of_store(&e));
            (file, blocks)
        }
    };
    let mut reading = stream::iter(files).map(open).buffered(FILES_AHEAD);
    while let Some((file, blocks)) = reading.next().await {
        let rows = blocks.and_then(|blocks| restore::decode(&operator, &file, blocks, &groups));
        let failed = rows.is_err();
        if sender.send(rows.map(Part::Rows)).await.is_err() || failed {
            return;
        }
    }
    let _ = sender.send(Ok(Part::End)).await;
}

/// A table's rows as they come; for a thread that may wait.
struct Coming {
    files: Option<mpsc::Receiver<Result<Part>>>,
    batches: std::vec::IntoIter<RecordBatch>,
}

impl Iterator for Coming {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(batch) = self.batches.next() {
                return Some(Ok(batch));
            }
            match self.files.as_mut()?.blocking_recv() {
                Some(Ok(Part::Rows(batches))) => self.batches = batches.into_iter(),
                Some(Ok(Part::End)) => self.files = None,
                Some(Err(error)) => {
                    self.files = None;
                    return Some(Err(error));
                }
                None => {
                    self.files = None;
                    return Some(Err(DataflowError::new("restore", ErrorKind::Bug, "the reader of a table ended before the table")));
                }
            }
        }
    }
}
