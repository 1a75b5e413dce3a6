//! [pure] The text of single values, as Flink prints them.

use std::fmt::Write as _;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMillisecondType};
use arrow::util::display::{ArrayFormatter, DurationFormat, FormatOptions};
use chrono::{DateTime, Timelike};
use rheos_dataflow::error::Result;

/// How values that arrow can print alone are printed.
const FORMAT: FormatOptions<'static> = FormatOptions::new()
    .with_null("null")
    .with_duration_format(DurationFormat::ISO8601)
    .with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.f"))
    .with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.fZ"));

/// Writes the values of one column.
pub(crate) struct ValueText<'a> {
    array: &'a dyn Array,
    form: Form<'a>,
}

enum Form<'a> {
    Text,
    TimestampMillis { zone: bool },
    Row(Vec<ValueText<'a>>),
    Other(ArrayFormatter<'a>),
}

impl<'a> ValueText<'a> {
    /// # Errors
    /// A type that has no text.
    pub(crate) fn new(array: &'a dyn Array) -> Result<Self> {
        let form = match array.data_type() {
            DataType::Utf8 => Form::Text,
            DataType::Timestamp(TimeUnit::Millisecond, zone) => Form::TimestampMillis { zone: zone.is_some() },
            DataType::Struct(_) => {
                Form::Row(array.as_struct().columns().iter().map(|child| Self::new(child.as_ref())).collect::<Result<_>>()?)
            }
            _ => Form::Other(ArrayFormatter::try_new(array, &FORMAT)?),
        };
        Ok(Self { array, form })
    }

    /// Appends the value of `row`.
    pub(crate) fn write(&self, row: usize, out: &mut String) {
        if self.array.is_null(row) {
            return out.push_str("null");
        }
        match &self.form {
            Form::Text => out.push_str(self.array.as_string::<i32>().value(row)),
            Form::TimestampMillis { zone } => {
                write_timestamp(self.array.as_primitive::<TimestampMillisecondType>().value(row), out);
                if *zone {
                    out.push('Z');
                }
            }
            Form::Row(fields) => {
                out.push_str("+I[");
                for (index, field) in fields.iter().enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    field.write(row, out);
                }
                out.push(']');
            }
            Form::Other(formatter) => {
                // Writing into a string does not fail; a value that cannot be shown says so itself.
                let _ = write!(out, "{}", formatter.value(row));
            }
        }
    }
}

/// ISO 8601 with as many digits as the value needs: `2013-01-01T10:00`, `…:05`, `…:05.250`.
fn write_timestamp(millis: i64, out: &mut String) {
    let Some(time) = DateTime::from_timestamp_millis(millis) else {
        let _ = write!(out, "<{millis} ms>");
        return;
    };
    let form = match (time.second(), time.timestamp_subsec_millis()) {
        (0, 0) => "%Y-%m-%dT%H:%M",
        (_, 0) => "%Y-%m-%dT%H:%M:%S",
        _ => "%Y-%m-%dT%H:%M:%S%.3f",
    };
    let _ = write!(out, "{}", time.format(form));
}
