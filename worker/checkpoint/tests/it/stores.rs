//! [io] Every store passes the conformance suite; and the suite fails on stores that break a guarantee.

use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use rheos_checkpoint::conformance;
use rheos_checkpoint::paths::ObjectPath;
use rheos_checkpoint::store::local::LocalStore;
use rheos_checkpoint::store::memory::MemoryStore;
use rheos_checkpoint::store::object::S3Store;
use rheos_checkpoint::store::{Listing, Object, PutMode, Store, StoreResult, Version};

fn path(text: &str) -> ObjectPath {
    ObjectPath::parse(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_memory_store_conforms() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    conformance::check(&[Arc::clone(&store), store], &path("suite"), 2_000).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_local_store_conforms_with_several_handles() {
    let folder = tempfile::tempdir().unwrap();
    let handles: Vec<Arc<dyn Store>> = (0..3).map(|_| Arc::new(LocalStore::new(folder.path())) as Arc<dyn Store>).collect();
    conformance::check(&handles, &path("suite"), 100).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_object_store_edge_conforms_with_and_without_a_prefix() {
    for prefix in ["", "some/prefix"] {
        let inner: Arc<dyn object_store::ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let handles: Vec<Arc<dyn Store>> =
            (0..3).map(|_| Arc::new(S3Store::trusted(Arc::clone(&inner), prefix)) as Arc<dyn Store>).collect();
        conformance::check(&handles, &path("suite"), 2_000).await.unwrap();
    }
}

const CHILD_FOLDER: &str = "RHEOS_TEST_COUNTER_FOLDER";
const CHILD_INCREMENTS: usize = 40;
const CHILDREN: usize = 4;

/// The body of a child process of the next test; does nothing on its own.
#[tokio::test]
async fn a_child_process_counts_up_when_its_parent_asks() {
    if let Some(folder) = std::env::var_os(CHILD_FOLDER) {
        let store = LocalStore::new(Path::new(&folder));
        conformance::increment(&store, &path("counter"), CHILD_INCREMENTS).await.unwrap();
    }
}

#[tokio::test]
async fn processes_that_count_up_in_one_local_folder_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::new(folder.path());
    store.put(&path("counter"), Bytes::from_static(b"0"), PutMode::Create).await.unwrap();
    let child = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "stores::a_child_process_counts_up_when_its_parent_asks"]).env(CHILD_FOLDER, folder.path());
        command.stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let children: Vec<_> = (0..CHILDREN).map(|_| child()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let counter = store.get(&path("counter"), 100).await.unwrap();
    assert_eq!(counter.bytes, (CHILDREN * CHILD_INCREMENTS).to_string());
}

#[tokio::test]
async fn temporary_files_of_a_dead_process_go_at_the_next_write() {
    let folder = tempfile::tempdir().unwrap();
    let dead = folder.path().join(".tmp/4000000-0");
    std::fs::create_dir_all(&dead).unwrap();
    std::fs::write(dead.join("7"), "half a state file").unwrap();
    let alive = LocalStore::new(folder.path());
    alive.put(&path("a"), Bytes::from_static(b"x"), PutMode::Once).await.unwrap();
    assert!(!dead.exists());
    // A second store leaves the first one, which lives, alone.
    let second = LocalStore::new(folder.path());
    second.put(&path("b"), Bytes::from_static(b"x"), PutMode::Once).await.unwrap();
    alive.put(&path("c"), Bytes::from_static(b"x"), PutMode::Create).await.unwrap();
    drop((alive, second));
    let left: Vec<_> = std::fs::read_dir(folder.path().join(".tmp")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".lock"]);
}

