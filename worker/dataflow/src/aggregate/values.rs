//! [pure] Sets of values by group: what distinct aggregates and retractable extremes stand on.
//!
//! A set is a table of its own, keyed by (group's slot, value). Insert-only input keeps a mask of the filters that a
//! value has passed; change-logs keep a count for each filter. A value that is new under a filter (count above 0 for
//! the first time) feeds the accumulators of the distinct calls with that filter; so results never look at the set.
//!
//! Extremes of change-logs read an index of the values in order, which lives in memory only.
//!
//! In snapshots the group's slot is replaced by the group's key columns, and rows lie in the group's key group.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StructArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::filter;
use arrow::datatypes::{DataType, Int64Type};

use super::Input;
use super::inputs::{Inputs, double, ordered};
use super::plan::{Accumulator, AggregatePlan, SetPlan, Step};
use super::steps::{PRESENT, add, add_double, add_float, double_at, set_double};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::hash::{hash_columns, hash_keys};
use crate::key_group::Subtask;
use crate::snapshot::codec::of_groups;
use crate::snapshot::{TableExport, TableImport};
use crate::state::import::{bad, check, write};
use crate::state::keys::{Keys, Kind, Words};
use crate::state::rows::{Layout, ValueSpec};
use crate::state::{KeyedTable, NO_SLOT, Slot};

/// The values of one argument, by group.
pub(crate) struct ValueSet {
    plan: SetPlan,
    kind: Kind,
    /// Change-log: counts, not masks.
    counted: bool,
    table: KeyedTable,
    /// First word of the mask or the counts.
    state_at: usize,
    /// Word of the next value of the group (slot + 1); insert-only.
    next_at: usize,
    /// Word in the group's row: the first value of its chain (slot + 1), or how many values it has (change-log).
    head_at: usize,
    /// By filter bit: step, word in the group's row, for each accumulator to feed.
    feeds: Vec<Vec<(Step, usize)>>,
    /// Filter bits whose values are kept in order, and the order.
    ordered: Vec<usize>,
    order: BTreeSet<(u64, u64, Slot)>,
}

/// What a batch does to a set: the rows whose value counts under some filter.
struct Changes {
    groups: Vec<Slot>,
    values: ArrayRef,
    masks: Vec<u64>,
    signs: Option<Vec<i64>>,
}

impl ValueSet {
    pub(crate) fn new(plan: &AggregatePlan, number: usize, groups: &Layout, input: Input, subtask: Subtask) -> Result<Self> {
        let set = plan.sets[number].clone();
        let counted = input == Input::Changelog;
        let word = |name: String, persisted| ValueSpec { name, data_type: DataType::Int64, initial: [0, 0], persisted };
        let values = if counted {
            (0..set.filters.len()).map(|bit| word(format!("count {bit}"), true)).collect()
        } else {
            vec![word("filters".into(), true), word("next".into(), false)]
        };
        let layout = Layout::new(&[DataType::UInt32, set.argument_type.clone()], &values)?;
        let feed = |accumulator: &usize| (plan.accumulators[*accumulator].step, groups.values[*accumulator].at);
        let mut ordered: Vec<usize> = set.extremes.iter().map(|(bit, _)| *bit).collect();
        ordered.dedup();
        Ok(Self {
            kind: Kind::of(&set.argument_type)?,
            counted,
            state_at: layout.values_at,
            next_at: layout.values_at + 1,
            head_at: groups.values[plan.accumulators.len() + number].at,
            feeds: set.feeds.iter().map(|feeds| feeds.iter().map(feed).collect()).collect(),
            ordered,
            order: BTreeSet::new(),
            table: KeyedTable::with_layout(layout, subtask),
            plan: set,
        })
    }

