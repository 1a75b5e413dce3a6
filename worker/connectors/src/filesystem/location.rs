//! [io] Where files are: a local path, or a prefix in an object store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use tokio::runtime::Handle;

use crate::environment::Environment;

/// Most files in one folder; a listing beyond it is refused rather than kept in memory.
const MAX_FILES: usize = 1_000_000;
/// Deepest nesting of folders that is read.
const MAX_DEPTH: usize = 32;

/// A place for files.
#[derive(Clone)]
pub(crate) enum Location {
    /// A file or folder of this machine.
    Local(PathBuf),
    /// An object or prefix.
    Remote(Remote),
}

/// A prefix in an object store.
#[derive(Clone)]
pub(crate) struct Remote {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) prefix: ObjectPath,
    pub(crate) runtime: Handle,
    /// As the user wrote it, for messages.
    pub(crate) shown: String,
}

/// Whether a path's form is right: its problem in words if not. Touches nothing.
pub(crate) fn path_problem(path: &str) -> Option<String> {
    if path.is_empty() {
        return Some("a path, not nothing".to_owned());
    }
    match path.split_once("://") {
        None | Some(("file", _)) => None,
        Some(("s3" | "s3a", rest)) if !rest.is_empty() && !rest.starts_with('/') => None,
        Some(("s3" | "s3a", _)) => Some("the form s3://bucket/prefix".to_owned()),
        Some((scheme, _)) => Some(format!("a local path, file:///… or s3://…; '{scheme}://' is not supported")),
    }
}

impl Location {
    /// The place `path` in this environment.
    pub(crate) fn open(path: &str, environment: &Environment) -> Result<Self> {
        match path.split_once("://") {
            None => Ok(Self::Local(environment.base_dir.join(path))),
            Some(("file", rest)) => Ok(Self::Local(PathBuf::from(rest))),
            Some((_, rest)) => {
                let url = format!("s3://{rest}");
                let (store, prefix) = remote_store(&url, &environment.storage_options)?;
                Ok(Self::Remote(Remote { store, prefix, runtime: environment.runtime.clone(), shown: path.to_owned() }))
            }
        }
    }

    /// Files below this place by their path relative to it, sorted; the empty path when the place is itself a file.
    /// Hidden ones are left out. Blocks.
    pub(crate) fn list(&self) -> Result<Vec<String>> {
        match self {
            Self::Local(path) => list_local(path),
            Self::Remote(remote) => remote.list(),
        }
    }

    /// The name of a file for messages.
    pub(crate) fn show(&self, file: &str) -> String {
        let base = match self {
            Self::Local(path) => path.display().to_string(),
            Self::Remote(remote) => remote.shown.clone(),
        };
        if file.is_empty() { base } else { format!("{}/{file}", base.trim_end_matches('/')) }
    }
}

impl Remote {
    /// The object of a relative path.
    pub(crate) fn object(&self, file: &str) -> ObjectPath {
        file.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), |path, part| path.join(part))
    }

    fn list(&self) -> Result<Vec<String>> {
        let (store, prefix) = (Arc::clone(&self.store), self.prefix.clone());
        let listed = wait(&self.runtime, async move {
            if !prefix.as_ref().is_empty() && store.head(&prefix).await.is_ok() {
                return Ok(vec![prefix]);
            }
            let objects: Vec<_> = store.list(Some(&prefix)).try_collect().await?;
            Ok::<_, object_store::Error>(objects.into_iter().map(|object| object.location).collect())
        })?;
        let listed = listed.map_err(|error| self.error("listing", "", &error))?;
        let mut files = Vec::with_capacity(listed.len());
        for object in listed {
            let parts: Option<Vec<_>> = object.prefix_match(&self.prefix).map(|parts| parts.map(|part| part.as_ref().to_owned()).collect());
            let Some(parts) = parts else { continue };
            if !parts.iter().any(|part| hidden(part)) {
                files.push(parts.join("/"));
            }
        }
        files.sort();
        if files.len() > MAX_FILES {
            return Err(too_many(&self.shown));
        }
        Ok(files)
    }

    /// A failure of the store at `file`.
    pub(crate) fn error(&self, doing: &str, file: &str, error: &object_store::Error) -> DataflowError {
        let kind = match error {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => ErrorKind::Denied,
            object_store::Error::NotFound { .. } => ErrorKind::Data,
            _ => ErrorKind::Transient,
        };
        let place = Location::Remote(self.clone()).show(file);
        DataflowError::new("filesystem", kind, format!("{doing} {place}: {error}"))
    }
}

