//! [io] The writing half: rows to part files, part files to committables, committables to files that readers see.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use futures::future::try_join_all;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::graph::OperatorId;
use rheos_dataflow::sink::{CommitPermit, Committable, Delivery, Prepared, Sink, SinkContext, SinkWriter};
use rheos_dataflow::time::{Epoch, Millis, WATERMARK_MIN, Watermark};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::columns::escape;
use super::commit::Said;
use super::config::{DEFAULT_ROLLOVER, SinkConfig};
use super::location::Location;
use super::markers::{Commit, Markers};
use super::staging::{StagedFile, Staging};
use crate::environment::Environment;
use crate::failpoint;
use crate::format::encode::{Durable, Encoder, encoder};
use crate::text::ValueText;

/// Files of a committable; more files make more committables, each well below its limit of 1 MiB.
const FILES_IN_COMMITTABLE: usize = 1_000;
/// Part files that one writer has open; another partition closes the one that got no rows for the longest time.
const OPEN_PARTS: usize = 256;
/// What they hold together, bytes; beyond it the largest is closed. Of each a piece or two may wait in memory.
const OPEN_BYTES: u64 = 512 * 1024 * 1024;
/// Part files of one writer between two checkpoints; a record names them all.
pub(crate) const MAX_PARTS: usize = 10_000;

/// See [`crate::filesystem`].
pub struct FilesystemSink {
    config: Arc<SinkConfig>,
    staging: Staging,
    sink: OperatorId,
    runtime: Handle,
    /// Of tables that say when a partition is whole.
    markers: Option<Arc<Markers>>,
}

/// What a committable says.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    files: Vec<StagedFile>,
    /// Partitions whose files have been shown without a record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shown: Vec<String>,
    /// Of tables that say when a partition is whole, once for each subtask and checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
}

/// How far a subtask is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Progress {
    /// How many subtasks there are.
    subtasks: u32,
    /// The largest watermark so far.
    clock: Millis,
    /// Nothing is on its way: the others need not wait.
    idle: bool,
}

impl FilesystemSink {
    /// The sink of the node `sink`.
    ///
    /// # Errors
    /// Bad options of the object store.
    pub fn new(config: SinkConfig, sink: &OperatorId, environment: &Environment) -> Result<Self> {
        let location = Location::open(&config.path, environment)?;
        Ok(Self::at(config, sink, location, environment.runtime.clone()))
    }

    pub(crate) fn at(config: SinkConfig, sink: &OperatorId, location: Location, runtime: Handle) -> Self {
        let staging = Staging::new(location, runtime.clone());
        let markers = config.commit.clone().map(|commit| Arc::new(Markers::new(commit)));
        Self { config: Arc::new(config), staging, sink: sink.clone(), runtime, markers }
    }

    /// What committables say, together.
    fn read(&self, permit: &CommitPermit, committables: Vec<Committable>) -> Result<Commit> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as Millis;
        let mut commit = Commit { files: Vec::new(), shown: Vec::new(), now, watermark: None };
        let (mut said, mut subtasks) = (Said::default(), 0);
        for committable in committables {
            if committable.epoch > permit.epoch() {
                let message = format!("asked to commit epoch {} with a permit for {}", committable.epoch, permit.epoch());
                return Err(DataflowError::new("filesystem", ErrorKind::Bug, message));
            }
            let payload: Payload = serde_json::from_value(committable.payload).map_err(|error| {
                let message = format!("a committable of {} cannot be read: {error}", self.sink);
                DataflowError::new("filesystem", ErrorKind::State, message)
            })?;
            commit.files.extend(payload.files);
            commit.shown.extend(payload.shown);
            if let Some(progress) = payload.progress {
                subtasks = progress.subtasks;
                said.add(committable.subtask, committable.epoch, progress.clock, progress.idle);
            }
        }
        commit.watermark = if subtasks > 0 { said.watermark(subtasks, permit.epoch()) } else { None };
        Ok(commit)
    }
}

