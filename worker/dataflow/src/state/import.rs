//! [pure] Loading exported batches into a table.

use arrow::array::{AsArray, RecordBatch};

use super::keys::Keys;
use super::table::KeyedTable;
use super::{NO_SLOT, Slot};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::hash::hash_keys;
use crate::snapshot::TableImport;
use crate::snapshot::codec::of_groups;

/// Rows that are loaded together: their rows in the table stay in the processor's cache from column to column.
const IMPORT_ROWS: usize = 2_048;

pub(super) fn import(table: &mut KeyedTable, rows: TableImport) -> Result<()> {
    let groups = table.subtask.key_groups();
    let key_columns = table.layout.keys.len();
    table.reserve(rows.rows());
    let (mut hashes, mut slots) = (Vec::new(), Vec::new());
    for batch in rows {
        let batch = of_groups(&batch?, &groups)?;
        check(&batch, 2 + key_columns + table.layout.persisted)?;
        let deleted = batch.column(1).as_boolean();
        let gone = deleted.true_count() > 0;
        if gone {
            // Removals and rows of one key may be in one batch, removals first within a group: both in turn.
            let removed = arrow::compute::filter_record_batch(&batch, deleted)?;
            remove(table, &removed, key_columns)?;
        }
        let live = if gone { arrow::compute::filter_record_batch(&batch, &arrow::compute::not(deleted)?)? } else { batch };
        for start in (0..live.num_rows()).step_by(IMPORT_ROWS) {
            let live = live.slice(start, IMPORT_ROWS.min(live.num_rows() - start));
            let keys = Keys::new(&live.columns()[2..2 + key_columns], live.num_rows())?;
            hash_keys(&keys, live.num_rows(), &mut hashes);
            table.slots_of::<true>(&keys, &hashes, &mut slots)?;
            write(table, &slots, &live, 2 + key_columns)?;
        }
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
