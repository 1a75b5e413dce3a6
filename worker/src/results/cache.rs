//! [io] Segments as clients read them: read and encoded once for all that want the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rheos_connectors::results::encode::ResultFormat;
use tokio::sync::OnceCell;

/// Encoded rows that are kept for the next client, bytes.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// Rows as they are sent.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    /// The sequence of its first row in its epoch.
    pub(super) first: u64,
    /// How many.
    pub(super) rows: u64,
    /// In one of the formats.
    pub(super) bytes: Bytes,
}

/// A segment; none: it is not kept any more.
pub(super) type Encoded = Option<Arc<Vec<Chunk>>>;

/// Place of a segment, and a format.
type Key = (String, ResultFormat);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    cells: BTreeMap<Key, Cell>,
    bytes: u64,
    /// Rises with each use.
    clock: u64,
}

#[derive(Debug, Default)]
struct Cell {
    encoded: Arc<OnceCell<Encoded>>,
    /// What it counts for, once it is there.
    bytes: u64,
    used: u64,
}

impl Cache {
    /// What is held, or what `make` gives; whoever asks for the same meanwhile waits for it.
    pub(super) async fn get<E>(&self, key: Key, make: impl AsyncFnOnce() -> Result<Encoded, E>) -> Result<Encoded, E> {
        let cell = {
            let mut held = self.held();
            held.clock += 1;
            let clock = held.clock;
            let cell = held.cells.entry(key.clone()).or_default();
            cell.used = clock;
            Arc::clone(&cell.encoded)
        };
        let encoded = cell.get_or_try_init(|| make()).await.cloned();
        self.held().settle(&key, encoded.as_ref().ok());
        encoded
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Counts what has come, and lets go of what was not used for long.
    fn settle(&mut self, key: &Key, encoded: Option<&Encoded>) {
        match (self.cells.get_mut(key), encoded) {
            (Some(cell), Some(Some(chunks))) if cell.bytes == 0 => {
                cell.bytes = chunks.iter().map(|chunk| chunk.bytes.len() as u64).sum::<u64>().max(1);
                self.bytes += cell.bytes;
            }
            (Some(cell), None | Some(None)) if cell.bytes == 0 => drop(self.cells.remove(key)),
            _ => {}
        }
        while self.bytes > CACHE_BYTES {
            let oldest = self.cells.iter().filter(|(_, cell)| cell.bytes > 0).min_by_key(|(_, cell)| cell.used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else { return };
            self.bytes -= self.cells.remove(&oldest).map_or(0, |cell| cell.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn chunks(bytes: usize) -> Encoded {
        Some(Arc::new(vec![Chunk { first: 0, rows: 1, bytes: vec![0; bytes].into() }]))
    }

    fn key(name: &str) -> Key {
        (name.to_owned(), ResultFormat::Json)
    }

    #[tokio::test]
    async fn what_many_want_at_once_is_made_once() {
        let (cache, made) = (Cache::default(), AtomicU32::new(0));
        let one = || {
            cache.get(key("a"), async || {
                made.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok::<_, ()>(chunks(10))
            })
        };
        let all = futures::future::join_all((0..100).map(|_| one())).await;
        assert!(all.iter().all(|one| one.as_ref().is_ok_and(Option::is_some)));
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_was_not_used_for_long_goes_first_and_the_limit_holds() {
        let cache = Cache::default();
        let half = CACHE_BYTES as usize / 2;
        for (name, bytes) in [("a", half), ("b", half), ("a", half), ("c", 1)] {
            cache.get(key(name), async || Ok::<_, ()>(chunks(bytes))).await.unwrap();
        }
        let held: Vec<String> = cache.held().cells.keys().map(|(name, _)| name.clone()).collect();
        assert_eq!(held, ["a", "c"]);
        assert_eq!(cache.held().bytes, half as u64 + 1);
    }

    #[tokio::test]
    async fn what_failed_or_was_not_there_is_tried_again() {
        let cache = Cache::default();
        assert!(cache.get(key("a"), async || Err::<Encoded, _>("no")).await.is_err());
        assert!(cache.get(key("a"), async || Ok::<_, ()>(None)).await.unwrap().is_none());
        assert!(cache.get(key("a"), async || Ok::<_, ()>(chunks(1))).await.unwrap().is_some());
    }
}
