//! [pure] The manifest: the complete, self-sufficient description of one checkpoint. Written once, named by records.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Version of the manifest's form; readers accept this one and the one before.
pub const MANIFEST_VERSION: u32 = 1;

/// Everything that a restore needs; lists every live file, so that no chain of manifests has to be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// [`MANIFEST_VERSION`].
    pub version: u32,
    /// The job that wrote it; a restore refuses another's unless told to (savepoints may be moved).
    pub job_uid: String,
    /// The generation that wrote it.
    pub generation: u64,
    /// The epoch it closes.
    pub epoch: u64,
    /// The tick's wall time, ms since 1970.
    pub wall_time: i64,
    /// Workers at that time.
    pub parallelism: u32,
    /// Key groups; fixed for the job's life.
    pub max_parallelism: u32,
    /// State by operator id.
    pub operators: BTreeMap<String, OperatorState>,
    /// Splits of all sources (`dataflow::snapshot::SplitState`).
    pub splits: Vec<serde_json::Value>,
}

/// One operator's state, over all subtasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperatorState {
    /// Title at the time of writing, for messages.
    pub title: String,
    /// Fingerprint of the layout; a plan with another one is refused.
    pub state_schema: String,
    /// Facts of each subtask.
    pub facts: Vec<BTreeMap<String, serde_json::Value>>,
    /// Files by table: those of one subtask oldest first, subtasks one after the other.
    pub tables: BTreeMap<String, Vec<StateFile>>,
}

/// A state file, or the blocks of one that are still live.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StateFile {
    /// Relative to the job's root, or to the savepoint's.
    pub path: String,
    /// Size of the whole file.
    pub bytes: u64,
    /// The live blocks, by rising key group.
    pub blocks: Vec<Block>,
}

/// A run of bytes that is one Arrow IPC stream with the rows of some key groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Block {
    /// First key group in it.
    pub first_group: u16,
    /// Last key group in it.
    pub last_group: u16,
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// CRC-32 of these bytes; checked before they are decoded.
    pub crc: u32,
    /// Rows in it.
    pub rows: u64,
}
