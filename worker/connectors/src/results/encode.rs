//! [pure] Rows to what clients read: newline JSON, server-sent events, an Arrow IPC stream.
//!
//! | | a row | a row of the view | the view is whole | the end |
//! |---|---|---|---|---|
//! | newline JSON | `{"cursor":…,"op":…,"row":{…}}` | the same without `cursor` | `{"cursor":…,"view":ROWS}` | `{"end":…}`, `{"cut":…}` or `{"gone":…}` with the reason |
//! | events | `id: CURSOR`, data `{"op":…,"row":{…}}` | event `view`, without id | event `ready` with `id` | event `end`, `cut` or `gone` |
//! | Arrow | the columns, `__op`, `__epoch`, `__sequence` | `__sequence` is null | as many rows as the header says | the mark at the end, only where it is `end` |
//!
//! `op` is `+I`, `-U`, `+U` or `-D`; tables that only get new rows have none.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt8Type};
use rheos_dataflow::changelog::RowKind;
use rheos_dataflow::error::Result;
use rheos_dataflow::time::Epoch;

use super::index::Cursor;
use super::segment;
use crate::format::message::{MessageFormat, Messages};
use crate::format::{Format, OnError, json::JsonOptions};

/// What a client reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResultFormat {
    /// One JSON object a line.
    Json,
    /// `text/event-stream`.
    Events,
    /// Arrow IPC.
    Arrow,
}

/// Rows to be shown.
#[derive(Debug, Clone)]
pub struct Shown<'a> {
    /// With the kind column, last, if `changelog`.
    pub rows: &'a RecordBatch,
    /// Whether there is a kind column.
    pub changelog: bool,
    /// Their epoch.
    pub epoch: Epoch,
    /// The sequence of the first one; none: rows of the view.
    pub first: Option<u64>,
    /// Their line.
    pub line: u32,
}

/// The last word of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Last {
    /// Nothing will follow: the job has ended so, or all that was asked for was given.
    End(String),
    /// The client was too slow.
    Cut(String),
    /// What comes next is not kept any more.
    Gone(String),
}

impl ResultFormat {
    /// Media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-ndjson",
            Self::Events => "text/event-stream",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    /// What a stream begins with; `schema` has no kind column.
    ///
    /// # Errors
    /// A type that has no form in Arrow IPC.
    pub fn head(self, schema: &SchemaRef, changelog: bool) -> Result<Vec<u8>> {
        match self {
            Self::Json => Ok(Vec::new()),
            Self::Events => Ok(b": results\n\n".to_vec()),
            Self::Arrow => segment::header(&with_places(schema, changelog)),
        }
    }

    /// A sign of life.
    pub fn alive(self) -> &'static [u8] {
        match self {
            Self::Json => b"\n",
            Self::Events => b":\n\n",
            Self::Arrow => b"",
        }
    }

    /// Rows; `schema` has no kind column.
    ///
    /// # Errors
    /// A type that the format has no form for.
    pub fn rows(self, schema: &SchemaRef, shown: &Shown<'_>) -> Result<Vec<u8>> {
        match self {
            Self::Json | Self::Events => text(self, shown),
            Self::Arrow => segment::message(&placed(schema, shown)?),
        }
    }

    /// The view is whole; `cursor` is where changes begin.
    pub fn ready(self, cursor: &Cursor, rows: usize) -> Vec<u8> {
        match self {
            Self::Json => format!("{{\"cursor\":\"{cursor}\",\"view\":{rows}}}\n").into_bytes(),
            Self::Events => format!("event: ready\nid: {cursor}\ndata: {{\"view\":{rows}}}\n\n").into_bytes(),
            Self::Arrow => Vec::new(),
        }
    }

    /// The last word; nothing: the format has none for it, and the connection is to be broken off.
    pub fn last(self, last: &Last) -> Option<Vec<u8>> {
        let (name, reason) = match last {
            Last::End(reason) => ("end", reason),
            Last::Cut(reason) => ("cut", reason),
            Last::Gone(reason) => ("gone", reason),
        };
        let reason = serde_json::Value::from(reason.as_str());
        match self {
            Self::Json => Some(format!("{{\"{name}\":{reason}}}\n").into_bytes()),
            Self::Events => Some(format!("event: {name}\ndata: {{\"{name}\":{reason}}}\n\n").into_bytes()),
            Self::Arrow => matches!(last, Last::End(_)).then(|| segment::END.to_vec()),
        }
    }
}

/// The columns and the kinds of rows.
fn split(shown: &Shown<'_>) -> Result<(RecordBatch, Option<Vec<&'static str>>)> {
    if !shown.changelog {
        return Ok((shown.rows.clone(), None));
    }
    let last = shown.rows.num_columns() - 1;
    let kinds = shown.rows.column(last).as_primitive::<UInt8Type>();
    let symbols = kinds.values().iter().map(|kind| RowKind::from_u8(*kind).map_or("?", RowKind::symbol)).collect();
    let columns: Vec<usize> = (0..last).collect();
    Ok((shown.rows.project(&columns)?, Some(symbols)))
}