impl Sink for FilesystemSink {
    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        self.staging.prepare()?;
        let names = Names::new(context, &self.sink, self.config.format.extension());
        if let Some(markers) = &self.markers {
            markers.belongs_to(&names.token);
        }
        Ok(Box::new(Writer {
            config: Arc::clone(&self.config),
            staging: self.staging.clone(),
            names,
            delivery: context.delivery,
            sweeps: context.subtask.index == 0,
            open: BTreeMap::new(),
            closed: Vec::new(),
            publishing: Vec::new(),
            shown: BTreeSet::new(),
            progress: Progress { subtasks: context.subtask.workers, clock: WATERMARK_MIN, idle: false },
            runtime: self.runtime.clone(),
            files: 0,
        }))
    }

    fn commit(&self, permit: &CommitPermit, committables: Vec<Committable>) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        let (staging, markers) = (self.staging.clone(), self.markers.clone());
        let commit = self.read(permit, committables);
        Box::pin(async move {
            let commit = commit?;
            failpoint::pass("files.commit");
            match markers {
                Some(markers) => markers.commit(&staging, commit).await?,
                None => staging.publish(commit.files).await?,
            }
            failpoint::pass("files.committed");
            Ok(())
        })
    }

    /// A partition is whole only when nobody has anything left for it.
    fn gathers(&self) -> bool {
        self.markers.is_some()
    }
}

/// FNV-1a.
pub(super) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Names of staged and final files. The nonce is new for each writer, so a name never means two contents: not after a
/// restart, and not when a job is begun afresh beside its old output.
#[derive(Debug, Clone)]
struct Names {
    /// Job and sink.
    token: String,
    generation: u64,
    subtask: u32,
    nonce: u32,
    extension: &'static str,
}

impl Names {
    fn new(context: &SinkContext, sink: &OperatorId, extension: &'static str) -> Self {
        // Only told apart, never trusted.
        let hash = fnv(&[context.job_uid.as_bytes(), &[0], sink.0.as_bytes()].concat());
        // The seed of a hash map is random for each process and call.
        let nonce = RandomState::new().hash_one(context.generation) as u32;
        Self {
            token: format!("{:08x}", (hash >> 32) as u32 ^ hash as u32),
            generation: context.generation,
            subtask: context.subtask.index,
            nonce,
            extension,
        }
    }

    fn staged(&self, number: u64) -> String {
        let Self { token, generation, subtask, nonce, extension } = self;
        format!("{token}-g{generation}-{subtask}-{nonce:08x}-{number}.{extension}")
    }

    fn place(&self, partition: &str, epoch: Epoch, number: u64) -> String {
        let Self { token, subtask, nonce, extension, .. } = self;
        // Zeroes: by name is by time.
        format!("{partition}part-{token}-{epoch:012}-{subtask}-{nonce:08x}-{number}.{extension}")
    }

    /// Whether a staged name is of this sink and of a generation before `self`'s.
    fn is_garbage(&self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(&format!("{}-g", self.token)) else { return false };
        rest.split_once('-')
            .and_then(|(generation, _)| generation.parse::<u64>().ok())
            .is_some_and(|generation| generation < self.generation)
    }
}

/// A part file that takes rows.
struct OpenPart {
    encoder: Box<dyn Encoder>,
    number: u64,
    opened: Instant,
    /// When it got rows last.
    touched: Instant,
}

/// A part file that is whole, on its way to be durable.
struct ClosedPart {
    partition: String,
    number: u64,
    durable: Durable,
}

struct Writer {
    config: Arc<SinkConfig>,
    staging: Staging,
    names: Names,
    delivery: Delivery,
    /// Removes what older generations left, at the first checkpoint: before that, the record that this generation was
    /// restored from may still name some of it.
    sweeps: bool,
    /// By partition folder, with its final `/`; empty without partitions.
    open: BTreeMap<String, OpenPart>,
    closed: Vec<ClosedPart>,
    /// Parts of jobs that are not exactly-once, on their way to be seen.
    publishing: Vec<JoinHandle<Result<()>>>,
    /// Their partitions, since the last checkpoint.
    shown: BTreeSet<String>,
    progress: Progress,
    runtime: Handle,
    files: u64,
}

