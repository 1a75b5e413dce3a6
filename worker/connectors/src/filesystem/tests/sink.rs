//! [io] Every row once, whatever dies between writing and commit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use rheos_dataflow::graph::OperatorId;
use rheos_dataflow::key_group::Subtask;
use rheos_dataflow::sink::{CommitPermit, Committable, Delivery, Sink, SinkContext, SinkWriter};

use super::super::config::{SinkConfig, SourceConfig};
use super::super::location::Location;
use super::super::sink::FilesystemSink;
use super::super::source::FilesystemSource;
use super::{names, remote};
use crate::testing::{environment, options as to_options, read_all, runtime, schema, sink_spec, source_spec};

const COLUMNS: &[(&str, &str)] = &[("n", "BIGINT"), ("s", "STRING")];

fn config(options: &[(&str, &str)], partition_by: &[&str]) -> SinkConfig {
    let given: Vec<_> = [("connector", "filesystem"), ("path", "out")].into_iter().chain(options.iter().copied()).collect();
    SinkConfig::parse(&sink_spec(&given, &schema(COLUMNS), partition_by)).unwrap()
}

pub(super) fn id() -> OperatorId {
    OperatorId("sink:t:1".to_owned())
}

pub(super) fn context(generation: u64, index: u32, delivery: Delivery) -> SinkContext {
    let subtask = Subtask { index, workers: 2, groups: 8 };
    SinkContext { job_uid: "local-test".to_owned(), generation, subtask, delivery }
}

pub(super) fn rows(from: i64, to: i64) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(from..to));
    let texts: ArrayRef = Arc::new(StringArray::from_iter((from..to).map(|n| (n % 3 != 0).then(|| format!("a,\"{}\"", n % 3)))));
    RecordBatch::try_new(schema(COLUMNS), vec![numbers, texts]).unwrap()
}

/// A permit as the protocol hands it to another process.
pub(super) fn permit(generation: u64, epoch: u64) -> CommitPermit {
    serde_json::from_value(serde_json::json!({"generation": generation, "record": epoch, "epoch": epoch})).unwrap()
}

/// The committables of a checkpoint on one subtask.
pub(super) fn prepare(writer: &mut dyn SinkWriter, subtask: u32, epoch: u64) -> Vec<Committable> {
    let payloads = runtime().block_on(writer.prepare(epoch).unwrap()).unwrap();
    payloads.into_iter().map(|payload| Committable { sink: id(), subtask, epoch, payload }).collect()
}

fn commit(sink: &FilesystemSink, generation: u64, epoch: u64, committables: &[Committable]) {
    runtime().block_on(sink.commit(&permit(generation, epoch), committables.to_vec())).unwrap();
}

/// What a reader of the folder sees, sorted.
fn seen(location: &Location, format: &str, columns: &[(&str, &str)]) -> Vec<String> {
    let columns = schema(columns);
    let null = if format == "csv" { vec![("csv.null-literal", "")] } else { vec![] };
    let given: Vec<_> = [("connector", "filesystem"), ("path", "out"), ("format", format)].into_iter().chain(null).collect();
    let source = SourceConfig::parse(&source_spec(&given, &columns, &columns)).unwrap();
    let mut rows = read_all(&FilesystemSource::at(source, location.clone()), 1000).unwrap();
    rows.sort();
    rows
}

fn expected(to: i64) -> Vec<String> {
    let text = |n: i64| if n % 3 == 0 { "null".to_owned() } else { format!("a,\"{}\"", n % 3) };
    let mut rows: Vec<String> = (0..to).map(|n| format!("{n}, {}", text(n))).collect();
    rows.sort();
    rows
}

pub(super) fn places(folder: &Path) -> Vec<Location> {
    vec![Location::Local(folder.join("out")), remote().1]
}

fn sink(location: &Location, options: &[(&str, &str)]) -> FilesystemSink {
    FilesystemSink::at(config(options, &[]), &id(), location.clone(), runtime())
}

/// Where the first generation dies in its second checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Crash {
    AfterWrite,
    AfterPrepare,
    AfterRecord,
    InCommit,
    AfterCommit,
}

#[test]
fn every_row_is_seen_once_wherever_the_writer_dies() {
    for crash in [Crash::AfterWrite, Crash::AfterPrepare, Crash::AfterRecord, Crash::InCommit, Crash::AfterCommit] {
        for format in ["json", "csv", "parquet"] {
            let folder = tempfile::tempdir().unwrap();
            for location in places(folder.path()) {
                crash_and_recover(crash, format, &location);
            }
        }
    }
}

