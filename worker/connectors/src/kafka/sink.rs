//! [io] The writing half: rows to messages, staged for a transaction or sent at once.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, RecordBatch, cast::AsArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMillisecondType, UInt8Type};
use rdkafka::ClientConfig;
use rheos_dataflow::changelog::RowKind;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::graph::OperatorId;
use rheos_dataflow::sink::{CommitPermit, Committable, Delivery, Prepared, Sink, SinkContext, SinkWriter};
use rheos_dataflow::time::Epoch;
use tokio::runtime::Handle;

use super::client;
use super::commit::{Committer, Payload, now_ms};
use super::config::SinkConfig;
use super::direct::{self, DirectOutput, Producer};
use super::frames::{Frame, Frames};
use crate::environment::Environment;
use crate::format::message::Messages;
use crate::staged::{MAX_BYTES, StagedStore, Uploads, plain};

/// Messages of this size make an object, bytes; well below what one object may have.
const OBJECT_BYTES: usize = 8 * 1024 * 1024;
/// How long the brokers let a transaction last, unless told. They allow 15 minutes at most by default; readers of committed
/// messages wait so long behind the transaction of a job that died and does not come back.
const TRANSACTION_MS: &str = "300000";

/// See [`crate::kafka`].
pub struct KafkaSink {
    config: Arc<SinkConfig>,
    sink: OperatorId,
    client: ClientConfig,
    staged: Option<StagedStore>,
    committer: Option<Arc<Committer>>,
    /// Made for the first writer that sends at once.
    producer: Mutex<Option<Arc<Producer>>>,
    runtime: Handle,
}

impl KafkaSink {
    /// The sink of the node `sink`; nothing is connected yet.
    ///
    /// # Errors
    /// When a Secret is not there.
    pub fn new(config: SinkConfig, sink: &OperatorId, environment: &Environment) -> Result<Self> {
        let client = client::config(&config.properties, &environment.secrets)?;
        let staged = environment.staged.clone();
        let runtime = environment.runtime.clone();
        let mut transactional = client.clone();
        if transactional.get("transaction.timeout.ms").is_none() {
            transactional.set("transaction.timeout.ms", TRANSACTION_MS);
        }
        let committer = staged.clone().map(|staged| Committer::new(transactional, config.life, staged, runtime.clone()));
        Ok(Self { config: Arc::new(config), sink: sink.clone(), client, staged, committer, producer: Mutex::default(), runtime })
    }

    fn direct(&self) -> Result<DirectOutput> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        let made = match producer.take() {
            Some(made) => made,
            None => direct::producer(&self.client)?,
        };
        Ok(DirectOutput::new(Arc::clone(producer.insert(made))))
    }
}

impl Sink for KafkaSink {
    fn writer(&self, context: &SinkContext) -> Result<Box<dyn SinkWriter>> {
        let output = if context.delivery == Delivery::ExactlyOnce {
            let staged = self.staged.clone();
            let staged = staged.ok_or_else(|| DataflowError::new("kafka", ErrorKind::Bug, "no room for staged output was given"))?;
            Output::Staged(Box::new(StagedOutput::new(&self.config, &self.sink, context, staged, self.runtime.clone())))
        } else {
            Output::Direct(self.direct()?)
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
        let (epoch, generation, committer) = (permit.epoch(), permit.generation(), self.committer.clone());
        Box::pin(async move {
            if let Some(later) = later {
                return Err(bug(format!("asked to commit epoch {later} with a permit for {epoch}")));
            }
            let committer = committer.ok_or_else(|| bug("no room for staged output was given".to_owned()))?;
            tokio::task::spawn_blocking(move || committer.commit(generation, committables)).await.map_err(|error| bug(error.to_string()))?
        })
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
    Direct(DirectOutput),
}

impl SinkWriter for Writer {
    fn ready(&mut self) -> Result<bool> {
        match &mut self.output {
            Output::Staged(output) => output.uploads.ready(),
            Output::Direct(output) => output.ready(&self.config.topic),
        }
    }

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
        let newest = kinds.and(self.keys.as_ref()).map(|keys| newest_of_each(keys, batch.num_rows()));
        for row in (0..batch.num_rows()).filter(|row| newest.as_ref().is_none_or(|newest| newest[*row])) {
            let kind = kinds.and_then(|kinds| RowKind::from_u8(kinds.value(row)));
            // A row that is replaced goes by itself when what replaces it has another key, or was left out on the way.
            let gone = matches!(kind, Some(RowKind::UpdateBefore | RowKind::Delete));
            let time = times.filter(|times| times.is_valid(row)).map(|times| times.value(row));
            let frame = Frame { key: self.keys.as_ref().map(|keys| keys.get(row)), value: (!gone).then(|| self.values.get(row)), time };
            match &mut self.output {
                Output::Staged(output) => output.push(frame)?,
                Output::Direct(output) => output.push(&self.config.topic, frame)?,
            }
        }
        self.messages += batch.num_rows() as u64;
        Ok(())
    }

    fn prepare(&mut self, _epoch: Epoch) -> Result<Prepared> {
        match &mut self.output {
            Output::Staged(output) => output.prepare(),
            Output::Direct(output) => Ok(output.prepare()),
        }
    }

    fn stats(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::from([("messages", self.messages)])
    }
}

/// Which rows are the last ones of their keys: the changes before them are nobody's result.
fn newest_of_each(keys: &Messages, rows: usize) -> Vec<bool> {
    let mut newest = vec![false; rows];
    let last: BTreeMap<&[u8], usize> = (0..rows).map(|row| (keys.get(row), row)).collect();
    last.into_values().for_each(|row| newest[row] = true);
    newest
}

/// Messages of one writer on their way to be objects.
struct StagedOutput {
    topic: String,
    /// See [`super::marker`].
    slot: String,
    generation: u64,
    frames: Frames,
    uploads: Uploads,
}

impl StagedOutput {
    fn new(config: &SinkConfig, sink: &OperatorId, context: &SinkContext, staged: StagedStore, runtime: Handle) -> Self {
        let uploads = Uploads::new(sink, context, "messages", staged, runtime);
        let (plain, generation, subtask) = (plain(sink), context.generation, context.subtask.index);
        Self {
            topic: config.topic.clone(),
            slot: format!("{}-{}-{plain}-{subtask}-g{generation}-{:08x}", config.prefix, context.job_uid, uploads.nonce),
            generation,
            frames: Frames::default(),
            uploads,
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
            self.upload();
        }
        Ok(())
    }

    /// Sends off what there is.
    fn upload(&mut self) {
        if let Some(bytes) = self.frames.take() {
            self.uploads.send(bytes);
        }
    }

    fn prepare(&mut self) -> Result<Prepared> {
        self.upload();
        let (slot, topic, generation, uploads) = (self.slot.clone(), self.topic.clone(), self.generation, self.uploads.finish());
        Ok(Box::pin(async move {
            let places = uploads.await?;
            if places.is_empty() {
                return Ok(Vec::new());
            }
            let payload = serde_json::to_value(Payload { slot, topic, generation, time: now_ms(), staged: places });
            payload.map(|payload| vec![payload]).map_err(|error| DataflowError::new("kafka", ErrorKind::Bug, error))
        }))
    }
}
