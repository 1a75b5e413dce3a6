//! [io] Messages that go out at once, by an idempotent producer that all writers of a process share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::sink::Prepared;
use tokio::sync::Notify;

use super::client::{Context, SLICE, failed};
use super::frames::Frame;

/// See the module's documentation.
pub(super) type Producer = ThreadedProducer<Acknowledging>;

/// A producer; nothing is connected yet.
pub(super) fn producer(client: &ClientConfig) -> Result<Arc<Producer>> {
    let mut config = client.clone();
    if config.get("enable.idempotence").is_none() {
        config.set("enable.idempotence", "true");
    }
    config.create_with_context(Acknowledging::default()).map(Arc::new).map_err(|error| failed("making a producer", &error))
}

/// Messages of one writer that go out at once.
pub(super) struct DirectOutput {
    producer: Arc<Producer>,
    /// Of the messages since the last checkpoint.
    acks: Arc<Acks>,
    /// What the client had no room for: at most a batch's rows.
    waiting: VecDeque<Message>,
}

/// A [`Frame`] that waits.
struct Message {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    time: Option<i64>,
}

impl DirectOutput {
    pub(super) fn new(producer: Arc<Producer>) -> Self {
        Self { producer, acks: Arc::default(), waiting: VecDeque::new() }
    }

    /// Sends a message, or keeps it until the client has room.
    pub(super) fn push(&mut self, topic: &str, frame: Frame<'_>) -> Result<()> {
        if !self.waiting.is_empty() || !self.send(topic, frame)? {
            let own = |part: Option<&[u8]>| part.map(<[u8]>::to_vec);
            self.waiting.push_back(Message { key: own(frame.key), value: own(frame.value), time: frame.time });
        }
        Ok(())
    }

    /// Whether all has gone to the client.
    pub(super) fn ready(&mut self, topic: &str) -> Result<bool> {
        if let Some(refusal) = self.producer.client().context().client.refusal() {
            return Err(refusal);
        }
        while let Some(message) = self.waiting.pop_front() {
            let frame = Frame { key: message.key.as_deref(), value: message.value.as_deref(), time: message.time };
            if !self.send(topic, frame)? {
                self.waiting.push_front(message);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives a message to the client; false when its queue is full.
    fn send(&self, topic: &str, frame: Frame<'_>) -> Result<bool> {
        let mut record = BaseRecord::<[u8], [u8], Arc<Acks>>::with_opaque_to(topic, Arc::clone(&self.acks));
        record.key = frame.key;
        record.payload = frame.value;
        record.timestamp = frame.time;
        self.acks.missing.fetch_add(1, Ordering::AcqRel);
        match self.producer.send(record) {
            Ok(()) => Ok(true),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                self.acks.missing.fetch_sub(1, Ordering::AcqRel);
                Ok(false)
            }
            Err((error, _)) => Err(failed(&format!("writing to {topic}"), &error)),
        }
    }

    /// All that was written so far, acknowledged.
    pub(super) fn prepare(&mut self) -> Prepared {
        debug_assert!(self.waiting.is_empty(), "an epoch closes only when the writer is ready");
        let acks = std::mem::take(&mut self.acks);
        let client = self.producer.client().context().client.clone();
        Box::pin(async move { acks.all(&client).await.map(|()| Vec::new()) })
    }
}

/// Messages that the brokers have not yet acknowledged.
#[derive(Debug, Default)]
pub(super) struct Acks {
    missing: AtomicU64,
    failed: Mutex<Option<(ErrorKind, String)>>,
    changed: Notify,
}

impl Acks {
    /// Waits until none is missing, or the brokers refuse the client.
    async fn all(&self, client: &Context) -> Result<()> {
        loop {
            let changed = self.changed.notified();
            if self.missing.load(Ordering::Acquire) == 0 {
                let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                return failed.as_ref().map_or(Ok(()), |(kind, message)| Err(DataflowError::new("kafka", *kind, message)));
            }
            if tokio::time::timeout(SLICE, changed).await.is_err()
                && let Some(refusal) = client.refusal()
            {
                return Err(refusal);
            }
        }
    }
}

/// Hears of deliveries.
#[derive(Default)]
pub(super) struct Acknowledging {
    client: Context,
}

impl ClientContext for Acknowledging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.client.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.client.error(error, reason);
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
