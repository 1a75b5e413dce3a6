//! [pure] The types of the admin API.

use std::collections::BTreeMap;

pub use rheos_api::status::Phase;
use serde::{Deserialize, Serialize};

/// All that is known of a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobView {
    /// Rises with every change that a decision could depend on; what `?after=` compares.
    pub version: u64,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Unique id; part of every path in the store.
    pub uid: String,
    /// Where the job is in its life.
    pub state: Phase,
    /// Whether it was asked to stop.
    pub stopping: bool,
    /// The generation that runs, or the one that is being started.
    pub generation: u64,
    /// When the first row of this generation had gone through, ms since 1970.
    #[serde(default)]
    pub flowing_since: Option<i64>,
    /// Newest epoch that every worker has closed.
    pub epoch: u64,
    /// Workers.
    pub parallelism: u32,
    /// Key groups.
    pub max_parallelism: u32,
    /// Smallest watermark of all sources, ms since 1970.
    pub watermark: Option<i64>,
    /// How far the watermark is behind the newest tick, ms.
    pub watermark_lag_ms: Option<i64>,
    /// Rows.
    pub rows: Rows,
    /// Engine processes.
    pub workers: Vec<WorkerView>,
    /// Operators, over all processes, by id.
    pub operators: BTreeMap<String, OperatorView>,
    /// Checkpoints.
    pub checkpoints: Checkpoints,
    /// Savepoints asked for in this run, by id.
    pub savepoints: BTreeMap<String, SavepointView>,
    /// Restarts.
    pub restarts: Restarts,
    /// Why the job failed. The kind `fenced`: another coordinator has taken over; this one rests until it gets a higher
    /// assignment.
    pub failure: Option<Failure>,
    /// Version of the assignment in force; pods only.
    #[serde(default)]
    pub assignment: Option<u64>,
    /// Whether this pod coordinates the job.
    #[serde(default)]
    pub coordinator: bool,
    /// Whether this pod was asked to leave.
    #[serde(default)]
    pub leaving: bool,
    /// The pods of the assignment, by process; empty outside a cluster.
    #[serde(default)]
    pub members: Vec<MemberView>,
}

/// A pod of the assignment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberView {
    /// Its name.
    pub pod: String,
    /// Where its member port is.
    pub address: String,
    /// Since when it has no engine and cannot be given one, ms since 1970; none: it is there.
    pub away_since: Option<i64>,
    /// Why it is away.
    pub reason: Option<String>,
}

/// Rows of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rows {
    /// Read by sources. After a restart, rows that are read again count once (to about a second's work).
    pub read: u64,
    /// Given to sinks, counted likewise.
    pub written: u64,
    /// Read in the last seconds, a second.
    pub read_per_second: f64,
    /// Written in the last seconds, a second.
    pub written_per_second: f64,
}

/// One engine process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerView {
    /// Its index.
    pub process: usize,
    /// Its process id, while it lives.
    pub pid: Option<u32>,
    /// Where its peers reach it.
    pub address: String,
    /// Whether its dataflow runs.
    pub running: bool,
    /// Newest epoch it has closed.
    pub epoch: u64,
    /// Epochs open behind the newest.
    pub epoch_lag: u64,
    /// Bytes sent but not yet known to be consumed.
    pub in_flight_bytes: u64,
    /// Most memory it has held, bytes.
    pub peak_rss_bytes: u64,
    /// Time of each part of its start, ms.
    pub start_ms: BTreeMap<String, f64>,
}

/// One operator.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorView {
    /// For people.
    pub title: String,
    /// Rows in.
    pub rows_in: u64,
    /// Rows out.
    pub rows_out: u64,
    /// Time spent, ms, since the generation began.
    pub busy_ms: f64,
    /// Rows dropped as late.
    pub late_rows: u64,
    /// Malformed records skipped.
    pub skipped: u64,
    /// Keys in state.
    pub state_keys: u64,
    /// Bytes in state.
    pub state_bytes: u64,
}

/// Checkpoints of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoints {
    /// Complete ones.
    pub completed: u64,
    /// Given up.
    pub failed: u64,
    /// The newest, at most [`crate::limits::HISTORY_LIMIT`], newest last.
    pub history: Vec<CheckpointView>,
    /// Why the newest failure happened.
    pub last_failure: Option<String>,
}

/// One complete checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointView {
    /// The generation that took it.
    pub generation: u64,
    /// The epoch it closes.
    pub epoch: u64,
    /// Its number in the log.
    pub record: u64,
    /// Bytes newly written.
    pub bytes: u64,
    /// From tick to record, ms.
    pub duration_ms: f64,
    /// When it was complete, ms since 1970.
    pub completed_at: i64,
}

/// One savepoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum SavepointView {
    /// Under way.
    Pending,
    /// Complete.
    Completed {
        /// Where it is.
        uri: String,
        /// The epoch it closes.
        epoch: u64,
    },
    /// Given up.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A worker's container ends with this code (`EX_NOPERM`) when a store refuses the credentials that it was started with.
pub const EXIT_DENIED: u8 = 77;

/// The words by which a cause of a restart says that the kernel killed an engine for want of memory.
pub const OUT_OF_MEMORY: &str = "out of memory";

/// Restarts of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restarts {
    /// How many.
    pub count: u64,
    /// Why the newest happened.
    pub last_cause: Option<String>,
    /// The newest generation that began because members or settings changed, not because one was lost; 0: none.
    #[serde(default)]
    pub moved: u64,
    /// The newest, at most [`crate::limits::HISTORY_LIMIT`], newest last; changes of members are among them.
    pub timings: Vec<RestartTiming>,
}

/// How long a restart took, ms since the loss was seen; or a change of members, ms since the generation was asked to
/// drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestartTiming {
    /// The generation that it started.
    pub generation: u64,
    /// All engines of the lost generation were gone.
    pub cleared_ms: f64,
    /// The new generation was minted.
    pub minted_ms: f64,
    /// Every engine ran.
    pub running_ms: Option<f64>,
    /// The first row had gone through.
    pub first_row_ms: Option<f64>,
}

/// Why something failed, and who has to act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Kind of failure in words: `bad data`, `invalid job`, `bad state`, …
    pub kind: String,
    /// Operator, connector or part.
    pub place: String,
    /// What happened.
    pub message: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.kind, self.message)
    }
}

/// Body of `POST /v1/savepoints`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SavepointRequest {
    /// Names the savepoint; asking again with the same id takes no second one. Made up when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// Answer of `POST /v1/savepoints`: 200 when complete, 202 while pending.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavepointResponse {
    /// The id.
    pub id: String,
    /// How far it is.
    pub savepoint: SavepointView,
}

/// Answer to a request that is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// What is wrong, and what would be right.
    pub error: String,
}

/// The results tables of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultsView {
    /// By name.
    pub tables: Vec<ResultsTable>,
}

/// A table whose rows are pushed to clients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultsTable {
    /// Its name.
    pub name: String,
    /// Names of its columns.
    pub columns: Vec<String>,
    /// Whether its rows say how they change it.
    pub changelog: bool,
    /// Rows that are kept.
    pub rows: u64,
    /// The oldest epoch that is kept.
    pub first_epoch: Option<u64>,
    /// The cursor of the newest row.
    pub last: Option<String>,
}