    /// Takes in raw rows.
    pub(crate) fn update(&mut self, groups: &mut KeyedTable, slots: &[Slot], inputs: &mut Inputs<'_>, signs: Option<&[i64]>) -> Result<()> {
        let mut masks = vec![0u64; slots.len()];
        for (bit, passed) in self.plan.filters.iter().enumerate() {
            match inputs.mask(Some(self.plan.argument), *passed)? {
                None => masks.iter_mut().for_each(|mask| *mask |= 1 << bit),
                Some(passed) => {
                    masks.iter_mut().zip(passed.iter()).for_each(|(mask, passed)| *mask |= u64::from(passed) << bit);
                }
            }
        }
        let values = Arc::clone(inputs.column(self.plan.argument)?);
        if masks.iter().all(|mask| *mask != 0) {
            let signs = signs.map(<[i64]>::to_vec);
            return self.apply(groups, &Changes { groups: slots.to_vec(), values, masks, signs });
        }
        let wanted: arrow::array::BooleanArray = masks.iter().map(|mask| Some(*mask != 0)).collect();
        let kept = |i: &usize| masks[*i] != 0;
        let changes = Changes {
            groups: (0..slots.len()).filter(kept).map(|i| slots[i]).collect(),
            values: filter(&values, &wanted)?,
            signs: signs.map(|signs| (0..slots.len()).filter(kept).map(|i| signs[i]).collect()),
            masks: masks.iter().copied().filter(|mask| *mask != 0).collect(),
        };
        self.apply(groups, &changes)
    }

    /// Takes in a column of partials: lists of (value, mask).
    pub(crate) fn merge(&mut self, groups: &mut KeyedTable, slots: &[Slot], partials: &ArrayRef) -> Result<()> {
        let mismatch = || DataflowError::new("aggregate", ErrorKind::Bug, "partials of distinct values have another type");
        let lists = partials.as_list_opt::<i32>().ok_or_else(mismatch)?;
        let offsets = lists.value_offsets();
        let (first, last) = (offsets[0] as usize, offsets[slots.len()] as usize);
        let elements = lists.values().slice(first, last - first);
        let elements = elements.as_struct_opt().filter(|elements| elements.num_columns() == 2).ok_or_else(mismatch)?;
        let masks = elements.column(1).as_primitive_opt::<Int64Type>().ok_or_else(mismatch)?;
        let mut of_element = Vec::with_capacity(last - first);
        for (slot, bounds) in slots.iter().zip(offsets.windows(2)) {
            of_element.extend(std::iter::repeat_n(*slot, (bounds[1] - bounds[0]) as usize));
        }
        let changes = Changes {
            groups: of_element,
            values: Arc::clone(elements.column(0)),
            masks: masks.values().iter().map(|mask| *mask as u64).collect(),
            signs: None,
        };
        self.apply(groups, &changes)
    }

    fn apply(&mut self, groups: &mut KeyedTable, changes: &Changes) -> Result<()> {
        if changes.values.data_type() != &self.plan.argument_type {
            let message = format!("values are {}, the plan has {}", changes.values.data_type(), self.plan.argument_type);
            return Err(DataflowError::new("aggregate", ErrorKind::Bug, message));
        }
        let values = Words::new(&changes.values)?;
        let slots = self.find_or_insert(&changes.groups, values.clone())?;
        if self.counted { self.count(groups, changes, &values, &slots) } else { self.insert(groups, changes, &values, &slots) }
    }

    fn find_or_insert(&mut self, groups: &[Slot], values: Words) -> Result<Vec<Slot>> {
        let keys = Keys::of_words(vec![Words::One(groups.iter().map(|slot| u64::from(*slot)).collect()), values]);
        let (mut hashes, mut slots) = (Vec::new(), Vec::new());
        hash_keys(&keys, groups.len(), &mut hashes);
        self.table.slots_of::<false>(&keys, &hashes, &mut slots)?;
        Ok(slots)
    }

    fn insert(&mut self, groups: &mut KeyedTable, changes: &Changes, values: &Words, slots: &[Slot]) -> Result<()> {
        for (i, slot) in slots.iter().enumerate() {
            let old = self.table.word(*slot, self.state_at);
            let mut new = changes.masks[i] & !old;
            if new == 0 {
                continue;
            }
            self.table.mark(*slot);
            *self.table.word_mut(*slot, self.state_at) = old | new;
            if old == 0 {
                self.link(groups, changes.groups[i], *slot);
            }
            while new != 0 {
                self.feed(groups, changes.groups[i], new.trailing_zeros() as usize, values, i, 1)?;
                new &= new - 1;
            }
        }
        Ok(())
    }

    /// Puts a value at the head of its group's chain.
    fn link(&mut self, groups: &mut KeyedTable, group: Slot, slot: Slot) {
        let head = std::mem::replace(groups.word_mut(group, self.head_at), u64::from(slot) + 1);
        *self.table.word_mut(slot, self.next_at) = head;
    }

