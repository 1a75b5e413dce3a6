//! [io] The writing half: rows to part files, part files to committables, committables to files that readers see.

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use futures::future::try_join_all;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::graph::OperatorId;
use rheos_dataflow::sink::{CommitPermit, Committable, Delivery, Prepared, Sink, SinkContext, SinkWriter};
use rheos_dataflow::time::Epoch;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::config::SinkConfig;
use super::location::Location;
use super::staging::{StagedFile, Staging};
use crate::environment::Environment;
use crate::format::encode::{Durable, Encoder, encoder};
use crate::text::ValueText;

/// Files of a committable; more files make more committables, each well below its limit of 1 MiB.
const FILES_IN_COMMITTABLE: usize = 1_000;
/// Part files that one writer has open; another partition closes the one that was opened first.
const OPEN_PARTS: usize = 64;

/// See [`crate::filesystem`].
pub struct FilesystemSink {
    config: Arc<SinkConfig>,
    staging: Staging,
    sink: OperatorId,
    runtime: Handle,
}

/// What a committable says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    files: Vec<StagedFile>,
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
        Self { config: Arc::new(config), staging, sink: sink.clone(), runtime }
    }
}

impl Sink for FilesystemSink {
    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        self.staging.prepare()?;
        let names = Names::new(context, &self.sink, self.config.format.extension());
        Ok(Box::new(Writer {
            config: Arc::clone(&self.config),
            staging: self.staging.clone(),
            names,
            delivery: context.delivery,
            sweeps: context.subtask.index == 0,
            open: BTreeMap::new(),
            closed: Vec::new(),
            publishing: Vec::new(),
            runtime: self.runtime.clone(),
            files: 0,
        }))
    }

    fn commit(&self, permit: &CommitPermit, committables: Vec<Committable>) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        let mut files = Vec::new();
        for committable in committables {
            if committable.epoch > permit.epoch() {
                let message = format!("asked to commit epoch {} with a permit for {}", committable.epoch, permit.epoch());
                return Box::pin(async move { Err(DataflowError::new("filesystem", ErrorKind::Bug, message)) });
            }
            match serde_json::from_value::<Payload>(committable.payload) {
                Ok(payload) => files.extend(payload.files),
                Err(error) => {
                    let message = format!("a committable of {} cannot be read: {error}", self.sink);
                    return Box::pin(async move { Err(DataflowError::new("filesystem", ErrorKind::State, message)) });
                }
            }
        }
        self.staging.publish(files)
    }
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
        // FNV-1a; only told apart, never trusted.
        let text = [context.job_uid.as_bytes(), &[0], sink.0.as_bytes()].concat();
        let hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
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
    runtime: Handle,
    files: u64,
}

impl Writer {
    fn place(&self, error: DataflowError) -> DataflowError {
        DataflowError::new(format!("table {} (filesystem)", self.config.table), error.kind, error.message)
    }

    fn append(&mut self, partition: &str, batch: &RecordBatch) -> Result<()> {
        if !self.open.contains_key(partition) {
            if self.open.len() >= OPEN_PARTS {
                let oldest = self.open.iter().min_by_key(|(_, part)| part.number).map(|(partition, _)| partition.clone());
                oldest.map_or(Ok(()), |oldest| self.close(&oldest))?;
            }
            let number = self.files;
            let part = self.staging.create(&self.names.staged(number))?;
            let encoder = encoder(&self.config.format, &self.config.file_schema, part)?;
            self.files += 1;
            self.open.insert(partition.to_owned(), OpenPart { encoder, number, opened: Instant::now() });
        }
        let Some(part) = self.open.get_mut(partition) else { return Ok(()) };
        part.encoder.write(batch)?;
        if part.encoder.size() >= self.config.file_size {
            self.close(partition)?;
        }
        Ok(())
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

    fn end_epoch(&mut self, epoch: Epoch) -> Result<()> {
        let due = self.open.values().any(|part| part.opened.elapsed() >= self.config.rollover);
        if self.delivery == Delivery::ExactlyOnce || (!due && self.closed.is_empty()) {
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
        Ok(Box::pin(async move {
            for task in publishing {
                task.await.map_err(|error| DataflowError::new("filesystem", ErrorKind::Bug, error))??;
            }
            try_join_all(durable).await?;
            if let Some(names) = sweep {
                staging.sweep(move |name| names.is_garbage(name)).await;
            }
            if delivery != Delivery::ExactlyOnce {
                staging.publish(files).await?;
                return Ok(Vec::new());
            }
            let payloads = files.chunks(FILES_IN_COMMITTABLE).map(|files| serde_json::to_value(Payload { files: files.to_vec() }));
            payloads.collect::<Result<_, _>>().map_err(|error| DataflowError::new("filesystem", ErrorKind::Bug, error))
        }))
    }

    fn stats(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([("part_files", self.files)])
    }
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

/// Hive's escaping of the characters that a folder's name must not hold; also a leading dot, which would lead away.
fn escape(text: &str, out: &mut String) {
    for (index, c) in text.chars().enumerate() {
        let special = c.is_control() || "\"#%'*/:=?\\{[]^".contains(c) || (index == 0 && c == '.');
        if special && c.is_ascii() {
            out.push_str(&format!("%{:02X}", c as u32));
        } else {
            out.push(c);
        }
    }
}
