//! [io] What every store must pass: each guarantee of [`crate::store`] as a check, for any implementation.
//!
//! The checks race several handles of one store, which may be several clients, and must see one winner. Run them on a
//! folder that nothing else uses.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::{join, join_all, try_join_all};

use crate::paths::ObjectPath;
use crate::store::{PutMode, Store, StoreError};

/// Writers in a race.
const WRITERS: usize = 8;
/// Races in a row.
const ROUNDS: usize = 12;
/// Increments of each writer of the shared counter.
const INCREMENTS: usize = 12;
/// Tries of one increment before the check fails: with 8 writers somebody always wins a round.
const INCREMENT_ATTEMPTS: usize = 10_000;
/// Size of the object that is replaced under a reader's eyes, bytes.
const LARGE_BYTES: usize = 512 * 1024;

/// A guarantee that a store does not keep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store breaks a guarantee: {guarantee}: {seen}")]
pub struct Broken {
    /// The guarantee.
    pub guarantee: &'static str,
    /// What was seen instead.
    pub seen: String,
}

type Check = Result<(), Broken>;

/// One guarantee under check, with the store's handles and a folder of its own.
struct Case<'a> {
    guarantee: &'static str,
    handles: &'a [Arc<dyn Store>],
    folder: ObjectPath,
}

impl Case<'_> {
    fn broken<T>(&self, seen: impl std::fmt::Debug) -> Result<T, Broken> {
        Err(Broken { guarantee: self.guarantee, seen: format!("{seen:?}") })
    }

    fn ensure(&self, holds: bool, seen: impl std::fmt::Debug) -> Check {
        if holds { Ok(()) } else { self.broken(seen) }
    }

    fn ok<T>(&self, result: Result<T, StoreError>) -> Result<T, Broken> {
        result.or_else(|error| self.broken(error))
    }

    fn refused<T: std::fmt::Debug>(&self, result: Result<T, StoreError>) -> Check {
        self.ensure(matches!(result, Err(StoreError::Precondition { .. })), result)
    }

    fn absent<T: std::fmt::Debug>(&self, result: Result<T, StoreError>) -> Check {
        self.ensure(matches!(result, Err(StoreError::NotFound { .. })), result)
    }

    /// The n-th handle, round and round.
    fn store(&self, n: usize) -> &Arc<dyn Store> {
        &self.handles[n % self.handles.len()]
    }

    fn path(&self, name: &str) -> Result<ObjectPath, Broken> {
        ObjectPath::parse(&format!("{}/{name}", self.folder)).or_else(|error| self.broken(error))
    }

    async fn put(&self, path: &ObjectPath, bytes: &'static [u8], mode: PutMode) -> Check {
        self.ok(self.store(0).put(path, Bytes::from_static(bytes), mode).await).map(|_| ())
    }

    /// Every handle reads these bytes.
    async fn holds(&self, path: &ObjectPath, bytes: &[u8]) -> Check {
        for store in self.handles {
            let object = self.ok(store.get(path, u64::MAX).await)?;
            self.ensure(object.bytes == bytes, &object.bytes)?;
        }
        Ok(())
    }
}