    fn count(&mut self, groups: &mut KeyedTable, changes: &Changes, values: &Words, slots: &[Slot]) -> Result<()> {
        let filters = self.plan.filters.len();
        let mut empty = Vec::new();
        for (i, slot) in slots.iter().enumerate() {
            let sign = changes.signs.as_ref().map_or(1, |signs| signs[i]);
            self.table.mark(*slot);
            let was_zero = self.is_zero(*slot);
            for bit in (0..filters).filter(|bit| changes.masks[i] >> bit & 1 == 1) {
                let word = self.table.word_mut(*slot, self.state_at + bit);
                let before = *word as i64 > 0;
                add(word, sign);
                let after = *word as i64 > 0;
                if before == after {
                    continue;
                }
                self.feed(groups, changes.groups[i], bit, values, i, if after { 1 } else { -1 })?;
                if self.ordered.contains(&bit) {
                    let entry = (order_group(changes.groups[i], bit), order_prefix(values, i, self.kind), *slot);
                    if after {
                        self.order.insert(entry)
                    } else {
                        self.order.remove(&entry)
                    };
                }
            }
            let is_zero = self.is_zero(*slot);
            if was_zero != is_zero {
                add(groups.word_mut(changes.groups[i], self.head_at), if is_zero { -1 } else { 1 });
            }
            if is_zero {
                empty.push(*slot);
            }
        }
        // Not before the end: later rows of the batch may refer to the same values.
        for slot in empty {
            if self.is_zero(slot) {
                self.table.remove(slot);
            }
        }
        Ok(())
    }

    fn is_zero(&self, slot: Slot) -> bool {
        (0..self.plan.filters.len()).all(|bit| self.table.word(slot, self.state_at + bit) == 0)
    }

    /// Tells the accumulators of a filter that value `i` has joined (+1) or left (-1) the group's distinct values.
    fn feed(&self, groups: &mut KeyedTable, group: Slot, bit: usize, values: &Words, i: usize, sign: i64) -> Result<()> {
        for (step, at) in &self.feeds[bit] {
            match (step, values) {
                (Step::Count, _) => add(groups.word_mut(group, *at), sign),
                (Step::Sum, Words::One(words)) => {
                    add(groups.word_mut(group, *at), (words[i] as i64).wrapping_mul(sign));
                }
                (Step::SumDouble, Words::Two(doubles)) => {
                    let (rows, base) = groups.row_mut(group);
                    add_double(&mut rows.words, base + at, doubles[i].wrapping_mul(i128::from(sign)));
                }
                (Step::SumFloat, Words::One(words)) => {
                    add_float(groups, group, *at, double(words[i], &self.plan.argument_type), sign < 0)?;
                }
                _ => return Err(DataflowError::new("aggregate", ErrorKind::Bug, "a set feeds a step it cannot")),
            }
        }
        Ok(())
    }

    /// Writes the extremes of these groups into their rows (change-logs).
    pub(crate) fn settle_extremes(&self, groups: &mut KeyedTable, touched: &[Slot], accumulators: &[Accumulator]) -> Result<()> {
        for (bit, number) in &self.plan.extremes {
            let Step::Extreme { max } = accumulators[*number].step else { continue };
            let at = groups.layout.values[*number].at;
            for group in touched {
                if let Some(slot) = self.extreme(*group, *bit, max) {
                    self.copy_extreme(groups, *group, at, slot)?;
                }
            }
        }
        Ok(())
    }

    /// The value of a group that is first or last in order.
    fn extreme(&self, group: Slot, bit: usize, max: bool) -> Option<Slot> {
        let group = order_group(group, bit);
        let mut range = self.order.range((group, 0, 0)..=(group, u64::MAX, Slot::MAX));
        let (_, prefix, slot) = *if max { range.next_back()? } else { range.next()? };
        if !matches!(self.kind, Kind::Double | Kind::Bytes) {
            return Some(slot);
        }
        // Values that begin alike stand in the order of their slots: compare them whole.
        let alike = self.order.range((group, prefix, 0)..=(group, prefix, Slot::MAX)).map(|(.., slot)| *slot);
        if max { alike.max_by(|a, b| self.compare(*a, *b)) } else { alike.min_by(|a, b| self.compare(*a, *b)) }
    }

