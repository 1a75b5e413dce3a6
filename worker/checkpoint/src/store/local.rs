//! [io] A store in a local folder, safe among processes of one machine (or of one file system with `flock` and hard
//! links).
//!
//! How the guarantees are kept:
//! - Bytes go to a temporary file, are synced, and then get their name at once: by a hard link for
//!   [`PutMode::Create`] (which fails when the name exists), by a rename otherwise. Then the folder is synced.
//! - [`PutMode::Replace`] compares and renames under an exclusive `flock` on a lock file of the object's folder. The
//!   kernel drops the lock when its holder dies. The version is a 128-bit hash of the content.
//! - Each open store has a folder of its own below `<root>/.tmp/`, and holds a lock on it; the first write of a
//!   store deletes the folders whose owners are dead. So a crash leaves nothing behind for long.
//!
//! Assumption: the root is used by trusted processes only, and is no network file system without locks.

#![allow(clippy::disallowed_methods, reason = "an edge: local files")]

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File, TryLockError};
use std::hash::Hasher;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;

use super::{Action, Entry, Listing, Object, PutMode, Store, StoreError, StoreResult, Version, check_limit};
use crate::paths::ObjectPath;

/// Folder of temporary files, below the root. Its names begin with a dot, so they are no objects.
const TEMPORARY: &str = ".tmp";
/// Lock file of a folder, for compare-and-swap.
const LOCK_FILE: &str = ".lock";
/// Tries to make a folder that a deleter may remove at the same time.
const FOLDER_ATTEMPTS: usize = 16;
/// Names tried for this store's temporary folder.
const TEMPORARY_ATTEMPTS: u64 = 10_000;

/// A folder as a store. Clones share it.
#[derive(Debug, Clone)]
pub struct LocalStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// Made at the first write: reading changes nothing.
    temporary: Mutex<Option<Temporary>>,
    names: AtomicU64,
}

/// The folder of this store's temporary files.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    /// Its lock, held while this store lives.
    _owner: File,
}

impl LocalStore {
    /// The folder as a store; it is made at the first write.
    pub fn new(root: &Path) -> Self {
        Self { inner: Arc::new(Inner { root: root.to_path_buf(), temporary: Mutex::new(None), names: AtomicU64::new(0) }) }
    }

    async fn blocking<T, F>(&self, action: Action, path: &ObjectPath, work: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&Inner, &ObjectPath) -> Result<T, Failure> + Send + 'static,
    {
        let (inner, owned) = (Arc::clone(&self.inner), path.clone());
        match tokio::task::spawn_blocking(move || work(&inner, &owned)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(failure)) => Err(failure.into_store_error(action, path)),
            Err(error) => {
                Err(StoreError::Indeterminate { action, path: path.to_string(), message: format!("the I/O thread ended: {error}") })
            }
        }
    }
}

/// A failed step, before it is known which call it belongs to.
enum Failure {
    /// Nothing had changed yet.
    Before(io::Error),
    /// The object may have its name already.
    After(io::Error),
    /// Already said in full.
    Store(StoreError),
}

