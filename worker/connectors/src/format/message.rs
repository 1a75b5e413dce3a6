//! [pure] Formats of messages: many values, each with bounds of its own, to columns and back, a batch at a time.
//!
//! Values lie one behind the other in one buffer ([`Messages`]), so that a text format decodes a whole batch in one call
//! of its decoder. Only when that does not give one row for each message, the messages are decoded one by one, to know
//! which are bad.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, RecordBatch, RecordBatchOptions, StringArray, cast::AsArray};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};

use super::avro::{AvroFormat, RowReader, RowWriter};
use super::csv::CsvDecoder;
use super::debezium::{self, changes};
use super::json::JsonDecoder;
use super::{Decoder, Format, OnError, encode};
use crate::options::Options;

/// How the bytes of a message stand for columns.
#[derive(Debug, Clone)]
pub(crate) enum MessageFormat {
    /// Any of the formats of text records, one record a message.
    Text(Format),
    /// The bytes of one column as they are.
    Raw,
    /// One record of Avro's binary encoding.
    Avro(AvroFormat),
}

/// Values one behind the other; of text formats each is a line.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    /// Where each value ends, its line end left out.
    ends: Vec<usize>,
    /// Line ends are put between values, and within a value they count as blanks.
    lines: bool,
    /// Line ends within a value stay.
    keeps_line_ends: bool,
}

/// What messages gave.
#[derive(Debug)]
pub(crate) struct Rows {
    /// The rows.
    pub(crate) batch: RecordBatch,
    /// By row, the message that it is of; `None`: each message gave one.
    pub(crate) kept: Option<Vec<usize>>,
    /// How many messages could not be read.
    pub(crate) skipped: u64,
    /// The first of them, and why.
    pub(crate) first: Option<(usize, String)>,
}

impl Messages {
    /// An empty buffer.
    pub(crate) fn new(format: &MessageFormat) -> Self {
        let lines = matches!(format, MessageFormat::Text(_));
        let keeps_line_ends = matches!(format, MessageFormat::Text(Format::Csv(_)));
        Self { lines, keeps_line_ends, ..Self::default() }
    }

    /// Appends a value.
    pub(crate) fn push(&mut self, value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        if self.lines && !self.keeps_line_ends && value.contains(&b'\n') {
            self.bytes[start..].iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
        }
        self.ends.push(self.bytes.len());
        if self.lines {
            self.bytes.push(b'\n');
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes that they take.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// One value.
    pub(crate) fn get(&self, index: usize) -> &[u8] {
        let bounds = self.bounds(index);
        &self.bytes[bounds]
    }

    /// Keeps the first `count`.
    pub(crate) fn truncate(&mut self, count: usize) {
        if count < self.len() {
            let end = self.bounds(count).start;
            self.bytes.truncate(end);
            self.ends.truncate(count);
        }
    }

    fn bounds(&self, index: usize) -> Range<usize> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] + usize::from(self.lines) };
        start..self.ends[index]
    }

    /// The bytes of some of them, line ends among them.
    fn slab(&self, range: &Range<usize>) -> &[u8] {
        if range.is_empty() { &[] } else { &self.bytes[self.bounds(range.start).start..self.ends[range.end - 1]] }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

impl MessageFormat {
    /// Reads `'value.format'` or `'format'` (or, for keys, `'key.format'`) and the options of that format; `schema` are
    /// the columns that it is for.
    pub(crate) fn parse(options: &mut Options<'_>, names: &[&'static str], schema: &Schema) -> Option<Self> {
        let given = names.iter().find(|name| options.text(name).is_some()).or(names.last())?;
        let name = options.required(given, "json")?;
        if name == "raw" {
            let ok = matches!(schema.fields().as_ref(), [field] if matches!(field.data_type(), DataType::Utf8 | DataType::Binary));
            if !ok {
                options.bad_value(given, "another format: 'raw' is for exactly one column, STRING or BYTES");
            }
            options.without_effect(&["raw.charset", "raw.endianness"]);
            return Some(Self::Raw);
        }
        if name == "avro" {
            return Some(Self::Avro(AvroFormat::parse(options, schema)));
        }
        let format = Format::named(options, given, name, &["json", "csv", "avro", "raw", "debezium-json"], schema)?;
        if let Format::Csv(csv) = &format
            && (csv.header || csv.ignore_first_line)
        {
            options.problem("a message is one record: 'csv.header' and 'csv.ignore-first-line' are for files");
        }
        Some(Self::Text(format))
    }

    /// Whether its records can say that a row is replaced or gone.
    pub(crate) fn carries_changes(&self) -> bool {
        matches!(self, Self::Text(format) if format.carries_changes())
    }

    /// What to do with messages that cannot be read.
    pub(crate) fn on_error(&self) -> OnError {
        match self {
            Self::Text(Format::Csv(options)) => options.on_error,
            Self::Text(Format::Json(options)) => options.on_error,
            Self::Text(Format::Debezium(options)) => options.json.on_error,
            Self::Avro(format) => format.on_error,
            Self::Text(Format::Parquet(_)) | Self::Raw => OnError::Fail,
        }
    }

    /// Notes what a table that is written cannot have.
    pub(crate) fn check_written(&self, options: &mut Options<'_>) {
        if let Self::Text(format) = self {
            format.check_written(options);
        }
    }

    /// The values of all rows of `batch`; `out` is overwritten.
    pub(crate) fn encode(&self, batch: &RecordBatch, out: &mut Messages) -> Result<()> {
        out.clear();
        match self {
            Self::Raw => encode_raw(batch, out),
            Self::Avro(format) => {
                let writer = RowWriter::new(&format.schema, batch)?;
                for row in 0..batch.num_rows() {
                    writer.write(row, &mut out.bytes)?;
                    out.ends.push(out.bytes.len());
                }
                Ok(())
            }
            Self::Text(format) => {
                encode::write_text(format, batch, &mut out.bytes)?;
                split_lines(out);
                if out.len() == batch.num_rows() {
                    return Ok(());
                }
                // A line end within a value: row by row, then.
                out.clear();
                let mut row = Vec::new();
                for index in 0..batch.num_rows() {
                    row.clear();
                    encode::write_text(format, &batch.slice(index, 1), &mut row)?;
                    out.push(row.strip_suffix(b"\n").unwrap_or(&row));
                }
                Ok(())
            }
        }
    }
}