    fn compare(&self, a: Slot, b: Slot) -> std::cmp::Ordering {
        let ((a, a_base), (b, b_base)) = (self.table.row(a), self.table.row(b));
        let (a_at, b_at) = (a_base + 2, b_base + 2);
        if self.kind == Kind::Bytes {
            a.bytes(a.words[a_at]).cmp(b.bytes(b.words[b_at]))
        } else {
            double_at(&a.words, a_at).cmp(&double_at(&b.words, b_at))
        }
    }

    fn copy_extreme(&self, groups: &mut KeyedTable, group: Slot, at: usize, slot: Slot) -> Result<()> {
        let (rows, base) = self.table.row(slot);
        let word = rows.words[base + 2];
        match self.kind {
            Kind::Bytes => {
                let bytes = rows.bytes(word);
                let mut value = Vec::with_capacity(bytes.len() + 1);
                value.push(PRESENT);
                value.extend_from_slice(bytes);
                groups.set_bytes(group, at, &value)?;
            }
            Kind::Double => {
                let value = double_at(&rows.words, base + 2);
                let (rows, base) = groups.row_mut(group);
                set_double(&mut rows.words, base + at, value);
            }
            kind => *groups.word_mut(group, at) = ordered(word, kind) as u64,
        }
        Ok(())
    }

    /// The values of these groups, as the partials' list column (insert-only).
    pub(crate) fn partials(&self, groups: &KeyedTable, slots: &[Slot]) -> Result<ArrayRef> {
        let mut members = Vec::new();
        let mut offsets = Vec::with_capacity(slots.len() + 1);
        offsets.push(0i32);
        for group in slots {
            self.chain(groups, *group, |slot| members.push(slot));
            let end = i32::try_from(members.len())
                .map_err(|_| DataflowError::new("aggregate", ErrorKind::Data, "2^31 distinct values in one batch"))?;
            offsets.push(end);
        }
        let block = self.table.gather(&members);
        let layout = &self.table.layout;
        let values = layout.array(&layout.keys[1], Some(1), &block)?;
        let masks = layout.array(&layout.values[0], None, &block)?;
        let field = self.plan.element_field();
        let DataType::Struct(fields) = field.data_type() else {
            return Err(DataflowError::new("aggregate", ErrorKind::Bug, "elements of sets are structs"));
        };
        let elements = StructArray::try_new(fields.clone(), vec![values, masks], None)?;
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        Ok(Arc::new(ListArray::try_new(field, offsets, Arc::new(elements), None)?))
    }

    fn chain(&self, groups: &KeyedTable, group: Slot, mut f: impl FnMut(Slot)) {
        let mut next = groups.word(group, self.head_at);
        while next != 0 {
            let slot = (next - 1) as Slot;
            next = self.table.word(slot, self.next_at);
            f(slot);
        }
    }

    /// Removes a group's values.
    pub(crate) fn remove(&mut self, groups: &KeyedTable, group: Slot) {
        let mut members = Vec::new();
        if !self.counted {
            self.chain(groups, group, |slot| members.push(slot));
        } else if groups.word(group, self.head_at) != 0 {
            // Only when the input took back what it never gave: the group is gone and values of it are left.
            members = self.table.live();
            members.retain(|slot| self.table.word(*slot, 1) == u64::from(group));
            let bits = 0..self.plan.filters.len();
            for bit in bits {
                let group = order_group(group, bit);
                let stale: Vec<_> = self.order.range((group, 0, 0)..=(group, u64::MAX, Slot::MAX)).copied().collect();
                stale.iter().for_each(|entry| {
                    self.order.remove(entry);
                });
            }
        }
        members.into_iter().for_each(|slot| self.table.remove(slot));
    }

    pub(crate) fn clear(&mut self) {
        self.table.clear();
        self.order.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.table.bytes() + self.order.len() * size_of::<(u64, u64, Slot)>()
    }

    /// Exports with the groups' keys in place of their slots.
    pub(crate) fn export(&mut self, groups: &mut KeyedTable, whole: &Range<u32>) -> Box<dyn TableExport> {
        let layout = Arc::clone(&groups.layout);
        Box::new(self.table.snapshot(whole).with_parent(&layout, groups.share()))
    }