impl Writer {
    fn place(&self, error: DataflowError) -> DataflowError {
        DataflowError::new(format!("table {} (filesystem)", self.config.table), error.kind, error.message)
    }

    fn append(&mut self, partition: &str, batch: &RecordBatch) -> Result<()> {
        if !self.open.contains_key(partition) {
            self.begin(partition)?;
        }
        let Some(part) = self.open.get_mut(partition) else { return Ok(()) };
        part.encoder.write(batch)?;
        part.touched = Instant::now();
        if part.encoder.size() >= self.config.file_size {
            self.close(partition)?;
        }
        if self.open.values().map(|part| part.encoder.size()).sum::<u64>() > OPEN_BYTES {
            self.close_first_by(|part| std::cmp::Reverse(part.encoder.size()))?;
        }
        Ok(())
    }

    /// Begins a part file.
    fn begin(&mut self, partition: &str) -> Result<()> {
        if self.open.len() + self.closed.len() >= MAX_PARTS {
            let message = format!(
                "more than {MAX_PARTS} part files of one subtask between two checkpoints: the rows are of too many partitions. \
                 Make the columns of PARTITIONED BY coarser, raise the parallelism, or take checkpoints \
                 more often (spec.checkpoint.interval)"
            );
            return Err(DataflowError::new("", ErrorKind::User, message));
        }
        if self.open.len() >= OPEN_PARTS {
            self.close_first_by(|part| part.touched)?;
        }
        if let Some(commit) = &self.config.commit {
            commit.check(partition)?;
        }
        let number = self.files;
        let part = self.staging.create(&self.names.staged(number))?;
        let encoder = encoder(&self.config.format, &self.config.file_schema, part)?;
        self.files += 1;
        let now = Instant::now();
        self.open.insert(partition.to_owned(), OpenPart { encoder, number, opened: now, touched: now });
        Ok(())
    }

    /// Closes the open part that is least by `key`.
    fn close_first_by<K: Ord>(&mut self, key: impl Fn(&OpenPart) -> K) -> Result<()> {
        let first = self.open.iter().min_by_key(|(_, part)| key(part)).map(|(partition, _)| partition.clone());
        first.map_or(Ok(()), |first| self.close(&first))
    }

    /// Whether a part is to be closed at the end of an epoch.
    fn is_due(&self, part: &OpenPart) -> bool {
        let default = (self.delivery != Delivery::ExactlyOnce).then_some(DEFAULT_ROLLOVER);
        let old = self.config.rollover.or(default).is_some_and(|limit| part.opened.elapsed() >= limit);
        old || self.config.inactivity.is_some_and(|limit| part.touched.elapsed() >= limit)
    }

    fn close(&mut self, partition: &str) -> Result<()> {
        let Some((partition, part)) = self.open.remove_entry(partition) else { return Ok(()) };
        let durable = part.encoder.finish()?.finish();
        self.closed.push(ClosedPart { partition, number: part.number, durable });
        Ok(())
    }

    /// Closes all parts: their staged and final names, and the work that makes them durable.
    fn take(&mut self, epoch: Epoch) -> Result<(Vec<StagedFile>, Vec<Durable>)> {
        while let Some(partition) = self.open.keys().next().cloned() {
            self.close(&partition)?;
        }
        if self.config.commit.is_some() && self.delivery != Delivery::ExactlyOnce {
            self.shown.extend(self.closed.iter().map(|part| part.partition.clone()));
        }
        let parts = std::mem::take(&mut self.closed).into_iter();
        let named = parts.map(|part| {
            let path = self.names.place(&part.partition, epoch, part.number);
            (StagedFile { staged: self.names.staged(part.number), path }, part.durable)
        });
        Ok(named.unzip())
    }
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let columns = batch.project(&self.config.columns)?;
        if self.config.partition_by.is_empty() {
            return self.append("", &columns).map_err(|error| self.place(error));
        }
        for (partition, rows) in partitions(&self.config, batch)? {
            let part =
                if rows.len() == batch.num_rows() { columns.clone() } else { take_record_batch(&columns, &UInt32Array::from(rows))? };
            self.append(&partition, &part).map_err(|error| self.place(error))?;
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: Watermark) {
        self.progress.idle = matches!(watermark, Watermark::Idle(_));
        self.progress.clock = self.progress.clock.max(watermark.time());
    }

