//! [io] A transactional producer of one slot, and the marker that says how far the slot has come.
//!
//! A slot is one writer of a sink: (job, sink, subtask, generation) and a random number. Its name is its transactional
//! id and also the name of a consumer group that has no members; the group's committed offset of partition 0 of the sink's
//! topic is the marker: the epoch of the slot's last transaction. It moves within the transactions ([`Slot::commit`]), so
//! it is there exactly when the messages are.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::util::Timeout;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::time::Epoch;

use super::client::{self, ABSENCE, Context, HEAR, failed};
use super::frames::Frame;
use crate::failpoint;

/// The client's queue is full: so long until the next look.
const FULL: Duration = Duration::from_millis(10);
/// A message waits at most so long for room in the client's queue.
const PATIENCE: Duration = Duration::from_secs(120);

/// Failed deliveries fail the transaction, which tells.
impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            tracing::debug!(%error, "a message of a transaction was not delivered");
        }
    }
}

/// See the module's documentation. Blocking: for threads that may wait.
pub(super) struct Slot {
    topic: String,
    producer: BaseProducer<Context>,
    group: ConsumerGroupMetadata,
    /// The epoch of the last transaction; `None` when there was none, or so long ago that the brokers forgot it.
    marker: Option<Epoch>,
}

impl Slot {
    /// Takes over a slot: fences whoever had it, waits until their transactions have ended, and reads the marker.
    pub(super) fn open(name: &str, topic: &str, client: &ClientConfig) -> Result<Self> {
        let mut config = client.clone();
        config.set("transactional.id", name).set("enable.idempotence", "true");
        let producer: BaseProducer<Context> =
            config.create_with_context(Context::default()).map_err(|error| failed("making a transactional producer", &error))?;
        let hear = || {
            producer.poll(HEAR);
        };
        let doing = format!("taking over the transactional id '{name}'");
        producer.client().context().patiently(&doing, ABSENCE, |time| producer.init_transactions(time), hear)?;
        let mut config = client.clone();
        // A reader of committed offsets is told to wait while a transaction may still move them.
        config.set("group.id", name).set("isolation.level", "read_committed").set("enable.auto.commit", "false");
        let consumer: BaseConsumer<Context> =
            config.create_with_context(Context::default()).map_err(|error| failed("making a consumer of the marker", &error))?;
        let place = place(topic, Offset::Invalid)?;
        let ask = |time| {
            let found = consumer.committed_offsets(place.clone(), time)?;
            // An answer that is an error must not look like a missing marker.
            found.elements().iter().try_for_each(|element| element.error()).map(|()| found)
        };
        let hear = || while consumer.poll(HEAR).is_some() {};
        let found = consumer.context().patiently(&format!("reading the marker '{name}'"), ABSENCE, ask, hear)?;
        let marker = match found.elements().first().map(|element| element.offset()) {
            Some(Offset::Offset(epoch)) => Some(epoch.unsigned_abs()),
            _ => None,
        };
        let group = consumer.group_metadata();
        let group = group.ok_or_else(|| DataflowError::new("kafka", ErrorKind::Bug, "a consumer with a group has no group"))?;
        Ok(Self { topic: topic.to_owned(), producer, group, marker })
    }

    /// See [`Slot`].
    pub(super) fn marker(&self) -> Option<Epoch> {
        self.marker
    }

    /// Begins a transaction.
    pub(super) fn begin(&self) -> Result<()> {
        self.producer.begin_transaction().map_err(|error| failed("beginning a transaction", &error))
    }

    /// A message of the transaction.
    pub(super) fn send(&self, frame: Frame<'_>) -> Result<()> {
        let waiting = std::time::Instant::now();
        let mut record = BaseRecord::<[u8], [u8], ()>::to(&self.topic);
        record.key = frame.key;
        record.payload = frame.value;
        record.timestamp = frame.time;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if waiting.elapsed() < PATIENCE => {
                    self.producer.poll(FULL);
                    record = back;
                }
                Err((error, _)) => return Err(failed(&format!("writing to {}", self.topic), &error)),
            }
        }
    }

    /// Moves the marker and commits. After an error nothing is known: only [`Slot::open`] can tell what happened.
    pub(super) fn commit(&mut self, epoch: Epoch) -> Result<()> {
        self.producer.flush(Timeout::Never).map_err(|error| failed("sending the messages of a transaction", &error))?;
        failpoint::pass("kafka.sent");
        let marker = place(&self.topic, Offset::Offset(epoch as i64))?;
        let send = |time: Duration| self.producer.send_offsets_to_transaction(&marker, &self.group, time);
        let hear = || {
            self.producer.poll(HEAR);
        };
        self.producer.client().context().patiently("writing the marker", ABSENCE, send, hear)?;
        failpoint::pass("kafka.marked");
        // Until the transaction's own end: the brokers limit its life.
        self.producer.commit_transaction(Timeout::Never).map_err(|error| match client::code(&error) {
            Some(Code::Fenced | Code::InvalidProducerEpoch | Code::ProducerFenced) => {
                let message = "the brokers do not accept the transaction any more: another process of this job has taken over its id, or it lasted \
                               longer than 'properties.transaction.timeout.ms' (raise it, or let checkpoints be smaller). Its messages are staged and \
                               are sent again";
                DataflowError::new("kafka", ErrorKind::Transient, message)
            }
            _ => failed("committing a transaction", &error),
        })?;
        self.marker = Some(epoch);
        Ok(())
    }
}

/// Where the marker stands.
fn place(topic: &str, offset: Offset) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, offset).map_err(|error| failed("naming the marker's partition", &error))?;
    Ok(list)
}
