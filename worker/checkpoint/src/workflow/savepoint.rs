//! [io] Savepoints: taken as self-contained copies, restored by copying them into the new generation.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::{Protocol, ProtocolError, ProtocolResult, Publisher};
use crate::codec::{self, Document, ReadError, Reason};
use crate::paths::{self, ObjectPath};
use crate::protocol::start::Origin;
use crate::protocol::{PutOutcome, Writer};
use crate::savepoint::{SAVEPOINT_VERSION, Savepoint, files, relocate};
use crate::state_file::MAX_FILE_BYTES;
use crate::store::{PutMode, Store, StoreError};

/// Files copied side by side.
const CONCURRENCY: usize = 8;

/// A savepoint to start from.
#[derive(Debug, Clone)]
pub struct Restore {
    /// Identifies the request (its URI and nonce, say): a request is served once in a job's life.
    pub request: String,
    /// Where it is, when that is not the job's own store.
    pub store: Option<Arc<dyn Store>>,
    /// Its folder in that store.
    pub folder: ObjectPath,
    /// Only while the job has no checkpoint of its own.
    pub first: bool,
}

/// A savepoint that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavepointTaken {
    /// Its folder, from the root of the store: with the store's URI before it, this is what a restore names.
    pub folder: ObjectPath,
    /// The epoch that it closes.
    pub epoch: u64,
    /// Bytes of its state files.
    pub bytes: u64,
}

/// A folder of savepoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavepointFound {
    /// Its id.
    pub id: String,
    /// Whether its description is there; a folder without is the rest of an attempt that failed.
    pub whole: bool,
}