    fn end_epoch(&mut self, epoch: Epoch) -> Result<()> {
        let due: Vec<String> = self.open.iter().filter(|(_, part)| self.is_due(part)).map(|(partition, _)| partition.clone()).collect();
        if self.delivery == Delivery::ExactlyOnce {
            // On its way to be durable, and shown with the next checkpoint.
            return due.iter().try_for_each(|partition| self.close(partition)).map_err(|error| self.place(error));
        }
        if due.is_empty() && self.closed.is_empty() {
            return Ok(());
        }
        let (files, durable) = self.take(epoch).map_err(|error| self.place(error))?;
        let staging = self.staging.clone();
        self.publishing.push(self.runtime.spawn(async move {
            try_join_all(durable).await?;
            staging.publish(files).await
        }));
        Ok(())
    }

    fn prepare(&mut self, epoch: Epoch) -> Result<Prepared> {
        let (files, durable) = self.take(epoch).map_err(|error| self.place(error))?;
        let publishing = std::mem::take(&mut self.publishing);
        let (staging, delivery) = (self.staging.clone(), self.delivery);
        let sweep = std::mem::take(&mut self.sweeps).then(|| self.names.clone());
        let shown: Vec<String> = std::mem::take(&mut self.shown).into_iter().collect();
        let progress = self.config.commit.as_ref().map(|_| self.progress);
        Ok(Box::pin(async move {
            for task in publishing {
                task.await.map_err(|error| DataflowError::new("filesystem", ErrorKind::Bug, error))??;
            }
            try_join_all(durable).await?;
            if let Some(names) = sweep {
                staging.sweep(move |name| names.is_garbage(name)).await;
            }
            let files = if delivery == Delivery::ExactlyOnce {
                files
            } else {
                staging.publish(files).await?;
                Vec::new()
            };
            payloads(&files, &shown, progress)
        }))
    }

    fn stats(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([("part_files", self.files)])
    }
}

/// Cut so that each stays well below the limit of a committable.
fn payloads(files: &[StagedFile], shown: &[String], progress: Option<Progress>) -> Result<Vec<serde_json::Value>> {
    let files = files.chunks(FILES_IN_COMMITTABLE).map(|files| Payload { files: files.to_vec(), ..Payload::default() });
    let shown = shown.chunks(FILES_IN_COMMITTABLE).map(|shown| Payload { shown: shown.to_vec(), ..Payload::default() });
    let progress = progress.map(|progress| Payload { progress: Some(progress), ..Payload::default() });
    let payloads = files.chain(shown).chain(progress).map(serde_json::to_value);
    payloads.collect::<Result<_, _>>().map_err(|error| DataflowError::new("filesystem", ErrorKind::Bug, error))
}

/// The rows of each partition, by its folder: `day=2013-01-01/origin=JFK/`.
fn partitions(config: &SinkConfig, batch: &RecordBatch) -> Result<BTreeMap<String, Vec<u32>>> {
    let mut texts = Vec::with_capacity(config.partition_by.len());
    for index in &config.partition_by {
        texts.push((config.schema.field(*index).name(), ValueText::new(batch.column(*index).as_ref())?, batch.column(*index)));
    }
    let mut rows: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let (mut folder, mut value) = (String::new(), String::new());
    for row in 0..batch.num_rows() {
        folder.clear();
        for (name, text, column) in &texts {
            value.clear();
            if column.is_valid(row) {
                text.write(row, &mut value);
            }
            escape(name, &mut folder);
            folder.push('=');
            escape(if value.is_empty() { &config.default_partition } else { &value }, &mut folder);
            folder.push('/');
        }
        match rows.get_mut(&folder) {
            Some(rows) => rows.push(row as u32),
            None => drop(rows.insert(folder.clone(), vec![row as u32])),
        }
    }
    Ok(rows)
}