/// Finds the values that were written as lines.
fn split_lines(out: &mut Messages) {
    let ends = out.bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    out.ends.extend(ends);
}

fn encode_raw(batch: &RecordBatch, out: &mut Messages) -> Result<()> {
    let column = batch.columns().first().ok_or_else(|| DataflowError::new("raw", ErrorKind::Bug, "no column"))?;
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().iter().for_each(|value| out.push(value.unwrap_or_default().as_bytes())),
        DataType::Binary => column.as_binary::<i32>().iter().for_each(|value| out.push(value.unwrap_or_default())),
        other => return Err(DataflowError::new("raw", ErrorKind::Bug, format!("no form for the type {other}"))),
    }
    Ok(())
}

/// Decodes messages into the wanted columns.
pub(crate) struct MessageDecoder {
    /// Of one row a message.
    wanted: SchemaRef,
    how: How,
    /// Those rows are change events, and stand for rows of these columns.
    changes: Option<SchemaRef>,
}

enum How {
    Text(Box<dyn Decoder>),
    Raw,
    /// With the fields of the record.
    Avro(SchemaRef),
}

impl MessageDecoder {
    /// A decoder of messages that hold the columns `declared` and shall give `wanted`; of a change-log, `wanted` ends in
    /// the kind.
    pub(crate) fn new(format: &MessageFormat, declared: &SchemaRef, wanted: &SchemaRef) -> Self {
        if let MessageFormat::Text(Format::Debezium(options)) = format {
            let events = debezium::event_schema(options, wanted);
            let how = How::Text(Box::new(JsonDecoder::new(&events)));
            return Self { wanted: events, how, changes: Some(SchemaRef::clone(wanted)) };
        }
        let how = match format {
            MessageFormat::Text(Format::Csv(options)) => How::Text(Box::new(CsvDecoder::new(options, declared, wanted))),
            MessageFormat::Text(_) => How::Text(Box::new(JsonDecoder::new(wanted))),
            MessageFormat::Raw => How::Raw,
            MessageFormat::Avro(format) => How::Avro(SchemaRef::clone(&format.schema)),
        };
        Self { wanted: SchemaRef::clone(wanted), how, changes: None }
    }

    /// The rows of some messages.
    ///
    /// # Errors
    /// A fault of the format's decoder; messages that cannot be read are told in [`Rows`].
    pub(crate) fn decode(&mut self, messages: &Messages, range: Range<usize>) -> Result<Rows> {
        let rows = self.one_each(messages, range)?;
        match &self.changes {
            Some(wanted) => changed(rows, wanted),
            None => Ok(rows),
        }
    }

