//! [pure] Joins rows with the rows that an external table has for their keys at the moment (temporal join by processing
//! time).
//!
//! Invariants:
//! - Rows leave in the order in which they came, whatever the order of answers; an epoch stays open until all have left.
//! - A null in a key matches nothing. Of the keys of a batch each is asked for once, and none that is known or under way.
//! - Several batches may wait at once ([`MAX_WAITING_BATCHES`], [`MAX_WAITING_ROWS`]); then no more is taken.
//! - What is kept of answers is no state: it ages with the ticks' time, and a restored operator begins with nothing.

mod cache;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::{interleave, take, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashTable;

use self::cache::Cache;
use crate::error::{DataflowError, ErrorKind, Result};
use crate::graph::LookupJoinSpec;
use crate::hash::hash_columns;
use crate::lookup::{Answer, CachePolicy, LookupTable, MAX_KEYS, Ticket};
use crate::operator::{MAX_BATCH_ROWS, Operator, Output, Progress};
use crate::time::{EpochEnd, Millis};

/// Batches that may wait for answers at once.
const MAX_WAITING_BATCHES: usize = 16;
/// Rows of them, beyond which no more batches are taken.
const MAX_WAITING_ROWS: usize = 65_536;
/// The key of a row that has a null in it.
const NO_KEY: u32 = u32::MAX;
/// The part of a batch's parts that is one row of nulls.
const NULLS: usize = 0;

/// See the module's documentation.
pub struct LookupJoin {
    title: String,
    /// Columns of the input.
    keys: Vec<usize>,
    outer: bool,
    key_schema: SchemaRef,
    schema: SchemaRef,
    /// One row of the table's columns.
    nulls: RecordBatch,
    converter: RowConverter,
    table: Box<dyn LookupTable>,
    cache: Option<Cache>,
    /// Processing time as of the last tick.
    now: Millis,
    next: Ticket,
    /// Keys that are under way.
    asked: HashTable<Asked>,
    requests: BTreeMap<Ticket, Vec<KeyBytes>>,
    queue: VecDeque<Waiting>,
}

/// A key's hash and its bytes.
type KeyBytes = (u64, Box<[u8]>);

struct Asked {
    hash: u64,
    key: Box<[u8]>,
    place: Place,
}

/// Where the rows of a key are.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// To come: the key's number in a request.
    Asked { ticket: Ticket, number: u32 },
    /// In one of the batch's parts.
    Found { part: u32, start: u32, len: u32 },
}

/// A batch that waits for answers or is about to leave.
struct Waiting {
    batch: RecordBatch,
    /// For each row its key's number, or [`NO_KEY`].
    key_of: Vec<u32>,
    /// By key.
    places: Vec<Place>,
    /// Rows of the table that the places are in.
    parts: Vec<RecordBatch>,
    open: BTreeSet<Ticket>,
    /// How far it has left: the row, and how many of its matches.
    row: usize,
    matched: u32,
}

impl LookupJoin {
    /// Joins rows of `input` with those of `table` to rows of `schema`: the input's columns, then the table's.
    ///
    /// # Errors
    /// `Bug` when the spec does not fit the schemas.
    pub fn new(
        title: String,
        spec: &LookupJoinSpec,
        input: &SchemaRef,
        schema: &SchemaRef,
        table: Box<dyn LookupTable>,
        cache: Option<CachePolicy>,
    ) -> Result<Self> {
        let bug = |message: &str| DataflowError::new(title.clone(), ErrorKind::Bug, message);
        let types = spec.keys.iter().zip(spec.table.keys.fields());
        let fits = |(column, key): (&usize, &arrow::datatypes::FieldRef)| {
            input.fields().get(*column).is_some_and(|field| field.data_type() == key.data_type())
        };
        if spec.keys.is_empty() || spec.keys.len() != spec.table.keys.fields().len() || !types.into_iter().all(fits) {
            return Err(bug("the key columns do not fit the table's"));
        }
        if schema.fields().len() != input.fields().len() + spec.table.columns.fields().len() {
            return Err(bug("the output is not the input and the table's columns"));
        }
        let columns = spec.table.columns.fields().iter();
        let nulls: Vec<ArrayRef> = columns.map(|field| new_null_array(field.data_type(), 1)).collect();
        let one_row = RecordBatchOptions::new().with_row_count(Some(1));
        let fields = spec.table.keys.fields().iter().map(|field| SortField::new(field.data_type().clone()));
        Ok(Self {
            title,
            keys: spec.keys.clone(),
            outer: spec.outer,
            key_schema: Arc::clone(&spec.table.keys),
            schema: Arc::clone(schema),
            nulls: RecordBatch::try_new_with_options(Arc::clone(&spec.table.columns), nulls, &one_row)?,
            converter: RowConverter::new(fields.collect())?,
            table,
            cache: cache.map(Cache::new),
            now: 0,
            next: 0,
            asked: HashTable::new(),
            requests: BTreeMap::new(),
            queue: VecDeque::new(),
        })
    }

