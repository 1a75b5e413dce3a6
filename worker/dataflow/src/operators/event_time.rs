//! [pure] The event-time column of a batch, checked once.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema, TimeUnit, TimestampMillisecondType};

use crate::error::{DataflowError, ErrorKind, Result};
use crate::time::Millis;
use crate::window::{EVENT_TIME_MAX, EVENT_TIME_MIN};

/// Event times of a batch, none null, all within [`EVENT_TIME_MIN`]`..=`[`EVENT_TIME_MAX`].
pub(super) struct EventTimes<'a> {
    pub(super) values: &'a [Millis],
    /// Earliest; behind `max` when there are no rows.
    pub(super) min: Millis,
    /// Latest.
    pub(super) max: Millis,
}

/// Checks that `column` is a timestamp in milliseconds.
///
/// # Errors
/// `Bug`: the planner gives no other.
pub(super) fn check_time_column(schema: &Schema, column: usize, place: &str) -> Result<()> {
    match schema.fields().get(column).map(|field| field.data_type()) {
        Some(DataType::Timestamp(TimeUnit::Millisecond, _)) => Ok(()),
        other => Err(DataflowError::new(place, ErrorKind::Bug, format!("column {column} is no event time: {other:?}"))),
    }
}

/// The event times in `column` of `batch`.
///
/// # Errors
/// `Data` when one is null or out of range; it names the column.
pub(super) fn event_times<'a>(batch: &'a RecordBatch, column: usize, place: &str) -> Result<EventTimes<'a>> {
    let name = || batch.schema_ref().field(column).name().clone();
    let array = batch
        .column(column)
        .as_primitive_opt::<TimestampMillisecondType>()
        .ok_or_else(|| DataflowError::new(place, ErrorKind::Bug, format!("column {} is no event time", name())))?;
    if array.null_count() > 0 {
        let message = format!(
            "the event-time column {} is null in {} of {} rows; filter such rows out (WHERE {} IS NOT NULL) or give them a time",
            name(),
            array.null_count(),
            array.len(),
            name()
        );
        return Err(DataflowError::new(place, ErrorKind::Data, message));
    }
    let values: &[Millis] = array.values();
    let (min, max) = values.iter().fold((Millis::MAX, Millis::MIN), |(min, max), time| (min.min(*time), max.max(*time)));
    if !values.is_empty() && (min < EVENT_TIME_MIN || max > EVENT_TIME_MAX) {
        let time = if min < EVENT_TIME_MIN { min } else { max };
        let message = format!("the event-time column {} holds {time} ms, beyond what a window can hold; is its unit right?", name());
        return Err(DataflowError::new(place, ErrorKind::Data, message));
    }
    Ok(EventTimes { values, min, max })
}
