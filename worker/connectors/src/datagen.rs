//! [io] The `datagen` source: rows of made-up values, for trying things out.
//!
//! ```sql
//! CREATE TABLE orders (id BIGINT, price DOUBLE, item STRING, at TIMESTAMP(3)) WITH (
//!   'connector' = 'datagen', 'rows-per-second' = '100',
//!   'fields.id.kind' = 'sequence', 'fields.id.start' = '1', 'fields.id.end' = '1000',
//!   'fields.price.min' = '1', 'fields.price.max' = '99', 'fields.item.length' = '8');
//! ```
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `rows-per-second` | `10000` | rows for each second of wall time, over all splits; `-1`: as fast as it goes |
//! | `number-of-rows` | none | rows in all; without it, and without a sequence, there is no end |
//! | `fields.NAME.kind` | `random` | `random` or `sequence` |
//! | `fields.NAME.min`, `fields.NAME.max` | the type's range | numbers: bounds of random values, both included |
//! | `fields.NAME.max-past` | `0` | timestamps: how far before `base-time` random values reach |
//! | `fields.NAME.length` | `100` | texts: length of random values |
//! | `fields.NAME.start`, `fields.NAME.end` | | bounds of a sequence, both included; its end ends the source |
//! | `fields.NAME.null-rate` | `0` | part of the values that is null, from 0 to 1 |
//! | `base-time` | `2015-07-15 00:00:00` | timestamps: time of the first row; row `n` comes `n` / `rows-per-second` later |
//! | `seed` | `0` | another seed, other values |
//! | `splits` | `24` | splits, or fewer when there are few rows |
//!
//! Invariants: row `n` is a function of the options and `n` alone. Split `s` holds the rows `n` with `n / 64 % splits ==
//! s`; an offset is the number of the next row. Unlike Flink, random timestamps do not come from the wall clock, so
//! that a replay is exact.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    RecordBatch, RecordBatchOptions, StringBuilder, TimestampMillisecondArray, make_array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use rheos_dataflow::error::Result;
use rheos_dataflow::graph::SourceSpec;
use rheos_dataflow::source::{Read, Source, SplitId, SplitReader, Start, Waker};
use tokio::runtime::Handle;

use crate::connector::{Connector, SourceTable};
use crate::environment::Environment;
use crate::options::{Options, Problems};
use crate::sequence::{Blocks, Pace, draw};

/// Rows of a block; blocks are dealt to the splits in turn.
const BLOCK_ROWS: u64 = 64;
/// Event time of the first row, unless told: 2015-07-15T00:00:00Z, ms.
const BASE_TIME: i64 = 1_436_918_400_000;
/// Longest random text, characters.
const MAX_LENGTH: i64 = 65_536;

/// The connector.
pub const CONNECTOR: Connector = Connector { source: Some(|spec| Ok(Box::new(Config::parse(spec)?))), ..Connector::named("datagen") };

impl SourceTable for Config {
    fn build(self: Box<Self>, environment: &Environment) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(DatagenSource::new(*self, environment)))
    }
}

/// The options, checked.
#[derive(Debug, Clone)]
pub struct Config {
    rows: u64,
    rows_per_second: Option<f64>,
    blocks: Blocks,
    base_time: i64,
    columns: Vec<Column>,
    schema: SchemaRef,
}

/// How one column is made.
#[derive(Debug, Clone)]
struct Column {
    kind: Kind,
    data_type: DataType,
    /// Keeps its random numbers apart from the other columns', wherever it stands.
    salt: u64,
    /// Values are null when their draw is below this.
    null_below: u64,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Whole numbers (of decimals: unscaled).
    Integers {
        min: i64,
        max: i64,
    },
    Floats {
        min: f64,
        max: f64,
    },
    Booleans,
    Times {
        past_ms: u64,
    },
    Texts {
        length: usize,
    },
    Sequence {
        start: i64,
    },
}

impl Config {
    /// Reads options and columns of a table.
    pub fn parse(spec: &SourceSpec) -> Result<Self, Problems> {
        let mut options = Options::new(&spec.table, &spec.options);
        let rate = options.integer("rows-per-second", 10_000, -1..=1_000_000_000);
        let rows = options.integer("number-of-rows", i64::MAX, 0..=i64::MAX);
        let seed = options.integer("seed", 0, 0..=i64::MAX) as u64;
        let base_time = options.time("base-time", BASE_TIME);
        let mut rows = if rows == i64::MAX { u64::MAX } else { rows as u64 };
        let mut columns = Vec::new();
        for field in spec.declared.fields() {
            let (column, end) = column(&mut options, field, seed);
            rows = rows.min(end);
            if spec.physical.index_of(field.name()).is_ok() {
                columns.push((field.name().clone(), column));
            }
        }
        let splits = options.integer("splits", 24, 1..=4_096) as u64;
        options.finish()?;
        let ordered = spec.physical.fields().iter().filter_map(|field| columns.iter().find(|(name, _)| name == field.name()));
        let columns = ordered.map(|(_, column)| column.clone()).collect();
        let blocks = Blocks { rows: BLOCK_ROWS, splits: splits.min(rows.div_ceil(BLOCK_ROWS)).max(1) };
        let rows_per_second = (rate > 0).then_some(rate as f64);
        Ok(Self { rows, rows_per_second, blocks, base_time, columns, schema: SchemaRef::clone(&spec.physical) })
    }
}

