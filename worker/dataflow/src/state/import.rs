//! [pure] Loading exported batches into a table.

use std::ops::Range;

use arrow::array::{Array, AsArray, RecordBatch, UInt16Array};
use arrow::datatypes::UInt16Type;

use super::keys::Keys;
use super::table::KeyedTable;
use super::{NO_SLOT, Slot};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::hash::hash_keys;

/// The rows of an exported batch that belong to `groups`: batches are sorted by group.
pub(crate) fn owned(batch: &RecordBatch, groups: &Range<u32>) -> Result<RecordBatch> {
    let column: &UInt16Array = batch
        .columns()
        .first()
        .and_then(|column| column.as_primitive_opt::<UInt16Type>())
        .ok_or_else(|| bad("the first column is not the key group"))?;
    let groups_of_rows = column.values();
    if !groups_of_rows.is_sorted() {
        return Err(bad("rows are not sorted by key group"));
    }
    let from = groups_of_rows.partition_point(|group| u32::from(*group) < groups.start);
    let to = groups_of_rows.partition_point(|group| u32::from(*group) < groups.end);
    Ok(batch.slice(from, to.saturating_sub(from)))
}

pub(super) fn import(table: &mut KeyedTable, batches: &[RecordBatch]) -> Result<()> {
    let groups = table.subtask.key_groups();
    let batches = batches.iter().map(|batch| owned(batch, &groups)).collect::<Result<Vec<_>>>()?;
    table.reserve(batches.iter().map(RecordBatch::num_rows).max().unwrap_or(0));
    let mut remaining: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let key_columns = table.layout.keys.len();
    let value_columns = table.layout.persisted;
    let (mut hashes, mut slots) = (Vec::new(), Vec::new());
    for batch in &batches {
        check(batch, 2 + key_columns + value_columns)?;
        table.reserve(remaining.saturating_sub(table.len()).min(remaining));
        remaining -= batch.num_rows();
        let deleted = batch.column(1).as_boolean();
        let gone = deleted.true_count() > 0;
        if gone {
            // Removals and rows of one key may be in one batch, removals first within a group: both in turn.
            let removed = arrow::compute::filter_record_batch(batch, deleted)?;
            remove(table, &removed, key_columns)?;
        }
        let live = if gone { arrow::compute::filter_record_batch(batch, &arrow::compute::not(deleted)?)? } else { batch.clone() };
        let keys = Keys::new(&live.columns()[2..2 + key_columns], live.num_rows())?;
        hash_keys(&keys, live.num_rows(), &mut hashes);
        table.slots_of::<true>(&keys, &hashes, &mut slots)?;
        write(table, &slots, &live, 2 + key_columns)?;
    }
    table.settle();
    Ok(())
}

fn remove(table: &mut KeyedTable, batch: &RecordBatch, key_columns: usize) -> Result<()> {
    let (mut hashes, mut slots) = (Vec::new(), Vec::new());
    let keys = &batch.columns()[2..2 + key_columns];
    crate::hash::hash_columns(keys, batch.num_rows(), &mut hashes)?;
    table.find(keys, &hashes, &mut slots)?;
    slots.iter().filter(|slot| **slot != NO_SLOT).for_each(|slot| table.remove(*slot));
    Ok(())
}

/// Writes the persisted value columns of a batch, which begin at column `first`.
pub(crate) fn write(table: &mut KeyedTable, slots: &[Slot], batch: &RecordBatch, first: usize) -> Result<()> {
    for column in 0..table.layout.persisted {
        let array = batch.column(first + column);
        let expected = &table.layout.values[column].data_type;
        if array.data_type() != expected {
            let message = format!("value column {column} is {}, the plan has {expected}", array.data_type());
            return Err(bad(&message));
        }
        table.write_values(column, slots, array)?;
    }
    Ok(())
}

pub(crate) fn check(batch: &RecordBatch, columns: usize) -> Result<()> {
    if batch.num_columns() != columns {
        return Err(bad(&format!("a batch has {} columns, the plan has {columns}", batch.num_columns())));
    }
    if batch.column(1).as_boolean_opt().is_none() {
        return Err(bad("the second column is not the deletion mark"));
    }
    Ok(())
}

pub(crate) fn bad(message: &str) -> DataflowError {
    DataflowError::new("keyed state", ErrorKind::State, format!("{message}; the checkpoint is of another plan"))
}
