//! [io] Where part files grow unseen, and how they are moved into place.
//!
//! A staged name ends up under one final name, chosen before the record is written. Moving is one atomic act of the
//! store (a rename, a copy), so readers see whole files; doing it again finds the final name and is content.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::location::{Location, Remote, local_error};
use crate::format::encode::{Durable, Part};

/// Folder of staged files, in the target folder; hidden from readers.
const LOCAL_STAGING: &str = ".staging";
/// Prefix of staged objects, under the target prefix; hidden from readers.
const REMOTE_STAGING: &str = "_staging";
/// A staged object is uploaded in pieces of this size, bytes (S3 takes none below 5 MiB but the last).
const UPLOAD_PIECE: usize = 8 * 1024 * 1024;
/// Pieces that wait to be uploaded; then the writer blocks.
const UPLOAD_QUEUE: usize = 2;
/// Moves of objects that run at once.
const MOVES: usize = 16;

/// A part file from its staging to its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StagedFile {
    /// Name among the staged files.
    pub(crate) staged: String,
    /// Path relative to the target folder.
    pub(crate) path: String,
}

/// The staging area of one target folder.
#[derive(Clone)]
pub(crate) enum Staging {
    Local { folder: PathBuf, runtime: Handle },
    Remote(Remote),
}

impl Staging {
    pub(crate) fn new(location: Location, runtime: Handle) -> Self {
        match location {
            Location::Local(folder) => Self::Local { folder, runtime },
            Location::Remote(remote) => Self::Remote(remote),
        }
    }

    /// Makes the folders. Blocks shortly.
    pub(crate) fn prepare(&self) -> Result<()> {
        let Self::Local { folder, .. } = self else { return Ok(()) };
        let staging = folder.join(LOCAL_STAGING);
        std::fs::create_dir_all(&staging).map_err(|error| local_error("creating", &staging, &error))
    }

    /// A new part file under a name that no other has.
    pub(crate) fn create(&self, name: &str) -> Result<Box<dyn Part>> {
        match self {
            Self::Local { folder, runtime } => {
                let path = folder.join(LOCAL_STAGING).join(name);
                let file = OpenOptions::new().write(true).create_new(true).open(&path);
                let file = file.map_err(|error| local_error("creating", &path, &error))?;
                Ok(Box::new(LocalPart { file, path, runtime: runtime.clone() }))
            }
            Self::Remote(remote) => {
                let object = format!("{REMOTE_STAGING}/{name}");
                Ok(Box::new(RemotePart { remote: remote.clone(), object, buffer: Vec::new(), upload: None }))
            }
        }
    }

    /// Moves files into place; those that are there already are done.
    pub(crate) fn publish(&self, files: Vec<StagedFile>) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> {
        match self.clone() {
            Self::Local { folder, runtime } => Box::pin(async move {
                let task = runtime.spawn_blocking(move || publish_local(&folder, &files));
                task.await.map_err(|error| DataflowError::new("filesystem", ErrorKind::Bug, error))?
            }),
            Self::Remote(remote) => Box::pin(async move {
                let moves = files.into_iter().map(|file| {
                    let remote = remote.clone();
                    async move { publish_remote(&remote, &file).await }
                });
                futures::stream::iter(moves).buffer_unordered(MOVES).try_collect::<()>().await
            }),
        }
    }

    /// A small file in its place, whole or not at all; one that is there is replaced. `path` is relative to the target folder.
    pub(crate) async fn put(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        match self.clone() {
            Self::Local { folder, runtime } => {
                let (path, aside) = (folder.join(path), folder.join(LOCAL_STAGING).join(format!("{}.tmp", path.replace('/', "%"))));
                let task =
                    runtime.spawn_blocking(move || put_local(&path, &aside, &bytes).map_err(|error| local_error("writing", &path, &error)));
                task.await.map_err(|error| DataflowError::new("filesystem", ErrorKind::Bug, error))?
            }
            Self::Remote(remote) => {
                let put = remote.store.put(&remote.object(path), PutPayload::from(bytes)).await;
                put.map(|_| ()).map_err(|error| remote.error("writing", path, &error))
            }
        }
    }

    /// The same among the staged files.
    pub(crate) async fn put_staged(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        self.put(&self.staged(name), bytes).await
    }

    /// A small staged file; none when it is not there.
    pub(crate) async fn read_staged(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.staged(name);
        match self {
            Self::Local { folder, .. } => match std::fs::read(folder.join(&path)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(local_error("reading", &folder.join(&path), &error)),
            },
            Self::Remote(remote) => match remote.store.get(&remote.object(&path)).await {
                Ok(found) => found.bytes().await.map(|bytes| Some(bytes.to_vec())).map_err(|error| remote.error("reading", &path, &error)),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(remote.error("reading", &path, &error)),
            },
        }
    }

