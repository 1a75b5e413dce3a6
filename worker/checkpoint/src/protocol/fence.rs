//! [pure] The fence: which generation is the current one.

use serde::{Deserialize, Serialize};

use super::PutOutcome;

/// Version of the fence's form.
pub const FENCE_VERSION: u32 = 1;

/// The content of the object `fence`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fence {
    /// [`FENCE_VERSION`].
    pub version: u32,
    /// The job's unique id.
    pub job_uid: String,
    /// The generation that may write; all lower ones are fenced.
    pub generation: u64,
    /// Of the put that wrote it.
    pub token: String,
    /// The order by which the coordinator that minted it works; see [`may_mint`].
    #[serde(default)]
    pub claim: u64,
}

/// Whether a coordinator that works by order number `claim` may mint over this fence. Orders rise with every change of
/// who coordinates: one that was replaced, and does not know it, must not fence its successor by its own restart.
pub fn may_mint(current: Option<&Fence>, claim: u64) -> bool {
    current.is_none_or(|fence| fence.claim <= claim)
}

/// What to put in place of the fence that was read (`None`: there is none), under the condition that it is unchanged.
pub fn next_fence(current: Option<&Fence>, job_uid: &str, claim: u64, token: impl FnOnce(u64) -> String) -> Fence {
    let generation = current.map_or(0, |fence| fence.generation) + 1;
    Fence { version: FENCE_VERSION, job_uid: job_uid.to_string(), generation, token: token(generation), claim }
}

/// After a put of a new fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MintDecision {
    /// The generation is ours.
    Minted,
    /// Read the fence, and decide with [`after_look`].
    Look,
}

/// What to do after the put.
pub fn after_put(outcome: PutOutcome) -> MintDecision {
    match outcome {
        PutOutcome::Done => MintDecision::Minted,
        PutOutcome::Refused | PutOutcome::Unknown => MintDecision::Look,
    }
}

/// What to do after the fence was read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookDecision {
    /// The reply was lost: the generation is ours.
    Minted,
    /// The put has not happened (yet): put the same again. It carries the same token, so a late first one is ours too.
    PutAgain,
    /// Another came first: mint the next one.
    Next,
}

/// What to do after the fence was read again; `before` is what the put would have replaced.
pub fn after_look(mine: &Fence, before: Option<&Fence>, found: Option<&Fence>) -> LookDecision {
    match found {
        Some(found) if found.token == mine.token => LookDecision::Minted,
        found if found == before => LookDecision::PutAgain,
        _ => LookDecision::Next,
    }
}
