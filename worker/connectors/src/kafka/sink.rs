//! [io] The writing half: rows to messages, staged for a transaction or sent at once.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::{Array, RecordBatch, cast::AsArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMillisecondType, UInt8Type};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, ClientContext};
use rheos_dataflow::changelog::RowKind;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::graph::OperatorId;
use rheos_dataflow::sink::{CommitPermit, Committable, Delivery, Prepared, Sink, SinkContext, SinkWriter};
use rheos_dataflow::time::Epoch;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::client::{self, failed};
use super::commit::{Committer, Payload};
use super::config::SinkConfig;
use super::frames::{Frame, Frames};
use crate::environment::Environment;
use crate::format::message::Messages;
use crate::staged::{MAX_BYTES, StagedStore};

/// Messages of this size make an object, bytes; well below what one object may have.
const OBJECT_BYTES: usize = 8 * 1024 * 1024;
/// Objects of a writer on their way; then the writer waits.
const UPLOADS: usize = 4;
/// Between two looks at a full queue of the client.
const FULL: Duration = Duration::from_millis(2);
/// A message waits at most so long for room in the client's queue: brokers that are away so long fail the job.
const PATIENCE: Duration = Duration::from_secs(300);

/// See [`crate::kafka`].
pub struct KafkaSink {
    config: Arc<SinkConfig>,
    sink: OperatorId,
    client: ClientConfig,
    staged: Option<StagedStore>,
    committer: Option<Arc<Committer>>,
    /// Made for the first writer that sends at once.
    producer: Mutex<Option<Arc<Direct>>>,
    runtime: Handle,
}

type Direct = ThreadedProducer<Acknowledging>;

impl KafkaSink {
    /// The sink of the node `sink`; nothing is connected yet.
    ///
    /// # Errors
    /// When a Secret is not there.
    pub fn new(config: SinkConfig, sink: &OperatorId, environment: &Environment) -> Result<Self> {
        let client = client::config(&config.properties, &environment.secrets)?;
        let staged = environment.staged.clone();
        let committer = staged.clone().map(|staged| Committer::new(client.clone(), staged, environment.runtime.clone()));
        let runtime = environment.runtime.clone();
        Ok(Self { config: Arc::new(config), sink: sink.clone(), client, staged, committer, producer: Mutex::default(), runtime })
    }

    fn direct(&self) -> Result<Arc<Direct>> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(producer) = producer.as_ref() {
            return Ok(Arc::clone(producer));
        }
        let mut config = self.client.clone();
        if config.get("enable.idempotence").is_none() {
            config.set("enable.idempotence", "true");
        }
        let made: Direct = config.create_with_context(Acknowledging).map_err(|error| failed("making a producer", &error))?;
        Ok(Arc::clone(producer.insert(Arc::new(made))))
    }
}

impl Sink for KafkaSink {
    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        let delivery = self.config.guarantee.unwrap_or(context.delivery);
        let output = if delivery == Delivery::ExactlyOnce {
            let staged = self.staged.clone();
            let staged = staged.ok_or_else(|| DataflowError::new("kafka", ErrorKind::Bug, "no room for staged output was given"))?;
            Output::Staged(Box::new(StagedOutput::new(&self.config, &self.sink, context, staged, self.runtime.clone())))
        } else {
            Output::Direct { producer: self.direct()?, acks: Arc::default() }
        };
        Ok(Box::new(Writer {
            keys: self.config.key.as_ref().map(|(format, _)| Messages::new(format)),
            values: Messages::new(&self.config.format),
            config: Arc::clone(&self.config),
            output,
            messages: 0,
        }))
    }

    fn commit(&self, permit: &CommitPermit, committables: Vec<Committable>) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        let bug = |message: String| DataflowError::new("kafka", ErrorKind::Bug, message);
        let later = committables.iter().find(|committable| committable.epoch > permit.epoch()).map(|committable| committable.epoch);
        let (epoch, committer) = (permit.epoch(), self.committer.clone());
        Box::pin(async move {
            if let Some(later) = later {
                return Err(bug(format!("asked to commit epoch {later} with a permit for {epoch}")));
            }
            let committer = committer.ok_or_else(|| bug("no room for staged output was given".to_owned()))?;
            tokio::task::spawn_blocking(move || committer.commit(committables)).await.map_err(|error| bug(error.to_string()))?
        })
    }

    fn accepts_changelog(&self) -> bool {
        self.config.accepts_changelog()
    }

    fn strongest_delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }
}

