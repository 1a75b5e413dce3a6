//! [pure] A store in memory, for the simulator and tests: strict about every guarantee, never waits.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, ready};

use super::{Action, Entry, Listing, Object, PutMode, Store, StoreError, StoreResult, Version, check_limit};
use crate::paths::ObjectPath;

/// Objects by path. Share it by `Arc` to play several processes.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<Objects>,
}

#[derive(Debug, Default)]
struct Objects {
    by_path: BTreeMap<String, (Bytes, u64)>,
    puts: u64,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every path, sorted; for tests and oracles.
    pub fn paths(&self) -> Vec<String> {
        self.lock().by_path.keys().cloned().collect()
    }

    /// A copy of what is stored now.
    pub fn snapshot(&self) -> Self {
        let objects = self.lock();
        Self { objects: Mutex::new(Objects { by_path: objects.by_path.clone(), puts: objects.puts }) }
    }

    /// Puts bytes in place past every rule: how tests damage an object.
    pub fn overwrite(&self, path: &str, bytes: Bytes) {
        let mut objects = self.lock();
        objects.puts += 1;
        let put = objects.puts;
        objects.by_path.insert(path.to_string(), (bytes, put));
    }

    fn lock(&self) -> MutexGuard<'_, Objects> {
        // A panic of another thread cannot leave a map entry half written.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, path: &ObjectPath) -> StoreResult<(Bytes, u64)> {
        self.lock().by_path.get(path.as_str()).cloned().ok_or_else(|| StoreError::NotFound { path: path.to_string() })
    }
}

impl Store for MemoryStore {
    fn get<'a>(&'a self, path: &'a ObjectPath, limit: u64) -> BoxFuture<'a, StoreResult<Object>> {
        Box::pin(ready(self.read(path).and_then(|(bytes, put)| {
            check_limit(path, bytes.len() as u64, limit)?;
            Ok(Object { bytes, version: Version(put.to_string()) })
        })))
    }

    fn get_range<'a>(&'a self, path: &'a ObjectPath, range: Range<u64>) -> BoxFuture<'a, StoreResult<Bytes>> {
        Box::pin(ready(self.read(path).and_then(|(bytes, _)| {
            if range.start > range.end || range.end > bytes.len() as u64 {
                return Err(StoreError::Determinate {
                    action: Action::Read,
                    path: path.to_string(),
                    message: format!("it has {} bytes, none at {}..{}", bytes.len(), range.start, range.end),
                    transient: false,
                });
            }
            Ok(bytes.slice(range.start as usize..range.end as usize))
        })))
    }

    fn put<'a>(&'a self, path: &'a ObjectPath, bytes: Bytes, mode: PutMode) -> BoxFuture<'a, StoreResult<Version>> {
        let mut objects = self.lock();
        let current = objects.by_path.get(path.as_str()).map(|(_, put)| put.to_string());
        let allowed = match &mode {
            PutMode::Create => current.is_none(),
            PutMode::Replace(version) => current.as_ref() == Some(&version.0),
            PutMode::Once => true,
        };
        Box::pin(ready(if allowed {
            objects.puts += 1;
            let put = objects.puts;
            objects.by_path.insert(path.to_string(), (bytes, put));
            Ok(Version(put.to_string()))
        } else {
            Err(StoreError::Precondition { path: path.to_string() })
        }))
    }

    fn list<'a>(&'a self, folder: &'a ObjectPath) -> BoxFuture<'a, StoreResult<Listing>> {
        let prefix = format!("{folder}/");
        let mut listing = Listing::default();
        for (path, (bytes, _)) in self.lock().by_path.range(prefix.clone()..) {
            let Some(rest) = path.strip_prefix(&prefix) else { break };
            match rest.split_once('/') {
                Some((name, _)) if listing.folders.last().is_some_and(|last| last == name) => {}
                Some((name, _)) => listing.folders.push(name.to_string()),
                None => match ObjectPath::parse(path) {
                    Ok(path) => listing.objects.push(Entry { path, bytes: bytes.len() as u64 }),
                    Err(_) => continue,
                },
            }
        }
        Box::pin(ready(Ok(listing)))
    }

    fn delete<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, StoreResult<()>> {
        self.lock().by_path.remove(path.as_str());
        Box::pin(ready(Ok(())))
    }
}
