//! [io] What the tests of this crate share: tables, readers run to their end, rows as text.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use rheos_dataflow::graph::{Pruning, SinkSpec, SourceSpec};
use rheos_dataflow::source::{Read, Source, SplitId, SplitReader, Start, Waker};
use tokio::runtime::{Handle, Runtime};

use crate::environment::Environment;
use crate::text::ValueText;

/// A reader that says nothing for so long has been forgotten.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn runtime() -> Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Runtime::new().unwrap()).handle().clone()
}

pub(crate) fn environment(folder: &Path) -> Environment {
    Environment::new(folder, runtime())
}

/// `name TYPE` pairs as a schema; a `!` behind the type is NOT NULL.
pub(crate) fn schema(columns: &[(&str, &str)]) -> SchemaRef {
    let field = |(name, kind): &(&str, &str)| {
        let data_type = match kind.trim_end_matches('!') {
            "STRING" => DataType::Utf8,
            "BOOLEAN" => DataType::Boolean,
            "TINYINT" => DataType::Int8,
            "INT" => DataType::Int32,
            "BIGINT" => DataType::Int64,
            "DOUBLE" => DataType::Float64,
            "DATE" => DataType::Date32,
            "TIMESTAMP" => DataType::Timestamp(TimeUnit::Millisecond, None),
            "TIMESTAMP_LTZ" => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            "DECIMAL" => DataType::Decimal128(10, 2),
            other => panic!("no type {other}"),
        };
        Field::new(*name, data_type, !kind.ends_with('!'))
    };
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

pub(crate) fn options(options: &[(&str, &str)]) -> BTreeMap<String, String> {
    options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

pub(crate) fn source_spec(given: &[(&str, &str)], declared: &SchemaRef, physical: &SchemaRef) -> SourceSpec {
    SourceSpec {
        table: "t".to_owned(),
        options: options(given),
        physical: SchemaRef::clone(physical),
        declared: SchemaRef::clone(declared),
        partition_by: Vec::new(),
        pruning: Pruning::default(),
        prelude: None,
        watermark: None,
    }
}

pub(crate) fn sink_spec(given: &[(&str, &str)], schema: &SchemaRef, partition_by: &[&str]) -> SinkSpec {
    SinkSpec {
        table: "t".to_owned(),
        options: options(given),
        schema: SchemaRef::clone(schema),
        partition_by: partition_by.iter().map(ToString::to_string).collect(),
        primary_key: Vec::new(),
        changelog: false,
    }
}

/// The rows of a batch as `print` shows them.
pub(crate) fn texts(batch: &RecordBatch) -> Vec<String> {
    let columns: Vec<ValueText<'_>> = batch.columns().iter().map(|column| ValueText::new(column.as_ref()).unwrap()).collect();
    let row = |row| {
        let mut text = String::new();
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                text.push_str(", ");
            }
            column.write(row, &mut text);
        }
        text
    };
    (0..batch.num_rows()).map(row).collect()
}

/// A reader and the wake-ups of its source.
pub(crate) struct Opened {
    pub(crate) reader: Box<dyn SplitReader>,
    woken: Receiver<()>,
}

impl Opened {
    pub(crate) fn new(source: &dyn Source, split: &SplitId, offset: Option<&serde_json::Value>) -> rheos_dataflow::error::Result<Self> {
        let (sender, woken) = channel();
        let waker: Waker = Arc::new(move || {
            let _ = sender.send(());
        });
        source.open(split, offset.map_or(Start::New { late: false }, Start::At), waker).map(|reader| Self { reader, woken })
    }

    /// The next rows, waiting for them; `None` at the end.
    pub(crate) fn next(&mut self, rows: usize) -> rheos_dataflow::error::Result<Option<RecordBatch>> {
        loop {
            match self.reader.read(rows)? {
                Read::Rows(batch) => {
                    assert!(batch.num_rows() > 0, "an empty batch");
                    return Ok(Some(batch));
                }
                Read::End => return Ok(None),
                Read::Pending => self.woken.recv_timeout(PATIENCE).unwrap(),
            }
        }
    }

    pub(crate) fn rest(&mut self, rows: usize) -> rheos_dataflow::error::Result<Vec<String>> {
        let mut all = Vec::new();
        while let Some(batch) = self.next(rows)? {
            all.extend(texts(&batch));
        }
        Ok(all)
    }
}

/// All rows of a split.
pub(crate) fn read_split(source: &dyn Source, split: &SplitId, rows: usize) -> rheos_dataflow::error::Result<Vec<String>> {
    Opened::new(source, split, None)?.rest(rows)
}

/// All rows of a source, split after split.
pub(crate) fn read_all(source: &dyn Source, rows: usize) -> rheos_dataflow::error::Result<Vec<String>> {
    let mut all = Vec::new();
    for split in source.discover()? {
        all.extend(read_split(source, &split, rows)?);
    }
    Ok(all)
}

/// Checks the promise of [`SplitReader`]: reading on from any offset gives exactly the rows that follow, also with
/// batches of another size.
pub(crate) fn assert_replays(source: &dyn Source, rows: usize, other_rows: usize) {
    for split in source.discover().unwrap() {
        let all = read_split(source, &split, rows).unwrap();
        let mut opened = Opened::new(source, &split, None).unwrap();
        let mut seen = 0;
        loop {
            let offset = opened.reader.offset();
            // Through text, as a checkpoint carries it.
            let offset: serde_json::Value = serde_json::from_str(&offset.to_string()).unwrap();
            let replayed = Opened::new(source, &split, Some(&offset)).unwrap().rest(other_rows).unwrap();
            assert_eq!(replayed, all[seen..], "split {split} from {offset}");
            match opened.next(rows).unwrap() {
                Some(batch) => seen += batch.num_rows(),
                None => break,
            }
        }
        assert_eq!(seen, all.len());
    }
}
