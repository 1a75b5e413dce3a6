//! [io] From other threads to an operator: send first, then wake it.

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock, PoisonError};

use timely::scheduling::SyncActivator;

/// A queue into one operator. Its senders are few and each waits for an answer, or is a supervisor's command.
pub(crate) struct Mailbox<T> {
    queue: Mutex<VecDeque<T>>,
    owner: OnceLock<SyncActivator>,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Self { queue: Mutex::default(), owner: OnceLock::new() }
    }
}

impl<T> Mailbox<T> {
    /// The operator that drains this box; it must drain once after the call.
    pub(crate) fn attach(&self, owner: SyncActivator) {
        let _ = self.owner.set(owner);
    }

    /// Delivers `item` and wakes the operator. After the dataflow's end it is dropped.
    pub(crate) fn send(&self, item: T) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(item);
        if let Some(owner) = self.owner.get() {
            let _ = owner.activate();
        }
    }

    /// What has come.
    pub(crate) fn drain(&self) -> VecDeque<T> {
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
