//! [io] Staged messages to transactions: each committable once, however often it is committed.
//!
//! librdkafka cannot go on with the transaction of a process that died, so nothing depends on one: what a checkpoint
//! has written is staged as objects ([`crate::staged`]) that its committable names, and the commit of a checkpoint is a
//! transaction that holds all of its messages and moves the slot's marker ([`super::marker`]) to its epoch.
//!
//! **Claim.** Of every committable that a record names, the topic holds the messages once, for readers of committed
//! messages; of any other none.
//!
//! **Why.** (1) *None without a record*: a transaction is begun only here, and `commit` is called only with a permit.
//! (2) *At most once*: let two transactions hold the messages of (slot, epoch e). Both were committed by producers of
//! the slot's transactional id, and the brokers let one producer of an id live: the later of the two was initialised
//! after the earlier one ended, or it is the same producer. Initialising waits for the end of earlier transactions,
//! and only then is the marker read; the earlier transaction moved it to e or beyond, atomically with its messages,
//! and no transaction moves it back (commits of a slot are made here, in rising order of epochs, one at a time). So the
//! later one saw a marker >= e and did not write. A producer that was paused in between (SIGSTOP, a
//! lost node) is fenced by the next one's initialisation: its transaction cannot be committed any more.
//! (3) *At least once*: a committable stays in every record until its commit was seen to succeed; a commit whose answer
//! was lost is repeated with a new producer, which reads the marker; if the marker is below e the transaction was
//! aborted, and the staged messages are sent again. A transaction that the brokers time out
//! (`transaction.timeout.ms`) is such an abort: harmless, for nothing lives in it alone.
//! (4) *Epochs rise within a slot*: a slot belongs to one writer of one generation, and a generation's epochs rise. (Not
//! so within a job: one that goes back to a savepoint gives the same epochs again, for other messages.)
//!
//! **Who commits.** A committable carries its slot's name, so whoever commits it (its own process; the coordinator, after
//! a restart at any parallelism; another job that starts from a savepoint) uses the marker of the slot that staged it.
//!
//! **Expiry.** Brokers forget the offsets of a group without members after `offsets.retention.minutes` (7 days), and then
//! a missing marker proves nothing. Staged objects are deleted when their transaction is committed, before the slot's
//! next one begins; so only a job that died in between, and stayed away for days, meets an epoch whose fate cannot be
//! told: the slot's first one that is staged whole. It is known by its age ([`MarkerLife`]), and the job fails by name
//! until its owner has looked and said what to do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::sink::Committable;
use rheos_dataflow::time::Epoch;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::frames;
use super::marker::Slot;
use crate::failpoint;
use crate::staged::StagedStore;

/// What a committable says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Payload {
    /// Transactional id and marker group.
    pub(super) slot: String,
    /// Where the messages go.
    pub(super) topic: String,
    /// The slot's generation.
    pub(super) generation: u64,
    /// When it was staged, ms since 1970.
    pub(super) time: i64,
    /// Objects with the messages, in order.
    pub(super) staged: Vec<String>,
}

/// How long markers are sure to live, and what to do with committables that are older and have none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MarkerLife {
    pub(crate) at_least: Duration,
    pub(crate) expired: Option<Expired>,
}

/// What the job's owner says of committables whose marker may have been forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// They are not in the topic.
    Send,
    /// They are in the topic.
    Drop,
}

/// Payloads by slot and topic, then by epoch.
type Work = BTreeMap<(String, String), BTreeMap<Epoch, Vec<Payload>>>;

/// Commits of one sink in this process.
pub(super) struct Committer {
    client: ClientConfig,
    life: MarkerLife,
    staged: StagedStore,
    runtime: Handle,
    /// Slots of this generation that are open, between commits. A slot that failed is opened anew.
    slots: Mutex<BTreeMap<(String, String), Slot>>,
}

