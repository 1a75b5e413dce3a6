//! [pure] A simulated external system to read: rows are a function of (seed, split, position), so any offset replays
//! exactly; when and in which batches they come is chance. Its newest row is the last one that any generation has read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::executor::Delays;
use super::random::mix;
use crate::error::{DataflowError, ErrorKind, Result};
use crate::source::{Read, Source, SplitId, SplitReader, Start, Waker};
use crate::time::Millis;

/// How far behind the largest event time a row may come, ms; the watermark's delay.
pub const DISORDER: Millis = 50;
/// Rows of one batch, at most.
const BATCH_ROWS: u64 = 24;

/// What a simulated source holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Decides the rows.
    pub seed: u64,
    /// Splits.
    pub splits: u32,
    /// Rows of each split.
    pub rows: u64,
    /// Distinct values of `k`.
    pub keys: u64,
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Unique.
    pub id: i64,
    /// The key.
    pub k: i64,
    /// A small number, or null.
    pub v: Option<i64>,
    /// A float of any magnitude: sums of these show in which order they were added.
    pub x: f64,
    /// A key that is a text.
    pub s: String,
    /// Event time.
    pub ts: Millis,
}

impl Content {
    /// The row at a position.
    pub fn row(&self, split: u32, position: u64) -> Row {
        let draw = |salt: u64| mix(self.seed ^ mix(u64::from(split) << 40 ^ position ^ mix(salt)));
        let magnitude = [1e-9, 1.0, 1e7, 1e16][(draw(4) % 4) as usize];
        Row {
            id: (u64::from(split) * 1_000_000 + position) as i64,
            k: (draw(1) % self.keys.max(1)) as i64,
            v: (!draw(2).is_multiple_of(8)).then(|| (draw(3) % 100) as i64 - 50),
            x: ((draw(5) % 2_001) as f64 - 1_000.0) * magnitude,
            s: format!("key-{}", draw(6) % 5),
            ts: position as Millis * 7 + (draw(7) % DISORDER as u64) as Millis,
        }
    }

    /// All rows, split by split.
    pub fn all(&self) -> impl Iterator<Item = Row> {
        (0..self.splits).flat_map(move |split| (0..self.rows).map(move |position| self.row(split, position)))
    }

    fn batch(&self, split: u32, positions: std::ops::Range<u64>) -> Result<RecordBatch> {
        let rows: Vec<Row> = positions.map(|position| self.row(split, position)).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(rows.iter().map(|row| Some(row.id)).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| Some(row.k)).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| row.v).collect::<Int64Array>()),
            Arc::new(rows.iter().map(|row| Some(row.x)).collect::<Float64Array>()),
            Arc::new(rows.iter().map(|row| Some(row.s.as_str())).collect::<StringArray>()),
            Arc::new(rows.iter().map(|row| Some(row.ts)).collect::<TimestampMillisecondArray>()),
        ];
        Ok(RecordBatch::try_new(schema(), columns)?)
    }
}

/// Columns of every simulated source: `id, k, v, x, s, ts`.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("k", DataType::Int64, false),
        Field::new("v", DataType::Int64, true),
        Field::new("x", DataType::Float64, false),
        Field::new("s", DataType::Utf8, false),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
    ]))
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct SimSource {
    pub(super) content: Content,
    pub(super) chance: Delays,
    /// Rows of a batch, when it shall not be chance.
    pub(super) batch_rows: Option<u64>,
    read: Arc<ReadSoFar>,
}

/// By split, how many of its rows somebody has read.
#[derive(Debug, Default)]
struct ReadSoFar(Mutex<BTreeMap<u32, u64>>);

impl ReadSoFar {
    fn of(&self, split: u32) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&split).copied().unwrap_or(0)
    }

    fn rise(&self, split: u32, rows: u64) {
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let read = read.entry(split).or_default();
        *read = rows.max(*read);
    }
}

impl SimSource {
    pub(super) fn new(content: Content, chance: Delays) -> Self {
        Self { content, chance, batch_rows: None, read: Arc::default() }
    }
}

impl Source for SimSource {
    fn discover(&self) -> Result<Vec<SplitId>> {
        Ok((0..self.content.splits).map(|split| split.to_string()).collect())
    }

    fn open(&self, split: &SplitId, start: Start<'_>, _waker: Waker) -> Result<Box<dyn SplitReader>> {
        let bad = || DataflowError::new("simulated source", ErrorKind::State, format!("split {split} at {start:?}"));
        let number: u32 = split.parse().map_err(|_| bad())?;
        let position = match start {
            Start::New { .. } => 0,
            Start::At(offset) => offset.as_u64().ok_or_else(bad)?,
            Start::Newest(_) => self.read.of(number),
        };
        Ok(Box::new(SimReader {
            content: self.content,
            split: number,
            position,
            chance: self.chance.clone(),
            batch_rows: self.batch_rows,
            read: Arc::clone(&self.read),
        }))
    }
}

struct SimReader {
    content: Content,
    split: u32,
    position: u64,
    chance: Delays,
    batch_rows: Option<u64>,
    read: Arc<ReadSoFar>,
}

impl SplitReader for SimReader {
    fn read(&mut self, rows: usize) -> Result<Read> {
        if self.position == self.content.rows {
            return Ok(Read::End);
        }
        let wanted = match self.batch_rows {
            Some(rows) => rows,
            None if self.chance.draw(4) == 0 => return Ok(Read::Pending),
            None => self.chance.draw(BATCH_ROWS) + 1,
        };
        let end = (self.position + wanted.min(rows as u64)).min(self.content.rows);
        let batch = self.content.batch(self.split, self.position..end)?;
        self.position = end;
        self.read.rise(self.split, end);
        Ok(Read::Rows(batch))
    }

    fn offset(&self) -> serde_json::Value {
        self.position.into()
    }
}
