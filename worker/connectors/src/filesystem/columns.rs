//! [pure] Columns that are not in a file but follow from it: where it lies (`PARTITIONED BY`) and what it is (`METADATA`).

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMillisecondArray, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::graph::{METADATA_KEY, SourceSpec};

use super::split::FileSplit;
use crate::options::Options;

/// Folder of rows whose partition column is null or empty, unless told.
pub(super) const DEFAULT_PARTITION: &str = "__DEFAULT_PARTITION__";

/// What the connector knows of a file, by Flink's names, with its type in SQL.
const METADATA: [(&str, Known, &str); 4] = [
    ("file.path", Known::Path, "STRING"),
    ("file.name", Known::Name, "STRING"),
    ("file.size", Known::Size, "BIGINT"),
    ("file.modification-time", Known::Modified, "TIMESTAMP_LTZ(3)"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Path,
    Name,
    Size,
    Modified,
    /// The value of the folder `name=value`.
    Partition,
}

/// The wanted columns of a table, and which of them follow from the file.
#[derive(Debug, Clone)]
pub(crate) struct FileColumns {
    wanted: SchemaRef,
    /// By wanted column; none for those in the file.
    known: Vec<Option<Known>>,
    default_partition: String,
}

impl FileColumns {
    /// Of a table that is read.
    pub(crate) fn parse(options: &mut Options<'_>, spec: &SourceSpec) -> Self {
        let default_partition = options.text("partition.default-name").unwrap_or(DEFAULT_PARTITION).to_owned();
        for field in spec.declared.fields() {
            let Some(key) = field.metadata().get(METADATA_KEY) else { continue };
            match METADATA.iter().find(|(name, ..)| name == key) {
                None => {
                    let names: Vec<&str> = METADATA.iter().map(|(name, ..)| *name).collect();
                    options.problem(format!("column '{}' is METADATA FROM '{key}'; there is: {}", field.name(), names.join(", ")));
                }
                Some((_, _, kind)) if sql_type(field.data_type()) != *kind => {
                    options.problem(format!("column '{}' METADATA FROM '{key}' must be {kind}", field.name()));
                }
                Some(_) => {}
            }
        }
        let known = spec.physical.fields().iter().map(|field| known(field, &spec.partition_by)).collect();
        Self { wanted: SchemaRef::clone(&spec.physical), known, default_partition }
    }

    /// The columns of `schema` that are in the files.
    pub(crate) fn in_files(schema: &Schema, partition_by: &[String]) -> SchemaRef {
        let kept = schema.fields().iter().filter(|field| known(field, partition_by).is_none());
        Arc::new(Schema::new(kept.cloned().collect::<Vec<_>>()))
    }

    /// What follows from `split`.
    ///
    /// # Errors
    /// A folder that is missing, or whose value is not of the column's type.
    pub(crate) fn of(&self, split: &FileSplit, shown: &str) -> Result<KnownColumns> {
        let values = self.wanted.fields().iter().zip(&self.known).map(|(field, known)| {
            let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
            let version = split.version.as_ref();
            Ok(Some(match known {
                None => return Ok(None),
                Some(Known::Path) => text(shown),
                Some(Known::Name) => text(shown.rsplit('/').next().unwrap_or_default()),
                Some(Known::Size) => Arc::new(Int64Array::from(vec![version.map(|version| version.size as i64)])),
                Some(Known::Modified) => {
                    let times = TimestampMillisecondArray::from(vec![version.map(|version| version.modified)]);
                    arrow::compute::cast(&times, field.data_type())?
                }
                Some(Known::Partition) => self.partition(field, split, shown)?,
            }))
        });
        Ok(KnownColumns { wanted: SchemaRef::clone(&self.wanted), values: values.collect::<Result<_>>()? })
    }

    fn partition(&self, field: &Field, split: &FileSplit, shown: &str) -> Result<ArrayRef> {
        let bad = |problem: String| {
            let message = format!("{shown}: PARTITIONED BY ({}): {problem}", field.name());
            DataflowError::new("filesystem", ErrorKind::Data, message)
        };
        let folders = split.file.split('/').rev().skip(1).filter_map(|folder| folder.split_once('='));
        let mut values = folders.filter(|(name, _)| unescape(name) == *field.name()).map(|(_, value)| unescape(value));
        let value = values.next().ok_or_else(|| bad(format!("the path has no folder '{}=…'", field.name())))?;
        let text = (value != self.default_partition).then(|| parsable(field.data_type(), &value));
        let options = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(&StringArray::from(vec![text]), field.data_type(), &options).map_err(|error| bad(error.to_string()))
    }
}

/// What the rows of one file have in common.
#[derive(Debug, Clone)]
pub(crate) struct KnownColumns {
    wanted: SchemaRef,
    /// One value each.
    values: Vec<Option<ArrayRef>>,
}

impl KnownColumns {
    /// The wanted columns, of rows of the file.
    pub(crate) fn complete(&self, read: RecordBatch) -> Result<RecordBatch> {
        if self.values.iter().all(Option::is_none) {
            return Ok(read);
        }
        let rows = read.num_rows();
        let first = UInt32Array::from(vec![0; rows]);
        let mut read = read.columns().iter();
        let missing = || DataflowError::new("filesystem", ErrorKind::Bug, "a column was not read");
        let column = |value: &Option<ArrayRef>| match value {
            Some(value) => Ok(take(value.as_ref(), &first, None)?),
            None => read.next().cloned().ok_or_else(missing),
        };
        let columns = self.values.iter().map(column).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(SchemaRef::clone(&self.wanted), columns, &options)?)
    }
}