/// Runs `work` on the runtime and waits for it; from a thread that is not the runtime's.
pub(crate) fn wait<T: Send + 'static>(runtime: &Handle, work: impl Future<Output = T> + Send + 'static) -> Result<T> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    runtime.spawn(async move {
        let _ = sender.send(work.await);
    });
    receiver.recv().map_err(|_| DataflowError::new("filesystem", ErrorKind::Bug, "a task of the runtime ended early"))
}

fn remote_store(url: &str, options: &BTreeMap<String, String>) -> Result<(Arc<dyn ObjectStore>, ObjectPath)> {
    let bad = |error: &dyn std::fmt::Display| DataflowError::new("filesystem", ErrorKind::User, format!("{url}: {error}"));
    let (bucket, prefix) = url.trim_start_matches("s3://").split_once('/').unwrap_or((url.trim_start_matches("s3://"), ""));
    let prefix = ObjectPath::parse(prefix.trim_matches('/')).map_err(|error| bad(&error))?;
    let mut builder = object_store::aws::AmazonS3Builder::from_env().with_bucket_name(bucket);
    for (name, value) in options {
        let key = name.parse().map_err(|error: object_store::Error| bad(&error))?;
        builder = builder.with_config(key, value);
    }
    let store = builder.build().map_err(|error| bad(&error))?;
    Ok((Arc::new(store), prefix))
}

fn list_local(path: &Path) -> Result<Vec<String>> {
    let metadata = path.metadata().map_err(|error| local_error("opening", path, &error))?;
    if metadata.is_file() {
        return Ok(vec![String::new()]);
    }
    let mut files = Vec::new();
    walk(path, "", 0, &mut files)?;
    files.sort();
    Ok(files)
}

fn walk(folder: &Path, relative: &str, depth: usize, files: &mut Vec<String>) -> Result<()> {
    if depth > MAX_DEPTH || files.len() > MAX_FILES {
        return Err(too_many(&folder.display().to_string()));
    }
    let entries = folder.read_dir().map_err(|error| local_error("listing", folder, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| local_error("listing", folder, &error))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else {
            let message = format!("{}: the name is not UTF-8; rename the file", entry.path().display());
            return Err(DataflowError::new("filesystem", ErrorKind::Data, message));
        };
        if hidden(name) {
            continue;
        }
        let relative = if relative.is_empty() { name.to_owned() } else { format!("{relative}/{name}") };
        // Follows links, as the reading will.
        let metadata = match entry.path().metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(|error| local_error("opening", &entry.path(), &error))?,
        };
        if metadata.is_dir() {
            walk(&entry.path(), &relative, depth + 1, files)?;
        } else {
            files.push(relative);
        }
    }
    Ok(())
}

/// Names of work in progress and of side files, by the custom of the field.
fn hidden(name: &str) -> bool {
    name.starts_with('.') || name.starts_with('_')
}

fn too_many(place: &str) -> DataflowError {
    let message = format!("{place}: more than {MAX_FILES} files, or folders nested deeper than {MAX_DEPTH}; read a part of it");
    DataflowError::new("filesystem", ErrorKind::User, message)
}

/// A failure of the local file system at `path`.
pub(crate) fn local_error(doing: &str, path: &Path, error: &std::io::Error) -> DataflowError {
    let inner = crate::format::encode::write_error(error);
    let (kind, hint) = match error.kind() {
        std::io::ErrorKind::NotFound => (ErrorKind::User, "; relative paths start at the manifest's folder"),
        _ => (inner.kind, ""),
    };
    DataflowError::new("filesystem", kind, format!("{doing} {}: {}{hint}", path.display(), inner.message))
}
