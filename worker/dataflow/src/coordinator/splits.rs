//! [pure] Who reads which split: numbers new splits in the order of discovery and hands them out with the ticks.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::OperatorId;
use crate::snapshot::SplitState;
use crate::source::{SplitAssignment, SplitId};
use crate::time::Epoch;

#[derive(Debug, Default)]
struct SourceSplits {
    known: BTreeSet<SplitId>,
    next_ordinal: u32,
    /// Discovery has said for the last time what there is.
    complete: bool,
    /// Discovery has said something.
    looked: bool,
    /// The tick that told of its splits last, or that there are none.
    last_tick: Epoch,
}

#[derive(Debug)]
pub(super) struct Splits {
    sources: BTreeMap<OperatorId, SourceSplits>,
    waiting: Vec<SplitAssignment>,
    /// Sources that turned out to be empty.
    empty: Vec<OperatorId>,
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
        Self { sources: all, waiting: Vec::new(), empty: Vec::new() }
    }

    pub(super) fn found(&mut self, id: &OperatorId, found: Vec<SplitId>, more: bool) {
        let Some(source) = self.sources.get_mut(id) else { return };
        source.complete = !more;
        // A restored job has looked before.
        let late = std::mem::replace(&mut source.looked, true) || !source.known.is_empty();
        if !late && found.is_empty() {
            self.empty.push(id.clone());
        }
        for split in found {
            if source.known.insert(split.clone()) {
                let ordinal = source.next_ordinal;
                source.next_ordinal += 1;
                self.waiting.push(SplitAssignment { source: id.clone(), split, ordinal, late });
            }
        }
    }

    /// What the tick of `epoch` carries: all splits that were found since the last one.
    pub(super) fn take(&mut self, epoch: Epoch) -> Vec<SplitAssignment> {
        for assignment in &self.waiting {
            if let Some(source) = self.sources.get_mut(&assignment.source) {
                source.last_tick = epoch;
            }
        }
        std::mem::take(&mut self.waiting)
    }

    /// The same for sources that are empty when the job first looks.
    pub(super) fn take_empty(&mut self, epoch: Epoch) -> Vec<OperatorId> {
        for id in &self.empty {
            if let Some(source) = self.sources.get_mut(id) {
                source.last_tick = epoch;
            }
        }
        std::mem::take(&mut self.empty)
    }

    /// By source: the tick that told of its last splits, or that there are none. `None` while more may come.
    pub(super) fn all_handed_out(&self) -> Option<impl Iterator<Item = (&OperatorId, Epoch)>> {
        let told = self.waiting.is_empty() && self.empty.is_empty();
        let complete = told && self.sources.values().all(|source| source.complete);
        complete.then(|| self.sources.iter().map(|(id, source)| (id, source.last_tick)))
    }
}
