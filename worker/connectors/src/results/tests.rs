//! The sink over a store in memory: commits, repeated commits, other generations, retention, kept views.

use std::sync::{Arc, Mutex};

use arrow::array::{Int64Array, RecordBatch, UInt8Array};
use arrow::datatypes::{DataType, Field, Schema};
use rheos_checkpoint::paths::JobPaths;
use rheos_checkpoint::store::memory::MemoryStore;
use rheos_dataflow::changelog::KIND_COLUMN;
use rheos_dataflow::graph::OperatorId;
use rheos_dataflow::key_group::Subtask;
use rheos_dataflow::sink::{CommitPermit, Committable, Delivery, Sink, SinkContext, SinkWriter};
use rheos_dataflow::time::Epoch;

use super::index::{At, Chain};
use super::{Announcement, Config, Fold, Folded, ResultsSink, TableStore};
use crate::environment::Environment;
use crate::staged::StagedStore;
use crate::testing::{environment, runtime, schema, sink_spec, texts};

const GROUPS: u32 = 64;

/// A table in a store, over all generations.
struct Table {
    staged: StagedStore,
    config: Config,
    announced: Arc<Mutex<Vec<Announcement>>>,
}

impl Table {
    fn new(options: &[(&str, &str)], changelog: bool) -> Self {
        let staged = StagedStore::new(Arc::new(MemoryStore::default()), &JobPaths::new("n", "j", "u").unwrap()).unwrap();
        let mut spec = sink_spec(options, &schema(&[("n", "BIGINT")]), &[]);
        spec.changelog = changelog;
        Self { staged, config: Config::parse(&spec).unwrap(), announced: Arc::default() }
    }

    fn log() -> Self {
        Self::new(&[("connector", "results")], false)
    }

    fn store(&self) -> TableStore {
        TableStore::new(&self.staged, &self.config.table)
    }

    /// As a generation has it.
    fn sink(&self) -> ResultsSink {
        let announced = Arc::clone(&self.announced);
        let environment = Environment {
            staged: Some(self.staged.clone()),
            announce: Arc::new(move |announcement| announced.lock().unwrap().push(announcement)),
            ..environment(std::path::Path::new("/"))
        };
        ResultsSink::new(self.config.clone(), &environment)
    }

    fn chain(&self, line: u32) -> Chain {
        runtime().block_on(self.store().chain(line)).unwrap()
    }

    /// All kept rows, each with its epoch and sequence.
    fn rows(&self, line: u32) -> Vec<(Epoch, u64, String)> {
        let chain = self.chain(line);
        let mut all: Vec<(Epoch, u64, String)> = Vec::new();
        for entry in chain.entries() {
            let index = runtime().block_on(self.store().index(line, &entry)).unwrap().expect("an index");
            assert_eq!(index.entry(), entry);
            for segment in &index.segments {
                let bytes = runtime().block_on(self.store().segment(segment)).unwrap().expect("a segment");
                for text in texts(&TableStore::decode(segment, &bytes).unwrap()) {
                    all.push((entry.epoch, all.iter().filter(|(epoch, ..)| *epoch == entry.epoch).count() as u64, text));
                }
            }
        }
        all
    }

    fn objects(&self) -> usize {
        runtime().block_on(self.store().rows_folder().unwrap().names()).unwrap().len()
    }

    /// Waits until as many segments are left.
    fn until_objects(&self, wanted: usize) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while self.objects() != wanted {
            assert!(std::time::Instant::now() < deadline, "{} segments, and not {wanted}", self.objects());
            std::thread::yield_now();
        }
    }
}

fn writer(sink: &ResultsSink, generation: u64, index: u32, workers: u32) -> Box<dyn SinkWriter> {
    let subtask = Subtask { index, workers, groups: GROUPS };
    sink.writer(&SinkContext { job_uid: "u".into(), generation, subtask, delivery: Delivery::ExactlyOnce }).unwrap()
}