struct Writer {
    config: Arc<SinkConfig>,
    keys: Option<Messages>,
    values: Messages,
    output: Output,
    messages: u64,
}

enum Output {
    Staged(Box<StagedOutput>),
    Direct {
        producer: Arc<Direct>,
        /// Of the messages since the last checkpoint.
        acks: Arc<Acks>,
    },
}

impl SinkWriter for Writer {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.config.format.encode(&batch.project(&self.config.value)?, &mut self.values)?;
        if let (Some(keys), Some((format, columns))) = (&mut self.keys, &self.config.key) {
            format.encode(&batch.project(columns)?, keys)?;
        }
        let times = self
            .config
            .timestamp
            .map(|column| arrow::compute::cast(batch.column(column), &DataType::Timestamp(TimeUnit::Millisecond, None)));
        let times = times.transpose()?;
        let times = times.as_ref().map(|times| times.as_primitive::<TimestampMillisecondType>());
        let kinds = self.config.kind.map(|column| batch.column(column).as_primitive::<UInt8Type>());
        for row in 0..batch.num_rows() {
            let kind = kinds.and_then(|kinds| RowKind::from_u8(kinds.value(row)));
            // The new version replaces it by its key.
            if kind == Some(RowKind::UpdateBefore) {
                continue;
            }
            let time = times.filter(|times| times.is_valid(row)).map(|times| times.value(row));
            let frame = Frame {
                key: self.keys.as_ref().map(|keys| keys.get(row)),
                value: (kind != Some(RowKind::Delete)).then(|| self.values.get(row)),
                time,
            };
            match &mut self.output {
                Output::Staged(output) => output.push(frame)?,
                Output::Direct { producer, acks } => send(producer, acks, &self.config.topic, frame)?,
            }
        }
        self.messages += batch.num_rows() as u64;
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Prepared> {
        match &mut self.output {
            Output::Staged(output) => output.prepare(),
            Output::Direct { acks, .. } => {
                let acks = std::mem::take(acks);
                Ok(Box::pin(async move { acks.all().await.map(|()| Vec::new()) }))
            }
        }
    }

    fn stats(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([("messages", self.messages)])
    }
}

/// Messages of one writer on their way to be objects.
struct StagedOutput {
    topic: String,
    slot: String,
    /// Begins the names of this writer's objects; new for each writer, so a name never means two contents.
    stem: String,
    /// Before this, names are of generations whose records are settled.
    generation: u64,
    /// Begins the names of all objects of this sink.
    family: String,
    sweeps: bool,
    staged: StagedStore,
    runtime: Handle,
    frames: Frames,
    uploads: VecDeque<JoinHandle<Result<String>>>,
    places: Vec<String>,
    number: u64,
}

impl StagedOutput {
    fn new(config: &SinkConfig, sink: &OperatorId, context: &SinkContext, staged: StagedStore, runtime: Handle) -> Self {
        // Ids may hold what brokers or stores do not take in names.
        let plain: String = sink.0.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        let nonce = RandomState::new().hash_one(context.generation) as u32;
        let (generation, subtask) = (context.generation, context.subtask.index);
        Self {
            topic: config.topic.clone(),
            slot: format!("{}-{}-{plain}-{subtask}", config.prefix, context.job_uid),
            stem: format!("{plain}.g{generation}.{subtask}-{nonce:08x}"),
            generation,
            family: format!("{plain}.g"),
            sweeps: subtask == 0,
            staged,
            runtime,
            frames: Frames::default(),
            uploads: VecDeque::new(),
            places: Vec::new(),
            number: 0,
        }
    }

    fn push(&mut self, frame: Frame<'_>) -> Result<()> {
        let bytes = frame.key.map_or(0, <[u8]>::len) + frame.value.map_or(0, <[u8]>::len);
        if bytes as u64 > MAX_BYTES / 2 {
            let message = format!("a message of {bytes} bytes is more than can be staged ({})", MAX_BYTES / 2);
            return Err(DataflowError::new("kafka", ErrorKind::Data, message));
        }
        self.frames.push(frame);
        if self.frames.size() >= OBJECT_BYTES {
            self.upload()?;
        }
        Ok(())
    }