/// How a column is made, and the row at which its sequence ends.
fn column(options: &mut Options<'_>, field: &Field, seed: u64) -> (Column, u64) {
    let name = field.name();
    let option = |suffix: &str| format!("fields.{name}.{suffix}");
    let sequence = options.choice(&option("kind"), &[("random", false), ("sequence", true)], false);
    let mut end_row = u64::MAX;
    let bounds = match field.data_type() {
        DataType::Int8 => Some((i64::from(i8::MIN), i64::from(i8::MAX))),
        DataType::Int16 => Some((i64::from(i16::MIN), i64::from(i16::MAX))),
        DataType::Int32 => Some((i64::from(i32::MIN), i64::from(i32::MAX))),
        DataType::Int64 => Some((i64::MIN, i64::MAX)),
        DataType::Decimal128(precision, _) => {
            let max = 10_i64.pow(u32::from(*precision).min(18)) - 1;
            Some((-max, max))
        }
        DataType::Date32 => Some((0, 36_524)),
        _ => None,
    };
    let kind = if sequence {
        let (low, high) = bounds.unwrap_or((i64::MIN, i64::MAX));
        if options.required(&option("start"), "1").is_none() | options.required(&option("end"), "1000").is_none() {
            return (Column { kind: Kind::Booleans, data_type: DataType::Null, salt: 0, null_below: 0 }, end_row);
        }
        let start = options.integer(&option("start"), 0, low..=high);
        let end = options.integer(&option("end"), high, low..=high);
        end_row = if end < start { 0 } else { (end.wrapping_sub(start) as u64).saturating_add(1) };
        Kind::Sequence { start }
    } else {
        match (field.data_type(), bounds) {
            (_, Some((low, high))) => {
                let min = options.integer(&option("min"), low, low..=high);
                let max = options.integer(&option("max"), high, low..=high);
                if min > max {
                    options.bad_value(&option("max"), format!("at least the minimum, {min}"));
                }
                Kind::Integers { min, max: max.max(min) }
            }
            (DataType::Float32 | DataType::Float64, _) => {
                let float = |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite());
                let min = options.parsed(&option("min"), "a number", float).unwrap_or(0.0);
                let max = options.parsed(&option("max"), "a number", float).unwrap_or(1.0);
                Kind::Floats { min, max }
            }
            (DataType::Timestamp(TimeUnit::Millisecond, _), _) => {
                Kind::Times { past_ms: options.duration(&option("max-past")).map_or(0, |past| past.as_millis() as u64) }
            }
            (DataType::Utf8, _) => Kind::Texts { length: options.integer(&option("length"), 100, 0..=MAX_LENGTH) as usize },
            (DataType::Boolean, _) => Kind::Booleans,
            (other, _) => {
                options.problem(format!("column '{name}': datagen makes no values of the type {other}"));
                Kind::Booleans
            }
        }
    };
    if sequence && bounds.is_none() && field.data_type() != &DataType::Utf8 {
        options.problem(format!("column '{name}': a sequence needs a whole number or a text, not {}", field.data_type()));
    }
    let rate = |text: &str| text.parse::<f64>().ok().filter(|rate| (0.0..=1.0).contains(rate));
    let null_rate = options.parsed(&option("null-rate"), "a number from 0 to 1", rate).unwrap_or(0.0);
    if null_rate > 0.0 && !field.is_nullable() {
        options.bad_value(&option("null-rate"), "0: the column is NOT NULL");
    }
    let salt = name.bytes().fold(draw(seed, 0x6461_7461), |salt, byte| draw(salt, u64::from(byte)));
    let null_below = (null_rate * u64::MAX as f64) as u64;
    (Column { kind, data_type: field.data_type().clone(), salt, null_below }, end_row)
}

/// See the module's documentation.
pub struct DatagenSource {
    config: Arc<Config>,
    runtime: Handle,
}

impl DatagenSource {
    /// A source with these options.
    pub fn new(config: Config, environment: &Environment) -> Self {
        Self { config: Arc::new(config), runtime: environment.runtime.clone() }
    }
}

impl Source for DatagenSource {
    fn discover(&self) -> Result<Vec<SplitId>> {
        Ok(self.config.blocks.ids())
    }

    fn open(&self, split: &SplitId, start: Start<'_>, waker: Waker) -> Result<Box<dyn SplitReader>> {
        let next = self.config.blocks.open("datagen", split, start.offset()?)?;
        let pace = self.config.rows_per_second.map(|rate| Pace::new(rate, self.config.blocks.round_of(next), self.runtime.clone(), waker));
        Ok(Box::new(Reader { config: Arc::clone(&self.config), next, pace }))
    }
}

