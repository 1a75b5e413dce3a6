//! [pure] A store with scripted faults: whether a call happens, and whether its caller hears of it, are two questions.
//! For the simulator and for sweeps over every call of a workflow.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;

use super::{Action, Listing, Object, PutMode, Store, StoreError, StoreResult, Version};
use crate::paths::ObjectPath;

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing unusual: it happens and is heard.
    None,
    /// It fails and says so: it did not happen.
    Refused,
    /// It does not happen, and the caller cannot know.
    Lost,
    /// It happens, but the answer is lost.
    Unheard,
}

/// Decides about the n-th call (from 0) of a store.
pub trait Script: Send + Sync {
    /// The fate of this call.
    fn fault(&self, call: u64, action: Action, path: &ObjectPath) -> Fault;
}

impl<F: Fn(u64, Action, &ObjectPath) -> Fault + Send + Sync> Script for F {
    fn fault(&self, call: u64, action: Action, path: &ObjectPath) -> Fault {
        self(call, action, path)
    }
}

/// A store behind a script.
pub struct FaultyStore {
    store: Arc<dyn Store>,
    script: Box<dyn Script>,
    calls: AtomicU64,
}

impl std::fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyStore").field("store", &self.store).field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl FaultyStore {
    /// `store`, as `script` lets it be seen.
    pub fn new(store: Arc<dyn Store>, script: impl Script + 'static) -> Self {
        Self { store, script: Box::new(script), calls: AtomicU64::new(0) }
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    async fn run<T>(&self, action: Action, path: &ObjectPath, call: BoxFuture<'_, StoreResult<T>>) -> StoreResult<T> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        let reads = matches!(action, Action::Read | Action::List);
        let refused = || {
            let (path, message) = (path.to_string(), format!("scripted fault at call {number}"));
            Err(StoreError::Determinate { action, path, message, transient: true })
        };
        let unheard = || {
            let (path, message) = (path.to_string(), format!("scripted loss at call {number}"));
            Err(StoreError::Indeterminate { action, path, message })
        };
        match self.script.fault(number, action, path) {
            Fault::None => call.await,
            Fault::Refused => refused(),
            // A read changes nothing, so not to hear of it is to fail.
            Fault::Lost | Fault::Unheard if reads => refused(),
            Fault::Lost => unheard(),
            Fault::Unheard => {
                // Even a refusal is not heard.
                let _ = call.await;
                unheard()
            }
        }
    }
}

impl Store for FaultyStore {
    fn get<'a>(&'a self, path: &'a ObjectPath, limit: u64) -> BoxFuture<'a, StoreResult<Object>> {
        let call = Box::pin(async move { self.store.get(path, limit).await });
        Box::pin(self.run(Action::Read, path, call))
    }

    fn get_range<'a>(&'a self, path: &'a ObjectPath, range: Range<u64>) -> BoxFuture<'a, StoreResult<Bytes>> {
        let call = Box::pin(async move { self.store.get_range(path, range).await });
        Box::pin(self.run(Action::Read, path, call))
    }

    fn put<'a>(&'a self, path: &'a ObjectPath, bytes: Bytes, mode: PutMode) -> BoxFuture<'a, StoreResult<Version>> {
        // Called only when it is awaited: a store may act as soon as it is called.
        let call = Box::pin(async move { self.store.put(path, bytes, mode).await });
        Box::pin(self.run(Action::Write, path, call))
    }

    fn list<'a>(&'a self, folder: &'a ObjectPath) -> BoxFuture<'a, StoreResult<Listing>> {
        let call = Box::pin(async move { self.store.list(folder).await });
        Box::pin(self.run(Action::List, folder, call))
    }

    fn delete<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, StoreResult<()>> {
        let call = Box::pin(async move { self.store.delete(path).await });
        Box::pin(self.run(Action::Delete, path, call))
    }

    fn copy<'a>(&'a self, from: &'a ObjectPath, to: &'a ObjectPath) -> BoxFuture<'a, StoreResult<()>> {
        let call = Box::pin(async move { self.store.copy(from, to).await });
        Box::pin(self.run(Action::Write, to, call))
    }
}