    /// Finds the place of each row's key, and asks for those that are not known.
    fn take_in(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns: Vec<ArrayRef> = self.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
        let nulls = columns.iter().fold(None, |nulls, column| NullBuffer::union(nulls.as_ref(), column.logical_nulls().as_ref()));
        let mut hashes = Vec::new();
        hash_columns(&columns, batch.num_rows(), &mut hashes)?;
        let encoded = self.converter.convert_columns(&columns)?;
        let mut waiting = Waiting {
            batch: batch.clone(),
            key_of: Vec::with_capacity(batch.num_rows()),
            places: Vec::new(),
            parts: vec![self.nulls.clone()],
            open: BTreeSet::new(),
            row: 0,
            matched: 0,
        };
        // The batch's keys by their first rows.
        let mut seen: HashTable<(u32, u32)> = HashTable::new();
        let mut unknown: Vec<u32> = Vec::new();
        let mut chunks: BTreeMap<u32, u32> = BTreeMap::new();
        for (row, hash) in hashes.iter().enumerate() {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                waiting.key_of.push(NO_KEY);
                continue;
            }
            let key = encoded.row(row);
            if let Some((_, number)) = seen.find(*hash, |(first, _)| encoded.row(*first as usize) == key) {
                waiting.key_of.push(*number);
                continue;
            }
            let number = waiting.places.len() as u32;
            seen.insert_unique(*hash, (row as u32, number), |(first, _)| hashes[*first as usize]);
            waiting.key_of.push(number);
            let place = match self.known(*hash, key.as_ref(), &mut waiting.parts, &mut chunks) {
                Some(place) => place,
                None => {
                    let place = self.to_ask(unknown.len());
                    self.asked.insert_unique(*hash, Asked { hash: *hash, key: key.as_ref().into(), place }, |asked| asked.hash);
                    unknown.push(row as u32);
                    place
                }
            };
            if let Place::Asked { ticket, .. } = place {
                waiting.open.insert(ticket);
            }
            waiting.places.push(place);
        }
        self.queue.push_back(waiting);
        for rows in unknown.chunks(MAX_KEYS) {
            let keys = rows.iter().map(|row| (hashes[*row as usize], encoded.row(*row as usize).as_ref().into())).collect();
            let indices = UInt32Array::from(rows.to_vec());
            let columns = columns.iter().map(|column| take(column, &indices, None)).collect::<Result<_, _>>()?;
            self.requests.insert(self.next, keys);
            self.table.ask(self.next, RecordBatch::try_new(Arc::clone(&self.key_schema), columns)?)?;
            self.next += 1;
        }
        Ok(())
    }

    /// Where the key that is the `nth` to be asked for will be found.
    fn to_ask(&self, nth: usize) -> Place {
        Place::Asked { ticket: self.next + (nth / MAX_KEYS) as Ticket, number: (nth % MAX_KEYS) as u32 }
    }

    /// The place of a key that is under way or kept.
    fn known(&mut self, hash: u64, key: &[u8], parts: &mut Vec<RecordBatch>, chunks: &mut BTreeMap<u32, u32>) -> Option<Place> {
        if let Some(asked) = self.asked.find(hash, |asked| &*asked.key == key) {
            return Some(asked.place);
        }
        let cache = self.cache.as_mut()?;
        let rows = cache.get(hash, key, self.now)?;
        let part = match chunks.get(&rows.chunk) {
            Some(part) => *part,
            // Of a key that has no rows, no batch may be left.
            None if rows.len == 0 => NULLS as u32,
            None => {
                parts.push(cache.chunk(rows.chunk)?.clone());
                chunks.insert(rows.chunk, parts.len() as u32 - 1);
                parts.len() as u32 - 1
            }
        };
        Some(Place::Found { part, start: rows.start, len: rows.len })
    }

    /// Takes in what has come.
    fn hear(&mut self) -> Result<()> {
        while !self.requests.is_empty() {
            let Some(answer) = self.table.answer()? else { return Ok(()) };
            self.settle(answer)?;
        }
        Ok(())
    }

    fn settle(&mut self, Answer { ticket, rows, keys }: Answer) -> Result<()> {
        let bug = |message: &str| DataflowError::new(self.title.clone(), ErrorKind::Bug, format!("an answer {message}"));
        let Some(request) = self.requests.remove(&ticket) else { return Err(bug("to no question")) };
        if rows.num_rows() != keys.len() || rows.schema().fields() != self.nulls.schema().fields() {
            return Err(bug("of other columns"));
        }
        if !keys.is_sorted() || keys.last().is_some_and(|last| *last as usize >= request.len()) {
            return Err(bug("about other keys"));
        }
        // Where the rows of each key begin, and of the last one end.
        let starts: Vec<u32> = (0..=request.len() as u32).map(|key| keys.partition_point(|of| *of < key) as u32).collect();
        for waiting in self.queue.iter_mut().filter(|waiting| waiting.open.contains(&ticket)) {
            waiting.found(ticket, &rows, &starts);
        }
        for (hash, key) in &request {
            if let Ok(entry) = self.asked.find_entry(*hash, |asked| asked.key == *key) {
                entry.remove();
            }
        }
        match &mut self.cache {
            Some(cache) => {
                let keys = request.into_iter().zip(starts.windows(2)).map(|((hash, key), place)| (hash, key, place[0], place[1]));
                cache.put(&rows, keys, self.now)
            }
            None => Ok(()),
        }
    }

    /// Emits a batch if the first that waits is complete.
    fn go_on(&mut self, out: &mut Output) -> Result<Progress> {
        self.hear()?;
        if let Some(first) = self.queue.front_mut().filter(|first| first.open.is_empty()) {
            if let Some(batch) = first.leave(self.outer, &self.schema)? {
                out.emit(batch);
            }
            if first.row == first.batch.num_rows() {
                self.queue.pop_front();
            }
        }
        Ok(match self.queue.front() {
            None => Progress::Done,
            Some(first) if first.open.is_empty() => Progress::More,
            Some(_) => {
                let rows: usize = self.queue.iter().map(|waiting| waiting.batch.num_rows()).sum();
                Progress::Waiting { room: self.queue.len() < MAX_WAITING_BATCHES && rows < MAX_WAITING_ROWS }
            }
        })
    }
}