#[tokio::test]
async fn reading_a_local_store_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::new(&folder.path().join("not-there"));
    assert!(store.get(&path("a"), 10).await.is_err());
    assert_eq!(store.list(&path("a")).await.unwrap(), Listing::default());
    store.delete(&path("a")).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn folders_that_vanish_under_a_writer_are_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let (writer, deleter) = (LocalStore::new(folder.path()), LocalStore::new(folder.path()));
    let write = async {
        for n in 0..200 {
            writer.put(&path(&format!("g1/w{n}")), Bytes::from_static(b"x"), PutMode::Once).await.unwrap();
            writer.delete(&path(&format!("g1/w{n}"))).await.unwrap();
        }
    };
    let delete = async {
        for n in 0..200 {
            deleter.put(&path(&format!("g1/d{n}")), Bytes::from_static(b"x"), PutMode::Create).await.unwrap();
            deleter.delete(&path(&format!("g1/d{n}"))).await.unwrap();
        }
    };
    futures::join!(write, delete);
}

/// What a broken store does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bug {
    CreateOverwrites,
    ReplaceIgnoresTheVersion,
    /// Reads the version, then writes: two steps.
    ReplaceIsNotAtomic,
    ListForgets,
    LimitIgnored,
    DeleteDoesNothing,
}

/// A memory store with one bug.
#[derive(Debug)]
struct Broken {
    store: MemoryStore,
    bug: Bug,
    puts: AtomicU64,
}

impl Store for Broken {
    fn get<'a>(&'a self, path: &'a ObjectPath, limit: u64) -> BoxFuture<'a, StoreResult<Object>> {
        self.store.get(path, if self.bug == Bug::LimitIgnored { u64::MAX } else { limit })
    }

    fn get_range<'a>(&'a self, path: &'a ObjectPath, range: Range<u64>) -> BoxFuture<'a, StoreResult<Bytes>> {
        self.store.get_range(path, range)
    }

    fn put<'a>(&'a self, path: &'a ObjectPath, bytes: Bytes, mode: PutMode) -> BoxFuture<'a, StoreResult<Version>> {
        self.puts.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let mode = match mode {
                PutMode::Create if self.bug == Bug::CreateOverwrites => PutMode::Once,
                PutMode::Replace(_) if self.bug == Bug::ReplaceIgnoresTheVersion => PutMode::Once,
                PutMode::Replace(version) if self.bug == Bug::ReplaceIsNotAtomic => {
                    let current = self.store.get(path, u64::MAX).await;
                    tokio::task::yield_now().await;
                    if current.is_ok_and(|current| current.version == version) { PutMode::Once } else { PutMode::Replace(version) }
                }
                mode => mode,
            };
            self.store.put(path, bytes, mode).await
        })
    }

    fn list<'a>(&'a self, folder: &'a ObjectPath) -> BoxFuture<'a, StoreResult<Listing>> {
        Box::pin(async move {
            let mut listing = self.store.list(folder).await?;
            if self.bug == Bug::ListForgets {
                listing.objects.truncate(1_000);
            }
            Ok(listing)
        })
    }

    fn delete<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, StoreResult<()>> {
        if self.bug == Bug::DeleteDoesNothing { Box::pin(async { Ok(()) }) } else { self.store.delete(path) }
    }
}

#[tokio::test]
async fn the_suite_finds_each_planted_bug() {
    for (bug, guarantee) in [
        (Bug::CreateOverwrites, "create writes only where nothing is"),
        (Bug::ReplaceIgnoresTheVersion, "replace writes only over the version"),
        (Bug::ReplaceIsNotAtomic, "no replacement is lost"),
        (Bug::ListForgets, "a long listing is complete"),
        (Bug::LimitIgnored, "limits are kept"),
        (Bug::DeleteDoesNothing, "create writes only where nothing is"),
    ] {
        let store: Arc<dyn Store> = Arc::new(Broken { store: MemoryStore::new(), bug, puts: AtomicU64::new(0) });
        let broken = conformance::check(&[store], &path("suite"), 1_100).await.expect_err(&format!("{bug:?}"));
        assert!(broken.to_string().contains(guarantee), "{bug:?}: {broken}");
    }
}