    /// Sends off what there is; waits while too much is on its way.
    fn upload(&mut self) -> Result<()> {
        let Some(bytes) = self.frames.take() else { return Ok(()) };
        while self.uploads.len() >= UPLOADS {
            let Some(oldest) = self.uploads.pop_front() else { break };
            self.places.push(self.runtime.block_on(finished(oldest))?);
        }
        let (staged, name) = (self.staged.clone(), format!("{}-{}.messages", self.stem, self.number));
        self.number += 1;
        self.uploads.push_back(self.runtime.spawn(async move { staged.put(&name, bytes.into()).await }));
        Ok(())
    }

    fn prepare(&mut self) -> Result<Prepared> {
        self.upload()?;
        let (mut places, uploads) = (std::mem::take(&mut self.places), std::mem::take(&mut self.uploads));
        let (slot, topic) = (self.slot.clone(), self.topic.clone());
        // The record that this generation was restored from is committed, and names nothing of older ones any more.
        let sweep = std::mem::take(&mut self.sweeps).then(|| (self.staged.clone(), self.family.clone(), self.generation));
        Ok(Box::pin(async move {
            for upload in uploads {
                places.push(finished(upload).await?);
            }
            if let Some((staged, family, generation)) = sweep {
                remove_older(&staged, &family, generation).await;
            }
            if places.is_empty() {
                return Ok(Vec::new());
            }
            let payload = serde_json::to_value(Payload { slot, topic, staged: places });
            payload.map(|payload| vec![payload]).map_err(|error| DataflowError::new("kafka", ErrorKind::Bug, error))
        }))
    }
}

async fn finished(upload: JoinHandle<Result<String>>) -> Result<String> {
    upload.await.map_err(|error| DataflowError::new("kafka", ErrorKind::Bug, error))?
}

/// Removes what generations before this one staged; what fails is tried by the next.
async fn remove_older(staged: &StagedStore, family: &str, generation: u64) {
    let names = match staged.names().await {
        Ok(names) => names,
        Err(error) => return tracing::warn!(%error, "staged output of earlier generations cannot be listed"),
    };
    for (name, place) in names {
        let of = name.strip_prefix(family).and_then(|rest| rest.split_once('.')).and_then(|(generation, _)| generation.parse::<u64>().ok());
        if of.is_some_and(|of| of < generation)
            && let Err(error) = staged.delete(&place).await
        {
            tracing::warn!(%error, place, "staged output of an earlier generation cannot be removed");
        }
    }
}

/// Messages that the brokers have not yet acknowledged.
#[derive(Debug, Default)]
struct Acks {
    missing: AtomicU64,
    failed: Mutex<Option<(ErrorKind, String)>>,
    changed: Notify,
}

impl Acks {
    /// Waits until none is missing.
    async fn all(&self) -> Result<()> {
        loop {
            let changed = self.changed.notified();
            if self.missing.load(Ordering::Acquire) == 0 {
                let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                return failed.as_ref().map_or(Ok(()), |(kind, message)| Err(DataflowError::new("kafka", *kind, message)));
            }
            changed.await;
        }
    }
}

/// Hears of deliveries.
struct Acknowledging;

impl ClientContext for Acknowledging {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }
}

impl ProducerContext for Acknowledging {
    type DeliveryOpaque = Arc<Acks>;

    fn delivery(&self, result: &DeliveryResult<'_>, acks: Arc<Acks>) {
        if let Err((error, _)) = result {
            let error = failed("writing a message", error);
            acks.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((error.kind, error.message));
        }
        if acks.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            acks.changed.notify_waiters();
        }
    }
}

/// Gives a message to the client; waits for room in its queue, which is the job's back-pressure.
fn send(producer: &Direct, acks: &Arc<Acks>, topic: &str, frame: Frame<'_>) -> Result<()> {
    let mut waiting: Option<Instant> = None;
    let mut record = BaseRecord::<[u8], [u8], Arc<Acks>>::with_opaque_to(topic, Arc::clone(acks));
    record.key = frame.key;
    record.payload = frame.value;
    record.timestamp = frame.time;
    acks.missing.fetch_add(1, Ordering::AcqRel);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                if waiting.get_or_insert_with(Instant::now).elapsed() < PATIENCE =>
            {
                std::thread::sleep(FULL);
                record = back;
            }
            Err((error, _)) => return Err(failed(&format!("writing to {topic}"), &error)),
        }
    }
}
