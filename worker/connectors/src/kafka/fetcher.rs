//! [io] Takes messages of one topic from the client and lays them ready by partition.
//!
//! A thread of its own polls the client, so that a worker's thread only ever takes what is there. It copies each
//! message's value behind the last one of its partition; full batches change hands without another copy. When a reader
//! does not keep up the thread waits, the client's own queues fill up, and the client stops asking the brokers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::source::Waker;

use super::client::{self, Context, failed};
use super::start;
use crate::format::message::{MessageFormat, Messages};

/// Messages and bytes of a batch, at most (one message may be larger).
const BATCH_MESSAGES: usize = 8_192;
const BATCH_BYTES: usize = 1024 * 1024;
/// Bytes that lie ready for one partition before the thread waits.
const READY_BYTES: usize = 4 * 1024 * 1024;
/// The thread looks for its end this often.
const LOOK: Duration = Duration::from_millis(100);

/// Messages of a partition, in order.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) values: Messages,
    /// By value.
    pub(super) offsets: Vec<i64>,
    /// By value, ms since 1970.
    pub(super) timestamps: Vec<Option<i64>>,
    /// By value, when keys are wanted.
    pub(super) keys: Vec<Option<Vec<u8>>>,
    /// The offset behind all of them, those without a value too.
    pub(super) next: i64,
}

/// What a partition has to give.
pub(super) enum Taken {
    Batch(Batch),
    Nothing,
    /// The end of a bounded table, and its offset.
    End(i64),
}

struct Ready {
    batches: VecDeque<Batch>,
    bytes: usize,
    stop: Option<i64>,
    /// The partition was seen to reach to here.
    high: i64,
    next: i64,
    ended: bool,
    waker: Waker,
}

#[derive(Default)]
struct State {
    partitions: BTreeMap<i32, Ready>,
    failed: Option<(ErrorKind, String)>,
}

/// See the module's documentation.
pub(super) struct Fetcher {
    topic: String,
    pub(super) consumer: BaseConsumer<Context>,
    format: MessageFormat,
    keys: bool,
    state: Mutex<State>,
    /// A reader has taken something.
    room: Condvar,
    over: AtomicBool,
}

/// Ends the thread when it goes.
pub(super) struct Handle(Arc<Fetcher>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Release);
        self.0.room.notify_all();
    }
}

impl std::ops::Deref for Handle {
    type Target = Fetcher;

    fn deref(&self) -> &Fetcher {
        &self.0
    }
}

impl Fetcher {
    /// Begins to fetch for a topic; no partition yet.
    pub(super) fn start(topic: &str, consumer: BaseConsumer<Context>, format: &MessageFormat, keys: bool) -> Handle {
        let fetcher = Arc::new(Self {
            topic: topic.to_owned(),
            consumer,
            format: format.clone(),
            keys,
            state: Mutex::default(),
            room: Condvar::new(),
            over: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&fetcher);
        std::thread::spawn(move || of_thread.run());
        Handle(fetcher)
    }

    /// Fetches a partition as well, from `next` on; it reached to `high` just now.
    pub(super) fn assign(&self, partition: i32, position: &start::Position, high: i64, waker: Waker) -> Result<()> {
        let (next, stop) = (position.next, position.stop);
        let ended = stop.is_some_and(|stop| next >= stop);
        let ready = Ready { batches: VecDeque::new(), bytes: 0, stop, high, next, ended, waker };
        self.lock().partitions.insert(partition, ready);
        if ended {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        let added = list.add_partition_offset(&self.topic, partition, Offset::Offset(next));
        added.and_then(|()| self.consumer.incremental_assign(&list)).map_err(|error| failed("assigning a partition", &error))
    }

    /// What is ready.
    pub(super) fn take(&self, partition: i32) -> Result<Taken> {
        let mut state = self.lock();
        let State { partitions, failed } = &mut *state;
        let Some(ready) = partitions.get_mut(&partition) else { return Ok(Taken::Nothing) };
        if let Some(batch) = ready.batches.pop_front() {
            ready.bytes -= batch.values.size();
            self.room.notify_one();
            return Ok(Taken::Batch(batch));
        }
        if ready.ended {
            return Ok(Taken::End(ready.next));
        }
        match failed {
            Some((kind, message)) => Err(DataflowError::new("kafka", *kind, &*message)),
            None => Ok(Taken::Nothing),
        }
    }

    /// Tells the group how far the job has come.
    pub(super) fn commit(&self, offsets: &[(i32, i64)]) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            if let Err(error) = list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset)) {
                tracing::warn!(%error, topic = self.topic, "naming a partition");
            }
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::warn!(%error, topic = self.topic, "offsets could not be committed to the group; the checkpoint has them");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn run(&self) {
        let mut filling: BTreeMap<i32, Batch> = BTreeMap::new();
        while !self.over() {
            let (mut count, mut bytes) = (0, 0);
            let mut wait = LOOK;
            while count < BATCH_MESSAGES && bytes < BATCH_BYTES {
                match self.consumer.poll(wait) {
                    None => break,
                    Some(Ok(message)) => {
                        bytes += message.payload_len();
                        count += 1;
                        self.append(&mut filling, &message);
                    }
                    Some(Err(KafkaError::PartitionEOF(partition))) => {
                        self.publish(&mut filling);
                        self.reached_end(partition);
                    }
                    Some(Err(error)) => self.error(&error),
                }
                wait = Duration::ZERO;
            }
            self.publish(&mut filling);
        }
    }