fn crash_and_recover(crash: Crash, format: &str, location: &Location) {
    let options = [("format", format), ("sink.rolling-policy.file-size", "1b")];
    // Generation 1: a checkpoint that succeeds, then one that does not.
    let first = sink(location, &options);
    let mut writers: Vec<_> = (0..2).map(|index| first.writer(&context(1, index, Delivery::ExactlyOnce)).unwrap()).collect();
    let mut recorded = Vec::new();
    for (subtask, writer) in writers.iter_mut().enumerate() {
        let from = 50 * subtask as i64;
        writer.write(&rows(from, from + 50)).unwrap();
        recorded.extend(prepare(writer.as_mut(), subtask as u32, 1));
    }
    assert_eq!(seen(location, format, COLUMNS), [""; 0], "nothing is seen before its commit");
    commit(&first, 1, 1, &recorded);
    assert_eq!(seen(location, format, COLUMNS), expected(100));
    for writer in &mut writers {
        writer.write(&rows(0, 0)).unwrap();
    }
    writers[0].write(&rows(100, 120)).unwrap();
    writers[0].write(&rows(120, 150)).unwrap();
    let mut replay = true;
    if crash != Crash::AfterWrite {
        let committables = prepare(writers[0].as_mut(), 0, 2);
        if crash != Crash::AfterPrepare {
            recorded.extend(committables.clone());
            replay = false;
        }
        if crash == Crash::AfterCommit {
            commit(&first, 1, 2, &recorded);
        }
        if crash == Crash::InCommit {
            // Two files make the committable; one of them gets into place.
            let mut half = committables[0].clone();
            half.payload["files"].as_array_mut().unwrap().truncate(1);
            commit(&first, 1, 2, &[half]);
        }
    }
    drop(first);
    // Generation 2: commits again what the record names, replays the rest. The old writers live on as zombies.
    let second = sink(location, &options);
    let mut writer = second.writer(&context(2, 0, Delivery::ExactlyOnce)).unwrap();
    commit(&second, 2, 2, &recorded);
    assert_eq!(seen(location, format, COLUMNS), expected(if replay { 100 } else { 150 }), "{crash:?}");
    if replay {
        writer.write(&rows(100, 150)).unwrap();
    }
    let committables = prepare(writer.as_mut(), 0, 3);
    commit(&second, 2, 3, &committables);
    commit(&second, 2, 3, &committables);
    assert_eq!(seen(location, format, COLUMNS), expected(150), "{crash:?}");
    // A zombie goes on: nothing that it stages is ever seen.
    let _ = writers[1].write(&rows(0, 100));
    assert!(prepare(writers[1].as_mut(), 1, 2).len() == 1);
    assert_eq!(seen(location, format, COLUMNS), expected(150), "{crash:?}");
    // The generation after it takes its leavings away.
    let third = sink(location, &options);
    let mut writer = third.writer(&context(3, 0, Delivery::ExactlyOnce)).unwrap();
    writer.write(&rows(150, 160)).unwrap();
    let committables = prepare(writer.as_mut(), 0, 4);
    commit(&third, 3, 4, &committables);
    assert_eq!(staged(location), 0, "{crash:?}");
    assert_eq!(seen(location, format, COLUMNS), expected(160));
}

/// Files in staging.
pub(super) fn staged(location: &Location) -> usize {
    match location {
        Location::Local(folder) => folder.join(".staging").read_dir().unwrap().count(),
        Location::Remote(remote) => {
            let prefix = remote.object("_staging");
            let listed: Vec<_> = runtime().block_on(remote.store.list(Some(&prefix)).try_collect()).unwrap();
            listed.len()
        }
    }
}

#[test]
fn a_lost_staged_file_is_told_and_never_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    for location in places(folder.path()) {
        let sink = sink(&location, &[("format", "json")]);
        let mut writer = sink.writer(&context(1, 0, Delivery::ExactlyOnce)).unwrap();
        writer.write(&rows(0, 10)).unwrap();
        let committables = prepare(writer.as_mut(), 0, 1);
        let name = committables[0].payload["files"][0]["staged"].as_str().unwrap().to_owned();
        match &location {
            Location::Local(folder) => std::fs::remove_file(folder.join(".staging").join(name)).unwrap(),
            Location::Remote(remote) => runtime().block_on(remote.store.delete(&remote.object(&format!("_staging/{name}")))).unwrap(),
        }
        let error = runtime().block_on(sink.commit(&permit(1, 1), committables)).unwrap_err();
        assert_eq!(error.kind, rheos_dataflow::error::ErrorKind::State);
        assert!(error.message.contains("output of a checkpoint is lost"), "{error}");
    }
}