fn numbers(numbers: &[i64]) -> RecordBatch {
    RecordBatch::try_new(schema(&[("n", "BIGINT")]), vec![Arc::new(Int64Array::from(numbers.to_vec()))]).unwrap()
}

fn changes(changes: &[(u8, i64)]) -> RecordBatch {
    let fields = vec![Field::new("n", DataType::Int64, true), Field::new(KIND_COLUMN, DataType::UInt8, false)];
    let numbers: Int64Array = changes.iter().map(|change| Some(change.1)).collect();
    let kinds: UInt8Array = changes.iter().map(|change| Some(change.0)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(numbers), Arc::new(kinds)]).unwrap()
}

fn permit(generation: u64, epoch: Epoch, line: u32) -> CommitPermit {
    serde_json::from_value(serde_json::json!({"generation": generation, "record": epoch, "epoch": epoch, "line": line})).unwrap()
}

/// What a writer has staged, as the record carries it.
fn staged(writer: &mut dyn SinkWriter, subtask: u32, epoch: Epoch) -> Vec<Committable> {
    writer.end_epoch(epoch).unwrap();
    let payloads = runtime().block_on(writer.prepare(epoch).unwrap()).unwrap();
    payloads.into_iter().map(|payload| Committable { sink: OperatorId("t".into()), subtask, epoch, payload }).collect()
}

/// Writes rows, a list a subtask, as one checkpoint.
fn checkpoint(sink: &ResultsSink, generation: u64, epoch: Epoch, rows: &[RecordBatch]) -> Vec<Committable> {
    let mut committables = Vec::new();
    for (subtask, batch) in (0..).zip(rows) {
        let mut writer = writer(sink, generation, subtask, rows.len() as u32);
        writer.write(batch).unwrap();
        committables.extend(staged(writer.as_mut(), subtask, epoch));
    }
    committables
}

fn commit(sink: &ResultsSink, permit: &CommitPermit, committables: &[Committable]) {
    runtime().block_on(sink.commit(permit, committables.to_vec())).unwrap();
}

#[test]
fn rows_stand_in_the_order_of_subtasks_however_their_committables_come() {
    let table = Table::log();
    let sink = table.sink();
    let mut committables = checkpoint(&sink, 1, 5, &[numbers(&[1, 2]), numbers(&[3]), numbers(&[4])]);
    committables.reverse();
    assert_eq!(table.rows(0), [], "nothing is shown before the commit");
    commit(&sink, &permit(1, 5, 0), &committables);
    let expected = [(5, 0, "1"), (5, 1, "2"), (5, 2, "3"), (5, 3, "4")].map(|(epoch, row, text)| (epoch, row, text.to_owned()));
    assert_eq!(table.rows(0), expected);
    let announced = table.announced.lock().unwrap();
    assert_eq!((announced.len(), announced[0].size.0, announced[0].oldest), (1, 4, 5));
}

#[test]
fn a_commit_that_is_repeated_by_another_generation_changes_nothing_and_is_told_again() {
    let table = Table::log();
    let first = table.sink();
    let one = checkpoint(&first, 1, 5, &[numbers(&[1]), numbers(&[2])]);
    commit(&first, &permit(1, 5, 0), &one);
    let two = checkpoint(&first, 1, 7, &[numbers(&[3]), numbers(&[])]);
    // The record of 7 was written, its commit was not; the next generation has another parallelism.
    let carried: Vec<Committable> = one.iter().chain(&two).cloned().collect();
    let second = table.sink();
    commit(&second, &permit(2, 7, 0), &carried);
    let before = table.rows(0);
    commit(&second, &permit(2, 7, 0), &carried);
    commit(&first, &permit(1, 7, 0), &carried);
    assert_eq!(table.rows(0), before);
    let three = checkpoint(&second, 2, 9, &[numbers(&[4]), numbers(&[5]), numbers(&[6])]);
    commit(&second, &permit(2, 9, 0), &three);
    let texts: Vec<_> = table.rows(0).into_iter().map(|(epoch, row, text)| format!("{epoch}-{row}:{text}")).collect();
    assert_eq!(texts, ["5-0:1", "5-1:2", "7-0:3", "9-0:4", "9-1:5", "9-2:6"]);
    assert!(table.announced.lock().unwrap().iter().filter(|told| told.index.as_ref().is_some_and(|index| index.epoch == 7)).count() > 1);
}