/// Wall time, ms since 1970.
pub(super) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Committer {
    pub(super) fn new(client: ClientConfig, life: MarkerLife, staged: StagedStore, runtime: Handle) -> Arc<Self> {
        Arc::new(Self { client, life, staged, runtime, slots: Mutex::default() })
    }

    /// Commits what is not committed yet. For a thread that may wait.
    pub(super) fn commit(&self, generation: u64, committables: Vec<Committable>) -> Result<()> {
        let mut work = Work::new();
        for committable in committables {
            let payload: Payload = serde_json::from_value(committable.payload).map_err(|error| {
                DataflowError::new("kafka", ErrorKind::State, format!("a committable of {} cannot be read: {error}", committable.sink))
            })?;
            let id = (payload.slot.clone(), payload.topic.clone());
            work.entry(id).or_default().entry(committable.epoch).or_default().push(payload);
        }
        work.into_iter().try_for_each(|(id, epochs)| {
            let again = epochs.values().flatten().any(|payload| payload.generation == generation);
            let slot = self.commit_slot(&id, &epochs)?;
            // One of an earlier generation has nothing more to commit.
            if again {
                self.slots().insert(id, slot);
            }
            Ok(())
        })
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit_slot(&self, id: &(String, String), epochs: &BTreeMap<Epoch, Vec<Payload>>) -> Result<Slot> {
        let known = self.slots().remove(id);
        let mut slot = match known {
            Some(slot) => slot,
            None => Slot::open(&id.0, &id.1, &self.client)?,
        };
        let mut first = true;
        for (epoch, payloads) in epochs {
            failpoint::pass("kafka.commit");
            if slot.marker().is_none_or(|marker| marker < *epoch) && self.must_send(&slot, &id.0, *epoch, payloads, &mut first)? {
                self.transact(&mut slot, &id.0, *epoch, payloads)?;
            }
            failpoint::pass("kafka.committed");
            for place in payloads.iter().flat_map(|payload| &payload.staged) {
                self.runtime.block_on(self.staged.delete(place))?;
            }
        }
        failpoint::pass("kafka.cleaned");
        Ok(slot)
    }

    /// Whether what the marker does not tell of was not sent: it was not, unless the marker may have been forgotten. `first`
    /// is whether no epoch of the slot was in doubt before.
    fn must_send(&self, slot: &Slot, name: &str, epoch: Epoch, payloads: &[Payload], first: &mut bool) -> Result<bool> {
        let now = now_ms();
        let staged = payloads.iter().map(|payload| payload.time).min().unwrap_or(now);
        let age = Duration::from_millis(now.saturating_sub(staged).max(0).unsigned_abs());
        if slot.marker().is_some() || age < self.life.at_least {
            return Ok(true);
        }
        for place in payloads.iter().flat_map(|payload| &payload.staged) {
            if self.runtime.block_on(self.staged.get(place))?.is_none() {
                return Ok(false);
            }
        }
        if !std::mem::take(first) {
            return Ok(true);
        }
        match self.life.expired {
            Some(Expired::Send) => Ok(true),
            Some(Expired::Drop) => Ok(false),
            None => {
                let objects: usize = payloads.iter().map(|payload| payload.staged.len()).sum();
                let message = format!(
                    "messages of epoch {epoch} were staged {} hours ago ({objects} objects), and the brokers have no marker '{name}': they were not \
                     sent, or they were and the marker is forgotten (offsets.retention.minutes). Look whether {} has messages of {}; then set \
                     'sink.expired-commits' = 'send' or 'drop' and start the job again",
                    age.as_secs() / 3600,
                    payloads.first().map_or("", |payload| &payload.topic),
                    chrono::DateTime::from_timestamp_millis(staged).map(|time| time.to_rfc3339()).unwrap_or_default(),
                );
                Err(DataflowError::new("kafka", ErrorKind::State, message))
            }
        }
    }

    fn transact(&self, slot: &mut Slot, name: &str, epoch: Epoch, payloads: &[Payload]) -> Result<()> {
        slot.begin()?;
        for place in payloads.iter().flat_map(|payload| &payload.staged) {
            let bytes = self.runtime.block_on(self.staged.get(place))?.ok_or_else(|| {
                let message = format!(
                    "{place}: messages of epoch {epoch} that are still to be sent (marker '{name}') are gone from the checkpoint storage"
                );
                DataflowError::new("kafka", ErrorKind::State, message)
            })?;
            let frames =
                frames::read(&bytes).map_err(|error| DataflowError::new("kafka", error.kind, format!("{place}: {}", error.message)))?;
            for frame in frames {
                slot.send(frame)?;
            }
        }
        slot.commit(epoch)
    }
}
