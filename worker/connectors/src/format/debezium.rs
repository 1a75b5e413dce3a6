//! [pure] Debezium's change events: `{"before": …, "after": …, "op": …}`, a record of a database's change-log.
//!
//! | `op` | is read as |
//! |---|---|
//! | `c` (created), `r` (read by a snapshot) | `+I` of `after` |
//! | `u` (updated) | `-U` of `before`, `+U` of `after` |
//! | `d` (deleted) | `-D` of `before` |
//!
//! An update or deletion without `before` is malformed, as it could not be taken back anywhere: PostgreSQL sends it only
//! for tables with `REPLICA IDENTITY FULL`. What is written is in `encode`.
//!
//! Events are decoded as JSON of the wanted columns, many at once; rows are then picked from `before` and `after` by
//! column. The rows of an event stay together and in order.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray, UInt8Array};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use rheos_dataflow::changelog::{KIND_COLUMN, RowKind};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};

use super::json::{JsonDecoder, JsonOptions};
use super::{Decoded, Decoder, Malformed};
use crate::options::Options;

/// Where the event is in a message that carries its schema.
const PAYLOAD: &str = "payload";

/// The options of the format.
#[derive(Debug, Clone)]
pub(crate) struct DebeziumOptions {
    pub(crate) json: JsonOptions,
    /// Each event is the `payload` of an object that holds its `schema`, too.
    pub(crate) schema_include: bool,
}

impl DebeziumOptions {
    pub(super) fn parse(options: &mut Options<'_>) -> Self {
        let schema_include = options.boolean("debezium-json.schema-include", false);
        Self { json: JsonOptions::parse(options, "debezium-json"), schema_include }
    }
}

/// Which rows events stand for.
#[derive(Debug)]
pub(super) struct Changes {
    /// The wanted columns, the kind last.
    pub(super) rows: RecordBatch,
    /// By row, its event.
    pub(super) events: Vec<usize>,
    /// Events that cannot be read.
    pub(super) bad: u64,
    /// The first of them, and why.
    pub(super) first: Option<(usize, String)>,
}

/// The columns to decode of each event for the table's columns `wanted`, of which the last is the kind.
pub(super) fn event_schema(options: &DebeziumOptions, wanted: &Schema) -> SchemaRef {
    // A field that is missing is told by `changes`, which knows the event.
    let nullable = |field: &FieldRef| Arc::new(field.as_ref().clone().with_nullable(true));
    let columns: Fields = wanted.fields().iter().filter(|field| field.name() != KIND_COLUMN).map(nullable).collect();
    let image = |name| Field::new(name, DataType::Struct(columns.clone()), true);
    let event = vec![image("before"), image("after"), Field::new("op", DataType::Utf8, true)];
    if options.schema_include {
        return Arc::new(Schema::new(vec![Field::new(PAYLOAD, DataType::Struct(event.into()), true)]));
    }
    Arc::new(Schema::new(event))
}

/// The rows of some events.
///
/// # Errors
/// A bug: the columns are not those of [`event_schema`].
pub(super) fn changes(events: &RecordBatch, wanted: &SchemaRef) -> Result<Changes> {
    let payload = events.column_by_name(PAYLOAD).map(|payload| payload.as_struct());
    let whole = StructArray::from(events.clone());
    let event = payload.unwrap_or(&whole);
    let find =
        |name: &str| event.column_by_name(name).ok_or_else(|| DataflowError::new("debezium-json", ErrorKind::Bug, format!("no {name}")));
    let (before, after, ops) = (find("before")?.as_struct(), find("after")?.as_struct(), find("op")?.as_string::<i32>());
    let images = [before, after];
    let mut picked = Picked::default();
    for index in 0..event.len() {
        let op = if event.is_valid(index) && ops.is_valid(index) { ops.value(index) } else { "" };
        let wants: &[(usize, RowKind)] = match op {
            "c" | "r" => &[(1, RowKind::Insert)],
            "u" => &[(0, RowKind::UpdateBefore), (1, RowKind::UpdateAfter)],
            "d" => &[(0, RowKind::Delete)],
            "" => {
                picked.malformed(index, "the event has no \"op\"; is it Debezium's, and 'debezium-json.schema-include' right?".to_owned());
                continue;
            }
            other => {
                picked.malformed(index, format!("\"op\" is \"{other}\", which is none of c, r, u and d"));
                continue;
            }
        };
        let fault = wants.iter().find_map(|(image, _)| unfit(images[*image], *image == 0, index, op, wanted));
        match fault {
            Some(fault) => picked.malformed(index, fault),
            None => wants.iter().for_each(|(image, kind)| picked.take(*image, index, *kind)),
        }
    }
    let columns = (0..wanted.fields().len().saturating_sub(1)).map(|column| {
        let [before, after] = images.map(|image| image.column(column).as_ref());
        Ok(interleave(&[before, after], &picked.places)?)
    });
    let mut columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
    columns.push(Arc::new(UInt8Array::from(picked.kinds)));
    let events = picked.places.iter().map(|(_, index)| *index).collect();
    Ok(Changes { rows: RecordBatch::try_new(SchemaRef::clone(wanted), columns)?, events, bad: picked.bad, first: picked.first })
}

