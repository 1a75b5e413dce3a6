//! [pure] Where a generation starts from.

use serde_json::Value;

use crate::record::{ManifestRef, RECORD_VERSION, Record, RecordKind};

/// What a start record begins from: the log's end, or a savepoint.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Origin {
    /// Restore what came up to this epoch; 0: nothing.
    pub epoch: u64,
    /// The checkpoint.
    pub manifest: Option<ManifestRef>,
    /// To commit again before anything else.
    pub committables: Vec<Value>,
    /// The restore request that this job's state goes back to.
    pub restored: Option<String>,
}

/// What a generation resumes when nobody asks for anything else: the record at the log's end.
pub fn resume(end: Option<&Record>) -> Origin {
    end.map_or_else(Origin::default, |end| Origin {
        epoch: end.epoch,
        manifest: end.manifest.clone(),
        committables: end.committables.clone(),
        restored: end.restored.clone(),
    })
}

/// Whether a restore request still has to be served: the log's end does not stem from it. One that is for the job's
/// first start only (`first`) is not served when there is a checkpoint, wherever that comes from.
pub fn must_restore(request: &str, first: bool, end: Option<&Record>) -> bool {
    let served = end.and_then(|end| end.restored.as_deref()) == Some(request);
    let too_late = first && end.is_some_and(|end| end.manifest.is_some());
    !served && !too_late
}

/// Whether generation `mine` may still begin behind the log's end. A newer generation's record there means that it has
/// begun already: a start record behind it would be refused its permit, and stand in the newer one's way.
pub fn may_start(mine: u64, end: Option<&Record>) -> bool {
    end.is_none_or(|end| end.generation < mine)
}

/// The first record of a generation, behind the log's end.
pub fn start_record(end_seq: u64, generation: u64, origin: &Origin, token: String) -> Record {
    Record {
        version: RECORD_VERSION,
        seq: end_seq + 1,
        generation,
        kind: RecordKind::Start,
        epoch: origin.epoch,
        manifest: origin.manifest.clone(),
        committables: origin.committables.clone(),
        restored: origin.restored.clone(),
        token,
    }
}

/// What to do when another record was created first where the start record should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeatenDecision {
    /// It was a predecessor's last: read the log's end again, it is what to restore.
    ReadAgain,
    /// A newer generation has begun: end.
    Fenced,
}

/// Decides by the fence, read after losing.
pub fn after_beaten(mine: u64, fence_generation: u64) -> BeatenDecision {
    if fence_generation == mine { BeatenDecision::ReadAgain } else { BeatenDecision::Fenced }
}
