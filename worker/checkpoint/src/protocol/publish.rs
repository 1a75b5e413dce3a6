//! [pure] Writing the next record, and earning the permit.

use serde_json::Value;

use super::{PutOutcome, Writer};
use crate::permit::CommitPermit;
use crate::record::{ManifestRef, RECORD_VERSION, Record, RecordKind};

/// The record of a checkpoint, behind the last one of this generation.
pub fn next_record(last: &Record, epoch: u64, manifest: ManifestRef, unconfirmed: Vec<Value>, token: String) -> Record {
    Record {
        version: RECORD_VERSION,
        seq: last.seq + 1,
        generation: last.generation,
        kind: RecordKind::Checkpoint,
        epoch,
        manifest: Some(manifest),
        committables: unconfirmed,
        restored: last.restored.clone(),
        token,
    }
}

/// After the record's create-if-absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateDecision {
    /// It is written: read the fence.
    Written,
    /// Read the record of that number, and decide with [`after_look`].
    Look,
}

/// What to do after the put.
pub fn after_create(outcome: PutOutcome) -> CreateDecision {
    match outcome {
        PutOutcome::Done => CreateDecision::Written,
        PutOutcome::Refused | PutOutcome::Unknown => CreateDecision::Look,
    }
}

/// What a look at the number tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookDecision {
    /// The reply was lost: it is written.
    Written,
    /// Nothing is there (yet): create it again, with the same token.
    CreateAgain,
    /// An earlier attempt of this writer, given up without an answer, is there: that checkpoint is the last record,
    /// and this one goes behind it.
    Earlier,
    /// Another writer came first.
    Beaten,
}

/// What to do after reading the record of that number.
pub fn after_look(mine: &Record, writer: &Writer, found: Option<&Record>) -> LookDecision {
    match found {
        None => LookDecision::CreateAgain,
        Some(found) if found.token == mine.token => LookDecision::Written,
        Some(found) if writer.made(&found.token) => LookDecision::Earlier,
        Some(_) => LookDecision::Beaten,
    }
}

/// The permit for a record that is written, if the fence, read after that, still is at its generation; otherwise the
/// generation that took over.
pub fn permit(record: &Record, fence_generation: u64) -> Result<CommitPermit, u64> {
    if fence_generation == record.generation {
        Ok(CommitPermit::new(record.generation, record.seq, record.epoch, record.line()))
    } else {
        Err(fence_generation)
    }
}