/// Why an event's image cannot be a row.
fn unfit(image: &StructArray, is_before: bool, index: usize, op: &str, wanted: &Schema) -> Option<String> {
    let name = if is_before { "before" } else { "after" };
    if image.is_null(index) {
        let hint = if is_before { "; set the table's REPLICA IDENTITY to FULL if the database is PostgreSQL" } else { "" };
        return Some(format!("\"{name}\" is null in an event of \"op\" \"{op}\"{hint}"));
    }
    let null = |(field, column): (&FieldRef, &ArrayRef)| (!field.is_nullable() && column.is_null(index)).then(|| field.name().clone());
    let column = wanted.fields().iter().zip(image.columns()).find_map(null)?;
    Some(format!("column '{column}' of \"{name}\": it is NOT NULL, and null or not there"))
}

/// What was chosen of events so far.
#[derive(Default)]
struct Picked {
    /// Image (0: before, 1: after) and event.
    places: Vec<(usize, usize)>,
    kinds: Vec<u8>,
    bad: u64,
    first: Option<(usize, String)>,
}

impl Picked {
    fn take(&mut self, image: usize, index: usize, kind: RowKind) {
        self.places.push((image, index));
        self.kinds.push(kind as u8);
    }

    fn malformed(&mut self, index: usize, reason: String) {
        self.bad += 1;
        self.first.get_or_insert((index, reason));
    }
}

/// Decodes lines of events into rows of a change-log.
pub(crate) struct DebeziumDecoder {
    json: JsonDecoder,
    wanted: SchemaRef,
}

impl DebeziumDecoder {
    /// A decoder that gives the columns `wanted`, of which the last is the kind.
    pub(crate) fn new(options: &DebeziumOptions, wanted: &SchemaRef) -> Self {
        Self { json: JsonDecoder::new(&event_schema(options, wanted)), wanted: SchemaRef::clone(wanted) }
    }
}

impl Decoder for DebeziumDecoder {
    fn decode(&mut self, input: &[u8], last: bool, rows: usize) -> Result<Decoded> {
        let decoded = self.json.decode(input, last, rows)?;
        let Some(events) = &decoded.batch else { return Ok(decoded) };
        let Changes { rows, bad, first, .. } = changes(events, &self.wanted)?;
        let first = decoded.first.or_else(|| {
            // No line was left out: the event's number is that of its line.
            let (index, reason) = first?;
            let start = start_of(&input[..decoded.consumed], index)?;
            Some(Malformed { record: index as u64, start, reason })
        });
        let batch = Some(rows).filter(|rows| rows.num_rows() > 0);
        Ok(Decoded { batch, malformed: decoded.malformed + bad, first, consumed: decoded.consumed, records: decoded.records })
    }

    fn begin(&mut self, input: &[u8], last: bool) -> Result<Option<usize>> {
        self.json.begin(input, last)
    }
}

