//! [pure] Newline-delimited JSON: one object a line, columns by name, a missing field is null.
//!
//! Many lines are decoded at once by arrow's decoder. When that fails, the lines are halved until the bad ones stand
//! alone: records without errors pay nothing for the exact message that a bad one gets.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::json::ReaderBuilder;
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};

use super::{Decoded, Decoder, Malformed, OnError, RECORD_LIMIT, on_error, shown};
use crate::options::Options;

/// The options of the format.
#[derive(Debug, Clone)]
pub(crate) struct JsonOptions {
    pub(crate) iso_timestamps: bool,
    pub(crate) ignore_null_fields: bool,
    pub(crate) on_error: OnError,
}

impl JsonOptions {
    pub(super) fn parse(options: &mut Options<'_>) -> Self {
        options.without_effect(&["json.encode.decimal-as-plain-number", "json.map-null-key.mode", "json.map-null-key.literal"]);
        if options.boolean("json.fail-on-missing-field", false) {
            options.bad_value("json.fail-on-missing-field", "'false': a missing field is null; declare the column NOT NULL to refuse it");
        }
        Self {
            iso_timestamps: options.choice("json.timestamp-format.standard", &[("SQL", false), ("ISO-8601", true)], false),
            ignore_null_fields: options.boolean("json.encode.ignore-null-fields", false),
            on_error: on_error(options, "json"),
        }
    }
}

/// Decodes JSON lines into the wanted columns.
pub(crate) struct JsonDecoder {
    wanted: SchemaRef,
}

/// A line that is not blank.
#[derive(Debug, Clone)]
struct Line {
    number: u64,
    bytes: Range<usize>,
}

impl JsonDecoder {
    /// A decoder that gives the columns `wanted`.
    pub(crate) fn new(wanted: &SchemaRef) -> Self {
        Self { wanted: SchemaRef::clone(wanted) }
    }

    /// All of `lines` at once, or what is wrong.
    fn whole(&self, input: &[u8], lines: &[Line]) -> Result<RecordBatch, String> {
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return Err("no lines".to_owned()) };
        let slab = &input[first.bytes.start..last.bytes.end];
        // One more than there are lines: a second object on a line is then seen.
        let builder = ReaderBuilder::new(SchemaRef::clone(&self.wanted)).with_batch_size(lines.len() + 1).with_coerce_primitive(true);
        let mut decoder = builder.build_decoder().map_err(|error| error.to_string())?;
        let used = decoder.decode(slab).map_err(|error| clean(&error.to_string()))?;
        if decoder.has_partial_record() {
            return Err("the JSON object does not end on its line".to_owned());
        }
        if used != slab.len() || decoder.len() != lines.len() {
            return Err("expected one JSON object on a line".to_owned());
        }
        let batch = decoder.flush().map_err(|error| clean(&error.to_string()))?;
        batch.ok_or_else(|| "expected a JSON object".to_owned())
    }

    fn halves(&self, input: &[u8], lines: &[Line], batches: &mut Vec<RecordBatch>, malformed: &mut Vec<Malformed>) {
        match self.whole(input, lines) {
            Ok(batch) => batches.push(batch),
            Err(reason) if lines.len() == 1 => {
                let line = &lines[0];
                let reason = format!("{reason}: {}", shown(&input[line.bytes.clone()]));
                malformed.push(Malformed { record: line.number, start: line.bytes.start, reason });
            }
            Err(_) => {
                let (left, right) = lines.split_at(lines.len() / 2);
                self.halves(input, left, batches, malformed);
                self.halves(input, right, batches, malformed);
            }
        }
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, input: &[u8], last: bool, rows: usize) -> Result<Decoded> {
        let mut lines: Vec<Line> = Vec::new();
        let mut consumed = 0;
        while lines.len() < rows && consumed < input.len() {
            let rest = &input[consumed..];
            let (end, next) = match rest.iter().position(|byte| *byte == b'\n') {
                Some(end) => (end, end + 1),
                None if last => (rest.len(), rest.len()),
                None => break,
            };
            if end > RECORD_LIMIT {
                return Err(too_long());
            }
            if !rest[..end].trim_ascii().is_empty() {
                lines.push(Line { number: lines.len() as u64, bytes: consumed..consumed + end });
            }
            consumed += next;
        }
        if input.len() - consumed > RECORD_LIMIT && lines.is_empty() {
            return Err(too_long());
        }
        let (mut batches, mut malformed) = (Vec::new(), Vec::new());
        if !lines.is_empty() {
            self.halves(input, &lines, &mut batches, &mut malformed);
        }
        let batch = match batches.len() {
            0 => None,
            1 => batches.pop(),
            _ => Some(concat_batches(&self.wanted, &batches)?),
        };
        Ok(Decoded { consumed, records: lines.len() as u64, batch, malformed })
    }

    fn begin(&mut self, input: &[u8], last: bool) -> Result<Option<usize>> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        if input.len() < MARK.len() && !last {
            return Ok(None);
        }
        Ok(Some(if input.starts_with(MARK) { MARK.len() } else { 0 }))
    }
}

fn too_long() -> DataflowError {
    let message = format!("a line is longer than {RECORD_LIMIT} bytes; is the file newline-delimited JSON?");
    DataflowError::new("json", ErrorKind::Data, message)
}

/// Arrow's messages begin with the name of its own error.
fn clean(message: &str) -> String {
    message.trim_start_matches("Json error: ").trim_start_matches("Parser error: ").to_owned()
}