    /// At most one row of each message.
    fn one_each(&mut self, messages: &Messages, range: Range<usize>) -> Result<Rows> {
        if let How::Avro(record) = &self.how {
            return avro(messages, range, record, &self.wanted);
        }
        if self.wanted.fields().is_empty() {
            return Ok(Rows::all(empty_columns(&self.wanted, range.len())?));
        }
        let whole = match &mut self.how {
            How::Text(decoder) => text(decoder.as_mut(), messages.slab(&range), range.len())?.ok(),
            _ => raw(messages, &range, &self.wanted).ok(),
        };
        match whole {
            Some(batch) => Ok(Rows::all(batch)),
            None => self.one_by_one(messages, range),
        }
    }

    fn one_by_one(&mut self, messages: &Messages, range: Range<usize>) -> Result<Rows> {
        let (mut batches, mut kept, mut first) = (Vec::new(), Vec::new(), None);
        for index in range.clone() {
            let row = match &mut self.how {
                How::Text(decoder) => text(decoder.as_mut(), messages.get(index), 1)?,
                _ => raw(messages, &(index..index + 1), &self.wanted),
            };
            match row {
                Ok(batch) => {
                    batches.push(batch);
                    kept.push(index - range.start);
                }
                Err(reason) => first = first.or(Some((index - range.start, reason))),
            }
        }
        let skipped = (range.len() - kept.len()) as u64;
        Ok(Rows { batch: concat_batches(&self.wanted, &batches)?, kept: Some(kept), skipped, first })
    }
}

impl Rows {
    fn all(batch: RecordBatch) -> Self {
        Self { batch, kept: None, skipped: 0, first: None }
    }
}

/// The rows that change events stand for.
fn changed(events: Rows, wanted: &SchemaRef) -> Result<Rows> {
    let changes = changes(&events.batch, wanted)?;
    let message = |event: usize| events.kept.as_ref().map_or(event, |kept| kept[event]);
    let first = changes.first.map(|(event, reason)| (message(event), reason));
    let first = [events.first, first].into_iter().flatten().min_by_key(|(index, _)| *index);
    let kept = changes.events.into_iter().map(message).collect();
    Ok(Rows { batch: changes.rows, kept: Some(kept), skipped: events.skipped + changes.bad, first })
}

/// One record a message; a bad one leaves nothing in the columns.
fn avro(messages: &Messages, range: Range<usize>, record: &SchemaRef, wanted: &SchemaRef) -> Result<Rows> {
    let mut reader = RowReader::new(record, wanted);
    let (mut kept, mut first, count) = (Vec::with_capacity(range.len()), None, range.len());
    for (index, message) in range.map(|index| messages.get(index)).enumerate() {
        match reader.push(message) {
            Ok(()) => kept.push(index),
            Err(fault) => first = first.or_else(|| Some((index, fault.to_string()))),
        }
    }
    let skipped = (count - kept.len()) as u64;
    Ok(Rows { batch: reader.finish()?, kept: first.is_some().then_some(kept), skipped, first })
}

fn empty_columns(schema: &SchemaRef, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(SchemaRef::clone(schema), Vec::new(), &options)?)
}

/// Exactly `count` rows out of as many lines, or what is wrong with the first line that gives none.
fn text(decoder: &mut dyn Decoder, slab: &[u8], count: usize) -> Result<Result<RecordBatch, String>> {
    // One more than there are: a second record in a message is then seen.
    let decoded = decoder.decode(slab, true, count + 1)?;
    if let Some(first) = decoded.first {
        return Ok(Err(first.reason));
    }
    Ok(match decoded.batch {
        Some(batch) if batch.num_rows() == count && decoded.consumed == slab.len() => Ok(batch),
        Some(_) => Err("expected one record in a message".to_owned()),
        None => Err("the message holds no record".to_owned()),
    })
}

