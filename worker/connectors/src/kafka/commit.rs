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
//! (4) *Epochs rise within a slot*: an epoch that was given up before its record is staged again by nobody; the next
//! generation begins behind the last record, and takes over no staged messages of an epoch that it may use itself.
//!
//! **Rescale.** A committable carries its slot's name, so whoever commits it (the coordinator, after a restart with
//! another parallelism, or another job that starts from a savepoint) uses the marker of the slot that staged it.
//!
//! **Expiry.** Brokers forget the offsets of a group without members after `offsets.retention.minutes` (7 days). Staged
//! objects are deleted once their commit is known, so when marker and object are both gone the commit had happened. A
//! job that dies between a commit and that deletion and is started again after more than those days repeats one
//! checkpoint's messages: raise the retention where that matters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

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
    /// Objects with the messages, in order.
    pub(super) staged: Vec<String>,
}

/// Staged objects by slot and topic, then by epoch.
type Work = BTreeMap<(String, String), BTreeMap<Epoch, Vec<String>>>;

/// Commits of one sink in this process.
pub(super) struct Committer {
    client: ClientConfig,
    staged: StagedStore,
    runtime: Handle,
    /// Slots that are open, between commits. A slot that failed is opened anew.
    slots: Mutex<BTreeMap<(String, String), Slot>>,
}

impl Committer {
    pub(super) fn new(client: ClientConfig, staged: StagedStore, runtime: Handle) -> Arc<Self> {
        Arc::new(Self { client, staged, runtime, slots: Mutex::default() })
    }

    /// Commits what is not committed yet. For a thread that may wait.
    pub(super) fn commit(&self, committables: Vec<Committable>) -> Result<()> {
        let mut work = Work::new();
        for committable in committables {
            let payload: Payload = serde_json::from_value(committable.payload).map_err(|error| {
                DataflowError::new("kafka", ErrorKind::State, format!("a committable of {} cannot be read: {error}", committable.sink))
            })?;
            work.entry((payload.slot, payload.topic)).or_default().entry(committable.epoch).or_default().extend(payload.staged);
        }
        work.into_iter().try_for_each(|(slot, epochs)| self.commit_slot(slot, &epochs))
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, String), Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit_slot(&self, id: (String, String), epochs: &BTreeMap<Epoch, Vec<String>>) -> Result<()> {
        let known = self.slots().remove(&id);
        let mut slot = match known {
            Some(slot) => slot,
            None => Slot::open(&id.0, &id.1, &self.client)?,
        };
        for (epoch, places) in epochs {
            failpoint::pass("kafka.commit");
            if slot.marker().is_none_or(|marker| marker < *epoch) {
                self.transact(&mut slot, &id.0, *epoch, places)?;
            }
            failpoint::pass("kafka.committed");
            for place in places {
                if let Err(error) = self.runtime.block_on(self.staged.delete(place)) {
                    tracing::warn!(%error, place, "committed messages could not be removed from the staged output; the next generation tries again");
                }
            }
        }
        failpoint::pass("kafka.cleaned");
        self.slots().insert(id, slot);
        Ok(())
    }

    fn transact(&self, slot: &mut Slot, name: &str, epoch: Epoch, places: &[String]) -> Result<()> {
        let mut begun = false;
        for place in places {
            let Some(bytes) = self.runtime.block_on(self.staged.get(place))? else {
                if slot.marker().is_none() && !begun {
                    tracing::warn!(
                        slot = name,
                        epoch,
                        "the brokers have forgotten the marker (offsets.retention.minutes), and the staged messages are gone: they were committed"
                    );
                    return Ok(());
                }
                let message =
                    format!("{place}: staged messages of epoch {epoch} are gone, and the marker '{name}' says that they were not written");
                return Err(DataflowError::new("kafka", ErrorKind::State, message));
            };
            let frames =
                frames::read(&bytes).map_err(|error| DataflowError::new("kafka", error.kind, format!("{place}: {}", error.message)))?;
            if !begun {
                slot.begin()?;
                begun = true;
            }
            for frame in frames {
                slot.send(frame)?;
            }
        }
        if begun { slot.commit(epoch) } else { Ok(()) }
    }
}