    /// Removes a staged file; one that is not there is fine.
    pub(crate) async fn remove_staged(&self, name: &str) -> Result<()> {
        let path = self.staged(name);
        match self {
            Self::Local { folder, .. } => match std::fs::remove_file(folder.join(&path)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(local_error("removing", &folder.join(&path), &error)),
                _ => Ok(()),
            },
            Self::Remote(remote) => match remote.store.delete(&remote.object(&path)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(remote.error("removing", &path, &error)),
            },
        }
    }

    /// Names of the staged files that begin so.
    pub(crate) async fn staged_names(&self, prefix: &str) -> Result<Vec<String>> {
        let names: Vec<String> = match self {
            Self::Local { folder, .. } => {
                let staging = folder.join(LOCAL_STAGING);
                let entries = staging.read_dir().and_then(|entries| entries.collect::<std::io::Result<Vec<_>>>());
                let entries = entries.map_err(|error| local_error("listing", &staging, &error))?;
                entries.iter().filter_map(|entry| entry.file_name().to_str().map(str::to_owned)).collect()
            }
            Self::Remote(remote) => {
                let listed: Vec<_> = remote
                    .store
                    .list(Some(&remote.object(REMOTE_STAGING)))
                    .try_collect()
                    .await
                    .map_err(|error| remote.error("listing", REMOTE_STAGING, &error))?;
                listed.iter().filter_map(|object| object.location.filename().map(str::to_owned)).collect()
            }
        };
        Ok(names.into_iter().filter(|name| name.starts_with(prefix)).collect())
    }

    /// The path of a staged file, relative to the target folder.
    fn staged(&self, name: &str) -> String {
        match self {
            Self::Local { .. } => format!("{LOCAL_STAGING}/{name}"),
            Self::Remote(_) => format!("{REMOTE_STAGING}/{name}"),
        }
    }

    /// Removes staged files that `garbage` picks by name. Failures are told in the log only: it is tried again.
    pub(crate) async fn sweep(&self, garbage: impl Fn(&str) -> bool + Send + Sync + 'static) {
        let swept = match self.clone() {
            Self::Local { folder, runtime } => {
                let task = runtime.spawn_blocking(move || sweep_local(&folder.join(LOCAL_STAGING), &garbage));
                task.await.unwrap_or_else(|error| Err(DataflowError::new("filesystem", ErrorKind::Bug, error)))
            }
            Self::Remote(remote) => sweep_remote(&remote, &garbage).await,
        };
        match swept {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "removed staged files of older generations"),
            Err(error) => tracing::warn!(%error, "staged files of older generations could not be removed"),
        }
    }
}

struct LocalPart {
    file: File,
    path: PathBuf,
    runtime: Handle,
}