#[test]
fn a_job_begun_afresh_leaves_its_old_output_alone() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Local(folder.path().join("out"));
    for run in 0..2 {
        // The same uid, generation, epoch and subtask.
        let sink = sink(&location, &[("format", "json")]);
        let mut writer = sink.writer(&context(1, 0, Delivery::ExactlyOnce)).unwrap();
        writer.write(&rows(50 * run, 50 * run + 50)).unwrap();
        let committables = prepare(writer.as_mut(), 0, 1);
        commit(&sink, 1, 1, &committables);
    }
    assert_eq!(seen(&location, "json", COLUMNS), expected(100));
}

#[test]
fn a_sink_that_sweeps_leaves_the_files_of_others_alone() {
    let folder = tempfile::tempdir().unwrap();
    for location in places(folder.path()) {
        let other = FilesystemSink::at(config(&[("format", "json")], &[]), &OperatorId("sink:t:2".to_owned()), location.clone(), runtime());
        let mut writer = other.writer(&context(1, 0, Delivery::ExactlyOnce)).unwrap();
        writer.write(&rows(0, 10)).unwrap();
        let committables = prepare(writer.as_mut(), 0, 1);
        let sink = sink(&location, &[("format", "json")]);
        let mut sweeper = sink.writer(&context(2, 0, Delivery::ExactlyOnce)).unwrap();
        assert_eq!(prepare(sweeper.as_mut(), 0, 2), []);
        commit(&other, 2, 2, &committables);
        assert_eq!(seen(&location, "json", COLUMNS), expected(10));
    }
}

#[test]
fn exactly_once_shows_nothing_before_its_commit_however_old_a_part_is() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Local(folder.path().join("out"));
    let sink = sink(&location, &[("format", "json"), ("sink.rolling-policy.rollover-interval", "0 s")]);
    let mut writer = sink.writer(&context(1, 0, Delivery::ExactlyOnce)).unwrap();
    writer.write(&rows(0, 10)).unwrap();
    writer.end_epoch(1).unwrap();
    let committables = prepare(writer.as_mut(), 0, 2);
    assert_eq!(seen(&location, "json", COLUMNS), [""; 0]);
    commit(&sink, 1, 2, &committables);
    assert_eq!(seen(&location, "json", COLUMNS), expected(10));
}

#[test]
fn a_file_has_one_header() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Local(folder.path().join("out"));
    let sink = sink(&location, &[("format", "csv"), ("csv.header", "true")]);
    let mut writer = sink.writer(&context(1, 0, Delivery::ExactlyOnce)).unwrap();
    writer.write(&rows(0, 1)).unwrap();
    writer.write(&rows(1, 2)).unwrap();
    let committables = prepare(writer.as_mut(), 0, 1);
    commit(&sink, 1, 1, &committables);
    let text = std::fs::read_to_string(folder.path().join("out").join(&names(&location)[0])).unwrap();
    assert_eq!(text.lines().filter(|line| *line == "n,s").count(), 1, "{text}");
}

#[test]
fn a_permit_of_an_earlier_epoch_commits_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Local(folder.path().join("out"));
    let sink = sink(&location, &[("format", "json")]);
    let mut writer = sink.writer(&context(1, 0, Delivery::ExactlyOnce)).unwrap();
    writer.write(&rows(0, 10)).unwrap();
    let committables = prepare(writer.as_mut(), 0, 2);
    assert!(runtime().block_on(sink.commit(&permit(1, 1), committables)).is_err());
    assert_eq!(seen(&location, "json", COLUMNS), [""; 0]);
}

#[test]
fn without_exactly_once_rows_are_seen_at_the_end_of_an_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Local(folder.path().join("out"));
    let sink = sink(&location, &[("format", "json"), ("sink.rolling-policy.rollover-interval", "0 s")]);
    let mut writer = sink.writer(&context(1, 0, Delivery::AtLeastOnce)).unwrap();
    writer.write(&rows(0, 10)).unwrap();
    writer.end_epoch(1).unwrap();
    writer.end_epoch(2).unwrap();
    writer.write(&rows(10, 20)).unwrap();
    assert_eq!(prepare(writer.as_mut(), 0, 3), []);
    assert_eq!(seen(&location, "json", COLUMNS), expected(20));
}