/// Deletes the savepoint in `folder` of a store, whoever took it: its description first, then its files. Does nothing
/// when it is gone, and goes on where an earlier call was cut short.
///
/// # Errors
/// `Unusable` or `Refused` when the folder holds anything but a savepoint; nothing is deleted then.
pub async fn dispose_at(store: &dyn Store, folder: &ObjectPath) -> ProtocolResult<()> {
    let description = folder.join(&paths::savepoint_manifest());
    match store.get(&description, Savepoint::LIMIT).await {
        Ok(object) => drop(codec::decode::<Savepoint>(&description, &object.bytes)?),
        Err(StoreError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let listing = store.list(folder).await?;
    let own = |path: &ObjectPath| *path == description || paths::is_savepoint_file(path.name());
    if let Some(foreign) = listing.objects.iter().find(|entry| !own(&entry.path)) {
        return Err(ProtocolError::Refused(format!("{folder} is no savepoint: it holds {:?}; nothing was deleted", foreign.path.name())));
    }
    if let Some(foreign) = listing.folders.first() {
        return Err(ProtocolError::Refused(format!("{folder} is no savepoint: it holds the folder {foreign:?}; nothing was deleted")));
    }
    store.delete(&description).await?;
    for entry in listing.objects.iter().filter(|entry| entry.path != description) {
        store.delete(&entry.path).await?;
    }
    Ok(())
}

impl Publisher {
    /// Copies the newest published checkpoint into `savepoints/<id>/`. Repeating it after a failure is fine.
    ///
    /// # Errors
    /// `Refused` before the first checkpoint, or when the id is taken by another savepoint.
    pub async fn savepoint(&mut self, id: &str) -> ProtocolResult<SavepointTaken> {
        let folder = self.protocol.job.savepoint(id)?;
        let Some(manifest) = self.manifest.clone() else {
            return Err(ProtocolError::Refused("there is no checkpoint to make a savepoint of yet".to_string()));
        };
        let mut renamed = BTreeMap::new();
        let mut copies = Vec::new();
        let mut bytes = 0;
        for (index, file) in files(&manifest).into_iter().enumerate() {
            let name = paths::savepoint_file(self.writer.generation(), manifest.epoch, index);
            copies.push((self.protocol.job.resolve(&file.path)?, folder.join(&name), file.path.clone()));
            renamed.insert(file.path.clone(), name.as_str().to_string());
            bytes += file.bytes;
        }
        let store = &self.protocol.store;
        copy_all(store.as_ref(), None, copies).await?;
        let savepoint = Savepoint {
            version: SAVEPOINT_VERSION,
            id: id.to_string(),
            manifest: relocate(&manifest, &renamed),
            committables: self.last.committables.clone(),
            token: self.writer.token(),
        };
        self.protocol.create_savepoint(&folder.join(&paths::savepoint_manifest()), &savepoint).await?;
        Ok(SavepointTaken { folder, epoch: manifest.epoch, bytes })
    }
}

impl Protocol {
    /// The savepoints of this job, and the rests of failed ones.
    pub async fn savepoints(&self) -> ProtocolResult<Vec<SavepointFound>> {
        let mut found = Vec::new();
        for id in self.store.list(&self.job.savepoints()).await?.folders {
            let listing = self.store.list(&self.job.savepoint(&id)?).await?;
            let whole = listing.objects.iter().any(|entry| entry.path.name() == paths::savepoint_manifest().as_str());
            found.push(SavepointFound { id, whole });
        }
        Ok(found)
    }

    /// Deletes a savepoint, its description first; also the rest of a failed one. Absent is fine.
    pub async fn dispose(&self, id: &str) -> ProtocolResult<()> {
        let folder = self.job.savepoint(id)?;
        self.store.delete(&folder.join(&paths::savepoint_manifest())).await?;
        for entry in self.store.list(&folder).await?.objects {
            self.store.delete(&entry.path).await?;
        }
        Ok(())
    }

    /// Reads the description of a savepoint.
    pub async fn read_savepoint(&self, restore: &Restore) -> ProtocolResult<Savepoint> {
        let source = restore.store.as_ref().unwrap_or(&self.store);
        let path = restore.folder.join(&paths::savepoint_manifest());
        match self.read(source.as_ref(), &path).await? {
            Some((savepoint, _)) => Ok(savepoint),
            None => Err(ReadError::new(path, Reason::Missing).into()),
        }
    }

    /// Copies a savepoint into the generation's folder, so that from here on it is a checkpoint like any other.
    pub(super) async fn import(&self, writer: &Writer, restore: &Restore) -> ProtocolResult<Origin> {
        let savepoint = self.read_savepoint(restore).await?;
        let generation = writer.generation();
        let mut renamed = BTreeMap::new();
        let mut copies = Vec::new();
        for (index, file) in files(&savepoint.manifest).into_iter().enumerate() {
            let name = paths::imported_file(generation, savepoint.manifest.epoch, index);
            let from = restore.folder.join(&ObjectPath::parse(&file.path)?);
            copies.push((from, self.job.root().join(&name), file.path.clone()));
            renamed.insert(file.path.clone(), name.as_str().to_string());
        }
        copy_all(self.store.as_ref(), restore.store.as_deref(), copies).await?;
        let mut manifest = relocate(&savepoint.manifest, &renamed);
        manifest.job_uid = self.job.uid().to_string();
        manifest.generation = generation;
        let reference = self.put_manifest(&mut writer.clone(), &manifest).await?;
        Ok(Origin {
            epoch: manifest.epoch,
            manifest: Some(reference),
            committables: savepoint.committables,
            restored: Some(restore.request.clone()),
        })
    }

    async fn create_savepoint(&self, path: &ObjectPath, savepoint: &Savepoint) -> ProtocolResult<()> {
        let bytes = codec::encode(path, savepoint)?;
        let mut outcome = PutOutcome::Unknown;
        for _ in 0..super::PUT_ATTEMPTS {
            outcome = self.put(path, bytes.clone(), PutMode::Create).await?;
            if outcome == PutOutcome::Done {
                return Ok(());
            }
            let found: Option<(Savepoint, _)> = self.read(self.store.as_ref(), path).await?;
            match found {
                // The reply was lost; or an earlier call of this generation wrote the very same.
                Some((found, _)) if found.manifest == savepoint.manifest => return Ok(()),
                Some(_) => {
                    let id = &savepoint.id;
                    return Err(ProtocolError::Refused(format!("there is another savepoint with the id {id:?}: choose another id")));
                }
                None => {}
            }
        }
        let (path, message) = (path.to_string(), format!("the last put was {outcome:?}"));
        Err(StoreError::Indeterminate { action: crate::store::Action::Write, path, message }.into())
    }
}

/// Copies files, from `source` when it is another store. Each has its source, its target, and the name for messages.
async fn copy_all(store: &dyn Store, source: Option<&dyn Store>, copies: Vec<(ObjectPath, ObjectPath, String)>) -> ProtocolResult<()> {
    let copy = |(from, to, name): (ObjectPath, ObjectPath, String)| async move {
        let copied = match source {
            None => store.copy(&from, &to).await,
            Some(source) => match source.get(&from, MAX_FILE_BYTES).await {
                Ok(object) => store.put(&to, object.bytes, PutMode::Once).await.map(|_| ()),
                Err(error) => Err(error),
            },
        };
        copied.map_err(|error| match error {
            StoreError::NotFound { .. } => ProtocolError::from(ReadError::new(name, Reason::Missing)),
            error => error.into(),
        })
    };
    stream::iter(copies.into_iter().map(copy)).buffer_unordered(CONCURRENCY).try_collect::<Vec<()>>().await?;
    Ok(())
}
