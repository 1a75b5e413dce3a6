//! [io] Output that waits for its commit, as objects in the job's checkpoint storage.
//!
//! For sinks whose system cannot keep output that nobody sees yet: what a committable stands for is put here before the
//! record that carries the committable, and deleted once its commit is known. Retention does not know this folder.
//! Objects that no record ever named are removed by the next generation ([`StagedStore::names`], [`StagedStore::delete`]).
//! What a sink keeps for longer has folders of its own beside it ([`StagedStore::beside`]).

use std::sync::Arc;

use bytes::Bytes;
use rheos_checkpoint::Store;
use rheos_checkpoint::paths::{JobPaths, ObjectPath};
use rheos_checkpoint::store::{PutMode, StoreError};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};

/// The folder below the job's.
const FOLDER: &str = "staged";
/// A put is tried this often.
const ATTEMPTS: u32 = 5;
/// The largest object, bytes.
pub(crate) const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub struct StagedStore {
    store: Arc<dyn Store>,
    job: ObjectPath,
    folder: ObjectPath,
}

impl StagedStore {
    /// The staged output of a job.
    ///
    /// # Errors
    /// Never for a job that has a place in the store.
    pub fn new(store: Arc<dyn Store>, job: &JobPaths) -> Result<Self> {
        Ok(Self { store, job: job.root().clone(), folder: job.resolve(FOLDER).map_err(|error| bad(&error))? })
    }

    /// Another folder of the same job.
    pub(crate) fn beside(&self, folder: &str) -> Result<Self> {
        let folder = self.job.join(&ObjectPath::parse(folder).map_err(|error| bad(&error))?);
        Ok(Self { store: Arc::clone(&self.store), job: self.job.clone(), folder })
    }

    /// The place of an object by its name.
    pub(crate) fn place(&self, name: &str) -> Result<String> {
        Ok(self.folder.join(&ObjectPath::parse(name).map_err(|error| bad(&error))?).to_string())
    }

    /// Writes an object under a name that is used once; its place, by which any job over this storage finds it.
    pub(crate) async fn put(&self, name: &str, bytes: Bytes) -> Result<String> {
        let path = self.folder.join(&ObjectPath::parse(name).map_err(|error| bad(&error))?);
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            match self.store.put(&path, bytes.clone(), PutMode::Once).await {
                Ok(_) => return Ok(path.to_string()),
                Err(error) if error.is_transient() && left > 0 => {}
                Err(error) => return Err(failed(&error)),
            }
        }
    }

    /// Reads the object at a place; `None` when it is not there.
    pub(crate) async fn get(&self, place: &str) -> Result<Option<Bytes>> {
        let path = ObjectPath::parse(place).map_err(|error| bad(&error))?;
        match self.store.get(&path, MAX_BYTES).await {
            Ok(object) => Ok(Some(object.bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    /// Deletes the object at a place; one that is not there is fine.
    pub(crate) async fn delete(&self, place: &str) -> Result<()> {
        let path = ObjectPath::parse(place).map_err(|error| bad(&error))?;
        self.store.delete(&path).await.map_err(|error| failed(&error))
    }

    /// Names and places of this job's objects.
    pub(crate) async fn names(&self) -> Result<Vec<(String, String)>> {
        let listing = self.store.list(&self.folder).await.map_err(|error| failed(&error))?;
        Ok(listing.objects.into_iter().map(|entry| (entry.path.name().to_owned(), entry.path.to_string())).collect())
    }
}

fn bad(error: &dyn std::fmt::Display) -> DataflowError {
    DataflowError::new("staged output", ErrorKind::State, error)
}

fn failed(error: &StoreError) -> DataflowError {
    let kind = match error {
        StoreError::Denied { .. } => ErrorKind::Denied,
        error if error.is_transient() => ErrorKind::Transient,
        _ => ErrorKind::State,
    };
    DataflowError::new("staged output", kind, error)
}