    fn append(&self, filling: &mut BTreeMap<i32, Batch>, message: &BorrowedMessage<'_>) {
        let batch = filling.entry(message.partition()).or_insert_with(|| Batch {
            values: Messages::new(&self.format),
            offsets: Vec::new(),
            timestamps: Vec::new(),
            keys: Vec::new(),
            next: 0,
        });
        batch.next = message.offset() + 1;
        if let Some(value) = message.payload() {
            batch.values.push(value);
            batch.offsets.push(message.offset());
            batch.timestamps.push(message.timestamp().to_millis());
            if self.keys {
                batch.keys.push(message.key().map(<[u8]>::to_vec));
            }
        }
    }

    /// Hands batches to their readers; waits for room.
    fn publish(&self, filling: &mut BTreeMap<i32, Batch>) {
        while let Some((partition, batch)) = filling.pop_first() {
            let mut state = self.lock();
            while state.partitions.get(&partition).is_some_and(|ready| ready.bytes >= READY_BYTES) && !self.over() {
                state = self.room.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            }
            let Some(ready) = state.partitions.get_mut(&partition) else { continue };
            let waker = Waker::clone(&ready.waker);
            ready.accept(batch);
            drop(state);
            waker();
        }
    }

    /// All that a partition has was delivered.
    fn reached_end(&self, partition: i32) {
        let wanted = self.lock().partitions.get(&partition).and_then(|ready| Some((ready.stop?, ready.high)));
        let Some((stop, high)) = wanted else { return };
        // What was seen before this end was delivered with it; what is seen now may come before the next one.
        let now = if high < stop { start::bounds(&self.consumer, &self.topic, partition).map_or(high, |bounds| bounds.high) } else { high };
        let mut state = self.lock();
        let Some(ready) = state.partitions.get_mut(&partition) else { return };
        ready.high = now;
        if high >= stop && !ready.ended {
            ready.ended = true;
            ready.next = ready.next.max(stop);
            let waker = Waker::clone(&ready.waker);
            drop(state);
            waker();
        }
    }

    /// The client tries again by itself, except where that is hopeless.
    fn error(&self, error: &KafkaError) {
        let found = match client::code(error) {
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => failed("reading", error),
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => self.gone().unwrap_or_else(|| failed("reading", error)),
            Some(
                Code::UnknownTopic
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
                | Code::TopicAuthorizationFailed
                | Code::SaslAuthenticationFailed
                | Code::Authentication,
            ) => failed(&format!("reading {}", self.topic), error),
            _ => return tracing::warn!(%error, topic = self.topic, "the kafka client reports an error and tries again"),
        };
        let mut state = self.lock();
        state.failed = Some((found.kind, found.message));
        let wakers: Vec<Waker> = state.partitions.values().map(|ready| Waker::clone(&ready.waker)).collect();
        drop(state);
        wakers.iter().for_each(|waker| waker());
    }

    /// Which partition no longer has the message that is next.
    fn gone(&self) -> Option<DataflowError> {
        let next: Vec<(i32, i64)> = self.lock().partitions.iter().map(|(partition, ready)| (*partition, ready.next)).collect();
        next.into_iter().find_map(|(partition, next)| {
            let bounds = start::bounds(&self.consumer, &self.topic, partition).ok()?;
            let missing = !(bounds.low..=bounds.high).contains(&next);
            missing.then(|| start::gone(&self.topic, partition, next, &bounds))
        })
    }
}

impl Ready {
    /// Takes a batch, up to the table's end.
    fn accept(&mut self, mut batch: Batch) {
        if self.ended {
            return;
        }
        if let Some(stop) = self.stop
            && batch.next >= stop
        {
            let count = batch.offsets.partition_point(|offset| *offset < stop);
            batch.values.truncate(count);
            batch.offsets.truncate(count);
            batch.timestamps.truncate(count);
            batch.keys.truncate(count);
            batch.next = stop;
            self.ended = true;
        }
        self.next = batch.next;
        self.bytes += batch.values.size();
        self.batches.push_back(batch);
    }
}
