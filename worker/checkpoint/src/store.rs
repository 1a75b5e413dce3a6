//! [pure] What the protocol needs of a store, and what it relies on. Implementations: [`memory`], [`local`],
//! [`object`]; [`faulty`] wraps any of them with scripted faults. `conformance` holds them all to this page.
//!
//! Guarantees that an implementation gives:
//! - A put is atomic: readers see the whole object or none; and durable when it returns.
//! - After a put returned, every later `get` and `list`, of any process, sees it.
//! - Of all [`PutMode::Create`] of one absent path, exactly one succeeds; the others get [`StoreError::Precondition`].
//! - [`PutMode::Replace`] succeeds only while the object still is the version that was read.
//! - An error other than [`StoreError::Indeterminate`] means that the call changed nothing.
//!
//! Not relied on: clocks, order of listing, atomicity over several objects, an end of in-flight requests: a put whose
//! answer was lost may take effect at any later time.

pub mod faulty;
pub mod local;
pub mod memory;
pub mod object;
pub mod open;

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::paths::ObjectPath;

pub use open::{OpenError, open};

/// What a call on a store gives.
pub type StoreResult<T> = Result<T, StoreError>;

/// Identifies the content of an object. Two puts of the same bytes may give the same version, so whoever relies on
/// [`PutMode::Replace`] writes something unique into the object (the protocol's tokens).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(pub String);

/// An object that was read.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its bytes.
    pub bytes: Bytes,
    /// Its version, for [`PutMode::Replace`].
    pub version: Version,
}

/// Under which condition a put happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutMode {
    /// Only where nothing is.
    Create,
    /// Only over this version.
    Replace(Version),
    /// Always. For data that one writer puts under a name of its own, always with the same bytes.
    Once,
}

/// What is in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Objects directly in it.
    pub objects: Vec<Entry>,
    /// Names of its folders (a store may name a folder that has just become empty).
    pub folders: Vec<String>,
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path, from the store's root.
    pub path: ObjectPath,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Why a call failed. Messages never hold credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("{path} does not exist")]
    NotFound {
        /// The object.
        path: String,
    },
    /// The condition of a put does not hold: the object exists, or is another version.
    #[error("{path} was written by another")]
    Precondition {
        /// The object.
        path: String,
    },
    /// It failed, and changed nothing.
    #[error("cannot {action} {path}: {message}")]
    Determinate {
        /// What was tried.
        action: Action,
        /// The object.
        path: String,
        /// Why.
        message: String,
        /// Whether the same call may succeed later.
        transient: bool,
    },
    /// The store refuses our credentials or our rights; nothing has changed.
    #[error("cannot {action} {path}: {message}")]
    Denied {
        /// What was tried.
        action: Action,
        /// The object.
        path: String,
        /// Why.
        message: String,
    },
    /// It failed, and may have happened or may still happen.
    #[error("cannot tell whether this happened: {action} {path}: {message}")]
    Indeterminate {
        /// What was tried.
        action: Action,
        /// The object.
        path: String,
        /// Why.
        message: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later without anybody's help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Indeterminate { .. } | Self::Determinate { transient: true, .. })
    }
}

/// A call on a store, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read an object or a part of one.
    Read,
    /// Write an object.
    Write,
    /// List a folder.
    List,
    /// Delete an object.
    Delete,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::List => "list",
            Self::Delete => "delete",
        })
    }
}

/// Where checkpoints live; see the module's guarantees.
pub trait Store: fmt::Debug + Send + Sync {
    /// Reads a whole object of at most `limit` bytes; a larger one is refused before it is read.
    fn get<'a>(&'a self, path: &'a ObjectPath, limit: u64) -> BoxFuture<'a, StoreResult<Object>>;

    /// Reads exactly these bytes of an object; `Determinate` when it is shorter.
    fn get_range<'a>(&'a self, path: &'a ObjectPath, range: Range<u64>) -> BoxFuture<'a, StoreResult<Bytes>>;

    /// Writes an object under a condition.
    fn put<'a>(&'a self, path: &'a ObjectPath, bytes: Bytes, mode: PutMode) -> BoxFuture<'a, StoreResult<Version>>;

    /// Lists a folder, not what is below its folders. A missing folder is empty.
    fn list<'a>(&'a self, folder: &'a ObjectPath) -> BoxFuture<'a, StoreResult<Listing>>;

    /// Deletes an object; one that is not there is fine.
    fn delete<'a>(&'a self, path: &'a ObjectPath) -> BoxFuture<'a, StoreResult<()>>;

    /// Writes `to` with the bytes of `from` as [`PutMode::Once`] does, best without moving them through this process.
    /// Neither is ever changed in place, so they may share storage.
    fn copy<'a>(&'a self, from: &'a ObjectPath, to: &'a ObjectPath) -> BoxFuture<'a, StoreResult<()>> {
        Box::pin(async move {
            let object = self.get(from, crate::state_file::MAX_FILE_BYTES).await?;
            self.put(to, object.bytes, PutMode::Once).await.map(|_| ())
        })
    }
}

/// Refuses an object above the limit of its reader.
pub(crate) fn check_limit(path: &ObjectPath, bytes: u64, limit: u64) -> StoreResult<()> {
    if bytes <= limit {
        return Ok(());
    }
    Err(StoreError::Determinate {
        action: Action::Read,
        path: path.to_string(),
        message: format!("it has {bytes} bytes, more than the {limit} that such an object may have"),
        transient: false,
    })
}
