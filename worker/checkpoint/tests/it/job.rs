//! [pure] A small job for the tests: manifests, state files, committables.

use std::collections::BTreeMap;
use std::sync::Arc;

use rheos_checkpoint::manifest::{MANIFEST_VERSION, Manifest, OperatorState, StateFile};
use rheos_checkpoint::paths::JobPaths;
use rheos_checkpoint::state_file::StateFileWriter;
use rheos_checkpoint::workflow::ProtocolResult;
use rheos_checkpoint::{Protocol, Store};
use serde_json::{Value, json};

/// The job's id in the store.
pub(crate) const UID: &str = "uid-1";

/// The protocol as one process has it.
pub(crate) fn process(store: &Arc<dyn Store>, nonce: u64) -> Protocol {
    Protocol::new(Arc::clone(store), JobPaths::new("default", "bids", UID).unwrap(), nonce)
}

/// A committable of the units of input `from..to`.
pub(crate) fn committable(generation: u64, from: u64, to: u64) -> Value {
    json!([generation, from, to])
}

/// A manifest with these live files of one table.
pub(crate) fn manifest(generation: u64, epoch: u64, files: Vec<StateFile>) -> Manifest {
    let tables = BTreeMap::from([("windows".to_string(), files)]);
    let operator = OperatorState { title: "TUMBLE".to_string(), state_schema: "v1".to_string(), facts: vec![BTreeMap::new()], tables };
    Manifest {
        version: MANIFEST_VERSION,
        job_uid: UID.to_string(),
        generation,
        epoch,
        wall_time: 1_000 * epoch as i64,
        parallelism: 1,
        max_parallelism: 8,
        operators: BTreeMap::from([("window-aggregate:bid:5f3a9c21".to_string(), operator)]),
        splits: vec![json!({"split": "0", "offset": epoch})],
    }
}

/// The files of a manifest's only table.
pub(crate) fn files(manifest: &Manifest) -> Vec<StateFile> {
    manifest.operators.values().flat_map(|operator| operator.tables["windows"].clone()).collect()
}

/// Content of the block of a key group at an epoch.
pub(crate) fn content(generation: u64, epoch: u64, group: u16) -> Vec<u8> {
    format!("state of group {group} at epoch {epoch} of generation {generation}").into_bytes()
}

/// A file with a block for each of two key groups.
pub(crate) async fn put_file(protocol: &Protocol, generation: u64, epoch: u64) -> ProtocolResult<StateFile> {
    let mut writer = StateFileWriter::new();
    for group in [0, 4] {
        writer.push(group, group + 3, 1, &content(generation, epoch, group)).unwrap();
    }
    protocol.put_state(generation, epoch, 0, 0, writer).await
}
