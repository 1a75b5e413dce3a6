//! [pure] The seam to tables that are asked for rows by key: the right side of lookup joins.
//!
//! A lookup is as of processing time: it is no input of the job, nothing of it is in checkpoints, and a replay asks again.

use arrow::array::RecordBatch;

use crate::error::Result;
use crate::source::Waker;
use crate::time::Millis;

/// Keys of one request, at most.
pub const MAX_KEYS: usize = 1_000;

/// Names a request of one subtask.
pub type Ticket = u64;

/// What an operator may keep of the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachePolicy {
    /// Rows that each subtask keeps, at most; a key without rows counts as one. The key that was not used for longest goes first.
    pub max_rows: usize,
    /// An answer is good for so long, processing time.
    pub expire_after_write: Option<Millis>,
    /// A key that nobody asks for this long is forgotten, processing time.
    pub expire_after_access: Option<Millis>,
    /// Whether it is remembered that a key has no rows.
    pub missing: bool,
}

/// A configured table to ask: one a lookup join and engine. Implementations do I/O; the simulator has its own.
pub trait Lookup: Send + Sync {
    /// What may be kept; `None`: every row is asked for.
    fn cache(&self) -> Option<CachePolicy>;

    /// The table for one subtask. Must not block: it is called on a worker's thread. The waker is called, from any thread,
    /// when an answer or an error has come.
    fn open(&self, waker: Waker) -> Result<Box<dyn LookupTable>>;
}

/// Asks for rows. Owned by one worker thread; not `Send`.
pub trait LookupTable {
    /// Asks for the rows of each of `keys`: at most [`MAX_KEYS`] distinct ones, none null, in the key columns' order.
    /// Must not wait.
    fn ask(&mut self, ticket: Ticket, keys: RecordBatch) -> Result<()>;

    /// An answer that has come, in any order; `None`: there is none now, and the waker will tell. Must not wait.
    ///
    /// # Errors
    /// When an answer cannot be had: the job has to start again.
    fn answer(&mut self) -> Result<Option<Answer>>;
}

/// What a table says to a request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The request.
    pub ticket: Ticket,
    /// Rows of the table, key after key; among the rows of a key, in an order that depends on nothing but the rows.
    pub rows: RecordBatch,
    /// For each row the number of its key in the request, rising.
    pub keys: Vec<u32>,
}
