//! [io] Where files are: a local path, or a prefix in an object store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use regex::Regex;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use tokio::runtime::Handle;

use super::split::{FileSplit, Version};
use crate::environment::Environment;

/// Deepest nesting of folders that is read.
const MAX_DEPTH: usize = 32;

/// What is looked for.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    /// Only files whose path, as the user knows it or below the table's, matches.
    pub(crate) pattern: Option<Regex>,
    /// A listing beyond so many files is refused rather than kept in memory.
    pub(crate) most: usize,
}

impl Listing {
    fn wants(&self, base: &str, file: &str) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(file) || pattern.is_match(&shown(base, file)))
    }
}

/// Files by their path.
type Files = BTreeMap<String, Version>;

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

    /// Files below this place by their path relative to it; the empty path when the place is itself a file. Hidden ones
    /// and those in progress are left out. Blocks.
    pub(crate) fn list(&self, listing: &Listing) -> Result<Files> {
        match self {
            Self::Local(path) => list_local(path, listing),
            Self::Remote(remote) => remote.list(listing),
        }
    }

    /// Sees whether a local file is still what was found; of an object, each answer of the store tells. `there`: it has to
    /// be there.
    pub(crate) fn verify(&self, split: &FileSplit, there: bool) -> Result<()> {
        let Self::Local(base) = self else { return Ok(()) };
        let path = if split.file.is_empty() { base.clone() } else { base.join(&split.file) };
        match path.metadata() {
            Ok(metadata) => split.verify(&Version::of_file(&metadata), &self.show(&split.file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !there => Ok(()),
            Err(error) => Err(local_error("opening", &path, &error)),
        }
    }

    /// The name of a file for messages.
    pub(crate) fn show(&self, file: &str) -> String {
        match self {
            Self::Local(path) => shown(&path.display().to_string(), file),
            Self::Remote(remote) => shown(&remote.shown, file),
        }
    }
}

fn shown(base: &str, file: &str) -> String {
    if file.is_empty() { base.to_owned() } else { format!("{}/{file}", base.trim_end_matches('/')) }
}

impl Remote {
    /// The object of a relative path.
    pub(crate) fn object(&self, file: &str) -> ObjectPath {
        // As it was listed: signs that the client would rather write otherwise are part of the name.
        let named = ObjectPath::parse(format!("{}/{file}", self.prefix));
        named.unwrap_or_else(|_| file.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), |path, part| path.join(part)))
    }

    /// Page by page; what is not wanted is not kept.
    fn list(&self, listing: &Listing) -> Result<Files> {
        let (remote, listing) = (self.clone(), listing.clone());
        wait(&self.runtime, async move { remote.list_pages(&listing).await })?
    }

    async fn list_pages(&self, listing: &Listing) -> Result<Files> {
        if !self.prefix.as_ref().is_empty()
            && let Ok(meta) = self.store.head(&self.prefix).await
        {
            return Ok(Files::from([(String::new(), Version::of(&meta))]));
        }
        let mut files = Files::new();
        let mut objects = self.store.list(Some(&self.prefix));
        while let Some(object) = objects.try_next().await.map_err(|error| self.error("listing", "", &error))? {
            let Some(parts) = object.location.prefix_match(&self.prefix) else { continue };
            let parts: Vec<_> = parts.map(|part| part.as_ref().to_owned()).collect();
            let file = parts.join("/");
            // Empty objects stand for folders in some tools, and have no rows in any format.
            if object.size > 0 && !parts.iter().any(|part| hidden(part)) && listing.wants(&self.shown, &file) {
                files.insert(file, Version::of(&object));
                if files.len() > listing.most {
                    return Err(too_many(&self.shown, listing));
                }
            }
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

fn list_local(path: &Path, listing: &Listing) -> Result<Files> {
    let metadata = path.metadata().map_err(|error| local_error("opening", path, &error))?;
    if metadata.is_file() {
        return Ok(Files::from([(String::new(), Version::of_file(&metadata))]));
    }
    let mut files = Files::new();
    let base = path.display().to_string();
    walk(path, (&base, ""), 0, listing, &mut files)?;
    Ok(files)
}

fn walk(folder: &Path, (base, relative): (&str, &str), depth: usize, listing: &Listing, files: &mut Files) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(too_many(&folder.display().to_string(), listing));
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
            walk(&entry.path(), (base, &relative), depth + 1, listing, files)?;
        } else if listing.wants(base, &relative) {
            files.insert(relative, Version::of_file(&metadata));
            if files.len() > listing.most {
                return Err(too_many(base, listing));
            }
        }
    }
    Ok(())
}

/// Names of work in progress and of side files, by the custom of the field.
fn hidden(name: &str) -> bool {
    name.starts_with(['.', '_']) || [".inprogress", ".tmp", ".filepart"].iter().any(|ending| name.ends_with(ending))
}

fn too_many(place: &str, listing: &Listing) -> DataflowError {
    let message = format!(
        "{place}: more than {} files, or folders nested deeper than {MAX_DEPTH}; read a part of it ('source.path.regex-pattern')",
        listing.most
    );
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
