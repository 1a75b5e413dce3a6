//! [pure] What must hold of the checkpoint store at the end of a run: its generations do not fall, each one's
//! records are dense and their epochs rise, and everything that its records name is there and whole.

use std::collections::BTreeSet;
use std::sync::Arc;

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

fn read(store: &Arc<MemoryStore>, path: &str) -> Result<bytes::Bytes> {
    let (store, at) = (Arc::clone(store), ObjectPath::parse(path).map_err(broken)?);
    let read = Io::new(async move { store.get(&at, LIMIT).await }).poll();
    match read {
        Some(Ok(object)) => Ok(object.bytes),
        Some(Err(error)) => Err(broken(error)),
        None => Err(broken("the memory store waits")),
    }
}

/// Checks the log and all that the last generation's records name.
///
/// Before these there may be gaps, and records that name what is gone: a zombie can write one at a number that retention
/// has freed. It gets no permit for it, and nobody looks at it.
pub(super) fn log(store: &Arc<MemoryStore>) -> Result<()> {
    let mut records: Vec<(String, Record)> = Vec::new();
    for path in store.paths().into_iter().filter(|path| path.contains("/log/")) {
        let record: Record = codec::decode(&path, &read(store, &path)?).map_err(broken)?;
        if let Some((_, last)) = records.last() {
            let next = record.generation == last.generation && record.seq == last.seq + 1 && record.epoch >= last.epoch;
            if !next && record.generation <= last.generation {
                return Err(broken(format!("record {record:?} follows {last:?}")));
            }
        }
        records.push((path, record));
    }
    let Some(newest) = records.last().map(|(_, record)| record.generation) else { return Err(broken("the log is empty")) };
    for (path, record) in records.iter().filter(|(_, record)| record.generation == newest) {
        whole(store, path, record).map_err(|e| broken(format!("record {} of generation {newest}: {}", record.seq, e.message)))?;
    }
    Ok(())
}

/// Everything that a record names is there, as it was written.
fn whole(store: &Arc<MemoryStore>, path: &str, record: &Record) -> Result<()> {
    let root = path.split("/log/").next().unwrap_or_default();
    let Some(manifest) = &record.manifest else { return Ok(()) };
    let path = format!("{root}/{}", manifest.path);
    let manifest: Manifest = codec::decode(&path, &read(store, &path)?).map_err(broken)?;
    let files = manifest.operators.values().flat_map(|operator| operator.tables.values().flatten());
    for path in files.map(|file| format!("{root}/{}", file.path)).collect::<BTreeSet<_>>() {
        state_file::read_whole(&path, &read(store, &path)?).map_err(broken)?;
    }
    Ok(())
}
