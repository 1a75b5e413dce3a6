//! [pure] CSV: RFC 4180 with the liberties that Flink's `csv` format gives.
//!
//! Records are cut by `csv-core`'s automaton into one buffer; then each wanted column is parsed over all records, so a
//! column that is not wanted costs only its bytes. A record with a wrong value is known by its number and left out of
//! the batch at the end.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BooleanArray, BooleanBuilder, Decimal128Builder, PrimitiveArray, RecordBatch, RecordBatchOptions,
    StringBuilder,
};
use arrow::compute::filter_record_batch;
use arrow::compute::kernels::cast_utils::{Parser, parse_decimal, string_to_datetime};
use arrow::datatypes::*;
use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};

use super::{Decoded, Decoder, Malformed, OnError, RECORD_LIMIT, on_error, shown};
use crate::options::{Options, did_you_mean};

/// Least room that the buffers of records grow by, bytes and fields.
const ROOM: usize = 4 * 1024;

/// The options of the format.
#[derive(Debug, Clone)]
pub(crate) struct CsvOptions {
    pub(crate) delimiter: u8,
    pub(crate) quote: Option<u8>,
    pub(crate) escape: Option<u8>,
    pub(crate) comments: bool,
    pub(crate) null_literal: Option<String>,
    pub(crate) header: bool,
    pub(crate) ignore_first_line: bool,
    pub(crate) on_error: OnError,
}

impl CsvOptions {
    pub(super) fn parse(options: &mut Options<'_>) -> Self {
        let one = |options: &mut Options<'_>, name: &str| -> Option<u8> {
            // Not trimmed: a delimiter may be a space.
            let text = options.text(name)?;
            match text.as_bytes() {
                [byte] if byte.is_ascii() => Some(*byte),
                b"\\t" => Some(b'\t'),
                _ => {
                    options.bad_value(name, "one ASCII character");
                    None
                }
            }
        };
        let unquoted = options.boolean("csv.disable-quote-character", false);
        let quote = one(options, "csv.quote-character").unwrap_or(b'"');
        Self {
            delimiter: one(options, "csv.field-delimiter").unwrap_or(b','),
            quote: (!unquoted).then_some(quote),
            escape: one(options, "csv.escape-character"),
            comments: options.boolean("csv.allow-comments", false),
            null_literal: options.text("csv.null-literal").map(str::to_owned),
            header: options.boolean("csv.header", false),
            ignore_first_line: options.boolean("csv.ignore-first-line", false),
            on_error: on_error(options, "csv"),
        }
    }

    fn reader(&self) -> Reader {
        let mut builder = ReaderBuilder::new();
        builder.delimiter(self.delimiter).escape(self.escape).comment(self.comments.then_some(b'#'));
        match self.quote {
            Some(quote) => builder.quote(quote),
            None => builder.quoting(false),
        };
        builder.build()
    }
}

/// Decodes CSV into the wanted columns.
pub(crate) struct CsvDecoder {
    options: CsvOptions,
    reader: Reader,
    wanted: SchemaRef,
    /// Fields of a record in this file, and for each wanted column its place among them.
    fields: usize,
    places: Vec<usize>,
    header: Option<Vec<String>>,
    records: Records,
}

/// The records of one call, unquoted.
#[derive(Debug, Default)]
struct Records {
    data: Vec<u8>,
    /// Bytes of `data` that are filled.
    data_len: usize,
    /// Ends of all fields, relative to their record's start in `data`.
    ends: Vec<usize>,
    /// Entries of `ends` that are filled.
    ends_len: usize,
    rows: Vec<Row>,
}

/// One record.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// Number among the records of the call.
    number: u64,
    /// Where it begins in the input.
    start: usize,
    /// Where its text begins in `data`.
    data: usize,
    /// Where its ends begin in `ends`.
    ends: usize,
}

/// A record that was cut off.
struct Cut {
    /// Bytes of the input.
    used: usize,
    fields: usize,
    /// The input ended within quotes.
    open_quote: bool,
}

/// What the automaton is given next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Ahead,
    Line,
    Nothing,
}

/// The malformed records of one call, and what is wrong with the first: nobody reads of the others.
#[derive(Default)]
struct Bad {
    records: BTreeSet<u64>,
    first: Option<Malformed>,
}

impl Bad {
    fn add(&mut self, record: u64, start: usize, reason: impl FnOnce() -> String) {
        self.records.insert(record);
        if self.first.as_ref().is_none_or(|first| record < first.record) {
            self.first = Some(Malformed { record, start, reason: reason() });
        }
    }
}

impl Records {
    /// Forgets the records and keeps the room.
    fn clear(&mut self) {
        (self.data_len, self.ends_len) = (0, 0);
        self.rows.clear();
    }

