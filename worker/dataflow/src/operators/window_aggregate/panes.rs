//! [pure] The accumulators of a window aggregation: of each slice, and of what was merged from slices.
//!
//! A tumbling window is one slice. A cumulating window goes on from the merge of the one before. A hopping window of
//! more than [`DIRECT_SLICES`] slices is put together from blocks of `2^level` slices on an aligned grid, which the
//! following windows use again: each slice is merged once a level, and a window merges at most two blocks a level
//! (a segment tree over time, as in Arasu and Widom, *Resource Sharing in Continuous Sliding-Window Aggregates*, 2004).
//!
//! Invariants: slices are the state; blocks and the running merge only repeat what slices hold, and rows that come for
//! a slice that was merged already go there too or the block is dropped.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type};

use crate::aggregate::{Accumulators, Input};
use crate::error::Result;
use crate::graph::{AggregateCall, Window};
use crate::hash::hash_columns;
use crate::key_group::Subtask;
use crate::state::Slot;
use crate::time::Millis;
use crate::window::{Grid, Span};

/// Slices of a hopping window that are merged one by one, each time.
pub(super) const DIRECT_SLICES: i64 = 8;

/// See the module's documentation.
pub(super) struct Panes {
    window: Window,
    grid: Grid,
    key_types: Vec<DataType>,
    calls: Vec<AggregateCall>,
    subtask: Subtask,
    /// Live slices by end.
    pub(super) slices: BTreeMap<Millis, Accumulators>,
    blocks: BTreeMap<Block, Accumulators>,
    merged: Accumulators,
    /// What `merged` holds: every live slice with an end in `start + 1..=end`.
    merged_span: Option<Span>,
    hashes: Vec<u64>,
    slots: Vec<Slot>,
}

/// Slices number `index << level` to `(index + 1) << level`, the last left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Block {
    level: u32,
    index: i64,
}

/// Where accumulators are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Slice(Millis),
    Block(Block),
    Merged,
}

/// One step on the way to a window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Merge {
    pub(super) from: Place,
    into: Place,
}

/// How the accumulators of a window come about.
pub(super) struct Plan {
    /// What is to be done first, last in the list first.
    pub(super) merges: Vec<Merge>,
    /// Then they are here.
    pub(super) result: Place,
}

/// Partials of one slice.
pub(super) struct Partials<'a> {
    pub(super) keys: &'a [ArrayRef],
    pub(super) rows: &'a [i64],
    pub(super) columns: &'a [ArrayRef],
}

impl Panes {
    pub(super) fn new(window: Window, key_types: Vec<DataType>, calls: Vec<AggregateCall>, subtask: Subtask) -> Result<Self> {
        Ok(Self {
            merged: Accumulators::new(&key_types, &calls, Input::Insert, subtask)?,
            window,
            grid: window.slices(),
            key_types,
            calls,
            subtask,
            slices: BTreeMap::new(),
            blocks: BTreeMap::new(),
            merged_span: None,
            hashes: Vec::new(),
            slots: Vec::new(),
        })
    }

    /// Number of key columns.
    pub(super) fn keys(&self) -> usize {
        self.key_types.len()
    }

    /// Accumulators without keys.
    pub(super) fn empty(&self) -> Result<Accumulators> {
        Accumulators::new(&self.key_types, &self.calls, Input::Insert, self.subtask)
    }

    pub(super) fn get(&self, place: Place) -> Option<&Accumulators> {
        match place {
            Place::Slice(end) => self.slices.get(&end),
            Place::Block(block) => self.blocks.get(&block),
            Place::Merged => Some(&self.merged),
        }
    }

