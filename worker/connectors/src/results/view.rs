//! [pure] A change-log folded to the rows that are there now.
//!
//! Rows are counted as a whole: `+I` and `+U` add one, `-U` and `-D` take one away. Sums do not depend on the order of
//! the changes, so the view is right whatever the order in which several workers wrote them, and with or without a key.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt8Type};
use arrow::row::{RowConverter, SortField};
use rheos_dataflow::changelog::RowKind;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};

/// Of a view's object: how often the row is there.
const COUNT: &str = "__count";

/// The rows of a result.
#[derive(Debug)]
pub(super) struct View {
    schema: SchemaRef,
    converter: RowConverter,
    rows: BTreeMap<Box<[u8]>, i64>,
}

impl View {
    /// Of a table with these columns (without the kind column); nothing is there yet.
    ///
    /// # Errors
    /// `User`: a type whose values cannot be compared.
    pub(super) fn new(schema: &SchemaRef) -> Result<Self> {
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let converter = RowConverter::new(fields).map_err(|error| DataflowError::new("results", ErrorKind::User, error))?;
        Ok(Self { schema: SchemaRef::clone(schema), converter, rows: BTreeMap::new() })
    }

    /// Applies changes: rows with the kind column, last.
    ///
    /// # Errors
    /// `State`: they have other columns.
    pub(super) fn apply(&mut self, changes: &RecordBatch) -> Result<()> {
        let (columns, last) = self.split(changes)?;
        let kinds = last.as_primitive_opt::<UInt8Type>().ok_or_else(other)?;
        let signs: Vec<i64> = kinds.values().iter().map(|kind| RowKind::from_u8(*kind).map_or(0, RowKind::sign)).collect();
        self.add(&columns, &signs)
    }

    /// Adds what [`View::batch`] gave.
    ///
    /// # Errors
    /// `State`: it has other columns.
    pub(super) fn load(&mut self, kept: &RecordBatch) -> Result<()> {
        let (columns, last) = self.split(kept)?;
        let counts = last.as_primitive_opt::<Int64Type>().ok_or_else(other)?;
        self.add(&columns, counts.values())
    }

    /// The columns.
    pub(super) fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// Different rows; while changes are applied, those that are owed count too.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The different rows, in an order that depends on nothing but them, with how often each is there, last.
    ///
    /// # Errors
    /// `Bug` only.
    pub(super) fn batch(&self) -> Result<RecordBatch> {
        let present = self.rows.iter().filter(|(_, count)| **count > 0);
        let parser = self.converter.parser();
        let columns = self.converter.convert_rows(present.clone().map(|(row, _)| parser.parse(row)))?;
        let counts: Int64Array = present.map(|(_, count)| *count).collect();
        let mut fields: Vec<Field> = self.schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        fields.push(Field::new(COUNT, DataType::Int64, false));
        let columns = columns.into_iter().chain([std::sync::Arc::new(counts) as ArrayRef]).collect();
        Ok(RecordBatch::try_new(std::sync::Arc::new(Schema::new(fields)), columns)?)
    }

    /// The rows, each as often as it is there.
    ///
    /// # Errors
    /// `Bug` only.
    pub(super) fn whole(&self) -> Result<RecordBatch> {
        let batch = self.batch()?;
        let (columns, counts) = self.split(&batch)?;
        let counts = counts.as_primitive::<Int64Type>();
        let indices: UInt32Array = (0_u32..)
            .zip(counts.values())
            .flat_map(|(row, count)| std::iter::repeat_n(row, usize::try_from(*count).unwrap_or(0)))
            .collect();
        let columns = RecordBatch::try_new(SchemaRef::clone(&self.schema), columns)?;
        Ok(take_record_batch(&columns, &indices)?)
    }

    fn split(&self, batch: &RecordBatch) -> Result<(Vec<ArrayRef>, ArrayRef)> {
        let mut columns = batch.columns().to_vec();
        let last = columns.pop().ok_or_else(other)?;
        let same = columns.len() == self.schema.fields().len()
            && columns.iter().zip(self.schema.fields()).all(|(column, field)| column.data_type() == field.data_type());
        if same { Ok((columns, last)) } else { Err(other()) }
    }