impl Waiting {
    /// The answer to one of its requests has come.
    fn found(&mut self, of: Ticket, rows: &RecordBatch, starts: &[u32]) {
        self.open.remove(&of);
        let part = self.parts.len() as u32;
        self.parts.push(rows.clone());
        for place in &mut self.places {
            if let Place::Asked { ticket, number } = *place
                && ticket == of
            {
                let (start, end) = (starts[number as usize], starts[number as usize + 1]);
                *place = Place::Found { part, start, len: end - start };
            }
        }
    }

    /// The next rows of the result, at most [`MAX_BATCH_ROWS`]; all answers are there.
    fn leave(&mut self, outer: bool, schema: &SchemaRef) -> Result<Option<RecordBatch>> {
        let rows = self.batch.num_rows();
        let mut left: Vec<u32> = Vec::new();
        let mut right: Vec<(usize, usize)> = Vec::new();
        while self.row < rows && left.len() < MAX_BATCH_ROWS {
            let (part, start, len) = match self.places.get(self.key_of[self.row] as usize) {
                Some(Place::Found { part, start, len }) => (*part as usize, *start, *len),
                _ => (NULLS, 0, 0),
            };
            let (part, start, len) = if len == 0 && outer { (NULLS, 0, 1) } else { (part, start, len) };
            let more = (len - self.matched).min((MAX_BATCH_ROWS - left.len()) as u32);
            let first = start + self.matched;
            left.extend(std::iter::repeat_n(self.row as u32, more as usize));
            right.extend((first..first + more).map(|row| (part, row as usize)));
            self.matched += more;
            if self.matched == len {
                (self.row, self.matched) = (self.row + 1, 0);
            }
        }
        if left.is_empty() {
            return Ok(None);
        }
        let each_once = left.len() == rows && left.iter().enumerate().all(|(place, row)| place == *row as usize);
        let kept = if each_once { self.batch.clone() } else { take_record_batch(&self.batch, &UInt32Array::from(left))? };
        let mut columns = kept.columns().to_vec();
        for column in 0..self.parts[NULLS].num_columns() {
            let parts: Vec<&dyn Array> = self.parts.iter().map(|part| part.column(column).as_ref()).collect();
            columns.push(interleave(&parts, &right)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(right.len()));
        Ok(Some(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?))
    }
}

impl Operator for LookupJoin {
    fn on_batch(&mut self, _port: usize, batch: &RecordBatch, out: &mut Output) -> Result<Progress> {
        self.take_in(batch)?;
        self.go_on(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        self.go_on(out)
    }

    fn on_epoch_end(&mut self, end: &EpochEnd, _out: &mut Output) -> Result<Progress> {
        debug_assert!(self.queue.is_empty(), "an epoch ends when all rows have left");
        self.now = end.wall_time;
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests;
