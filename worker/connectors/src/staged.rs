//! [io] Output that waits for its commit, as objects in the job's checkpoint storage.
//!
//! For sinks whose system cannot keep output that nobody sees yet: what a committable stands for is put here before the
//! record that carries the committable, and deleted once its commit is known. Retention does not know this folder.
//! Objects that no record ever named are removed by the next generation ([`StagedStore::names`], [`StagedStore::delete`]).
//! What a sink keeps for longer has folders of its own beside it ([`StagedStore::beside`]).

use std::collections::VecDeque;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use rheos_checkpoint::Store;
use rheos_checkpoint::paths::{JobPaths, ObjectPath};
use rheos_checkpoint::store::{PutMode, StoreError};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::graph::OperatorId;
use rheos_dataflow::sink::SinkContext;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// The folder below the job's.
const FOLDER: &str = "staged";
/// A put is tried this often.
const ATTEMPTS: u32 = 5;
/// The largest object, bytes.
pub(crate) const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Objects of a writer on their way; then the writer takes no more rows.
const UPLOADS: usize = 4;

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

    /// Writes an object unless there is one of this name.
    pub(crate) async fn create(&self, name: &str, bytes: Bytes) -> Result<()> {
        let path = self.folder.join(&ObjectPath::parse(name).map_err(|error| bad(&error))?);
        match self.store.put(&path, bytes, PutMode::Create).await {
            Ok(_) | Err(StoreError::Precondition { .. }) => Ok(()),
            Err(error) => Err(failed(&error)),
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

/// A sink's id without what brokers or stores do not take in names.
pub(crate) fn plain(sink: &OperatorId) -> String {
    sink.0.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// Objects of one writer on their way.
pub(crate) struct Uploads {
    /// Begins the names of this writer's objects; new for each writer, so a name never means two contents.
    stem: String,
    extension: &'static str,
    /// What makes the stem new.
    pub(crate) nonce: u32,
    /// Before this, names are of generations whose records are settled.
    generation: u64,
    /// Begins the names of all objects of this sink.
    family: String,
    sweeps: bool,
    staged: StagedStore,
    runtime: Handle,
    running: VecDeque<JoinHandle<Result<String>>>,
    places: Vec<String>,
    number: u64,
}

impl Uploads {
    pub(crate) fn new(sink: &OperatorId, context: &SinkContext, extension: &'static str, staged: StagedStore, runtime: Handle) -> Self {
        let (plain, generation, subtask) = (plain(sink), context.generation, context.subtask.index);
        let nonce = RandomState::new().hash_one(generation) as u32;
        Self {
            stem: format!("{plain}.g{generation}.{subtask}-{nonce:08x}"),
            extension,
            nonce,
            generation,
            family: format!("{plain}.g"),
            sweeps: subtask == 0,
            staged,
            runtime,
            running: VecDeque::new(),
            places: Vec::new(),
            number: 0,
        }
    }

    /// Whether few enough objects are on their way.
    pub(crate) fn ready(&mut self) -> Result<bool> {
        while let Some(oldest) = self.running.pop_front_if(|oldest| oldest.is_finished()) {
            self.places.push(self.runtime.block_on(finished(oldest))?);
        }
        Ok(self.running.len() < UPLOADS)
    }

    /// Sends off an object.
    pub(crate) fn send(&mut self, bytes: Vec<u8>) {
        let (staged, name) = (self.staged.clone(), format!("{}-{}.{}", self.stem, self.number, self.extension));
        self.number += 1;
        self.running.push_back(self.runtime.spawn(async move { staged.put(&name, bytes.into()).await }));
    }

    /// The places of all objects since the last time, in order, once they are there.
    pub(crate) fn finish(&mut self) -> impl Future<Output = Result<Vec<String>>> + Send + 'static {
        let (mut places, running) = (std::mem::take(&mut self.places), std::mem::take(&mut self.running));
        let generation = self.generation;
        // The record that this generation was restored from is committed, and names nothing of older ones any more.
        let sweep = std::mem::take(&mut self.sweeps).then(|| (self.staged.clone(), self.family.clone()));
        async move {
            for upload in running {
                places.push(finished(upload).await?);
            }
            if let Some((staged, family)) = sweep {
                remove_older(&staged, &family, generation).await;
            }
            Ok(places)
        }
    }
}

async fn finished(upload: JoinHandle<Result<String>>) -> Result<String> {
    upload.await.map_err(|error| DataflowError::new("staged output", ErrorKind::Bug, error))?
}

/// Removes what generations before this one staged; what fails is tried by the next.
async fn remove_older(staged: &StagedStore, family: &str, generation: u64) {
    let names = match staged.names().await {
        Ok(names) => names,
        Err(error) => return tracing::warn!(%error, "staged output of earlier generations cannot be listed"),
    };
    for (name, place) in names {
        let of = name.strip_prefix(family).and_then(|rest| rest.split_once('.')).and_then(|(generation, _)| generation.parse::<u64>().ok());
        if of.is_some_and(|of| of < generation)
            && let Err(error) = staged.delete(&place).await
        {
            tracing::warn!(%error, place, "staged output of an earlier generation cannot be removed");
        }
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