fn text(format: ResultFormat, shown: &Shown<'_>) -> Result<Vec<u8>> {
    let (columns, symbols) = split(shown)?;
    let json = MessageFormat::Text(Format::Json(JsonOptions { iso_timestamps: false, ignore_null_fields: false, on_error: OnError::Fail }));
    let mut rows = Messages::new(&json);
    json.encode(&columns, &mut rows)?;
    let mut out = Vec::with_capacity(rows.size() + rows.len() * 64);
    let mut head = String::new();
    for row in 0..rows.len() {
        let cursor = shown.first.map(|first| Cursor { epoch: shown.epoch, sequence: first + row as u64, line: Some(shown.line) });
        head.clear();
        // Writing to a string cannot fail.
        let _ = match (format, cursor) {
            (ResultFormat::Json, Some(cursor)) => write!(head, "{{\"cursor\":\"{cursor}\","),
            (ResultFormat::Json, None) => write!(head, "{{"),
            (_, Some(cursor)) => write!(head, "id: {cursor}\ndata: {{"),
            (_, None) => write!(head, "event: view\ndata: {{"),
        };
        if let Some(symbols) = &symbols {
            let _ = write!(head, "\"op\":\"{}\",", symbols[row]);
        }
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(b"\"row\":");
        out.extend_from_slice(rows.get(row));
        out.extend_from_slice(if format == ResultFormat::Json { b"}\n" } else { b"}\n\n" });
    }
    Ok(out)
}

fn with_places(schema: &SchemaRef, changelog: bool) -> Schema {
    let mut fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    if changelog {
        fields.push(Field::new("__op", DataType::Utf8, false));
    }
    fields.push(Field::new("__epoch", DataType::UInt64, false));
    fields.push(Field::new("__sequence", DataType::UInt64, true));
    Schema::new(fields)
}

fn placed(schema: &SchemaRef, shown: &Shown<'_>) -> Result<RecordBatch> {
    let (columns, symbols) = split(shown)?;
    let rows = columns.num_rows();
    let mut arrays = columns.columns().to_vec();
    if let Some(symbols) = symbols {
        arrays.push(Arc::new(StringArray::from(symbols)) as ArrayRef);
    }
    arrays.push(Arc::new(UInt64Array::from(vec![shown.epoch; rows])));
    arrays.push(Arc::new((0..rows as u64).map(|row| shown.first.map(|first| first + row)).collect::<UInt64Array>()));
    Ok(RecordBatch::try_new(Arc::new(with_places(schema, shown.changelog)), arrays)?)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, UInt8Array};
    use rheos_dataflow::changelog::KIND_COLUMN;

    use super::*;
    use crate::testing::schema;

    fn log() -> (SchemaRef, RecordBatch) {
        let schema = schema(&[("n", "BIGINT"), ("t", "STRING")]);
        let mut fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        fields.push(Field::new(KIND_COLUMN, DataType::UInt8, false));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![1, 2])),
            Arc::new(StringArray::from(vec![Some("a\nb"), None])),
            Arc::new(UInt8Array::from(vec![0, 1])),
        ];
        (schema, RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap())
    }

    fn shown(format: ResultFormat, first: Option<u64>) -> String {
        let (schema, rows) = log();
        let shown = Shown { rows: &rows, changelog: true, epoch: 9, first, line: 0xab };
        String::from_utf8(format.rows(&schema, &shown).unwrap()).unwrap()
    }

    #[test]
    fn rows_are_lines_with_their_cursors() {
        let expected = "{\"cursor\":\"9-5-000000ab\",\"op\":\"+I\",\"row\":{\"n\":1,\"t\":\"a\\nb\"}}\n\
                        {\"cursor\":\"9-6-000000ab\",\"op\":\"-U\",\"row\":{\"n\":2,\"t\":null}}\n";
        assert_eq!(shown(ResultFormat::Json, Some(5)), expected);
        assert!(shown(ResultFormat::Json, None).starts_with("{\"op\":\"+I\",\"row\":{\"n\":1"));
    }

    #[test]
    fn rows_are_events_whose_ids_are_cursors() {
        let text = shown(ResultFormat::Events, Some(5));
        assert!(text.starts_with("id: 9-5-000000ab\ndata: {\"op\":\"+I\",\"row\":{\"n\":1,\"t\":\"a\\nb\"}}\n\nid: 9-6-"), "{text}");
        assert!(shown(ResultFormat::Events, None).starts_with("event: view\ndata: {"));
    }

    #[test]
    fn an_arrow_stream_says_where_its_rows_stand() {
        let (schema, rows) = log();
        let format = ResultFormat::Arrow;
        let part = |first| format.rows(&schema, &Shown { rows: &rows, changelog: true, epoch: 9, first, line: 0 }).unwrap();
        let end = format.last(&Last::End("Finished".into())).unwrap();
        let stream = [format.head(&schema, true).unwrap(), part(None), part(Some(7)), end].concat();
        let read = segment::decode("s", &stream).unwrap();
        assert_eq!(read.num_rows(), 4);
        let sequences = read.column_by_name("__sequence").unwrap().as_primitive::<arrow::datatypes::UInt64Type>();
        assert_eq!(sequences.iter().collect::<Vec<_>>(), [None, None, Some(7), Some(8)]);
        assert_eq!(read.column_by_name("__op").unwrap().as_string::<i32>().value(1), "-U");
        assert_eq!(format.last(&Last::Cut("slow".into())), None, "a stream that is cut off has no end");
    }

    #[test]
    fn the_last_word_says_why() {
        let cut = Last::Cut("too \"slow\"".into());
        assert_eq!(ResultFormat::Json.last(&cut).unwrap(), b"{\"cut\":\"too \\\"slow\\\"\"}\n");
        assert_eq!(ResultFormat::Events.last(&cut).unwrap(), b"event: cut\ndata: {\"cut\":\"too \\\"slow\\\"\"}\n\n");
        let cursor = Cursor { epoch: 3, sequence: 4, line: Some(1) };
        assert_eq!(ResultFormat::Json.ready(&cursor, 7), b"{\"cursor\":\"3-4-00000001\",\"view\":7}\n");
    }
}