fn raw(messages: &Messages, range: &Range<usize>, wanted: &SchemaRef) -> Result<RecordBatch, String> {
    let lengths = range.clone().map(|index| messages.bounds(index).len());
    let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
    let values = Buffer::from(messages.slab(range));
    let text = wanted.fields().first().is_some_and(|field| field.data_type() == &DataType::Utf8);
    let column: ArrayRef = if text {
        Arc::new(StringArray::try_new(offsets, values, None).map_err(|_| "the message is not UTF-8".to_owned())?)
    } else {
        Arc::new(BinaryArray::try_new(offsets, values, None).map_err(|error| error.to_string())?)
    };
    debug_assert_eq!(column.len(), range.len());
    RecordBatch::try_new(SchemaRef::clone(wanted), vec![column]).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::{schema, texts};

    fn format(given: &[(&str, &str)], schema: &SchemaRef) -> Result<MessageFormat, String> {
        let given: BTreeMap<String, String> = given.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let mut options = Options::new("t", &given);
        let format = MessageFormat::parse(&mut options, &["value.format", "format"], schema);
        options.finish().map_err(|problems| problems[0].message.clone())?;
        format.ok_or_else(|| "none".to_owned())
    }

    /// Rows as text, the messages they are of, and the first bad one.
    type Decoded = (Vec<String>, Option<Vec<usize>>, Option<(usize, String)>);

    fn decoded(given: &[(&str, &str)], columns: &[(&str, &str)], values: &[&[u8]]) -> Decoded {
        let schema = schema(columns);
        let format = format(given, &schema).unwrap();
        let mut messages = Messages::new(&format);
        values.iter().for_each(|value| messages.push(value));
        let rows = MessageDecoder::new(&format, &schema, &schema).decode(&messages, 0..values.len()).unwrap();
        (texts(&rows.batch), rows.kept, rows.first)
    }

    #[test]
    fn a_message_is_a_row_whatever_line_ends_it_holds() {
        let json: &[&[u8]] = &[b"{\"n\": 1,\n\"s\": \"a\"}", b"{\"n\":2,\"s\":\"b\"}"];
        let (rows, kept, first) = decoded(&[("format", "json")], &[("n", "INT"), ("s", "STRING")], json);
        assert_eq!((rows, kept, first), (vec!["1, a".into(), "2, b".into()], None, None));
        let csv: &[&[u8]] = &[b"1,\"a\nb\"", b"2,c"];
        let (rows, kept, _) = decoded(&[("format", "csv")], &[("n", "INT"), ("s", "STRING")], csv);
        assert_eq!((rows, kept), (vec!["1, a\nb".into(), "2, c".into()], None));
        let raw: &[&[u8]] = &[b"x\ny", b"", b"z"];
        assert_eq!(decoded(&[("format", "raw")], &[("s", "STRING")], raw).0, ["x\ny", "", "z"]);
    }

    #[test]
    fn a_bad_message_takes_no_other_with_it() {
        let json: &[&[u8]] = &[b"{\"n\":1}", b"{\"n\":", b"{\"n\":2}{\"n\":3}", b"", b"{\"n\":4}"];
        let (rows, kept, first) = decoded(&[("format", "json")], &[("n", "INT")], json);
        assert_eq!((rows, kept), (vec!["1".into(), "4".into()], Some(vec![0, 4])));
        assert_eq!(first.unwrap().0, 1);
        let csv: &[&[u8]] = &[b"1,a", b"2,\"open", b"3,c"];
        let (rows, kept, _) = decoded(&[("format", "csv")], &[("n", "INT"), ("s", "STRING")], csv);
        assert!(rows.contains(&"1, a".to_owned()) && rows.contains(&"3, c".to_owned()), "{rows:?} {kept:?}");
    }

    #[test]
    fn rows_become_messages_one_for_one() {
        let schema = schema(&[("n", "BIGINT"), ("s", "STRING")]);
        let columns: Vec<ArrayRef> =
            vec![Arc::new(arrow::array::Int64Array::from(vec![1, 2])), Arc::new(StringArray::from(vec!["a\nb", "c"]))];
        let batch = RecordBatch::try_new(SchemaRef::clone(&schema), columns).unwrap();
        for (name, expected) in [("json", ["{\"n\":1,\"s\":\"a\\nb\"}", "{\"n\":2,\"s\":\"c\"}"]), ("csv", ["1,\"a\nb\"", "2,c"])] {
            let format = format(&[("format", name)], &schema).unwrap();
            let mut out = Messages::new(&format);
            format.encode(&batch, &mut out).unwrap();
            let values: Vec<&str> = (0..out.len()).map(|index| std::str::from_utf8(out.get(index)).unwrap()).collect();
            assert_eq!(values, expected);
        }
    }

    #[test]
    fn raw_is_for_one_column_of_bytes_or_text() {
        assert!(format(&[("format", "raw")], &schema(&[("n", "INT")])).unwrap_err().contains("exactly one column"));
        assert!(format(&[("format", "csv"), ("csv.header", "true")], &schema(&[("n", "INT")])).unwrap_err().contains("are for files"));
    }
}