#[test]
fn a_part_that_could_not_be_shown_fails_the_next_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Local(folder.path().join("out"));
    let sink = sink(&location, &[("format", "json"), ("sink.rolling-policy.rollover-interval", "0 s")]);
    let mut writer = sink.writer(&context(1, 0, Delivery::AtLeastOnce)).unwrap();
    writer.write(&rows(0, 10)).unwrap();
    for staged in folder.path().join("out/.staging").read_dir().unwrap() {
        std::fs::remove_file(staged.unwrap().path()).unwrap();
    }
    writer.end_epoch(1).unwrap();
    let error = runtime().block_on(writer.prepare(2).unwrap()).unwrap_err();
    assert!(error.message.contains("output of a checkpoint is lost"), "{error}");
}

#[test]
fn parts_roll_at_their_size() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Local(folder.path().join("out"));
    let sink = sink(&location, &[("format", "json"), ("sink.rolling-policy.file-size", "1 kb")]);
    let mut writer = sink.writer(&context(1, 0, Delivery::ExactlyOnce)).unwrap();
    for n in 0..100 {
        writer.write(&rows(n * 10, n * 10 + 10)).unwrap();
    }
    let files = writer.stats()["part_files"];
    assert!((20..40).contains(&files), "{files}");
    let committables = prepare(writer.as_mut(), 0, 1);
    commit(&sink, 1, 1, &committables);
    assert_eq!(seen(&location, "json", COLUMNS), expected(1000));
}

#[test]
fn partitions_are_folders_and_their_columns_are_not_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let columns = schema(&[("n", "BIGINT"), ("day", "STRING"), ("at", "TIMESTAMP")]);
    let given = [("connector", "filesystem"), ("path", "out"), ("format", "json")];
    let config = SinkConfig::parse(&sink_spec(&given, &columns, &["day", "at"])).unwrap();
    let location = Location::Local(folder.path().join("out"));
    let sink = FilesystemSink::at(config, &id(), location.clone(), runtime());
    let mut writer = sink.writer(&context(1, 0, Delivery::ExactlyOnce)).unwrap();
    let days = [Some("a"), Some("../../b/c"), None, Some(""), Some("a")];
    let batch = RecordBatch::try_new(
        columns,
        vec![
            Arc::new(Int64Array::from_iter_values(0..5)),
            Arc::new(StringArray::from_iter(days)),
            Arc::new(TimestampMillisecondArray::from(vec![0; 5])),
        ],
    );
    writer.write(&batch.unwrap()).unwrap();
    let committables = prepare(writer.as_mut(), 0, 1);
    commit(&sink, 1, 1, &committables);
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for file in names(&location) {
        let partition = file.rsplit_once('/').unwrap().0.to_owned();
        found.insert(partition, std::fs::read_to_string(folder.path().join("out").join(file)).unwrap());
    }
    let expected = [
        ("day=%2E.%2F..%2Fb%2Fc/at=1970-01-01T00%3A00", "{\"n\":1}\n"),
        ("day=__DEFAULT_PARTITION__/at=1970-01-01T00%3A00", "{\"n\":2}\n{\"n\":3}\n"),
        ("day=a/at=1970-01-01T00%3A00", "{\"n\":0}\n{\"n\":4}\n"),
    ];
    assert_eq!(found, expected.map(|(folder, text)| (folder.to_owned(), text.to_owned())).into());
}

#[test]
fn many_partitions_do_not_keep_many_files_open() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&[("format", "csv")], &["n"]);
    let location = Location::Local(folder.path().join("out"));
    let sink = FilesystemSink::at(config, &id(), location.clone(), runtime());
    let mut writer = sink.writer(&context(1, 0, Delivery::ExactlyOnce)).unwrap();
    writer.write(&rows(0, 2500)).unwrap();
    let committables = prepare(writer.as_mut(), 0, 1);
    assert_eq!(committables.len(), 3, "a committable stays small");
    assert!(committables.iter().all(|committable| committable.payload.to_string().len() < 1 << 20));
    commit(&sink, 1, 1, &committables);
    assert_eq!(names(&location).len(), 2500);
}