fn known(field: &Field, partition_by: &[String]) -> Option<Known> {
    if partition_by.contains(field.name()) {
        return Some(Known::Partition);
    }
    let key = field.metadata().get(METADATA_KEY)?;
    METADATA.iter().find(|(name, ..)| name == key).map(|(_, known, _)| *known)
}

fn sql_type(kind: &DataType) -> &'static str {
    match kind {
        DataType::Utf8 => "STRING",
        DataType::Int64 => "BIGINT",
        DataType::Timestamp(TimeUnit::Millisecond, Some(_)) => "TIMESTAMP_LTZ(3)",
        _ => "another type",
    }
}

/// Hive's escaping of the characters that a folder's name must not hold; also a leading dot, which would lead away.
pub(super) fn escape(text: &str, out: &mut String) {
    for (index, c) in text.chars().enumerate() {
        let special = c.is_control() || "\"#%'*/:=?\\{[]^".contains(c) || (index == 0 && c == '.');
        if special && c.is_ascii() {
            out.push_str(&format!("%{:02X}", c as u32));
        } else {
            out.push(c);
        }
    }
}

/// The text that [`escape`] was given.
pub(super) fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let code = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(u8::is_ascii);
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &after[2..];
            }
            None => {
                out.push('%');
                rest = after;
            }
        }
    }
    out + rest
}

/// A time without seconds, as it is written in names, gets them.
fn parsable(kind: &DataType, text: &str) -> String {
    let (time, zone) = text.strip_suffix('Z').map_or((text, ""), |time| (time, "Z"));
    match kind {
        DataType::Timestamp(..) if time.len() == "2013-01-01T10:00".len() => format!("{time}:00{zone}"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_escaped_is_read_back(text in any::<String>()) {
            let mut escaped = String::new();
            escape(&text, &mut escaped);
            prop_assert!(!escaped.contains('/') && !escaped.starts_with('.'));
            prop_assert_eq!(unescape(&escaped), text);
        }
    }

    #[test]
    fn a_percent_sign_that_escapes_nothing_stays() {
        assert_eq!(unescape("100%"), "100%");
        assert_eq!(unescape("%zz%2"), "%zz%2");
        assert_eq!(unescape("%ff%C3"), "%ff%C3", "no text of ours");
    }
}