struct Reader {
    config: Arc<Config>,
    /// Number of the next row.
    next: u64,
    pace: Option<Pace>,
}

impl SplitReader for Reader {
    fn read(&mut self, rows: usize) -> Result<Read> {
        if self.next >= self.config.rows {
            return Ok(Read::End);
        }
        let limit = self.config.rows.min(self.pace.as_ref().map_or(u64::MAX, Pace::due));
        let (spans, next) = self.config.blocks.spans(self.next, rows.max(1) as u64, limit);
        if spans.is_empty() {
            if let Some(pace) = &self.pace {
                pace.wake_at(self.next);
            }
            return Ok(Read::Pending);
        }
        self.next = next;
        let numbers: Vec<u64> = spans.iter().flat_map(|span| span.numbers(BLOCK_ROWS)).collect();
        self.config.batch(&numbers).map(Read::Rows)
    }

    fn offset(&self) -> serde_json::Value {
        self.next.into()
    }

    fn backlog(&self) -> Option<u64> {
        (self.config.rows != u64::MAX).then(|| self.config.blocks.backlog(self.next, self.config.rows))
    }
}

impl Config {
    fn batch(&self, numbers: &[u64]) -> Result<RecordBatch> {
        let columns = self.columns.iter().map(|column| self.column(column, numbers)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(numbers.len()));
        Ok(RecordBatch::try_new_with_options(SchemaRef::clone(&self.schema), columns, &options)?)
    }

    fn column(&self, column: &Column, numbers: &[u64]) -> Result<ArrayRef> {
        let draws = || numbers.iter().map(|n| draw(column.salt, *n));
        let array: ArrayRef = match column.kind {
            Kind::Booleans => Arc::new(BooleanArray::from_iter(draws().map(|r| Some(r >> 63 == 1)))),
            Kind::Floats { min, max } => {
                let values = draws().map(|r| min + (max - min) * (r >> 11) as f64 / (1_u64 << 53) as f64);
                match column.data_type {
                    DataType::Float32 => Arc::new(values.map(|value| value as f32).collect::<Float32Array>()),
                    _ => Arc::new(values.collect::<Float64Array>()),
                }
            }
            Kind::Times { past_ms } => {
                let spacing = 1000.0 / self.rows_per_second.unwrap_or(10_000.0);
                let past = |r: u64| ((u128::from(r) * (u128::from(past_ms) + 1)) >> 64) as i64;
                let values = numbers.iter().map(|n| self.base_time + (*n as f64 * spacing) as i64 - past(draw(column.salt, *n)));
                Arc::new(TimestampMillisecondArray::from_iter_values(values).with_data_type(column.data_type.clone()))
            }
            Kind::Texts { length } => {
                let mut texts = StringBuilder::with_capacity(numbers.len(), numbers.len() * length);
                let mut text = String::with_capacity(length);
                for r in draws() {
                    text.clear();
                    text.extend((0..length as u64).map(|i| char::from(b"0123456789abcdef"[(draw(r, i) >> 60) as usize])));
                    texts.append_value(&text);
                }
                Arc::new(texts.finish())
            }
            Kind::Integers { min, max } => {
                let span = u128::from(max.wrapping_sub(min) as u64) + 1;
                integers(&column.data_type, draws().map(|r| min.wrapping_add(((u128::from(r) * span) >> 64) as i64)))
            }
            Kind::Sequence { start } => integers(&column.data_type, numbers.iter().map(|n| start.wrapping_add(*n as i64))),
        };
        if column.null_below == 0 {
            return Ok(array);
        }
        let nulls: NullBuffer = numbers.iter().map(|n| draw(column.salt ^ 0x6e75_6c6c, *n) >= column.null_below).collect();
        Ok(make_array(array.to_data().into_builder().nulls(Some(nulls)).build()?))
    }
}

#[cfg(test)]
mod tests;

/// Whole numbers in a column's type; they are within its range.
fn integers(data_type: &DataType, values: impl Iterator<Item = i64>) -> ArrayRef {
    match data_type {
        DataType::Int8 => Arc::new(Int8Array::from_iter_values(values.map(|value| value as i8))),
        DataType::Int16 => Arc::new(Int16Array::from_iter_values(values.map(|value| value as i16))),
        DataType::Int32 => Arc::new(Int32Array::from_iter_values(values.map(|value| value as i32))),
        DataType::Date32 => Arc::new(Date32Array::from_iter_values(values.map(|value| value as i32))),
        DataType::Decimal128(..) => Arc::new(Decimal128Array::from_iter_values(values.map(i128::from)).with_data_type(data_type.clone())),
        DataType::Utf8 => {
            let mut texts = StringBuilder::new();
            values.for_each(|value| texts.append_value(value.to_string()));
            Arc::new(texts.finish())
        }
        _ => Arc::new(Int64Array::from_iter_values(values)),
    }
}