#[test]
fn a_permit_for_less_is_refused() {
    let table = Table::log();
    let sink = table.sink();
    let committables = checkpoint(&sink, 1, 5, &[numbers(&[1])]);
    assert!(runtime().block_on(sink.commit(&permit(1, 4, 0), committables)).is_err());
    assert_eq!(table.rows(0), []);
}

#[test]
fn another_line_of_checkpoints_begins_anew_beside_the_old_one() {
    let table = Table::log();
    let sink = table.sink();
    commit(&sink, &permit(1, 5, 0), &checkpoint(&sink, 1, 5, &[numbers(&[1])]));
    commit(&sink, &permit(1, 6, 0), &checkpoint(&sink, 1, 6, &[numbers(&[2])]));
    // Back to a savepoint of epoch 5: epoch 6 is made again, with other rows.
    let restored = table.sink();
    commit(&restored, &permit(2, 6, 77), &checkpoint(&restored, 2, 6, &[numbers(&[3])]));
    assert_eq!(table.rows(77), [(6, 0, "3".to_owned())]);
    assert_eq!(table.chain(77).at(0), At::Row(table.chain(77).oldest().unwrap(), 0));
}

#[test]
fn what_expires_and_what_no_record_named_is_removed() {
    let table = Table::new(&[("connector", "results"), ("results.retain-rows", "3")], false);
    let sink = table.sink();
    for epoch in 1..=6 {
        commit(&sink, &permit(1, epoch, 0), &checkpoint(&sink, 1, epoch, &[numbers(&[epoch as i64])]));
    }
    assert_eq!(table.announced.lock().unwrap().last().unwrap().oldest, 4);
    table.until_objects(3);
    assert_eq!(table.rows(0).len(), 3);
    // Two that no record names; the next generation finds them with its first commit, and leaves its own alone.
    checkpoint(&sink, 1, 7, &[numbers(&[8]), numbers(&[9])]);
    let next = table.sink();
    let own = checkpoint(&next, 2, 7, &[numbers(&[10])]);
    checkpoint(&next, 2, 8, &[numbers(&[11])]);
    commit(&next, &permit(2, 7, 0), &own);
    table.until_objects(4);
    let texts: Vec<String> = table.rows(0).into_iter().map(|(.., text)| text).collect();
    assert_eq!(texts, ["5", "6", "10"]);
}

#[test]
fn many_rows_make_many_segments_in_order() {
    let table = Table::log();
    let sink = table.sink();
    let mut writer = writer(&sink, 1, 0, 1);
    let all: Vec<i64> = (0..600_000).collect();
    for part in all.chunks(5_000) {
        writer.write(&numbers(part)).unwrap();
    }
    let committables = staged(writer.as_mut(), 0, 3);
    commit(&sink, &permit(1, 3, 0), &committables);
    let entry = table.chain(0).oldest().unwrap();
    let index = runtime().block_on(table.store().index(0, &entry)).unwrap().unwrap();
    assert!(index.segments.len() > 3, "{}", index.segments.len());
    let mut next = 0;
    for segment in &index.segments {
        let bytes = runtime().block_on(table.store().segment(segment)).unwrap().unwrap();
        let rows = TableStore::decode(segment, &bytes).unwrap();
        assert_eq!(texts(&rows.slice(0, 1)), [next.to_string()]);
        assert_eq!(index.segment(next as u64), Some((segment, next as u64)));
        next += rows.num_rows();
    }
    assert_eq!(next, all.len());
}

