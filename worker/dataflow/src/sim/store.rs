//! [pure] The checkpoint store as a process sees it: every call takes its time, and some puts fail in all four ways
//! that (happened, heard) leaves.

use std::ops::Range;
use std::sync::Arc;

use rheos_checkpoint::paths::ObjectPath;
use rheos_checkpoint::store::memory::MemoryStore;
use rheos_checkpoint::store::{Action, Listing, Object, PutMode, Store, StoreError, StoreResult, Version};

use super::executor::Delays;

type Boxed<'a, T> = std::pin::Pin<Box<dyn Future<Output = StoreResult<T>> + Send + 'a>>;

/// See the module's documentation. The objects outlive it.
#[derive(Debug)]
pub(super) struct SlowStore {
    pub(super) objects: Arc<MemoryStore>,
    pub(super) delays: Delays,
    /// One in so many puts fails; 0: none.
    pub(super) put_failures: u64,
}

impl Store for SlowStore {
    fn get<'a>(&'a self, path: &'a ObjectPath, limit: u64) -> Boxed<'a, Object> {
        Box::pin(async move {
            self.delays.rest().await;
            let object = self.objects.get(path, limit).await;
            self.delays.rest().await;
            object
        })
    }

    fn get_range<'a>(&'a self, path: &'a ObjectPath, range: Range<u64>) -> Boxed<'a, bytes::Bytes> {
        Box::pin(async move {
            self.delays.rest().await;
            self.objects.get_range(path, range).await
        })
    }

    fn put<'a>(&'a self, path: &'a ObjectPath, bytes: bytes::Bytes, mode: PutMode) -> Boxed<'a, Version> {
        Box::pin(async move {
            let fails = self.put_failures > 0 && self.delays.draw(self.put_failures) == 0;
            let (action, message) = (Action::Write, "simulated".to_string());
            self.delays.rest().await;
            if fails && self.delays.draw(2) == 0 {
                let path = path.to_string();
                return Err(match self.delays.draw(2) {
                    0 => StoreError::Determinate { action, path, message, transient: true },
                    _ => StoreError::Indeterminate { action, path, message },
                });
            }
            let put = self.objects.put(path, bytes, mode).await;
            self.delays.rest().await;
            if fails {
                return Err(StoreError::Indeterminate { action, path: path.to_string(), message });
            }
            put
        })
    }

    fn list<'a>(&'a self, folder: &'a ObjectPath) -> Boxed<'a, Listing> {
        Box::pin(async move {
            self.delays.rest().await;
            self.objects.list(folder).await
        })
    }

    fn delete<'a>(&'a self, path: &'a ObjectPath) -> Boxed<'a, ()> {
        Box::pin(async move {
            self.delays.rest().await;
            self.objects.delete(path).await
        })
    }
}
