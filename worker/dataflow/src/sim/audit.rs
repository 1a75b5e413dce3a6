//! [pure] What must hold of the checkpoint store at the end of a run: the log is dense, neither its generations nor
//! its epochs fall, and everything that its records name is there and whole.

use std::collections::BTreeSet;

use rheos_checkpoint::codec;
use rheos_checkpoint::manifest::Manifest;
use rheos_checkpoint::paths::ObjectPath;
use rheos_checkpoint::record::Record;
use rheos_checkpoint::state_file;
use rheos_checkpoint::store::Store;
use rheos_checkpoint::store::memory::MemoryStore;

use super::executor::Io;
use crate::error::{DataflowError, ErrorKind, Result};

/// Largest object that is read.
const LIMIT: u64 = 1 << 30;

fn broken(message: impl std::fmt::Display) -> DataflowError {
    DataflowError::new("checkpoint store", ErrorKind::Bug, message)
}

fn read(store: &std::sync::Arc<MemoryStore>, path: &str) -> Result<bytes::Bytes> {
    let (store, at) = (std::sync::Arc::clone(store), ObjectPath::parse(path).map_err(broken)?);
    let read = Io::new(async move { store.get(&at, LIMIT).await }).poll();
    match read {
        Some(Ok(object)) => Ok(object.bytes),
        Some(Err(error)) => Err(broken(error)),
        None => Err(broken("the memory store waits")),
    }
}

/// Checks the log and all that it names.
pub(super) fn log(store: &std::sync::Arc<MemoryStore>) -> Result<()> {
    let paths = store.paths();
    let mut last: Option<Record> = None;
    let mut checked = BTreeSet::new();
    for path in paths.iter().filter(|path| path.contains("/log/")) {
        let record: Record = codec::decode(path, &read(store, path)?).map_err(broken)?;
        if let Some(last) = &last
            && (record.seq != last.seq + 1 || record.generation < last.generation || record.epoch < last.epoch)
        {
            return Err(broken(format!("record {record:?} follows {last:?}")));
        }
        let root = path.split("/log/").next().unwrap_or_default();
        if let Some(manifest) = &record.manifest
            && checked.insert(manifest.path.clone())
        {
            let path = format!("{root}/{}", manifest.path);
            let manifest: Manifest = codec::decode(&path, &read(store, &path)?).map_err(broken)?;
            let files = manifest.operators.values().flat_map(|operator| operator.tables.values().flatten());
            for file in files.filter(|file| checked.insert(file.path.clone())) {
                let path = format!("{root}/{}", file.path);
                state_file::read_whole(&path, &read(store, &path)?).map_err(broken)?;
            }
        }
        last = Some(record);
    }
    last.map(|_| ()).ok_or_else(|| broken("the log is empty"))
}