/// The view as it is now. One that is replaced while it is read is looked for again, as the server does.
fn view(table: &Table) -> Result<Vec<String>, Folded> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let read = runtime().block_on(async {
            let chain = table.store().chain(0).await.unwrap();
            let kept = chain.view.is_some_and(|view| view.size.is_some());
            let Some(mut fold) = Fold::begin(&table.store(), &table.config, 0, &chain).await.unwrap() else {
                return Err(if kept { Folded::Gone } else { Folded::Over });
            };
            match fold.follow(&table.store(), &table.config, &chain).await.unwrap() {
                Folded::Whole => Ok(texts(&fold.whole().unwrap())),
                other => Err(other),
            }
        });
        if read != Err(Folded::Gone) {
            return read;
        }
        assert!(std::time::Instant::now() < deadline, "the view is replaced faster than it can be read");
    }
}

#[test]
fn the_kept_view_takes_the_place_of_the_changes_that_it_holds() {
    let table = Table::new(&[("connector", "results"), ("results.retain-rows", "20")], true);
    let sink = table.sink();
    let mut epoch = 0;
    // A count that goes up by one each epoch: -U(n) +U(n + 1), beside a row that stays.
    commit(&sink, &permit(1, 1, 0), &checkpoint(&sink, 1, 1, &[changes(&[(0, 0)]), changes(&[(0, -7)])]));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        epoch += 1;
        let committables = checkpoint(&sink, 1, epoch + 1, &[changes(&[(1, epoch as i64 - 1), (2, epoch as i64)])]);
        commit(&sink, &permit(1, epoch + 1, 0), &committables);
        assert_eq!(view(&table), Ok(vec!["-7".to_owned(), epoch.to_string()]));
        let chain = table.chain(0);
        if chain.view.is_some() && chain.start() > 0 && epoch > 100 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "no view was kept after {epoch} epochs");
    }
}

#[test]
fn a_view_with_too_many_rows_is_given_up_by_name() {
    let table = Table::new(&[("connector", "results"), ("results.retain-rows", "20"), ("results.view-rows", "5")], true);
    let sink = table.sink();
    let rows: Vec<(u8, i64)> = (0..5).map(|n| (0, n)).collect();
    commit(&sink, &permit(1, 1, 0), &checkpoint(&sink, 1, 1, &[changes(&rows)]));
    assert_eq!(view(&table).map(|rows| rows.len()), Ok(5));
    commit(&sink, &permit(1, 2, 0), &checkpoint(&sink, 1, 2, &[changes(&[(0, 5)])]));
    assert_eq!(view(&table), Err(Folded::Over));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    for epoch in 3.. {
        commit(&sink, &permit(1, epoch, 0), &checkpoint(&sink, 1, epoch, &[changes(&[(0, epoch as i64 + 100)])]));
        if table.chain(0).view.is_some_and(|view| view.size.is_none()) && table.chain(0).start() > 0 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the view was not given up");
    }
    assert_eq!(view(&table), Err(Folded::Over));
}

#[test]
fn a_view_of_a_job_that_has_run_before_is_not_known() {
    let table = Table::new(&[("connector", "results")], true);
    let sink = table.sink();
    // It takes away a row that was there before the table.
    commit(&sink, &permit(2, 9, 5), &checkpoint(&sink, 2, 9, &[changes(&[(1, 7), (2, 8)])]));
    assert_eq!(table.chain(5).view, None);
    // From the beginning on it is, also when rows come later.
    commit(&sink, &permit(1, 1, 0), &checkpoint(&sink, 1, 1, &[changes(&[])]));
    assert_eq!(view(&table), Ok(Vec::new()));
    commit(&sink, &permit(1, 4, 0), &checkpoint(&sink, 1, 4, &[changes(&[(0, 8)])]));
    assert_eq!(view(&table), Ok(vec!["8".to_owned()]));
}
