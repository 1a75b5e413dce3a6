//! [io] `results`: the newest results of a query, kept in the job's storage and pushed to clients.
//!
//! ```sql
//! CREATE TABLE hot (auction BIGINT, n BIGINT) WITH ('connector' = 'results');
//! INSERT INTO hot SELECT auction, COUNT(*) FROM bid GROUP BY auction;
//! ```
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `results.retain-rows` | `1000000` | rows of the newest checkpoints that are kept (changes, of a change-log) |
//! | `results.retain-bytes` | `256mb` | their bytes |
//! | `results.retain-checkpoints` | `4096` | checkpoints that had rows |
//! | `results.view-rows` | `100000` | different rows that the current view of a change-log may have |
//! | `results.slow-client-timeout` | `30 s` | a client that takes nothing for so long is cut off |
//!
//! ```text
//!   writers ──► segments (rows, Arrow IPC) ──► committables ──► the checkpoint's record
//!                                                                      │ permit
//!   clients ◄── worker 0's supervisor ◄── announcement ◄── index of the epoch (keeper, process 0)
//! ```
//!
//! **Claim.** A client that goes on from the cursor of the last row it has meets every later row once, in one order that
//! never changes; or it is told that rows are gone.
//!
//! **Why.** (1) Segments are named by committables, which a record carries until they are indexed: [`Sink::gathers`] has
//! them indexed before the permit of their record goes to anyone, and a later record leaves out only what was confirmed
//! by permit. (2) An index is written by one process of a generation from one record, in the order (subtask, part,
//! number); whoever writes it again, after a crash or in a later generation, writes the same bytes under the same name:
//! the row number that it begins with follows from the index before it, and the newest index is never removed. A zombie
//! that wakes late can only write an index that is there, or one whose neighbours are gone, which readers leave out
//! ([`index::Chain`]). (3) Clients are shown only what is indexed. (4) A job that goes back to an older state (a
//! savepoint) begins another line, with cursors that name it.
//!
//! All three delivery semantics commit in this way: results are never lost or repeated by the sink itself.

mod config;
pub mod encode;
mod fold;
pub mod index;
mod keeper;
pub(crate) mod segment;
mod sink;
mod store;
mod view;

use std::sync::Arc;

use rheos_dataflow::error::Result;
use rheos_dataflow::graph::OperatorId;
use rheos_dataflow::sink::Sink;

use crate::connector::{Connector, SinkTable};
use crate::environment::Environment;

pub use config::Config;
pub(crate) use config::check_tables;
pub use fold::{Fold, Folded};
pub use keeper::{Announce, Announcement};
pub use sink::ResultsSink;
pub use store::TableStore;

/// The connector.
pub const CONNECTOR: Connector =
    Connector { sink: Some(|spec| Ok(Box::new(Config::parse(spec)?))), accepts_changelog: |_| true, ..Connector::named("results") };

impl SinkTable for Config {
    fn build(self: Box<Self>, _id: &OperatorId, environment: &Environment) -> Result<Arc<dyn Sink>> {
        Ok(Arc::new(ResultsSink::new(*self, environment)))
    }
}

#[cfg(test)]
mod tests;