/// Where the line with this number begins; blank ones do not count.
fn start_of(input: &[u8], number: usize) -> Option<usize> {
    let mut start = 0;
    let mut lines = input.split_inclusive(|byte| *byte == b'\n').map(|line| {
        start += line.len();
        (start - line.len(), line)
    });
    lines.by_ref().filter(|(_, line)| !line.trim_ascii().is_empty()).nth(number).map(|(start, _)| start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::OnError;
    use crate::testing::{schema, texts};

    fn wanted(columns: &[(&str, &str)]) -> SchemaRef {
        let kind = Arc::new(Field::new(KIND_COLUMN, DataType::UInt8, false));
        Arc::new(Schema::new(schema(columns).fields().iter().cloned().chain([kind]).collect::<Vec<_>>()))
    }

    fn options(schema_include: bool) -> DebeziumOptions {
        DebeziumOptions { json: JsonOptions { iso_timestamps: false, ignore_null_fields: false, on_error: OnError::Fail }, schema_include }
    }

    fn decoded(columns: &[(&str, &str)], schema_include: bool, text: &str) -> (Vec<String>, Decoded) {
        let mut decoder = DebeziumDecoder::new(&options(schema_include), &wanted(columns));
        let decoded = decoder.decode(text.as_bytes(), true, 100).unwrap();
        (decoded.batch.as_ref().map(texts).unwrap_or_default(), decoded)
    }

    const TABLE: &[(&str, &str)] = &[("id", "INT!"), ("name", "STRING")];

    #[test]
    fn events_become_rows_of_a_change_log() {
        let text = r#"
            {"before": null, "after": {"id": 1, "name": "a", "more": []}, "op": "r", "source": {"lsn": 7}}
            {"before": null, "after": {"id": 2}, "op": "c"}
            {"before": {"id": 1, "name": "a"}, "after": {"id": 1, "name": "b"}, "op": "u"}
            {"before": {"id": 2, "name": null}, "after": null, "op": "d", "ts_ms": 1}"#;
        let (rows, decoded) = decoded(TABLE, false, text);
        assert_eq!(rows, ["1, a, 0", "2, null, 0", "1, a, 1", "1, b, 2", "2, null, 3"]);
        assert_eq!((decoded.records, decoded.malformed, decoded.consumed), (4, 0, text.len()));
    }

    #[test]
    fn an_event_may_stand_behind_its_schema() {
        let text = r#"{"schema": {"type": "struct"}, "payload": {"before": null, "after": {"id": 1, "name": "a"}, "op": "c"}}"#;
        assert_eq!(decoded(TABLE, true, text).0, ["1, a, 0"]);
        let (rows, bare) = decoded(TABLE, false, text);
        assert!(rows.is_empty() && bare.first.unwrap().reason.contains("no \"op\""));
        assert_eq!(decoded(TABLE, true, r#"{"op": "c"}"#).1.malformed, 1);
    }

    #[test]
    fn an_event_that_cannot_be_taken_back_is_malformed_and_named() {
        let update = r#"{"before": null, "after": {"id": 1, "name": "b"}, "op": "u"}"#;
        let partial = r#"{"before": {"name": "b"}, "after": null, "op": "d"}"#;
        let cases = [
            (update, "REPLICA IDENTITY"),
            (r#"{"before": null, "after": null, "op": "d"}"#, "\"before\" is null in an event of \"op\" \"d\""),
            (partial, "column 'id' of \"before\": it is NOT NULL"),
            (r#"{"before": null, "after": null, "op": "c"}"#, "\"after\" is null in an event of \"op\" \"c\""),
            (r#"{"op": "t"}"#, "\"op\" is \"t\""),
            (r#"{"after": {"id": 1}}"#, "no \"op\""),
        ];
        for (bad, expected) in cases {
            let text = format!("{{\"after\": {{\"id\": 7}}, \"op\": \"c\"}}\n\n{bad}\n{{\"after\": {{\"id\": 8}}, \"op\": \"c\"}}\n");
            let (rows, decoded) = decoded(TABLE, false, &text);
            assert_eq!(rows, ["7, null, 0", "8, null, 0"], "{bad}");
            let first = decoded.first.unwrap();
            assert!(first.reason.contains(expected), "{first:?}");
            assert_eq!((decoded.records, decoded.malformed, first.record), (3, 1, 1));
            assert!(text[first.start..].starts_with(bad));
        }
    }

    #[test]
    fn rows_are_counted_where_no_column_is_wanted() {
        let text = r#"{"before": {}, "after": {"id": 1}, "op": "u"}"#;
        assert_eq!(decoded(&[], false, text).0, ["1", "2"]);
    }
}