    /// Loads exported batches; the groups are loaded already.
    pub(crate) fn import(&mut self, groups: &mut KeyedTable, rows: TableImport) -> Result<()> {
        let range = self.table.subtask.key_groups();
        let keys = groups.layout.keys.len();
        let persisted = self.table.layout.persisted;
        self.table.reserve(rows.rows());
        for batch in rows {
            let batch = of_groups(&batch?, &range)?;
            check(&batch, 3 + keys + persisted)?;
            let deleted = batch.column(1).as_boolean();
            if deleted.true_count() == 0 {
                self.load(groups, &batch, keys, false)?;
            } else {
                self.load(groups, &arrow::compute::filter_record_batch(&batch, deleted)?, keys, true)?;
                let live = arrow::compute::not(deleted)?;
                self.load(groups, &arrow::compute::filter_record_batch(&batch, &live)?, keys, false)?;
            }
        }
        self.rebuild(groups);
        self.table.settle();
        Ok(())
    }

    fn load(&mut self, groups: &KeyedTable, batch: &RecordBatch, keys: usize, deleted: bool) -> Result<()> {
        let (mut hashes, mut found) = (Vec::new(), Vec::new());
        let key_columns = &batch.columns()[2..2 + keys];
        hash_columns(key_columns, batch.num_rows(), &mut hashes)?;
        groups.find(key_columns, &hashes, &mut found)?;
        // A group that went later has no row any more; its values went with it.
        let batch = if found.contains(&NO_SLOT) {
            let there: arrow::array::BooleanArray = found.iter().map(|slot| Some(*slot != NO_SLOT)).collect();
            found.retain(|slot| *slot != NO_SLOT);
            arrow::compute::filter_record_batch(batch, &there)?
        } else {
            batch.clone()
        };
        let values = batch.column(2 + keys);
        if values.data_type() != &self.plan.argument_type {
            return Err(bad(&format!("values are {}, the plan has {}", values.data_type(), self.plan.argument_type)));
        }
        let slots = self.find_or_insert(&found, Words::new(values)?)?;
        if deleted {
            slots.into_iter().for_each(|slot| self.table.remove(slot));
            return Ok(());
        }
        write(&mut self.table, &slots, &batch, 3 + keys)
    }

    /// Chains, counts of values and the order, from the rows.
    fn rebuild(&mut self, groups: &mut KeyedTable) {
        let mut order = Vec::new();
        for slot in self.table.live() {
            let group = self.table.word(slot, 1) as Slot;
            if !self.counted {
                self.link(groups, group, slot);
                continue;
            }
            add(groups.word_mut(group, self.head_at), 1);
            for bit in &self.ordered {
                if self.table.word(slot, self.state_at + bit) as i64 > 0 {
                    let (rows, base) = self.table.row(slot);
                    let prefix = match self.kind {
                        Kind::Bytes => prefix_of_bytes(rows.bytes(rows.words[base + 2])),
                        Kind::Double => prefix_of_double(double_at(&rows.words, base + 2)),
                        kind => prefix_of_word(ordered(rows.words[base + 2], kind)),
                    };
                    order.push((order_group(group, *bit), prefix, slot));
                }
            }
        }
        self.order = order.into_iter().collect();
    }
}

/// A group and a filter as the leading part of the order.
fn order_group(group: Slot, bit: usize) -> u64 {
    u64::from(group) << 8 | bit as u64
}

fn order_prefix(values: &Words, i: usize, kind: Kind) -> u64 {
    match values {
        Words::One(words) => prefix_of_word(ordered(words[i], kind)),
        Words::Two(doubles) => prefix_of_double(doubles[i]),
        Words::Bytes(bytes) => prefix_of_bytes(bytes.get(i)),
    }
}

fn prefix_of_word(value: i64) -> u64 {
    value as u64 ^ 1 << 63
}

fn prefix_of_double(value: i128) -> u64 {
    prefix_of_word((value >> 64) as i64)
}

fn prefix_of_bytes(bytes: &[u8]) -> u64 {
    let mut prefix = [0; 8];
    let length = bytes.len().min(8);
    prefix[..length].copy_from_slice(&bytes[..length]);
    u64::from_be_bytes(prefix)
}
