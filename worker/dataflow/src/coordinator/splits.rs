//! [pure] Who reads which split: numbers new splits in the order of discovery and hands them out with the ticks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::graph::OperatorId;
use crate::snapshot::SplitState;
use crate::source::{SplitAssignment, SplitId};
use crate::time::Epoch;

/// Splits that one tick carries; the rest go with the next ones.
pub(super) const SPLITS_PER_TICK: usize = 4_096;

#[derive(Debug, Default)]
struct SourceSplits {
    known: BTreeSet<SplitId>,
    next_ordinal: u32,
    /// Discovery has said for the last time what there is.
    complete: bool,
}

#[derive(Debug)]
pub(super) struct Splits {
    sources: BTreeMap<OperatorId, SourceSplits>,
    waiting: VecDeque<SplitAssignment>,
    /// The tick that carried splits last.
    last: Epoch,
}

impl Splits {
    pub(super) fn new(sources: impl Iterator<Item = OperatorId>, restored: &[SplitState]) -> Self {
        let mut all: BTreeMap<_, SourceSplits> = sources.map(|source| (source, SourceSplits::default())).collect();
        for state in restored {
            if let Some(source) = all.get_mut(&state.assignment.source) {
                source.known.insert(state.assignment.split.clone());
                source.next_ordinal = source.next_ordinal.max(state.assignment.ordinal.saturating_add(1));
            }
        }
        Self { sources: all, waiting: VecDeque::new(), last: 0 }
    }

    pub(super) fn found(&mut self, id: &OperatorId, found: Vec<SplitId>, more: bool) {
        let Some(source) = self.sources.get_mut(id) else { return };
        source.complete = !more;
        for split in found {
            if source.known.insert(split.clone()) {
                let ordinal = source.next_ordinal;
                source.next_ordinal += 1;
                self.waiting.push_back(SplitAssignment { source: id.clone(), split, ordinal });
            }
        }
    }

    /// What the tick of `epoch` carries.
    pub(super) fn take(&mut self, epoch: Epoch) -> Vec<SplitAssignment> {
        let taken: Vec<_> = self.waiting.drain(..self.waiting.len().min(SPLITS_PER_TICK)).collect();
        if !taken.is_empty() {
            self.last = epoch;
        }
        taken
    }

    /// Once no more splits can come: the epoch of the last tick that carried some. Only what a subtask says as of a
    /// later epoch is about all of its splits.
    pub(super) fn all_handed_out(&self) -> Option<Epoch> {
        (self.waiting.is_empty() && self.sources.values().all(|source| source.complete)).then_some(self.last)
    }
}