    /// Takes in partials of a slice.
    pub(super) fn take_in(&mut self, slice: Millis, partials: &Partials<'_>) -> Result<()> {
        let accumulators = match self.slices.entry(slice) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Accumulators::new(&self.key_types, &self.calls, Input::Insert, self.subtask)?),
        };
        hash_columns(partials.keys, partials.rows.len(), &mut self.hashes)?;
        accumulators.slots(partials.keys, &self.hashes, &mut self.slots)?;
        accumulators.merge(&self.slots, partials.rows, partials.columns)?;
        // Behind the watermark, but a later window that holds the slice is still open.
        if self.merged_span.is_some_and(|span| span.start < slice && slice <= span.end) {
            self.merged.slots(partials.keys, &self.hashes, &mut self.slots)?;
            self.merged.merge(&self.slots, partials.rows, partials.columns)?;
        }
        if !self.blocks.is_empty() {
            let index = self.index(slice);
            (1..i64::BITS).for_each(|level| drop(self.blocks.remove(&Block { level, index: index >> level })));
        }
        Ok(())
    }

    /// What to merge for a window; the window has a live slice, and no live slice lies before it.
    pub(super) fn plan(&mut self, span: Span) -> Result<Plan> {
        let mut merges = Vec::new();
        let mut parts: Vec<Place> = Vec::new();
        let held = self.merged_span.filter(|held| held.start == span.start).map_or(span.start, |held| held.end);
        if matches!(self.window, Window::Hop { .. }) && (span.end - span.start) / self.grid.width > DIRECT_SLICES {
            let (mut first, end) = (self.index(span.start) + 1, self.index(span.end) + 1);
            while first < end {
                let level = first.trailing_zeros().min((end - first).ilog2());
                parts.extend(self.block(Block { level, index: first >> level }, &mut merges)?);
                first += 1 << level;
            }
        } else {
            parts.extend(self.slices.range(held + 1..=span.end).map(|(end, _)| Place::Slice(*end)));
        }
        if held == span.start
            && let [single] = parts[..]
        {
            merges.reverse();
            return Ok(Plan { merges, result: single });
        }
        if held == span.start {
            self.merged.clear();
        }
        self.merged_span = Some(span);
        merges.extend(parts.into_iter().map(|from| Merge { from, into: Place::Merged }));
        merges.reverse();
        Ok(Plan { merges, result: Place::Merged })
    }

    /// Where the slices of `block` are merged, once the steps added to `merges` are done; `None` when it has none.
    fn block(&mut self, block: Block, merges: &mut Vec<Merge>) -> Result<Option<Place>> {
        let Block { level, index } = block;
        let end = self.grid.offset + (index << level) * self.grid.width;
        if level == 0 {
            return Ok(self.slices.contains_key(&end).then_some(Place::Slice(end)));
        }
        if self.blocks.contains_key(&block) {
            return Ok(Some(Place::Block(block)));
        }
        if self.slices.range(end..end + (self.grid.width << level)).next().is_none() {
            return Ok(None);
        }
        let left = self.block(Block { level: level - 1, index: 2 * index }, merges)?;
        let right = self.block(Block { level: level - 1, index: 2 * index + 1 }, merges)?;
        let (Some(left), Some(right)) = (left, right) else { return Ok(left.or(right)) };
        let into = Place::Block(block);
        merges.extend([left, right].map(|from| Merge { from, into }));
        self.blocks.insert(block, self.empty()?);
        Ok(Some(into))
    }

    /// Merges the accumulators in `slots` of `merge.from`.
    pub(super) fn merge(&mut self, merge: Merge, slots: &[Slot]) -> Result<()> {
        let Some(from) = self.get(merge.from) else { return Ok(()) };
        let columns = from.contents(slots)?;
        let (keys, columns) = columns.split_at(self.key_types.len());
        let Some((rows, columns)) = columns.split_first() else { return Ok(()) };
        let rows = rows.as_primitive::<Int64Type>().values();
        hash_columns(keys, rows.len(), &mut self.hashes)?;
        let into = match merge.into {
            Place::Block(block) => self.blocks.get_mut(&block),
            Place::Merged => Some(&mut self.merged),
            Place::Slice(end) => self.slices.get_mut(&end),
        };
        let Some(into) = into else { return Ok(()) };
        into.slots(keys, &self.hashes, &mut self.slots)?;
        into.merge(&self.slots, rows, columns)
    }

    /// Forgets what no window holds that is open at `watermark`.
    pub(super) fn drop_expired(&mut self, watermark: Millis) {
        while let Some(entry) = self.slices.first_entry() {
            if !self.window.is_expired(*entry.key(), watermark) {
                break;
            }
            entry.remove();
        }
        let (window, grid) = (self.window, self.grid);
        self.blocks.retain(|block, _| !window.is_expired(grid.offset + (block.index << block.level) * grid.width, watermark));
        // Only cumulating windows go on from the last merge, and only within their longest window.
        let grows = |span: Span| matches!(window, Window::Cumulate { max, .. } if span.end - span.start < max);
        if self.merged_span.is_some_and(|span| !grows(span)) {
            self.merged.clear();
            self.merged_span = None;
        }
    }

    /// Number of the slice with this end.
    fn index(&self, slice: Millis) -> i64 {
        (slice - self.grid.offset) / self.grid.width
    }
}

#[cfg(test)]
impl Panes {
    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }
}
