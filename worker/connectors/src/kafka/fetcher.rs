//! [io] Takes messages of one topic from the client and lays them ready by partition.
//!
//! A thread of its own asks the brokers where to begin and polls the client, so that a worker's thread only ever takes
//! what is there. It copies each
//! message's value behind the last one of its partition; full batches change hands without another copy. When a reader
//! does not keep up the thread waits, the client's own queues fill up, and the client stops asking the brokers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::{Offset, TopicPartitionList};
use rheos_dataflow::contain::contain;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::source::Waker;

use super::client::{self, Context, SLICE, TIMEOUT, failed};
use super::config::{Column, Metadata, SourceConfig};
use super::start::{self, Begin, Position};
use crate::format::message::Messages;

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
    /// By value, when headers are wanted; of one whose name is no text, what is wrong.
    pub(super) headers: Vec<Result<Headers, String>>,
    /// The offset behind all of them, those without a value too.
    pub(super) next: i64,
}

/// Names and values, in order.
pub(super) type Headers = Vec<(String, Option<Vec<u8>>)>;

/// What a partition has to give.
pub(super) enum Taken {
    /// Where it begins; once, before all others.
    Begin(Position),
    Batch(Batch),
    Nothing,
    /// The end of a bounded table, and its offset.
    End(i64),
}

/// A partition whose beginning is not known yet.
struct Wanted {
    partition: i32,
    begin: Begin,
    waker: Waker,
    since: Instant,
}

struct Ready {
    begun: Option<Position>,
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
    wanted: Vec<Wanted>,
    partitions: BTreeMap<i32, Ready>,
    failed: Option<(ErrorKind, String)>,
}