/// Runs every check. `handles`: at least one, all of the same store; `many`: objects for the check of long listings (a
/// page of S3 has 1,000).
///
/// # Errors
/// The first guarantee that does not hold.
pub async fn check(handles: &[Arc<dyn Store>], folder: &ObjectPath, many: usize) -> Check {
    async fn run<'a, F: Future<Output = Check>>(
        (handles, folder): (&'a [Arc<dyn Store>], &ObjectPath),
        name: &str,
        guarantee: &'static str,
        check: impl FnOnce(Case<'a>) -> F,
    ) -> Check {
        let folder = ObjectPath::parse(&format!("{folder}/{name}"));
        let folder = folder.map_err(|error| Broken { guarantee, seen: error.to_string() })?;
        check(Case { guarantee, handles, folder }).await
    }
    let on = (handles, folder);
    run(on, "absent", "what was never written is not found, and its folder is empty", absent).await?;
    run(on, "create", "create writes only where nothing is", create).await?;
    run(on, "create-race", "of all creates of one path exactly one succeeds", create_race).await?;
    run(on, "replace", "replace writes only over the version that was read", replace).await?;
    run(on, "replace-race", "no replacement is lost under concurrency", replace_race).await?;
    run(on, "once", "a plain put overwrites, and every handle sees it at once", once).await?;
    run(on, "whole", "a reader sees a whole object or none", whole).await?;
    run(on, "range", "ranges are exact, and limits are kept", ranges).await?;
    run(on, "list", "a folder lists its objects and folders, and what was deleted is gone", list).await?;
    run(on, "copy", "a copy stands alone", copy).await?;
    run(on, "long", "a long listing is complete", |case| long_listing(case, many)).await
}

async fn absent(case: Case<'_>) -> Check {
    let path = case.path("nothing")?;
    for store in case.handles {
        case.absent(store.get(&path, 10).await)?;
        case.absent(store.get_range(&path, 0..1).await)?;
        case.ok(store.delete(&path).await)?;
        let listing = case.ok(store.list(&case.folder).await)?;
        case.ensure(listing.objects.is_empty() && listing.folders.is_empty(), listing)?;
    }
    Ok(())
}

async fn create(case: Case<'_>) -> Check {
    let path = case.path("a")?;
    case.put(&path, b"first", PutMode::Create).await?;
    for store in case.handles {
        case.refused(store.put(&path, Bytes::from_static(b"second"), PutMode::Create).await)?;
    }
    case.holds(&path, b"first").await?;
    case.ok(case.store(1).delete(&path).await)?;
    case.put(&path, b"", PutMode::Create).await?;
    case.refused(case.store(1).put(&path, Bytes::new(), PutMode::Create).await)?;
    case.holds(&path, b"").await
}

async fn create_race(case: Case<'_>) -> Check {
    for round in 0..ROUNDS {
        let path = &case.path(&format!("r{round}"))?;
        let race = (0..WRITERS).map(|writer| case.store(writer).put(path, format!("writer {writer}").into(), PutMode::Create));
        let outcomes = join_all(race).await;
        let winners: Vec<usize> = (0..WRITERS).filter(|writer| outcomes[*writer].is_ok()).collect();
        let [winner] = winners[..] else { return case.broken(outcomes) };
        for (_, outcome) in outcomes.into_iter().enumerate().filter(|(writer, _)| *writer != winner) {
            case.refused(outcome)?;
        }
        case.holds(path, format!("writer {winner}").as_bytes()).await?;
    }
    Ok(())
}

async fn replace(case: Case<'_>) -> Check {
    let path = case.path("a")?;
    let other = case.path("b")?;
    let put = |store: usize, bytes: &'static [u8], mode| case.store(store).put(&path, Bytes::from_static(bytes), mode);
    let first = case.ok(put(0, b"one", PutMode::Create).await)?;
    let read = case.ok(case.store(1).get(&path, 10).await)?;
    case.ensure(read.version == first, (&read.version, &first))?;
    let second = case.ok(put(1, b"two", PutMode::Replace(first.clone())).await)?;
    case.refused(put(0, b"three", PutMode::Replace(first.clone())).await)?;
    case.holds(&path, b"two").await?;
    case.refused(case.store(0).put(&other, Bytes::from_static(b"x"), PutMode::Replace(first)).await)?;
    case.absent(case.store(0).get(&other, 10).await)?;
    case.ok(put(0, b"three", PutMode::Replace(second.clone())).await)?;
    case.ok(case.store(0).delete(&path).await)?;
    case.refused(put(1, b"four", PutMode::Replace(second)).await)?;
    case.absent(case.store(0).get(&path, 10).await)
}

async fn replace_race(case: Case<'_>) -> Check {
    let path = &case.path("counter")?;
    case.put(path, b"0", PutMode::Create).await?;
    let writers = (0..WRITERS).map(|writer| count_up(&case, writer, path));
    try_join_all(writers).await?;
    case.holds(path, (WRITERS * INCREMENTS).to_string().as_bytes()).await
}

async fn count_up(case: &Case<'_>, writer: usize, path: &ObjectPath) -> Check {
    match increment(case.store(writer).as_ref(), path, INCREMENTS).await {
        Ok(()) => Ok(()),
        Err(seen) => case.broken(seen),
    }
}

/// Adds one to the number in an object, `times` times, by compare and swap. For races among processes.
///
/// # Errors
/// What came in the way.
pub async fn increment(store: &dyn Store, path: &ObjectPath, times: usize) -> Result<(), String> {
    for _ in 0..times {
        let mut attempts = 0;
        loop {
            let object = store.get(path, 100).await.map_err(|error| error.to_string())?;
            let text = String::from_utf8_lossy(&object.bytes).into_owned();
            let next = text.parse::<u64>().map_err(|error| format!("{text:?}: {error}"))? + 1;
            match store.put(path, next.to_string().into(), PutMode::Replace(object.version)).await {
                Ok(_) => break,
                Err(StoreError::Precondition { .. }) if attempts < INCREMENT_ATTEMPTS => attempts += 1,
                Err(error) => return Err(error.to_string()),
            }
        }
    }
    Ok(())
}

async fn once(case: Case<'_>) -> Check {
    let path = case.path("deep/er/a")?;
    case.put(&path, b"one", PutMode::Once).await?;
    case.holds(&path, b"one").await?;
    case.put(&path, b"another", PutMode::Once).await?;
    case.holds(&path, b"another").await
}

async fn whole(case: Case<'_>) -> Check {
    let path = &case.path("large")?;
    let content = |n: usize| Bytes::from(vec![b'a' + (n % 20) as u8; LARGE_BYTES]);
    let (writer, reader) = (case.store(0), case.store(1));
    let write = async {
        for n in 0..ROUNDS {
            case.ok(writer.put(path, content(n), PutMode::Once).await)?;
        }
        Ok(())
    };
    let read = async {
        for _ in 0..ROUNDS {
            match reader.get(path, u64::MAX).await {
                Ok(object) => {
                    let first = object.bytes.first().copied();
                    let same = object.bytes.iter().all(|byte| Some(*byte) == first);
                    case.ensure(same && object.bytes.len() == LARGE_BYTES, "a mixture of two puts, or a part of one")?;
                }
                Err(error) => case.ensure(matches!(error, StoreError::NotFound { .. }), error)?,
            }
        }
        Ok(())
    };
    let (written, read) = join(write, read).await;
    written.and(read)
}

async fn ranges(case: Case<'_>) -> Check {
    let path = case.path("a")?;
    case.put(&path, b"0123456789", PutMode::Create).await?;
    for store in case.handles {
        for (range, bytes) in [(0..10, "0123456789"), (3..7, "3456"), (9..10, "9"), (4..4, "")] {
            let read = case.ok(store.get_range(&path, range).await)?;
            case.ensure(read == bytes, &read)?;
        }
        for range in [0..11, 9..11, 10..11, 500..600] {
            let read = store.get_range(&path, range).await;
            case.ensure(matches!(read, Err(StoreError::Determinate { transient: false, .. })), read)?;
        }
        case.ok(store.get(&path, 10).await)?;
        let read = store.get(&path, 9).await;
        case.ensure(matches!(read, Err(StoreError::Determinate { transient: false, .. })), read)?;
    }
    Ok(())
}

async fn list(case: Case<'_>) -> Check {
    for (name, bytes) in [("b", &b"22"[..]), ("a", b"1"), ("below/c", b"333"), ("below/deep/d", b"4"), ("a-b", b"")] {
        case.put(&case.path(name)?, bytes, PutMode::Create).await?;
    }
    for store in case.handles {
        let mut listing = case.ok(store.list(&case.folder).await)?;
        listing.objects.sort_by(|a, b| a.path.cmp(&b.path));
        let found: Vec<(&str, u64)> = listing.objects.iter().map(|entry| (entry.path.name(), entry.bytes)).collect();
        case.ensure(found == [("a", 1), ("a-b", 0), ("b", 2)] && listing.folders == ["below"], &listing)?;
        let inside = listing.objects.iter().all(|entry| case.folder.relative(&entry.path).is_some());
        case.ensure(inside, &listing)?;
    }
    case.ok(case.store(1).delete(&case.path("a")?).await)?;
    case.ok(case.store(1).delete(&case.path("below/c")?).await)?;
    for store in case.handles {
        let listing = case.ok(store.list(&case.folder).await)?;
        case.ensure(listing.objects.len() == 2, &listing)?;
        let below = case.ok(store.list(&case.path("below")?).await)?;
        case.ensure(below.objects.is_empty() && below.folders == ["deep"], below)?;
    }
    Ok(())
}

async fn copy(case: Case<'_>) -> Check {
    let (from, to, other) = (case.path("from")?, case.path("below/to")?, case.path("other")?);
    case.put(&from, b"content", PutMode::Create).await?;
    case.put(&other, b"other", PutMode::Create).await?;
    case.ok(case.store(0).copy(&from, &to).await)?;
    case.ok(case.store(1).copy(&from, &to).await)?;
    case.holds(&to, b"content").await?;
    case.put(&from, b"changed", PutMode::Once).await?;
    case.holds(&to, b"content").await?;
    case.ok(case.store(0).copy(&other, &to).await)?;
    case.ok(case.store(0).delete(&other).await)?;
    case.holds(&to, b"other").await?;
    case.absent(case.store(0).copy(&other, &to).await)?;
    case.holds(&to, b"other").await
}

async fn long_listing(case: Case<'_>, many: usize) -> Check {
    let paths = (0..many).map(|n| case.path(&format!("object-{n:06}"))).collect::<Result<Vec<_>, _>>()?;
    for chunk in paths.chunks(WRITERS) {
        try_join_all(chunk.iter().map(|path| case.put(path, b"x", PutMode::Once))).await?;
    }
    let mut listed: Vec<ObjectPath> =
        case.ok(case.store(1).list(&case.folder).await)?.objects.into_iter().map(|entry| entry.path).collect();
    listed.sort();
    case.ensure(listed == paths, listed.len())
}
