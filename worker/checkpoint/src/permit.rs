//! [pure] The capability to make staged output visible.

use serde::{Deserialize, Serialize};

/// Proof that a record was written and that its generation was still current afterwards. Only the protocol makes
/// one; sinks take it as the first argument of a commit. It may cross processes of the same generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitPermit {
    generation: u64,
    record: u64,
    epoch: u64,
    #[serde(default)]
    line: u32,
}

impl CommitPermit {
    /// Only after a record was created and the fence was read again.
    pub(crate) fn new(generation: u64, record: u64, epoch: u64, line: u32) -> Self {
        Self { generation, record, epoch, line }
    }

    /// The generation that wrote the record.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The record's number in the log.
    pub fn record(&self) -> u64 {
        self.record
    }

    /// Committables of this epoch and earlier ones are final.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The line of checkpoints that the record belongs to: see [`crate::record::Record::line`].
    pub fn line(&self) -> u32 {
        self.line
    }
}