impl Failure {
    fn into_store_error(self, action: Action, path: &ObjectPath) -> StoreError {
        let path = path.to_string();
        match self {
            Self::Before(error) if error.kind() == io::ErrorKind::NotFound && action == Action::Read => StoreError::NotFound { path },
            Self::Before(error) => {
                let transient = matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::StorageFull | io::ErrorKind::ResourceBusy | io::ErrorKind::QuotaExceeded
                );
                StoreError::Determinate { action, path, message: error.to_string(), transient }
            }
            Self::After(error) => StoreError::Indeterminate { action, path, message: error.to_string() },
            Self::Store(error) => error,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn remove_dead_owners(all: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        let folder = File::open(&path)?;
        match folder.try_lock() {
            Ok(()) => fs::remove_dir_all(&path)?,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

fn own_folder(all: &Path) -> io::Result<Temporary> {
    for attempt in 0..TEMPORARY_ATTEMPTS {
        let path = all.join(format!("{}-{attempt}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => {
                let folder = File::open(&path)?;
                folder.lock()?;
                return Ok(Temporary { path, _owner: folder });
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!("no free name in {}", all.display())))
}

fn version_of(bytes: &[u8]) -> Version {
    // Two hashes with different beginnings; only compared between processes of one build.
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(bytes);
        hasher.finish()
    };
    Version(format!("{:016x}{:016x}", half(1), half(2)))
}

impl Inner {
    fn file(&self, path: &ObjectPath) -> PathBuf {
        self.root.join(path.as_str())
    }

    fn read(&self, path: &ObjectPath, limit: u64) -> Result<Object, Failure> {
        let file = File::open(self.file(path)).map_err(Failure::Before)?;
        let length = file.metadata().map_err(Failure::Before)?.len();
        check_limit(path, length, limit)?;
        let mut bytes = Vec::with_capacity(length as usize);
        file.take(limit).read_to_end(&mut bytes).map_err(Failure::Before)?;
        Ok(Object { version: version_of(&bytes), bytes: bytes.into() })
    }

    /// A new name for a temporary file.
    fn temporary_name(&self) -> io::Result<PathBuf> {
        let mut temporary = self.temporary.lock().unwrap_or_else(PoisonError::into_inner);
        let temporary = match &mut *temporary {
            Some(temporary) => temporary,
            none => {
                let all = self.root.join(TEMPORARY);
                fs::create_dir_all(&all)?;
                // One process at a time makes or removes temporary folders, so that none is removed before it is locked.
                let gate = File::create(all.join(LOCK_FILE))?;
                gate.lock()?;
                remove_dead_owners(&all)?;
                none.insert(own_folder(&all)?)
            }
        };
        Ok(temporary.path.join(self.names.fetch_add(1, Ordering::Relaxed).to_string()))
    }

    /// A synced temporary file with these bytes.
    fn temporary(&self, bytes: &[u8]) -> io::Result<PathBuf> {
        let path = self.temporary_name()?;
        let written = (|| {
            let mut file = File::create(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        })();
        if let Err(error) = written {
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(path)
    }

    /// Gives the temporary file its name by `name(temporary, target)`, making the folder where it is missing.
    fn place(&self, path: &ObjectPath, temporary: &Path, name: fn(&Path, &Path) -> io::Result<()>) -> Result<(), Failure> {
        let target = self.file(path);
        let folder = target.parent().unwrap_or(&self.root);
        for _ in 0..FOLDER_ATTEMPTS {
            match name(temporary, &target) {
                Ok(()) => return sync_folder(folder).map_err(Failure::After),
                // The folder is not there yet, or a deleter found it empty and removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_folder(folder).map_err(Failure::Before)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    return Err(StoreError::Precondition { path: path.to_string() }.into());
                }
                Err(error) => return Err(Failure::Before(error)),
            }
        }
        Err(Failure::Before(io::Error::other("the folder was removed again and again")))
    }

    /// Makes a folder durable: each new one is synced into its parent.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        match fs::create_dir_all(folder) {
            // A deleter was there; the caller tries again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        }
        let mut current = folder;
        while current != self.root {
            let Some(parent) = current.parent() else { break };
            match sync_folder(parent) {
                // Here, too.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => other?,
            }
            current = parent;
        }
        Ok(())
    }

    fn put(&self, path: &ObjectPath, bytes: &[u8], mode: &PutMode) -> Result<Version, Failure> {
        let temporary = self.temporary(bytes).map_err(Failure::Before)?;
        let result = match mode {
            PutMode::Create => self.place(path, &temporary, |from, to| fs::hard_link(from, to)),
            PutMode::Once => self.place(path, &temporary, |from, to| fs::rename(from, to)),
            PutMode::Replace(version) => self.replace(path, &temporary, version),
        };
        // Gone already after a rename; otherwise a second name of the object, or waste.
        let _ = fs::remove_file(&temporary);
        result.map(|()| version_of(bytes))
    }

    fn replace(&self, path: &ObjectPath, temporary: &Path, expected: &Version) -> Result<(), Failure> {
        let changed = || Failure::from(StoreError::Precondition { path: path.to_string() });
        let target = self.file(path);
        let folder = target.parent().unwrap_or(&self.root);
        let lock = match File::create(folder.join(LOCK_FILE)) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(changed()),
            Err(error) => return Err(Failure::Before(error)),
        };
        lock.lock().map_err(Failure::Before)?;
        match self.read(path, u64::MAX) {
            Ok(object) if object.version == *expected => self.place(path, temporary, |from, to| fs::rename(from, to)),
            Ok(_) => Err(changed()),
            Err(Failure::Before(error)) if error.kind() == io::ErrorKind::NotFound => Err(changed()),
            Err(failure) => Err(failure),
        }
    }

    fn list(&self, folder: &ObjectPath) -> Result<Listing, Failure> {
        let mut listing = Listing::default();
        let entries = match fs::read_dir(self.file(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(listing),
            Err(error) => return Err(Failure::Before(error)),
        };
        for entry in entries {
            let entry = entry.map_err(Failure::Before)?;
            let name = entry.file_name();
            // Names that are no paths of ours (hidden ones above all) are none of our business.
            let Some(path) = name.to_str().and_then(|name| ObjectPath::parse(name).ok()) else { continue };
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => listing.folders.push(path.as_str().to_string()),
                Ok(meta) => listing.objects.push(Entry { path: folder.join(&path), bytes: meta.len() }),
                // Deleted since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Failure::Before(error)),
            }
        }
        Ok(listing)
    }

    fn delete(&self, path: &ObjectPath) -> Result<(), Failure> {
        let file = self.file(path);
        match fs::remove_file(&file) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Failure::Before(error)),
        }
        // Fails while anything is in it, which is the point.
        if let Some(folder) = file.parent().filter(|folder| *folder != self.root) {
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }

    fn copy(&self, from: &ObjectPath, to: &ObjectPath) -> Result<(), Failure> {
        // A name of its own for the same content, so that a repeated copy replaces the first one.
        let temporary = self.temporary_name().map_err(Failure::Before)?;
        match fs::hard_link(self.file(from), &temporary) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NotFound { path: from.to_string() }.into());
            }
            Err(error) => return Err(Failure::Before(error)),
        }
        let result = self.place(to, &temporary, |from, to| fs::rename(from, to));
        let _ = fs::remove_file(&temporary);
        result
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

impl Drop for Inner {
    fn drop(&mut self) {
        let temporary = self.temporary.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(temporary) = temporary {
            let _ = fs::remove_dir_all(&temporary.path);
        }
    }
}

impl Store for LocalStore {
    fn get<'a>(&'a self, path: &'a ObjectPath, limit: u64) -> BoxFuture<'a, StoreResult<Object>> {
        Box::pin(self.blocking(Action::Read, path, move |inner, path| inner.read(path, limit)))
    }