    #[inline]
    fn field(&self, row: &Row, place: usize) -> &[u8] {
        let from = if place == 0 { 0 } else { self.ends[row.ends + place - 1] };
        &self.data[row.data + from..row.data + self.ends[row.ends + place]]
    }
}

impl CsvDecoder {
    /// A decoder of files with the columns `declared` (in this order, unless there is a header), giving `wanted`.
    pub(crate) fn new(options: &CsvOptions, declared: &SchemaRef, wanted: &SchemaRef) -> Self {
        let places = wanted.fields().iter().map(|field| declared.index_of(field.name()).unwrap_or_default()).collect();
        Self {
            reader: options.reader(),
            options: options.clone(),
            wanted: SchemaRef::clone(wanted),
            fields: declared.fields().len(),
            places,
            header: None,
            records: Records::default(),
        }
    }

    /// Cuts one record off the front of `input` and appends it; `None` when it is not whole, or when there is none.
    fn cut(&mut self, input: &[u8], last: bool) -> Result<Option<Cut>> {
        self.reader.reset();
        let mut end = End::Ahead;
        let records = &mut self.records;
        let (mut used, mut data, mut ends) = (0, records.data_len, records.ends_len);
        loop {
            // The buffers only grow, and what is behind their lengths is room for the automaton.
            if records.data.len() == data {
                records.data.resize(data * 2 + ROOM, 0);
            }
            if records.ends.len() == ends {
                records.ends.resize(ends * 2 + ROOM, 0);
            }
            let room = &mut records.data[data..];
            // Behind the input comes a line end, which ends any record but one in an open quote; then nothing, which ends all.
            let next: &[u8] = match end {
                End::Ahead => &input[used..],
                End::Line => b"\n",
                End::Nothing => b"",
            };
            let (result, read, wrote, ended) = self.reader.read_record(next, room, &mut records.ends[ends..]);
            if end == End::Ahead {
                used += read;
            }
            data += wrote;
            ends += ended;
            if used > RECORD_LIMIT {
                return Err(too_long());
            }
            match result {
                ReadRecordResult::Record => {
                    let fields = ends - records.ends_len;
                    (records.data_len, records.ends_len) = (data, ends);
                    return Ok(Some(Cut { used, fields, open_quote: end == End::Nothing }));
                }
                ReadRecordResult::End => return Ok(None),
                ReadRecordResult::InputEmpty if !last => return Ok(None),
                ReadRecordResult::InputEmpty => end = if end == End::Ahead { End::Line } else { End::Nothing },
                // More room was wanted.
                _ => {}
            }
        }
    }

    fn columns(&self, malformed: &mut Bad) -> Result<RecordBatch> {
        let mut arrays = Vec::with_capacity(self.places.len());
        for (field, place) in self.wanted.fields().iter().zip(&self.places) {
            let column = Column { records: &self.records, place: *place, field, null: self.options.null_literal.as_deref() };
            arrays.push(column.parse(malformed));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.records.rows.len()));
        let nullable = arrays.iter().zip(self.wanted.fields()).all(|(array, field)| field.is_nullable() || array.null_count() == 0);
        if nullable {
            return Ok(RecordBatch::try_new_with_options(SchemaRef::clone(&self.wanted), arrays, &options)?);
        }
        // Placeholders of malformed records are null where the schema allows none; they go with the records.
        let fields = self.wanted.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let relaxed = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        Ok(RecordBatch::try_new_with_options(relaxed, arrays, &options)?)
    }

    fn map_header(&mut self, names: Vec<String>) -> Result<()> {
        let mut places = Vec::with_capacity(self.wanted.fields().len());
        for field in self.wanted.fields() {
            let mut found = (0..names.len()).filter(|place| names[*place].trim() == field.name());
            let place = found.next();
            if found.next().is_some() {
                let message = format!("the header names column '{}' twice: {}", field.name(), names.join(", "));
                return Err(DataflowError::new("csv", ErrorKind::Data, message));
            }
            places.push(place.ok_or_else(|| {
                let hint = did_you_mean(field.name(), &names);
                let message = format!("the header has no column '{}'{hint} It has: {}", field.name(), names.join(", "));
                DataflowError::new("csv", ErrorKind::Data, message)
            })?);
        }
        self.places = places;
        self.fields = names.len();
        self.header = Some(names);
        Ok(())
    }
}

