//! The commit's protocol, step by step through the connector itself: what no run of a job can be made to do at will.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, UInt8Array};
use rheos_checkpoint::paths::JobPaths;
use rheos_connectors::Environment;
use rheos_connectors::jdbc::{JdbcSink, SinkConfig};
use rheos_connectors::staged::StagedStore;
use rheos_dataflow::changelog::KIND_COLUMN;
use rheos_dataflow::error::{ErrorKind, Result};
use rheos_dataflow::graph::{OperatorId, SinkSpec};
use rheos_dataflow::key_group::Subtask;
use rheos_dataflow::sink::{CommitPermit, Committable, Delivery, Sink, SinkContext, SinkWriter};

use super::{rows, server};
use crate::block_on;

/// A job over a checkpoint storage.
struct Line {
    storage: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    table: String,
    key: bool,
}

/// A generation of it: a sink and the writer of a subtask.
struct Generation {
    sink: JdbcSink,
    writer: Box<dyn SinkWriter>,
    number: u64,
    subtask: u32,
}

impl Line {
    fn new(table: &str, key: bool) -> Self {
        let columns = if key { "k bigint PRIMARY KEY, v bigint" } else { "k bigint, v bigint" };
        server().query(&format!("CREATE TABLE {table} ({columns})"));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { storage: tempfile::tempdir().unwrap(), runtime, table: table.to_owned(), key }
    }

    fn sink(&self) -> JdbcSink {
        let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let spec = SinkSpec {
            table: "out".to_owned(),
            options: [
                option("connector", "jdbc"),
                option("url", &server().url()),
                option("table-name", &self.table),
                option("username", "owner"),
                option("password", rheos_e2e::postgres::PASSWORD),
                option("connection.max-retry-timeout", "1 s"),
            ]
            .into(),
            schema: batch(&[]).project(&[0, 1]).unwrap().schema(),
            partition_by: Vec::new(),
            primary_key: if self.key { vec!["k".to_owned()] } else { Vec::new() },
            changelog: self.key,
        };
        let store = rheos_checkpoint::open(&format!("file://{}", self.storage.path().display()), &Default::default()).unwrap();
        let paths = JobPaths::new("default", "job", "uid").unwrap();
        let environment = Environment {
            staged: Some(StagedStore::new(store, &paths).unwrap()),
            ..Environment::new(self.storage.path(), self.runtime.handle().clone())
        };
        JdbcSink::new(SinkConfig::parse(&spec).unwrap(), &OperatorId("sink:out".into()), &environment).unwrap()
    }

    /// Begins a generation; the error when it may not.
    fn try_generation(&self, number: u64, subtask: u32) -> Result<Generation> {
        let sink = self.sink();
        let subtask_of = Subtask { index: subtask, workers: 2, groups: 8 };
        let context = SinkContext { job_uid: "uid".into(), generation: number, subtask: subtask_of, delivery: Delivery::ExactlyOnce };
        let mut writer = sink.writer(&context)?;
        while !writer.ready()? {
            std::thread::yield_now();
        }
        Ok(Generation { sink, writer, number, subtask })
    }

    fn generation(&self, number: u64) -> Generation {
        self.try_generation(number, 0).unwrap()
    }

    /// `k|v` of all rows.
    fn rows(&self) -> Vec<String> {
        let counted = rows(server(), &self.table, "k, v");
        counted.into_iter().flat_map(|(row, count)| std::iter::repeat_n(row, count as usize)).collect()
    }
}

/// Changes `(k, v, kind)`.
fn batch(changes: &[(i64, i64, u8)]) -> RecordBatch {
    let column = |name: &'static str, array: ArrayRef| (name, array, true);
    RecordBatch::try_from_iter_with_nullable([
        column("k", Arc::new(changes.iter().map(|change| change.0).collect::<Int64Array>())),
        column("v", Arc::new(changes.iter().map(|change| change.1).collect::<Int64Array>())),
        column(KIND_COLUMN, Arc::new(changes.iter().map(|change| change.2).collect::<UInt8Array>())),
    ])
    .unwrap()
}

fn permit(generation: u64, epoch: u64) -> CommitPermit {
    serde_json::from_value(serde_json::json!({"generation": generation, "record": epoch, "epoch": epoch})).unwrap()
}

impl Generation {
    /// Writes these changes (of a table without a key: rows) and closes an epoch; what is to be committed.
    fn stage(&mut self, epoch: u64, keyed: bool, changes: &[(i64, i64, u8)]) -> Vec<Committable> {
        let batch = if keyed { batch(changes) } else { batch(changes).project(&[0, 1]).unwrap() };
        self.writer.write(&batch).unwrap();
        let payloads = block_on(self.writer.prepare(epoch).unwrap()).unwrap();
        let (sink, subtask) = (OperatorId("sink:out".into()), self.subtask);
        payloads.into_iter().map(|payload| Committable { sink: sink.clone(), subtask, epoch, payload }).collect()
    }

