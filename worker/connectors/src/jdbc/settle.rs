//! [pure] What remains of a batch of changes: of each key the last one.
//!
//! One statement may touch a row once, so each key is there once; and it is there in the order of keys, so that statements
//! of several sessions over the same rows lock them in one order and do not wait for each other in a circle.

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::UInt8Type;
use arrow::row::{RowConverter, SortField};
use rheos_dataflow::changelog::{KIND_COLUMN, RowKind};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};

use super::statement::Shape;

/// Rows to write; the two have no key in common.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settled {
    /// To insert, or to take the place of those with their keys.
    pub(super) upserts: RecordBatch,
    /// Keys of rows that are gone.
    pub(super) deletes: RecordBatch,
}

/// Settles the rows of `batch`: the columns of `shape`, of a change-log the kind column behind them.
pub(super) fn settle(shape: &Shape, batch: &RecordBatch) -> Result<Settled> {
    let width = shape.columns.fields().len();
    let (all, key): (Vec<usize>, Vec<usize>) = ((0..width).collect(), shape.key_columns());
    let rows = batch.project(&all)?;
    let keys = rows.project(&key)?;
    if key.is_empty() {
        return Ok(Settled { upserts: rows, deletes: keys.slice(0, 0) });
    }
    let kinds = batch.schema_ref().fields().get(width).filter(|field| field.name() == KIND_COLUMN).map(|_| batch.column(width));
    let kinds = kinds.map(|kinds| kinds.as_primitive::<UInt8Type>());
    let fields = keys.schema_ref().fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    let encoded = RowConverter::new(fields)?.convert_columns(keys.columns())?;
    let count = u32::try_from(batch.num_rows()).map_err(|_| DataflowError::new("", ErrorKind::Data, "too many rows at once"))?;
    let mut order: Vec<u32> = (0..count).collect();
    order.sort_unstable_by(|a, b| encoded.row(*a as usize).cmp(&encoded.row(*b as usize)).then(a.cmp(b)));
    let (mut upserts, mut deletes) = (Vec::with_capacity(order.len()), Vec::new());
    for (place, row) in order.iter().enumerate() {
        let same = |next: &u32| encoded.row(*next as usize) == encoded.row(*row as usize);
        if order.get(place + 1).is_some_and(same) {
            continue;
        }
        // A row that is replaced goes by itself when what replaces it has another key, or was left out on the way.
        match kinds.and_then(|kinds| RowKind::from_u8(kinds.value(*row as usize))) {
            Some(RowKind::UpdateBefore | RowKind::Delete) => deletes.push(*row),
            _ => upserts.push(*row),
        }
    }
    Ok(Settled {
        upserts: take_record_batch(&rows, &UInt32Array::from(upserts))?,
        deletes: take_record_batch(&keys, &UInt32Array::from(deletes))?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray, UInt8Array};
    use proptest::prelude::*;

    use super::super::name::TableName;
    use super::*;
    use crate::testing::{schema, texts};

    fn shape(key: &[&str]) -> Shape {
        let key = key.iter().map(ToString::to_string).collect();
        Shape { table: TableName::parse("t").unwrap(), columns: schema(&[("v", "STRING"), ("k", "BIGINT")]), key }
    }

    fn batch(changes: &[(i64, &str, u8)]) -> RecordBatch {
        let column = |name, array: ArrayRef| (name, array, true);
        RecordBatch::try_from_iter_with_nullable([
            column("v", Arc::new(changes.iter().map(|(_, v, _)| Some(*v)).collect::<StringArray>())),
            column("k", Arc::new(changes.iter().map(|(k, _, _)| *k).collect::<Int64Array>())),
            column(KIND_COLUMN, Arc::new(changes.iter().map(|(_, _, kind)| *kind).collect::<UInt8Array>())),
        ])
        .unwrap()
    }

    #[test]
    fn the_last_change_of_a_key_wins() {
        let settled =
            settle(&shape(&["k"]), &batch(&[(2, "a", 0), (1, "b", 0), (2, "a", 1), (2, "c", 2), (1, "b", 3), (3, "d", 0)])).unwrap();
        assert_eq!(texts(&settled.upserts), ["c, 2", "d, 3"]);
        assert_eq!(texts(&settled.deletes), ["1"]);
    }

    #[test]
    fn without_a_key_every_row_stays_where_it_is() {
        let rows = batch(&[(2, "a", 0), (1, "b", 0), (2, "a", 0)]).project(&[0, 1]).unwrap();
        let settled = settle(&shape(&[]), &rows).unwrap();
        assert_eq!((texts(&settled.upserts), settled.deletes.num_rows()), (vec!["a, 2".into(), "b, 1".into(), "a, 2".into()], 0));
    }

    proptest! {
        /// Against a map that takes one change after the other.
        #[test]
        fn what_remains_does_what_all_changes_do(changes in proptest::collection::vec((0_i64..8, "[a-c]", 0_u8..4), 0..60)) {
            let rows: Vec<(i64, &str, u8)> = changes.iter().map(|(k, v, kind)| (*k, v.as_str(), *kind)).collect();
            let settled = settle(&shape(&["k"]), &batch(&rows)).unwrap();
            let mut expected: BTreeMap<i64, Option<&str>> = BTreeMap::new();
            for (k, v, kind) in &rows {
                expected.insert(*k, (*kind == 0 || *kind == 2).then_some(*v));
            }
            let upserts: Vec<String> = expected.iter().filter_map(|(k, v)| v.map(|v| format!("{v}, {k}"))).collect();
            let deletes: Vec<String> = expected.iter().filter(|(_, v)| v.is_none()).map(|(k, _)| k.to_string()).collect();
            prop_assert_eq!((texts(&settled.upserts), texts(&settled.deletes)), (upserts, deletes));
        }
    }
}