impl Decoder for CsvDecoder {
    fn decode(&mut self, input: &[u8], last: bool, rows: usize) -> Result<Decoded> {
        self.records.clear();
        let mut malformed = Bad::default();
        let (mut consumed, mut number) = (0, 0);
        while (number as usize) < rows {
            let row = Row { number, start: consumed, data: self.records.data_len, ends: self.records.ends_len };
            let Some(Cut { used, fields, open_quote }) = self.cut(&input[consumed..], last)? else {
                if last {
                    // Only blank lines or comments are left.
                    consumed = input.len();
                }
                break;
            };
            let text = || shown(&input[consumed..consumed + used]);
            if open_quote {
                malformed.add(number, consumed, || format!("a quote is not closed before the end of the file: {}", text()));
            } else if fields == self.fields {
                self.records.rows.push(row);
            } else {
                malformed.add(number, consumed, || format!("expected {} fields, found {fields}: {}", self.fields, text()));
            }
            consumed += used;
            number += 1;
        }
        let mut batch = None;
        if !self.records.rows.is_empty() {
            let all = self.columns(&mut malformed)?;
            let good = if malformed.records.is_empty() {
                all
            } else {
                let mask: BooleanArray = self.records.rows.iter().map(|row| Some(!malformed.records.contains(&row.number))).collect();
                let good = filter_record_batch(&all, &mask)?;
                let options = RecordBatchOptions::new().with_row_count(Some(good.num_rows()));
                RecordBatch::try_new_with_options(SchemaRef::clone(&self.wanted), good.columns().to_vec(), &options)?
            };
            batch = (good.num_rows() > 0).then_some(good);
        }
        Ok(Decoded { consumed, records: number, batch, malformed: malformed.records.len() as u64, first: malformed.first })
    }

    fn begin(&mut self, input: &[u8], last: bool) -> Result<Option<usize>> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        if input.len() < MARK.len() && !last {
            return Ok(None);
        }
        let mark = if input.starts_with(MARK) { MARK.len() } else { 0 };
        if !self.options.header && !self.options.ignore_first_line {
            return Ok(Some(mark));
        }
        self.records.clear();
        let Some(Cut { used, fields, .. }) = self.cut(&input[mark..], last)? else {
            // An empty file has no header, and no records either.
            return Ok(last.then_some(input.len()));
        };
        if self.options.header {
            let row = Row { number: 0, start: 0, data: 0, ends: 0 };
            let names = (0..fields).map(|place| String::from_utf8_lossy(self.records.field(&row, place)).into_owned()).collect();
            self.map_header(names)?;
        }
        Ok(Some(mark + used))
    }

    fn header(&self) -> Option<Vec<String>> {
        self.header.clone()
    }

    fn set_header(&mut self, header: Vec<String>) -> Result<()> {
        self.map_header(header)
    }
}

fn too_long() -> DataflowError {
    let message = format!("a record is longer than {RECORD_LIMIT} bytes; is a quote not closed, or 'csv.field-delimiter' wrong?");
    DataflowError::new("csv", ErrorKind::Data, message)
}

/// One wanted column over all records.
struct Column<'a> {
    records: &'a Records,
    place: usize,
    field: &'a Field,
    null: Option<&'a str>,
}