    fn get_range<'a>(&'a self, path: &'a ObjectPath, range: Range<u64>) -> BoxFuture<'a, StoreResult<Bytes>> {
        Box::pin(self.blocking(Action::Read, path, move |inner, path| {
            let mut file = File::open(inner.file(path)).map_err(Failure::Before)?;
            let length = file.metadata().map_err(Failure::Before)?.len();
            if range.start > range.end || range.end > length {
                let message = format!("it has {length} bytes, none at {}..{}", range.start, range.end);
                let path = path.to_string();
                return Err(StoreError::Determinate { action: Action::Read, path, message, transient: false }.into());
            }
            file.seek(SeekFrom::Start(range.start)).map_err(Failure::Before)?;
            let mut bytes = vec![0; (range.end - range.start) as usize];
            file.read_exact(&mut bytes).map_err(Failure::Before)?;
            Ok(bytes.into())
        }))
    }

    fn put<'a>(&'a self, path: &'a ObjectPath, bytes: Bytes, mode: PutMode) -> BoxFuture<'a, StoreResult<Version>> {
        Box::pin(self.blocking(Action::Write, path, move |inner, path| inner.put(path, &bytes, &mode)))
    }

    fn list<'a>(&'a self, folder: &'a ObjectPath) -> BoxFuture<'a, StoreResult<Listing>> {
        Box::pin(self.blocking(Action::List, folder, |inner, folder| inner.list(folder)))
    }

    fn delete<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(self.blocking(Action::Delete, path, |inner, path| inner.delete(path)))
    }

    fn copy<'a>(&'a self, from: &'a ObjectPath, to: &'a ObjectPath) -> BoxFuture<'a, StoreResult<()>> {
        let to = to.clone();
        Box::pin(self.blocking(Action::Write, from, move |inner, from| inner.copy(from, &to)))
    }
}
