//! [pure] Newline-delimited JSON: one object a line, columns by name, a missing field is null. Read a little more liberally
//! than its grammar: a comma behind the last field and control characters in texts are taken.
//!
//! Many lines are decoded at once by arrow's decoder. When that fails, the lines are halved until the bad ones stand
//! alone: records without errors pay nothing for the exact message that a bad one gets.

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
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
    /// Reads the options `<format>.…`.
    pub(super) fn parse(options: &mut Options<'_>, format: &str) -> Self {
        for name in ["encode.decimal-as-plain-number", "map-null-key.mode", "map-null-key.literal"] {
            options.without_effect(&[&format!("{format}.{name}")]);
        }
        let fail_on_missing = format!("{format}.fail-on-missing-field");
        if options.boolean(&fail_on_missing, false) {
            options.bad_value(&fail_on_missing, "'false': a missing field is null; declare the column NOT NULL to refuse it");
        }
        Self {
            iso_timestamps: options.choice(&format!("{format}.timestamp-format.standard"), &[("SQL", false), ("ISO-8601", true)], false),
            ignore_null_fields: options.boolean(&format!("{format}.encode.ignore-null-fields"), false),
            on_error: on_error(options, format),
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
    fn whole(wanted: &SchemaRef, input: &[u8], lines: &[Line]) -> Result<RecordBatch, String> {
        let (Some(first), Some(last)) = (lines.first(), lines.last()) else { return Err("no lines".to_owned()) };
        let slab = &input[first.bytes.start..last.bytes.end];
        // One more than there are lines: a second object on a line is then seen.
        let builder = ReaderBuilder::new(SchemaRef::clone(wanted)).with_batch_size(lines.len() + 1).with_coerce_primitive(true);
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

    /// Reads what can be read of `lines` into `batches`, in order; the number of bad lines, and the first of them.
    fn halves(&self, input: &[u8], lines: &[Line], batches: &mut Vec<RecordBatch>, bad: &mut (u64, Option<Malformed>)) {
        match Self::whole(&self.wanted, input, lines) {
            Ok(batch) => batches.push(batch),
            Err(reason) if lines.len() == 1 => {
                bad.0 += 1;
                if bad.1.is_none() {
                    bad.1 = Some(self.malformed(input, &lines[0], &reason));
                }
            }
            Err(_) => {
                let (left, right) = lines.split_at(lines.len() / 2);
                self.halves(input, left, batches, bad);
                self.halves(input, right, batches, bad);
            }
        }
    }

    /// What is wrong with a line: the column, when the line can be read without it.
    fn malformed(&self, input: &[u8], line: &Line, reason: &str) -> Malformed {
        let lines = std::slice::from_ref(line);
        let only = |fields: &[FieldRef]| Self::whole(&SchemaRef::new(Schema::new(fields.to_vec())), input, lines);
        let fields = self.wanted.fields().iter().filter(|_| only(&[]).is_ok());
        let column = fields.filter_map(|field| Some((field, only(&[FieldRef::clone(field)]).err()?))).next();
        let reason = match column {
            Some((field, reason)) if reason.contains("unmasked nulls") => {
                format!("column '{}': it is NOT NULL, and null or not there", field.name())
            }
            Some((field, reason)) => {
                // Of a nested field arrow names the way to it; the column's own name is there already.
                let decoding = format!("whilst decoding field '{}': ", field.name());
                format!("column '{}': {}", field.name(), reason.strip_prefix(&decoding).unwrap_or(&reason))
            }
            None => reason.to_owned(),
        };
        let reason = format!("{reason}: {}", shown(&input[line.bytes.clone()]));
        Malformed { record: line.number, start: line.bytes.start, reason }
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
        let (mut batches, mut bad) = (Vec::new(), (0, None));
        if !lines.is_empty() {
            self.halves(input, &lines, &mut batches, &mut bad);
        }
        let batch = match batches.len() {
            0 => None,
            1 => batches.pop(),
            _ => Some(concat_batches(&self.wanted, &batches)?),
        };
        let (malformed, first) = bad;
        Ok(Decoded { consumed, records: lines.len() as u64, batch, malformed, first })
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