    fn add(&mut self, columns: &[ArrayRef], counts: &[i64]) -> Result<()> {
        let rows = self.converter.convert_columns(columns)?;
        for (row, count) in rows.iter().zip(counts) {
            let row: &[u8] = row.as_ref();
            match self.rows.get_mut(row) {
                Some(held) if *held + count == 0 => drop(self.rows.remove(row)),
                Some(held) => *held += count,
                None if *count != 0 => drop(self.rows.insert(row.into(), *count)),
                None => {}
            }
        }
        Ok(())
    }
}

fn other() -> DataflowError {
    let message = "kept results have other columns than the table: they are of an earlier form of the SQL";
    DataflowError::new("results", ErrorKind::State, message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{StringArray, UInt8Array};
    use proptest::prelude::*;
    use rheos_dataflow::changelog::KIND_COLUMN;

    use super::*;
    use crate::testing::{schema, texts};

    fn changes(changes: &[(u8, i64, Option<&str>)]) -> RecordBatch {
        let numbers: Int64Array = changes.iter().map(|change| Some(change.1)).collect();
        let names: StringArray = changes.iter().map(|change| change.2).collect();
        let kinds: UInt8Array = changes.iter().map(|change| Some(change.0)).collect();
        let fields = [
            Field::new("n", DataType::Int64, true),
            Field::new("t", DataType::Utf8, true),
            Field::new(KIND_COLUMN, DataType::UInt8, false),
        ];
        RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), vec![Arc::new(numbers), Arc::new(names), Arc::new(kinds)]).unwrap()
    }

    fn view() -> View {
        View::new(&schema(&[("n", "BIGINT"), ("t", "STRING")])).unwrap()
    }

    #[test]
    fn a_replaced_row_is_there_once_and_a_deleted_one_not_at_all() {
        let mut view = view();
        // The new version may come before the old one goes, and a change may come before what it takes away.
        view.apply(&changes(&[
            (0, 1, Some("a")),
            (2, 1, Some("b")),
            (1, 1, Some("a")),
            (0, 2, None),
            (3, 3, Some("c")),
            (0, 3, Some("c")),
        ]))
        .unwrap();
        assert_eq!(texts(&view.whole().unwrap()), ["1, b", "2, null"]);
        view.apply(&changes(&[(3, 2, None), (0, 1, Some("b"))])).unwrap();
        assert_eq!(texts(&view.whole().unwrap()), ["1, b", "1, b"], "a row may be there twice");
        assert_eq!(view.len(), 1);
    }

    #[test]
    fn other_columns_are_refused() {
        let mut other = View::new(&schema(&[("n", "STRING")])).unwrap();
        assert_eq!(other.apply(&changes(&[(0, 1, None)])).unwrap_err().kind, ErrorKind::State);
    }

    proptest! {
        /// Folding in two steps over a kept view is folding at once; and the counts are those of a plain list.
        #[test]
        fn a_kept_view_and_what_came_after_are_the_whole(log in prop::collection::vec((0_u8..4, 0_i64..4), 0..40), cut in 0_usize..40) {
            // Only what is there is taken away.
            let mut there: BTreeMap<i64, i64> = BTreeMap::new();
            let mut valid = Vec::new();
            for (kind, number) in log {
                let sign = RowKind::from_u8(kind).unwrap().sign();
                let count = there.entry(number).or_default();
                if *count + sign >= 0 {
                    *count += sign;
                    valid.push((kind, number, None));
                }
            }
            let cut = cut.min(valid.len());
            let mut whole = view();
            whole.apply(&changes(&valid)).unwrap();
            let mut first = view();
            first.apply(&changes(&valid[..cut])).unwrap();
            let mut second = view();
            second.load(&first.batch().unwrap()).unwrap();
            second.apply(&changes(&valid[cut..])).unwrap();
            prop_assert_eq!(texts(&second.whole().unwrap()), texts(&whole.whole().unwrap()));
            let plain: Vec<String> = there.iter().flat_map(|(n, count)| (0..*count).map(move |_| format!("{n}, null"))).collect();
            prop_assert_eq!(texts(&whole.whole().unwrap()), plain);
        }
    }
}
