//! [pure] Which row groups of a Parquet file may hold a row that the job uses, by the statistics in its footer.
//!
//! Conservative: without statistics, of another type than the table's, of a form whose order is not certain (numbers with
//! NaN, statistics of old writers), a row group stays.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Datum, Scalar};
use arrow::compute::kernels::cmp;
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::ParquetMetaData;
use rheos_dataflow::graph::{Comparator, Comparison, Pruning};

/// The row groups to read, in order.
pub(crate) fn kept(metadata: &ParquetMetaData, schema: &Schema, pruning: &Pruning) -> Vec<usize> {
    let groups = metadata.num_row_groups();
    let lists: Vec<Vec<BooleanArray>> =
        pruning.0.iter().map(|list| list.iter().filter_map(|comparison| possible(metadata, schema, comparison)).collect()).collect();
    // Where nothing is known, a null too, a row group may match.
    let may = |known: &BooleanArray, group: usize| known.is_null(group) || known.value(group);
    let wanted = |group: &usize| lists.is_empty() || lists.iter().any(|list| list.iter().all(|known| may(known, *group)));
    (0..groups).filter(wanted).collect()
}

/// By row group: whether some row may satisfy the comparison; null where that is not known.
fn possible(metadata: &ParquetMetaData, schema: &Schema, comparison: &Comparison) -> Option<BooleanArray> {
    let parquet = metadata.file_metadata().schema_descr();
    let converter = StatisticsConverter::try_new(&comparison.column, schema, parquet).ok()?;
    let column = converter.parquet_column_index()?;
    let old =
        metadata.row_groups().iter().any(|group| group.column(column).statistics().is_some_and(|known| known.is_min_max_deprecated()));
    let kind = comparison.value.data_type();
    if old || converter.arrow_field().data_type() != kind || !is_ordered(kind) {
        return None;
    }
    let least = converter.row_group_mins(metadata.row_groups()).ok()?;
    let most = converter.row_group_maxes(metadata.row_groups()).ok()?;
    compare(&least, &most, comparison).ok()
}

fn compare(least: &ArrayRef, most: &ArrayRef, comparison: &Comparison) -> Result<BooleanArray, ArrowError> {
    let value = Scalar::new(Arc::clone(&comparison.value));
    let value: &dyn Datum = &value;
    match comparison.comparator {
        Comparator::Less => cmp::lt(least, value),
        Comparator::LessOrEqual => cmp::lt_eq(least, value),
        Comparator::Greater => cmp::gt(most, value),
        Comparator::GreaterOrEqual => cmp::gt_eq(most, value),
        Comparator::Equal => arrow::compute::and(&cmp::lt_eq(least, value)?, &cmp::gt_eq(most, value)?),
    }
}

/// Whether all writers agree on the order of these values, and no value is left out of the statistics but null.
fn is_ordered(kind: &DataType) -> bool {
    kind.is_integer() || matches!(kind, DataType::Utf8 | DataType::Date32 | DataType::Timestamp(..) | DataType::Decimal128(..))
}
