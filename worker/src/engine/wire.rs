//! [pure] What supervisor and engine say to each other: JSON lines over one socket, the engine's standard input.
//!
//! Lines down: [`Job`] as soon as the process exists (plan the SQL, then wait: it may be a standby), then [`Start`] with
//! the data listener's descriptor attached, then [`Command`]s. The engine answers on the same socket with [`Report`]s.
//! The end of the socket means that the supervisor is gone: the engine exits at once. Standard output belongs to the
//! `print` sink, standard error to the log. [`super::channel`] is the engine's end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use rheos_connectors::results::Announcement;
use rheos_control_api::OperatorView;
use rheos_dataflow::coordinator::Pacing;
use rheos_dataflow::sink::Delivery;
use rheos_dataflow::time::StopMode;
use serde::{Deserialize, Serialize};

/// A line may be this long, bytes.
pub const LINE_LIMIT: usize = 4 * 1024 * 1024;

/// The first line: what is the same for every process and every generation of a run.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Namespace of the job (`local` in local runs).
    pub namespace: String,
    /// Name of the job.
    pub job: String,
    /// Unique id of the job; part of every path in the store.
    pub uid: String,
    /// The SQL; every engine plans it and gets the same graph.
    pub sql: String,
    /// Whether sources produce only the columns that the job uses.
    pub pushdown: bool,
    /// Folder that relative paths in the SQL's options start from: the manifest's.
    pub base_dir: PathBuf,
    /// What is promised.
    pub delivery: Delivery,
    /// Workers of the job.
    pub parallelism: u32,
    /// Key groups of the job.
    pub max_parallelism: u32,
    /// Worker threads in this process; worker `i` runs in process `i / slots`.
    pub slots: u32,
    /// Where checkpoints are, as a URL (`file:///…`, `s3://bucket/prefix`).
    pub storage_uri: String,
    /// Options of the object store (endpoint, region, credentials); never logged.
    pub storage_options: BTreeMap<String, String>,
    /// Checkpoints to keep.
    pub retain: u32,
    /// Ticks and checkpoints.
    pub pacing: Pacing,
    /// Start although the checkpoint holds state of operators that the plan lacks.
    pub allow_non_restored_state: bool,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("namespace", &self.namespace)
            .field("job", &self.job)
            .field("uid", &self.uid)
            .field("parallelism", &self.parallelism)
            .field("storage_uri", &self.storage_uri)
            .finish_non_exhaustive()
    }
}

/// The second line: this process's place in one generation. The descriptor of its data listener, bound and listening,
/// comes attached to the first byte of the line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// The generation, minted by the coordinator.
    pub generation: u64,
    /// Number of the generation's start record: what to restore, pinned for all engines.
    pub start_record: u64,
    /// This process's index.
    pub process: usize,
    /// Data addresses of all processes of the generation, by index.
    pub addresses: Vec<SocketAddr>,
}

/// Supervisor to engine. Only process 0, which hosts the coordinator, gets any but `Ping`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "camelCase")]
pub enum Command {
    /// Take a savepoint under this id.
    Savepoint {
        /// The id, also the folder's name.
        id: String,
    },
    /// Take a checkpoint now.
    Checkpoint,
    /// Stop with a checkpoint.
    Stop,
    /// Keep to other settings from now on.
    Settings {
        /// Ticks and checkpoints.
        pacing: Pacing,
        /// Checkpoints to keep.
        retain: u32,
    },
    /// Answer with `Pong` from the worker thread: heartbeats find an engine that hangs.
    Ping {
        /// Echoed.
        nonce: u64,
    },
}

/// Engine to supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "camelCase")]
pub enum Report {
    /// State is restored, peers are connected, the dataflow is built.
    Running {
        /// Time of each part of the start, milliseconds.
        parts_ms: BTreeMap<String, f64>,
    },
    /// The first row after the start has gone through a sink or been counted at a source.
    FirstRow,
    /// Figures, about every second and once at the end.
    Stats(EngineStats),
    /// A checkpoint is complete (process 0).
    CheckpointCompleted {
        /// Its epoch.
        epoch: u64,
        /// Its record.
        record: u64,
        /// Bytes newly written.
        bytes: u64,
        /// Tick to record, milliseconds.
        duration_ms: f64,
        /// The savepoint that it was written as, and its URI.
        savepoint: Option<(String, String)>,
    },
    /// A checkpoint was given up (process 0).
    CheckpointFailed {
        /// Its epoch.
        epoch: u64,
        /// Why.
        reason: String,
    },
    /// The kept results of a table have changed (process 0).
    Results(Announcement),
    /// Answer to `Ping`.
    Pong {
        /// The ping's.
        nonce: u64,
    },
    /// The dataflow has drained and everything is committed; the engine exits with 0.
    Ended {
        /// Finished or suspended.
        mode: StopMode,
    },
    /// The engine exits with an error.
    Failed {
        /// `ErrorKind` in words.
        kind: String,
        /// Operator or connector.
        place: String,
        /// What happened.
        message: String,
        /// Whether a restart may help.
        restartable: bool,
    },
}

/// Figures of one engine process, since its start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineStats {
    /// Newest epoch closed by this process.
    pub epoch: u64,
    /// Rows read by sources.
    pub rows_in: u64,
    /// Rows given to sinks.
    pub rows_out: u64,
    /// Smallest watermark of the sources, ms; `None` before the first.
    pub watermark: Option<i64>,
    /// Newest wall time of a tick.
    pub wall_time: i64,
    /// Bytes sent but not yet known to be consumed.
    pub in_flight_bytes: u64,
    /// Epochs open behind the newest.
    pub epoch_lag: u64,
    /// p50 and p99 of the time from tick to closed epoch, ms (process 0).
    pub epoch_ms: (f64, f64),
    /// By operator id.
    pub operators: BTreeMap<String, OperatorView>,
    /// Most memory this process has held, bytes.
    #[serde(default)]
    pub peak_rss_bytes: u64,
}
