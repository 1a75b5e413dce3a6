//! [pure] The record: one entry of the dense log. Whoever creates number n decides what checkpoint n is.

use serde::{Deserialize, Serialize};

/// Version of the record's form.
pub const RECORD_VERSION: u32 = 1;

/// An entry of `log/<seq>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// [`RECORD_VERSION`].
    pub version: u32,
    /// Its own number; dense.
    pub seq: u64,
    /// The generation that wrote it.
    pub generation: u64,
    /// Whether it is the generation's first act, or a checkpoint.
    pub kind: RecordKind,
    /// The epoch of the checkpoint that a restore from here begins after; 0 when there is none yet.
    pub epoch: u64,
    /// The manifest; `None` only while the job has no checkpoint.
    pub manifest: Option<ManifestRef>,
    /// Every committable that no sink has confirmed (`dataflow::sink::Committable`).
    pub committables: Vec<serde_json::Value>,
    /// The restore request (a savepoint, asked for by the user) that this line of checkpoints goes back to: it has been
    /// served, and is not served again at the next start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<String>,
    /// Made by its writer: tells a lost reply from a lost race.
    pub token: String,
}

impl Record {
    /// Tells lines of checkpoints of one job apart: another one begins where a job is restored from a savepoint, and its
    /// epochs may be numbered as those of the line before.
    pub fn line(&self) -> u32 {
        self.restored.as_deref().map_or(0, |request| crc32fast::hash(request.as_bytes()))
    }
}

/// What a record marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordKind {
    /// A generation began, from the checkpoint of the record before.
    Start,
    /// A checkpoint is complete.
    Checkpoint,
}

/// Where a manifest is, and what its bytes must hash to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManifestRef {
    /// Relative to the job's root.
    pub path: String,
    /// CRC-32 of its bytes.
    pub crc: u32,
    /// Its size.
    pub bytes: u64,
}