/// See the module's documentation.
pub(super) struct Fetcher {
    topic: String,
    consumer: BaseConsumer<Context>,
    config: Arc<SourceConfig>,
    keys: bool,
    headers: bool,
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
    pub(super) fn start(topic: &str, consumer: BaseConsumer<Context>, config: &Arc<SourceConfig>) -> Handle {
        let wants = |metadata| config.columns.contains(&Column::Metadata(metadata));
        let fetcher = Arc::new(Self {
            topic: topic.to_owned(),
            consumer,
            config: Arc::clone(config),
            keys: wants(Metadata::Key),
            headers: wants(Metadata::Headers),
            state: Mutex::default(),
            room: Condvar::new(),
            over: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&fetcher);
        std::thread::spawn(move || of_thread.run());
        Handle(fetcher)
    }

    /// Fetches a partition as well.
    pub(super) fn want(&self, partition: i32, begin: Begin, waker: Waker) {
        self.lock().wanted.push(Wanted { partition, begin, waker, since: Instant::now() });
    }

    /// What is ready.
    pub(super) fn take(&self, partition: i32) -> Result<Taken> {
        let mut state = self.lock();
        let State { partitions, failed, .. } = &mut *state;
        let failed = || match &failed {
            Some((kind, message)) => Err(DataflowError::new("kafka", *kind, message)),
            None => Ok(Taken::Nothing),
        };
        let Some(ready) = partitions.get_mut(&partition) else { return failed() };
        if let Some(begun) = ready.begun.take() {
            return Ok(Taken::Begin(begun));
        }
        if let Some(batch) = ready.batches.pop_front() {
            ready.bytes -= batch.values.size();
            self.room.notify_one();
            return Ok(Taken::Batch(batch));
        }
        if ready.ended {
            return Ok(Taken::End(ready.next));
        }
        failed()
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
            self.begin_wanted();
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

    /// Asks where new partitions begin, and fetches them from there. One that this client or the brokers do not know of
    /// yet is asked for again, for a while.
    fn begin_wanted(&self) {
        let mut unanswered = Vec::new();
        loop {
            let Some(Wanted { partition, begin, waker, since }) = self.lock().wanted.pop() else { break };
            match self.begin(partition, &begin, &waker) {
                Ok(()) => {}
                Err(error) if error.kind == ErrorKind::Transient && since.elapsed() < TIMEOUT => {
                    tracing::debug!(%error, topic = self.topic, partition, "where to begin is not known yet, trying again");
                    unanswered.push(Wanted { partition, begin, waker, since });
                }
                Err(error) => {
                    let error = self.consumer.context().explained(error);
                    self.lock().failed = Some((error.kind, error.message));
                    waker();
                }
            }
        }
        self.lock().wanted.append(&mut unanswered);
    }

    fn begin(&self, partition: i32, begin: &Begin, waker: &Waker) -> Result<()> {
        // The client knows the partitions of its last look, and a new one is none of them.
        // A short question: between two of them the client is heard.
        let look = self.consumer.fetch_metadata(Some(&self.topic), SLICE);
        look.map_err(|error| failed(&format!("asking for the partitions of {}", self.topic), &error))?;
        let (position, high) = start::position(&self.consumer, &self.config, &self.topic, partition, begin)?;
        let (next, stop) = (position.next, position.stop);
        let ended = stop.is_some_and(|stop| next >= stop);
        let waker = Waker::clone(waker);
        let ready =
            Ready { begun: Some(position), batches: VecDeque::new(), bytes: 0, stop, high, next, ended, waker: Waker::clone(&waker) };
        self.lock().partitions.insert(partition, ready);
        if !ended {
            let mut list = TopicPartitionList::new();
            let added = list.add_partition_offset(&self.topic, partition, Offset::Offset(next));
            added.and_then(|()| self.consumer.incremental_assign(&list)).map_err(|error| failed("assigning a partition", &error))?;
        }
        waker();
        Ok(())
    }

    fn append(&self, filling: &mut BTreeMap<i32, Batch>, message: &BorrowedMessage<'_>) {
        let batch = filling.entry(message.partition()).or_insert_with(|| Batch {
            values: Messages::new(&self.config.format),
            offsets: Vec::new(),
            timestamps: Vec::new(),
            keys: Vec::new(),
            headers: Vec::new(),
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
            if self.headers {
                // The client's library gives up at names that are not UTF-8.
                batch.headers.push(contain(|| headers(message)));
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

    /// All that a partition had at some time was delivered. Ends a bounded one when it had all of the table then.
    ///
    /// This may be news of long ago, so an end counts only when it was met after the partition was seen to hold the whole
    /// table: then the partition is assigned anew, which drops what waits in the client, older ends among it. (Behind the
    /// last message there may be marks of transactions, so that the last offset alone tells nothing.)
    fn reached_end(&self, partition: i32) {
        let wanted = self.lock().partitions.get(&partition).and_then(|ready| Some((ready.stop?, ready.high, ready.next)));
        let Some((stop, high, next)) = wanted else { return };
        if high < stop {
            let now = match start::bounds(&self.consumer, &self.topic, partition) {
                Ok(bounds) if bounds.high < stop => return,
                Ok(bounds) => bounds.high,
                // Assigned anew it meets its end, and asks, once more.
                Err(_) => high,
            };
            if let Err(error) = self.assign_again(partition, next) {
                return self.error(&error);
            }
            if let Some(ready) = self.lock().partitions.get_mut(&partition) {
                ready.high = now;
            }
            return;
        }
        let mut state = self.lock();
        let Some(ready) = state.partitions.get_mut(&partition).filter(|ready| !ready.ended) else { return };
        ready.ended = true;
        ready.next = ready.next.max(stop);
        let waker = Waker::clone(&ready.waker);
        drop(state);
        waker();
    }

    fn assign_again(&self, partition: i32, next: i64) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, Offset::Offset(next))?;
        self.consumer.incremental_unassign(&list)?;
        self.consumer.incremental_assign(&list)
    }

    /// The client tries again by itself, except where that is hopeless.
    fn error(&self, error: &KafkaError) {
        let found = match client::code(error) {
            _ if matches!(error, KafkaError::MessageConsumptionFatal(_)) => failed("reading", error),
            Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL) => match self.consumer.context().refusal() {
                Some(refusal) => refusal,
                None => return,
            },
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => self.gone().unwrap_or_else(|| failed("reading", error)),
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::TopicAuthorizationFailed) => {
                failed(&format!("reading {}", self.topic), error)
            }
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

fn headers(message: &BorrowedMessage<'_>) -> Headers {
    let all =
        message.headers().map(|headers| headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect());
    all.unwrap_or_default()
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
            batch.headers.truncate(count);
            batch.next = stop;
            self.ended = true;
        }
        self.next = batch.next;
        self.bytes += batch.values.size();
        self.batches.push_back(batch);
    }
}
