//! [pure] The description of a savepoint: a checkpoint that stands alone.
//!
//! Its folder holds copies of all files, so that it outlives the job, its retention and its storage prefix. The
//! description is written last: a folder without it is no savepoint.

use serde::{Deserialize, Serialize};

use crate::manifest::{Manifest, StateFile};

/// Version of the description's form.
pub const SAVEPOINT_VERSION: u32 = 1;

/// The content of `savepoints/<id>/manifest`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Savepoint {
    /// [`SAVEPOINT_VERSION`].
    pub version: u32,
    /// Its id, the name of its folder.
    pub id: String,
    /// The checkpoint; paths are relative to the savepoint's folder.
    pub manifest: Manifest,
    /// Committables that were not confirmed at that checkpoint.
    pub committables: Vec<serde_json::Value>,
    /// Of the put that wrote it.
    pub token: String,
}

/// Every state file of a manifest, each path once, in order of mention.
pub fn files(manifest: &Manifest) -> Vec<&StateFile> {
    let mut seen = std::collections::BTreeSet::new();
    let tables = manifest.operators.values().flat_map(|operator| operator.tables.values());
    tables.flatten().filter(|file| seen.insert(&file.path)).collect()
}

/// The same manifest with the files under other names; `rename` is asked for each file once or more.
pub fn relocate(manifest: &Manifest, rename: &std::collections::BTreeMap<String, String>) -> Manifest {
    let mut moved = manifest.clone();
    for operator in moved.operators.values_mut() {
        for file in operator.tables.values_mut().flatten() {
            if let Some(path) = rename.get(&file.path) {
                file.path.clone_from(path);
            }
        }
    }
    moved
}