fn written(format: &str, options: &[(&str, &str)], columns: &SchemaRef, batch: Vec<ArrayRef>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let given: Vec<_> =
        [("connector", "filesystem"), ("path", "out"), ("format", format)].into_iter().chain(options.iter().copied()).collect();
    let config = SinkConfig::parse(&sink_spec(&given, columns, &[])).unwrap();
    let location = Location::Local(folder.path().join("out"));
    let sink = FilesystemSink::at(config, &id(), location.clone(), runtime());
    let mut writer = sink.writer(&context(1, 0, Delivery::ExactlyOnce)).unwrap();
    let batch = RecordBatch::try_new(SchemaRef::clone(columns), batch).unwrap();
    writer.write(&batch).unwrap();
    let committables = prepare(writer.as_mut(), 0, 1);
    commit(&sink, 1, 1, &committables);
    std::fs::read_to_string(folder.path().join("out").join(&names(&location)[0])).unwrap()
}

#[test]
fn files_hold_what_flink_would_write() {
    let columns = schema(&[("s", "STRING"), ("t", "TIMESTAMP"), ("z", "TIMESTAMP_LTZ")]);
    let times = vec![Some(1_357_034_400_250), None];
    let batch = || -> Vec<ArrayRef> {
        let texts = StringArray::from(vec![Some("a,\"b\"\n"), None]);
        let zoned = TimestampMillisecondArray::from(times.clone()).with_timezone("UTC");
        vec![Arc::new(texts), Arc::new(TimestampMillisecondArray::from(times.clone())), Arc::new(zoned)]
    };
    assert_eq!(
        written("json", &[], &columns, batch()),
        "{\"s\":\"a,\\\"b\\\"\\n\",\"t\":\"2013-01-01 10:00:00.250\",\"z\":\"2013-01-01 10:00:00.250Z\"}\n{\"s\":null,\"t\":null,\"z\":null}\n"
    );
    let options = [("json.timestamp-format.standard", "ISO-8601"), ("json.encode.ignore-null-fields", "true")];
    assert_eq!(
        written("json", &options, &columns, batch()),
        "{\"s\":\"a,\\\"b\\\"\\n\",\"t\":\"2013-01-01T10:00:00.250\",\"z\":\"2013-01-01T10:00:00.250Z\"}\n{}\n"
    );
    let options = [("csv.header", "true"), ("csv.null-literal", "NA"), ("csv.field-delimiter", ";")];
    assert_eq!(
        written("csv", &options, &columns, batch()),
        "s;t;z\n\"a,\"\"b\"\"\n\";2013-01-01 10:00:00.250;2013-01-01 10:00:00.250Z\nNA;NA;NA\n"
    );
}

#[test]
fn large_objects_are_uploaded_in_pieces() {
    let (_, location) = remote();
    let sink = sink(&location, &[("format", "json")]);
    let mut writer = sink.writer(&context(1, 0, Delivery::ExactlyOnce)).unwrap();
    for n in 0..60 {
        writer.write(&rows(n * 10_000, n * 10_000 + 10_000)).unwrap();
    }
    let committables = prepare(writer.as_mut(), 0, 1);
    commit(&sink, 1, 1, &committables);
    assert_eq!(names(&location).len(), 1);
    assert_eq!(seen(&location, "json", COLUMNS).len(), 600_000);
}

#[test]
fn a_folder_that_cannot_be_made_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("out"), "a file").unwrap();
    let sink = FilesystemSink::new(config(&[("format", "json")], &[]), &id(), &environment(folder.path())).unwrap();
    let error = sink.writer(&context(1, 0, Delivery::ExactlyOnce)).err().unwrap();
    assert!(error.message.contains("creating") && error.message.contains("out/.staging"), "{error}");
}

#[allow(clippy::type_complexity, reason = "a table of cases")]
#[test]
fn wrong_tables_are_refused_by_name() {
    let columns = schema(COLUMNS);
    let cases: [(&[(&str, &str)], &[&str], &str); 4] = [
        (
            &[("sink.partition-commit.policy.kind", "success-file")],
            &[],
            "'sink.partition-commit.policy.kind' needs a table that is PARTITIONED BY",
        ),
        (&[("sink.rolling-policy.file-size", "6gb")], &[], "expected from 1b to 5gb"),
        (&[], &["day"], "PARTITIONED BY (day): the table has no such column"),
        (&[], &["n", "s"], "every column is in PARTITIONED BY"),
    ];
    for (options, partition_by, expected) in cases {
        let mut given = to_options(&[("connector", "filesystem"), ("path", "out"), ("format", "json")]);
        given.extend(to_options(options));
        let given: Vec<_> = given.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let problems = SinkConfig::parse(&sink_spec(&given, &columns, partition_by)).unwrap_err();
        assert!(problems[0].message.contains(expected), "{}", problems[0]);
    }
}
