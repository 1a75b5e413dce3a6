//! [pure] Key groups: the fixed units in which keyed state is cut, moved and restored.
//!
//! The group of a key never changes in a job's life: the hash below is part of the state format (version 1, golden
//! values in the tests). Worker of a group: `group * workers / groups`, so each worker owns one contiguous range.

use std::ops::Range;

/// A key group's number, below the job's `maxParallelism`.
pub type KeyGroup = u16;

/// The largest `maxParallelism` that a job may have.
pub const MAX_KEY_GROUPS: u32 = 32_768;

/// Where one subtask stands among its peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subtask {
    /// This worker's index, below `workers`.
    pub index: u32,
    /// Workers of the job (its parallelism).
    pub workers: u32,
    /// Key groups of the job (its `maxParallelism`).
    pub groups: u32,
}

impl Subtask {
    /// The key groups that this subtask owns.
    pub fn key_groups(&self) -> Range<u32> {
        // Smallest group g with g * workers / groups == index.
        let first = |index: u32| (u64::from(index) * u64::from(self.groups)).div_ceil(u64::from(self.workers)) as u32;
        first(self.index)..first(self.index + 1)
    }
}

/// The worker that owns `group`.
pub fn worker_of(group: KeyGroup, workers: u32, groups: u32) -> u32 {
    (u64::from(group) * u64::from(workers) / u64::from(groups)) as u32
}

/// The key group of a key with this stable hash.
pub fn group_of(hash: u64, groups: u32) -> KeyGroup {
    // The high half: the low bits choose the slot in hash tables, and must stay independent of the group.
    (((hash >> 32) * u64::from(groups)) >> 32) as KeyGroup
}
