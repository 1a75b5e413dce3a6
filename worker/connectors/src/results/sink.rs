//! [io] The writing half: rows to segments, segments to committables.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::sink::{CommitPermit, Committable, Prepared, Sink, SinkContext, SinkWriter};
use rheos_dataflow::time::Epoch;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::config::Config;
use super::index::Segment;
use super::keeper::{Keeper, Payload, stem};
use super::segment::Builder;
use super::store::TableStore;
use crate::environment::Environment;
use crate::staged::StagedStore;

/// Rows of this size make a segment, bytes: what a reader holds at once.
const SEGMENT_BYTES: usize = 1024 * 1024;
/// Segments of a writer on their way; then the writer waits.
const UPLOADS: usize = 4;
/// Segments of a committable; more make more committables, each well below its limit of 1 MiB.
const SEGMENTS_IN_COMMITTABLE: usize = 2_000;

/// See [`crate::results`].
pub struct ResultsSink {
    /// None where a graph is only looked at.
    kept: Option<(TableStore, Arc<Keeper>)>,
    runtime: Handle,
}

impl ResultsSink {
    /// The sink of a table.
    pub fn new(config: Config, environment: &Environment) -> Self {
        let runtime = environment.runtime.clone();
        let kept = environment.staged.as_ref().map(|staged| {
            let store = TableStore::new(staged, &config.table);
            let keeper = Keeper::new(config, store.clone(), Arc::clone(&environment.announce), runtime.clone());
            (store, keeper)
        });
        Self { kept, runtime }
    }

    fn kept(&self) -> Result<&(TableStore, Arc<Keeper>)> {
        self.kept.as_ref().ok_or_else(|| DataflowError::new("results", ErrorKind::Bug, "no room for results was given"))
    }
}

impl Sink for ResultsSink {
    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        // A name never means two contents: not after a restart, and not in two writers.
        let nonce = RandomState::new().hash_one(context.generation) as u32;
        Ok(Box::new(Writer {
            store: self.kept()?.0.rows_folder()?,
            runtime: self.runtime.clone(),
            stem: stem(context.generation, context.subtask.index, nonce),
            builder: Builder::default(),
            uploads: VecDeque::new(),
            segments: Vec::new(),
            number: 0,
            rows: 0,
            leads: context.subtask.index == 0,
            begins: None,
        }))
    }

    fn commit(&self, permit: &CommitPermit, committables: Vec<Committable>) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        let (keeper, permit) = (self.kept().map(|(_, keeper)| Arc::clone(keeper)), permit.clone());
        Box::pin(async move { keeper?.commit(permit, committables).await })
    }

    fn gathers(&self) -> bool {
        true
    }
}

struct Writer {
    store: StagedStore,
    runtime: Handle,
    stem: String,
    builder: Builder,
    uploads: VecDeque<JoinHandle<Result<Segment>>>,
    segments: Vec<Segment>,
    number: u64,
    rows: u64,
    /// The writer that tells of the job's beginning.
    leads: bool,
    /// Whether the generation opened with the job's first epoch; what is told once is forgotten.
    begins: Option<bool>,
}

impl Writer {
    /// Sends off what there is; waits while too much is on its way.
    fn upload(&mut self) -> Result<()> {
        let Some((bytes, rows)) = self.builder.take()? else { return Ok(()) };
        while self.uploads.len() >= UPLOADS {
            let Some(oldest) = self.uploads.pop_front() else { break };
            self.segments.push(self.runtime.block_on(finished(oldest))?);
        }
        let (store, name) = (self.store.clone(), format!("{}-{}.arrow", self.stem, self.number));
        self.number += 1;
        self.uploads.push_back(self.runtime.spawn(async move {
            let size = bytes.len() as u64;
            let place = store.put(&name, bytes.into()).await?;
            Ok(Segment { place, rows, bytes: size })
        }));
        Ok(())
    }
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.rows += batch.num_rows() as u64;
        self.builder.push(batch)?;
        if self.builder.size() >= SEGMENT_BYTES { self.upload() } else { Ok(()) }
    }

    fn end_epoch(&mut self, epoch: Epoch) -> Result<()> {
        self.begins.get_or_insert(self.leads && epoch == 1);
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Prepared> {
        self.upload()?;
        let begins = self.begins.replace(false).unwrap_or(false);
        let (mut segments, uploads) = (std::mem::take(&mut self.segments), std::mem::take(&mut self.uploads));
        Ok(Box::pin(async move {
            for upload in uploads {
                segments.push(finished(upload).await?);
            }
            let parts: Vec<&[Segment]> =
                if begins && segments.is_empty() { vec![&[]] } else { segments.chunks(SEGMENTS_IN_COMMITTABLE).collect() };
            let payloads = (0_u32..)
                .zip(parts)
                .map(|(part, segments)| serde_json::to_value(Payload { part, begins: begins && part == 0, segments: segments.to_vec() }));
            payloads.collect::<Result<_, _>>().map_err(|error| DataflowError::new("results", ErrorKind::Bug, error))
        }))
    }

    fn stats(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([("rows", self.rows)])
    }
}

async fn finished(upload: JoinHandle<Result<Segment>>) -> Result<Segment> {
    upload.await.map_err(|error| DataflowError::new("results", ErrorKind::Bug, error))?
}
