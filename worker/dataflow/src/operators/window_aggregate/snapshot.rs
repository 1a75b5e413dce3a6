//! [pure] The state of a window aggregation in a checkpoint: the tables of all slices in one, with the slice's end as
//! the first key column.
//!
//! Rows of slices that expired stay in older files until these are compacted; the watermark among the facts says that
//! they are gone, and a restore skips them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{interleave_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, UInt16Type};

use super::{WindowAggregate, int64, runs};
use crate::error::{DataflowError, ErrorKind, Result};
use crate::snapshot::{OperatorExport, OperatorImport, SnapshotRequest, TableExport};
use crate::time::Millis;

/// A slice's end, and its rows of one table.
type SliceExport = (Millis, Box<dyn TableExport>);

/// Fact: the last watermark.
const WATERMARK: &str = "watermark";
/// Key column of the exported tables: the end of the slice.
const SLICE_COLUMN: &str = "__slice_end";
/// Its place, behind the key group and the deletion mark.
const SLICE_INDEX: usize = 2;
/// Rows in one exported batch, at most.
const MAX_EXPORT_ROWS: usize = 65_536;

pub(super) fn export(operator: &mut WindowAggregate, request: &SnapshotRequest) -> OperatorExport {
    let mut tables: BTreeMap<String, Vec<SliceExport>> = BTreeMap::new();
    for (end, slice) in &mut operator.panes.slices {
        for (name, table) in slice.export(&request.whole) {
            tables.entry(name).or_default().push((*end, table));
        }
    }
    OperatorExport {
        facts: BTreeMap::from([(WATERMARK.to_owned(), operator.watermark.into())]),
        tables: tables.into_iter().map(|(name, slices)| (name, Box::new(SliceTables(slices)) as Box<dyn TableExport>)).collect(),
    }
}

pub(super) fn import(operator: &mut WindowAggregate, import: OperatorImport) -> Result<()> {
    let bad = |message: &str| DataflowError::new(operator.title.clone(), ErrorKind::State, message);
    for facts in &import.facts {
        let watermark = facts.get(WATERMARK).and_then(serde_json::Value::as_i64);
        operator.watermark = operator.watermark.max(watermark.ok_or_else(|| bad("the snapshot names no watermark"))?);
    }
    let mut slices: BTreeMap<Millis, BTreeMap<String, Vec<RecordBatch>>> = BTreeMap::new();
    for (name, batches) in import.tables {
        for batch in batches {
            let batch = batch?;
            let is_slice = |field: &Field| field.name() == SLICE_COLUMN && field.data_type() == &DataType::Int64;
            if !batch.schema_ref().fields().get(SLICE_INDEX).is_some_and(|field| is_slice(field)) {
                return Err(bad("a table of the snapshot has no column for the slice"));
            }
            let mut sorted = sorted_by_slice(&batch, &operator.title)?;
            let ends = runs(int64(&sorted, SLICE_INDEX, &operator.title)?);
            sorted.remove_column(SLICE_INDEX);
            for (end, rows) in ends {
                if !operator.window.is_expired(end, operator.watermark) {
                    let rows = sorted.slice(rows.start, rows.len());
                    slices.entry(end).or_default().entry(name.clone()).or_default().push(rows);
                }
            }
        }
    }
    for (end, tables) in slices {
        let mut slice = operator.panes.empty()?;
        slice.import(tables.into_iter().map(|(name, batches)| (name, batches.into())).collect())?;
        if !slice.is_empty() {
            operator.panes.slices.insert(end, slice);
        }
    }
    Ok(())
}

/// The rows of `batch` by slice, within a slice in the order in which they were.
fn sorted_by_slice(batch: &RecordBatch, place: &str) -> Result<RecordBatch> {
    let ends = int64(batch, SLICE_INDEX, place)?;
    if ends.is_sorted() {
        return Ok(batch.clone());
    }
    let mut order: Vec<u32> = (0..ends.len() as u32).collect();
    order.sort_by_key(|row| ends[*row as usize]);
    Ok(take_record_batch(batch, &UInt32Array::from(order))?)
}

/// One table of all slices, encoded as one, ordered by key group.
struct SliceTables(Vec<(Millis, Box<dyn TableExport>)>);

impl TableExport for SliceTables {
    fn encode(self: Box<Self>) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        let mut order: Vec<(u16, u32, u32)> = Vec::new();
        let mut exports = 0;
        for (end, table) in self.0 {
            let encoded = table.encode()?;
            exports += usize::from(!encoded.is_empty());
            for batch in encoded {
                let groups = batch.column(0).as_primitive::<UInt16Type>().values();
                order.extend((0u32..).zip(groups).map(|(row, group)| (*group, batches.len() as u32, row)));
                batches.push(with_slice(&batch, end)?);
            }
        }
        if exports <= 1 {
            return Ok(batches);
        }
        order.sort_unstable();
        let all: Vec<&RecordBatch> = batches.iter().collect();
        let pieces = order.chunks(MAX_EXPORT_ROWS).map(|piece| {
            let rows: Vec<(usize, usize)> = piece.iter().map(|(_, batch, row)| (*batch as usize, *row as usize)).collect();
            Ok(interleave_record_batch(&all, &rows)?)
        });
        pieces.collect()
    }
}

fn with_slice(batch: &RecordBatch, end: Millis) -> Result<RecordBatch> {
    let mut fields = batch.schema_ref().fields().to_vec();
    let mut columns = batch.columns().to_vec();
    fields.insert(SLICE_INDEX, Arc::new(Field::new(SLICE_COLUMN, DataType::Int64, false)));
    columns.insert(SLICE_INDEX, Arc::new(Int64Array::from(vec![end; batch.num_rows()])));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