impl Write for LocalPart {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // The caller's message names the table; the path belongs in it too.
        self.file.write(bytes).map_err(|error| std::io::Error::new(error.kind(), format!("writing {}: {error}", self.path.display())))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Part for LocalPart {
    fn finish(self: Box<Self>) -> Durable {
        let Self { file, path, runtime } = *self;
        // Begins now, not when somebody waits for it.
        let task = runtime.spawn_blocking(move || {
            file.sync_all().and_then(|()| sync_folder(path.parent())).map_err(|error| local_error("syncing", &path, &error))
        });
        Box::pin(async move { task.await.map_err(|error| DataflowError::new("filesystem", ErrorKind::Bug, error))? })
    }
}

/// Makes the names in a folder durable.
fn sync_folder(folder: Option<&Path>) -> std::io::Result<()> {
    match folder {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Written beside, then renamed, so that nobody sees a part of it.
fn put_local(path: &Path, aside: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file = File::create(aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(aside, path)?;
    sync_folder(path.parent())
}

fn publish_local(folder: &Path, files: &[StagedFile]) -> Result<()> {
    let mut folders = BTreeSet::new();
    for file in files {
        let (staged, place) = (folder.join(LOCAL_STAGING).join(&file.staged), folder.join(&file.path));
        if let Some(parent) = place.parent()
            && folders.insert(parent.to_owned())
        {
            std::fs::create_dir_all(parent).map_err(|error| local_error("creating", parent, &error))?;
            // A new folder's own name, too.
            folders.extend(parent.ancestors().take_while(|ancestor| *ancestor != folder).map(Path::to_owned));
        }
        match std::fs::rename(&staged, &place) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && place.exists() => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(lost(&staged.display(), &place.display())),
            Err(error) => return Err(local_error("moving into place", &place, &error)),
        }
    }
    folders.insert(folder.to_owned());
    for folder in &folders {
        sync_folder(Some(folder)).map_err(|error| local_error("syncing", folder, &error))?;
    }
    Ok(())
}

fn lost(staged: &dyn std::fmt::Display, place: &dyn std::fmt::Display) -> DataflowError {
    let message = format!(
        "output of a checkpoint is lost: neither the staged file {staged} nor {place} is there. \
         If it was taken away on purpose, put an empty file in its place; else restore an older checkpoint"
    );
    DataflowError::new("filesystem", ErrorKind::State, message)
}

fn sweep_local(staging: &Path, garbage: &dyn Fn(&str) -> bool) -> Result<usize> {
    let mut swept = 0;
    for entry in staging.read_dir().map_err(|error| local_error("listing", staging, &error))? {
        let entry = entry.map_err(|error| local_error("listing", staging, &error))?;
        if entry.file_name().to_str().is_some_and(garbage) {
            match std::fs::remove_file(entry.path()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(local_error("removing", &entry.path(), &error)),
                _ => swept += 1,
            }
        }
    }
    Ok(swept)
}

/// A multipart upload under way: where its pieces go, and what it comes to.
type Upload = (mpsc::Sender<Option<Bytes>>, JoinHandle<Result<()>>);

struct RemotePart {
    remote: Remote,
    object: String,
    buffer: Vec<u8>,
    /// Begun when the first piece is full; a small part is put at once.
    upload: Option<Upload>,
}

impl RemotePart {
    fn send(&mut self, piece: Option<Bytes>) -> std::io::Result<()> {
        let (sender, _) = self.upload.get_or_insert_with(|| {
            let (sender, pieces) = mpsc::channel(UPLOAD_QUEUE);
            (sender, self.remote.runtime.spawn(upload(self.remote.clone(), self.object.clone(), pieces)))
        });
        // A failed upload tells why when it is awaited.
        let gone = || std::io::Error::new(std::io::ErrorKind::BrokenPipe, format!("the upload of {} has failed", self.object));
        sender.blocking_send(piece).map_err(|_| gone())
    }
}

impl Write for RemotePart {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        while self.buffer.len() >= UPLOAD_PIECE {
            let rest = self.buffer.split_off(UPLOAD_PIECE);
            let piece = std::mem::replace(&mut self.buffer, rest);
            self.send(Some(piece.into()))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Part for RemotePart {
    fn finish(mut self: Box<Self>) -> Durable {
        let rest = Bytes::from(std::mem::take(&mut self.buffer));
        let task = match self.upload.take() {
            None => {
                let (remote, object) = (self.remote.clone(), self.object.clone());
                self.remote.runtime.spawn(async move {
                    let put = remote.store.put(&remote.object(&object), PutPayload::from(rest)).await;
                    put.map(|_| ()).map_err(|error| remote.error("writing", &object, &error))
                })
            }
            Some((sender, upload)) => self.remote.runtime.spawn(async move {
                let sent = sender.send(Some(rest)).await.is_ok() && sender.send(None).await.is_ok();
                drop(sender);
                let uploaded = upload.await.map_err(|error| DataflowError::new("filesystem", ErrorKind::Bug, error))?;
                uploaded.and(if sent { Ok(()) } else { Err(DataflowError::new("filesystem", ErrorKind::Bug, "an upload stopped early")) })
            }),
        };
        Box::pin(async move { task.await.map_err(|error| DataflowError::new("filesystem", ErrorKind::Bug, error))? })
    }
}

/// Uploads pieces until `None`; when the writer goes away before that, the upload is aborted.
async fn upload(remote: Remote, object: String, mut pieces: mpsc::Receiver<Option<Bytes>>) -> Result<()> {
    let failed = |error: object_store::Error| remote.error("writing", &object, &error);
    let mut upload = remote.store.put_multipart(&remote.object(&object)).await.map_err(failed)?;
    loop {
        match pieces.recv().await {
            Some(Some(piece)) if piece.is_empty() => {}
            Some(Some(piece)) => {
                if let Err(error) = upload.put_part(piece.into()).await {
                    let _ = upload.abort().await;
                    return Err(failed(error));
                }
            }
            Some(None) => return upload.complete().await.map(|_| ()).map_err(failed),
            None => return upload.abort().await.map_err(failed),
        }
    }
}

async fn publish_remote(remote: &Remote, file: &StagedFile) -> Result<()> {
    let (staged, place) = (remote.object(&format!("{REMOTE_STAGING}/{}", file.staged)), remote.object(&file.path));
    match remote.store.copy(&staged, &place).await {
        Ok(()) => {}
        Err(object_store::Error::NotFound { .. }) => {
            return match remote.store.head(&place).await {
                Ok(_) => Ok(()),
                Err(object_store::Error::NotFound { .. }) => Err(lost(&staged, &place)),
                Err(error) => Err(remote.error("looking for", &file.path, &error)),
            };
        }
        Err(error) => return Err(remote.error("moving into place", &file.path, &error)),
    }
    match remote.store.delete(&staged).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(remote.error("removing", &file.staged, &error)),
    }
}

async fn sweep_remote(remote: &Remote, garbage: &(dyn Fn(&str) -> bool + Send + Sync)) -> Result<usize> {
    let prefix = remote.object(REMOTE_STAGING);
    let store = Arc::clone(&remote.store);
    let listed: Vec<_> = store.list(Some(&prefix)).try_collect().await.map_err(|error| remote.error("listing", REMOTE_STAGING, &error))?;
    let mut swept = 0;
    for object in listed {
        if object.location.filename().is_some_and(garbage) {
            store.delete(&object.location).await.map_err(|error| remote.error("removing", object.location.as_ref(), &error))?;
            swept += 1;
        }
    }
    Ok(swept)
}