impl Column<'_> {
    fn parse(&self, malformed: &mut Bad) -> ArrayRef {
        match self.field.data_type() {
            DataType::Utf8 => self.strings(malformed),
            DataType::Boolean => self.booleans(malformed),
            DataType::Int8 => self.numbers::<Int8Type>(malformed, "TINYINT"),
            DataType::Int16 => self.numbers::<Int16Type>(malformed, "SMALLINT"),
            DataType::Int32 => self.numbers::<Int32Type>(malformed, "INT"),
            DataType::Int64 => self.numbers::<Int64Type>(malformed, "BIGINT"),
            DataType::Float32 => self.numbers::<Float32Type>(malformed, "FLOAT"),
            DataType::Float64 => self.numbers::<Float64Type>(malformed, "DOUBLE"),
            DataType::Date32 => self.numbers::<Date32Type>(malformed, "DATE such as 2013-01-31"),
            DataType::Time32(TimeUnit::Second) => self.numbers::<Time32SecondType>(malformed, "TIME such as 10:00:00"),
            DataType::Time32(_) => self.numbers::<Time32MillisecondType>(malformed, "TIME such as 10:00:00"),
            DataType::Time64(TimeUnit::Microsecond) => self.numbers::<Time64MicrosecondType>(malformed, "TIME such as 10:00:00"),
            DataType::Time64(_) => self.numbers::<Time64NanosecondType>(malformed, "TIME such as 10:00:00"),
            DataType::Timestamp(unit, zone) => self.timestamps(malformed, *unit, zone.clone()),
            DataType::Decimal128(precision, scale) => self.decimals(malformed, *precision, *scale),
            // Refused at planning time.
            other => arrow::array::new_null_array(other, self.records.rows.len()),
        }
    }

    /// The field's text; `None` for null, and for what is no text.
    fn text(&self, row: &Row, malformed: &mut Bad) -> Option<&str> {
        let bytes = self.records.field(row, self.place);
        match std::str::from_utf8(bytes) {
            Ok(text) => (self.null != Some(text)).then_some(text),
            Err(_) => {
                malformed.add(row.number, row.start, || self.reason("text in UTF-8", bytes));
                None
            }
        }
    }

    /// A null where the column takes none.
    fn refuse_null(&self, row: &Row, expected: &str, malformed: &mut Bad) {
        if !self.field.is_nullable() {
            let bytes = self.records.field(row, self.place);
            malformed.add(row.number, row.start, || self.reason(&format!("{expected} (the column is NOT NULL)"), bytes));
        }
    }

    fn reason(&self, expected: &str, found: &[u8]) -> String {
        format!("column '{}': expected {expected}, found '{}'", self.field.name(), shown(found))
    }

    /// Parses each field with `parse`; null and malformed ones give `None`.
    fn each<T>(&self, malformed: &mut Bad, expected: &str, parse: impl Fn(&str) -> Option<T>, mut push: impl FnMut(Option<T>)) {
        for row in &self.records.rows {
            let value = self.text(row, malformed).map(str::trim).filter(|text| !text.is_empty());
            let parsed = value.and_then(&parse);
            if let (Some(text), None) = (value, &parsed) {
                malformed.add(row.number, row.start, || self.reason(expected, text.as_bytes()));
            }
            if value.is_none() {
                self.refuse_null(row, expected, malformed);
            }
            push(parsed);
        }
    }

    fn numbers<T: Parser + ArrowPrimitiveType>(&self, malformed: &mut Bad, expected: &str) -> ArrayRef {
        let mut builder = PrimitiveArray::<T>::builder(self.records.rows.len());
        self.each(malformed, expected, T::parse, |value| builder.append_option(value));
        Arc::new(builder.finish())
    }

    fn booleans(&self, malformed: &mut Bad) -> ArrayRef {
        let mut builder = BooleanBuilder::with_capacity(self.records.rows.len());
        let parse = |text: &str| match text {
            _ if text.eq_ignore_ascii_case("true") => Some(true),
            _ if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        };
        self.each(malformed, "BOOLEAN (true or false)", parse, |value| builder.append_option(value));
        Arc::new(builder.finish())
    }

    fn decimals(&self, malformed: &mut Bad, precision: u8, scale: i8) -> ArrayRef {
        let mut builder = Decimal128Builder::with_capacity(self.records.rows.len()).with_data_type(DataType::Decimal128(precision, scale));
        let parse = |text: &str| parse_decimal::<Decimal128Type>(text, precision, scale).ok();
        self.each(malformed, &format!("DECIMAL({precision}, {scale})"), parse, |value| builder.append_option(value));
        Arc::new(builder.finish())
    }

    fn timestamps(&self, malformed: &mut Bad, unit: TimeUnit, zone: Option<Arc<str>>) -> ArrayRef {
        let parse = |text: &str| {
            let time = string_to_datetime(&chrono::Utc, text).ok()?;
            match unit {
                TimeUnit::Second => Some(time.timestamp()),
                TimeUnit::Millisecond => Some(time.timestamp_millis()),
                TimeUnit::Microsecond => Some(time.timestamp_micros()),
                TimeUnit::Nanosecond => time.timestamp_nanos_opt(),
            }
        };
        let mut values: Vec<Option<i64>> = Vec::with_capacity(self.records.rows.len());
        self.each(malformed, "TIMESTAMP such as 2013-01-31 10:00:00", parse, |value| values.push(value));
        match unit {
            TimeUnit::Second => Arc::new(PrimitiveArray::<TimestampSecondType>::from(values).with_timezone_opt(zone)),
            TimeUnit::Millisecond => Arc::new(PrimitiveArray::<TimestampMillisecondType>::from(values).with_timezone_opt(zone)),
            TimeUnit::Microsecond => Arc::new(PrimitiveArray::<TimestampMicrosecondType>::from(values).with_timezone_opt(zone)),
            TimeUnit::Nanosecond => Arc::new(PrimitiveArray::<TimestampNanosecondType>::from(values).with_timezone_opt(zone)),
        }
    }

    fn strings(&self, malformed: &mut Bad) -> ArrayRef {
        let mut builder = StringBuilder::with_capacity(self.records.rows.len(), self.records.rows.len() * 8);
        for row in &self.records.rows {
            let text = self.text(row, malformed);
            if text.is_none() {
                self.refuse_null(row, "STRING", malformed);
            }
            builder.append_option(text);
        }
        Arc::new(builder.finish())
    }
}