    fn commit(&self, line: &Line, epoch: u64, committables: Vec<Committable>) -> Result<()> {
        line.runtime.block_on(self.sink.commit(&permit(self.number, epoch), committables))
    }
}

#[test]
fn a_repeated_commit_changes_nothing_in_any_process() {
    let line = Line::new("protocol_repeated", false);
    let mut third = line.generation(3);
    let staged = third.stage(50, false, &[(1, 1, 0), (2, 2, 0), (1, 1, 0)]);
    third.commit(&line, 50, staged.clone()).unwrap();
    third.commit(&line, 50, staged.clone()).unwrap();
    // The next generation commits again what its record carries, before its writers and after.
    let fourth = line.generation(4);
    fourth.commit(&line, 50, staged.clone()).unwrap();
    assert_eq!(line.rows(), ["1|1", "1|1", "2|2"]);
    // The sleeper has nothing to write, which is no error.
    third.commit(&line, 50, staged).unwrap();
    assert_eq!(line.rows(), ["1|1", "1|1", "2|2"]);
}

#[test]
fn epochs_that_come_again_after_a_savepoint_are_written() {
    let line = Line::new("protocol_again", false);
    let mut third = line.generation(3);
    let staged = third.stage(50, false, &[(1, 50, 0)]);
    third.commit(&line, 50, staged).unwrap();
    // Sent back to a savepoint of epoch 10.
    let mut fourth = line.generation(4);
    for epoch in [11, 50] {
        let staged = fourth.stage(epoch, false, &[(4, epoch as i64, 0)]);
        fourth.commit(&line, epoch, staged).unwrap();
    }
    assert_eq!(line.rows(), ["1|50", "4|11", "4|50"]);
}

#[test]
fn a_sleeper_of_an_older_generation_writes_nothing_once_a_newer_one_has_begun() {
    let line = Line::new("protocol_sleeper", false);
    let mut third = line.generation(3);
    let staged = third.stage(50, false, &[(1, 50, 0)]);
    // Sent back to a savepoint of epoch 10 before the sleeper's commit; nothing is written yet.
    let mut fourth = line.generation(4);
    let error = third.commit(&line, 50, staged.clone()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced, "{error}");
    assert!(error.message.contains("generation 4 of this job writes"), "{error}");
    assert_eq!(third.writer.ready().unwrap_err().kind, ErrorKind::Fenced, "its writer tells");
    // Nor may it begin again.
    assert_eq!(line.try_generation(3, 0).err().map(|error| error.kind), Some(ErrorKind::Fenced));
    assert_eq!(line.rows(), Vec::<String>::new());
    // Behind a mark of the newer generation, whatever its epoch, it finds nothing to do.
    let next = fourth.stage(11, false, &[(4, 11, 0)]);
    fourth.commit(&line, 11, next).unwrap();
    third.commit(&line, 50, staged).unwrap();
    assert_eq!(line.rows(), ["4|11"]);
}

#[test]
fn a_storage_that_was_emptied_begins_a_line_of_its_own() {
    let mut line = Line::new("protocol_emptied", false);
    let mut fifth = line.generation(5);
    let staged = fifth.stage(300, false, &[(1, 300, 0)]);
    fifth.commit(&line, 300, staged).unwrap();
    line.storage = tempfile::tempdir().unwrap();
    let mut first = line.generation(1);
    let staged = first.stage(1, false, &[(1, 1, 0)]);
    first.commit(&line, 1, staged).unwrap();
    assert_eq!(line.rows(), ["1|1", "1|300"]);
}

#[test]
fn checkpoints_are_written_in_their_order_whatever_their_subtasks() {
    let line = Line::new("protocol_order", true);
    let (mut zero, mut one) = (line.generation(1), line.try_generation(1, 1).unwrap());
    // One record carries what an earlier one could not commit.
    let late = one.stage(7, true, &[(1, 700, 0), (2, 700, 0), (3, 700, 0)]);
    let early = zero.stage(6, true, &[(1, 600, 0), (2, 600, 0), (3, 600, 0), (4, 600, 0)]);
    let gone = one.stage(8, true, &[(2, 700, 3), (3, 700, 1), (3, 800, 2), (4, 600, 1)]);
    zero.commit(&line, 8, [late, gone, early].concat()).unwrap();
    assert_eq!(line.rows(), ["1|700", "3|800"]);
}

/// The reply of a COMMIT is lost: the session is killed by the server while the transaction is open, or after it.
#[test]
fn sessions_that_are_ended_by_the_server_cost_nothing() {
    let line = Line::new("protocol_ended", false);
    let mut first = line.generation(1);
    for epoch in 1..=20 {
        let staged = first.stage(epoch, false, &[(epoch as i64, 0, 0)]);
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rheos' AND query LIKE '%COMMIT%'";
        server().query(end);
        first.commit(&line, epoch, staged.clone()).unwrap();
        first.commit(&line, epoch, staged).unwrap();
    }
    assert_eq!(line.rows().len(), 20);
}
