//! [pure] A simulated table to ask: its rows are a function of the key; when answers come, and in which order, is chance.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};

use super::executor::Delays;
use crate::error::Result;
use crate::lookup::{Answer, CachePolicy, Lookup, LookupTable, Ticket};
use crate::source::Waker;

/// Polls that an answer takes, at most.
const LONGEST: u64 = 12;
/// Rows kept: fewer than the keys that are drawn.
const CACHE_ROWS: usize = 40;
/// An answer is kept so long, ms of virtual time.
const CACHE_AGE: i64 = 25;

/// The rows of a key, `(label, n)`: none, one or two.
pub(super) fn rows_of(key: i64) -> Vec<(String, Option<i64>)> {
    (0..key.rem_euclid(3)).map(|row| (format!("{key}/{row}"), (row == 0).then_some(key * 10))).collect()
}

/// Its key column.
pub(super) fn key_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, true)]))
}

/// Its other columns.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("label", DataType::Utf8, true), Field::new("n", DataType::Int64, true)]))
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct SimLookup {
    pub(super) chance: Delays,
}

impl Lookup for SimLookup {
    fn cache(&self) -> Option<CachePolicy> {
        let policy = CachePolicy { max_rows: CACHE_ROWS, expire_after_write: Some(CACHE_AGE), expire_after_access: None, missing: true };
        Some(policy)
    }

    fn open(&self, _waker: Waker) -> Result<Box<dyn LookupTable>> {
        Ok(Box::new(SimTable { chance: self.chance.clone(), asked: Vec::new() }))
    }
}

struct SimTable {
    chance: Delays,
    /// Requests, and in how many polls each may be answered.
    asked: Vec<(Ticket, Vec<i64>, u64)>,
}

impl LookupTable for SimTable {
    fn ask(&mut self, ticket: Ticket, keys: RecordBatch) -> Result<()> {
        let keys = keys.column(0).as_primitive::<Int64Type>().values().to_vec();
        self.asked.push((ticket, keys, self.chance.draw(LONGEST)));
        Ok(())
    }

    fn answer(&mut self) -> Result<Option<Answer>> {
        self.asked.iter_mut().for_each(|(_, _, polls)| *polls = polls.saturating_sub(1));
        let ready: Vec<usize> = (0..self.asked.len()).filter(|request| self.asked[*request].2 == 0).collect();
        if ready.is_empty() {
            return Ok(None);
        }
        let (ticket, asked, _) = self.asked.remove(ready[self.chance.draw(ready.len() as u64) as usize]);
        let rows = (0..).zip(&asked).flat_map(|(number, key)| rows_of(*key).into_iter().map(move |row| (number, row)));
        let rows: Vec<(u32, (String, Option<i64>))> = rows.collect();
        let labels: ArrayRef = Arc::new(rows.iter().map(|(_, (label, _))| Some(label)).collect::<StringArray>());
        let numbers: ArrayRef = Arc::new(rows.iter().map(|(_, (_, n))| *n).collect::<Int64Array>());
        let keys = rows.iter().map(|(key, _)| *key).collect();
        Ok(Some(Answer { ticket, rows: RecordBatch::try_new(schema(), vec![labels, numbers])?, keys }))
    }
}
