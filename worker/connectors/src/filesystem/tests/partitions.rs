//! [io] Partitions: when they are said to be whole, whatever fails between; and how many there may be.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use object_store::ObjectStoreExt;
use rheos_dataflow::error::{ErrorKind, Result};
use rheos_dataflow::sink::{Committable, Delivery, Sink, SinkWriter};
use rheos_dataflow::time::Watermark;

use super::super::config::SinkConfig;
use super::super::location::Location;
use super::super::sink::{FilesystemSink, MAX_PARTS};
use super::sink::{context, id, permit, places, prepare, staged};
use super::{names, remote};
use crate::testing::{runtime, schema, sink_spec};

const BY_TIME: [(&str, &str); 3] = [
    ("sink.partition-commit.policy.kind", "success-file"),
    ("sink.partition-commit.trigger", "partition-time"),
    ("sink.partition-commit.delay", "1 d"),
];
/// The end of 2013-01-01, ms.
const MIDNIGHT: i64 = 1_357_084_800_000;

/// A sink of `n, day`, by day.
fn sink(location: &Location, options: &[(&str, &str)]) -> FilesystemSink {
    let given: Vec<_> =
        [("connector", "filesystem"), ("path", "out"), ("format", "json")].into_iter().chain(options.iter().copied()).collect();
    let columns = schema(&[("n", "BIGINT"), ("day", "STRING")]);
    let config = SinkConfig::parse(&sink_spec(&given, &columns, &["day"])).unwrap();
    FilesystemSink::at(config, &id(), location.clone(), runtime())
}

fn rows(numbers: std::ops::Range<i64>, day: impl Fn(i64) -> String) -> RecordBatch {
    let days: ArrayRef = Arc::new(numbers.clone().map(|n| Some(day(n))).collect::<StringArray>());
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    RecordBatch::try_new(schema(&[("n", "BIGINT"), ("day", "STRING")]), vec![numbers, days]).unwrap()
}

fn writers(sink: &FilesystemSink, generation: u64, delivery: Delivery) -> Vec<Box<dyn SinkWriter>> {
    (0..2).map(|index| sink.writer(&context(generation, index, delivery)).unwrap()).collect()
}

/// The committables of a checkpoint, at whose end the subtasks say this of event time.
fn checkpoint(writers: &mut [Box<dyn SinkWriter>], epoch: u64, said: [Watermark; 2]) -> Vec<Committable> {
    let mut all = Vec::new();
    for (subtask, (writer, said)) in writers.iter_mut().zip(said).enumerate() {
        writer.watermark(said);
        writer.end_epoch(epoch).unwrap();
        all.extend(prepare(writer.as_mut(), subtask as u32, epoch));
    }
    all
}

fn commit(sink: &FilesystemSink, epoch: u64, committables: &[Committable]) -> Result<()> {
    runtime().block_on(sink.commit(&permit(1, epoch), committables.to_vec()))
}

fn is_there(location: &Location, path: &str) -> bool {
    match location {
        Location::Local(folder) => folder.join(path).exists(),
        Location::Remote(remote) => runtime().block_on(remote.store.head(&remote.object(path))).is_ok(),
    }
}

const MARKER: &str = "day=2013-01-01/_SUCCESS";

#[test]
fn a_partition_is_marked_when_all_subtasks_have_passed_it_and_its_files_are_in_place() {
    let folder = tempfile::tempdir().unwrap();
    for location in places(folder.path()) {
        let first = sink(&location, &BY_TIME);
        assert!(first.gathers());
        let mut of_first = writers(&first, 1, Delivery::ExactlyOnce);
        of_first.iter_mut().for_each(|writer| writer.write(&rows(0..10, |_| "2013-01-01".to_owned())).unwrap());
        let record = checkpoint(&mut of_first, 1, [Watermark::Active(MIDNIGHT + 1), Watermark::Active(MIDNIGHT)]);
        commit(&first, 1, &record).unwrap();
        assert_eq!(names(&location).len(), 2);
        assert!(!is_there(&location, MARKER), "subtask 1 may still write");
        assert_eq!(staged(&location), 1, "that it waits is known");
        // The next generation, without rows. Its commit begins with what the record of the first one carried.
        let second = sink(&location, &BY_TIME);
        let mut of_second = writers(&second, 2, Delivery::ExactlyOnce);
        commit(&second, 1, &record).unwrap();
        let record = checkpoint(&mut of_second, 2, [Watermark::Active(MIDNIGHT + 1), Watermark::Active(i64::MIN)]);
        commit(&second, 2, &record).unwrap();
        assert!(!is_there(&location, MARKER));
        let record = checkpoint(&mut of_second, 3, [Watermark::Active(MIDNIGHT + 1), Watermark::Idle(i64::MIN)]);
        commit(&second, 3, &record).unwrap();
        assert!(is_there(&location, MARKER));
        assert_eq!(staged(&location), 0);
        commit(&second, 3, &record).unwrap();
        assert_eq!((names(&location).len(), staged(&location)), (2, 0), "a repeated commit changes nothing");
    }
}

#[test]
fn what_the_record_carries_is_in_place_before_a_marker_is() {
    let folder = tempfile::tempdir().unwrap();
    for location in places(folder.path()) {
        for options in [&BY_TIME[..], &BY_TIME[..1]] {
            let sink = sink(&location, options);
            let mut writers = writers(&sink, 1, Delivery::ExactlyOnce);
            writers[0].write(&rows(0..10, |_| "2013-01-01".to_owned())).unwrap();
            let record = checkpoint(&mut writers, 1, [Watermark::Active(i64::MAX); 2]);
            let name = record[0].payload["files"][0]["staged"].as_str().unwrap().to_owned();
            match &location {
                Location::Local(folder) => std::fs::remove_file(folder.join(".staging").join(name)).unwrap(),
                Location::Remote(remote) => runtime().block_on(remote.store.delete(&remote.object(&format!("_staging/{name}")))).unwrap(),
            }
            commit(&sink, 1, &record).unwrap_err();
            assert!(!is_there(&location, MARKER), "{options:?}");
        }
    }
}

#[test]
fn process_time_marks_with_the_commit_and_again_when_more_comes() {
    let folder = tempfile::tempdir().unwrap();
    for location in places(folder.path()) {
        for delivery in [Delivery::ExactlyOnce, Delivery::AtLeastOnce] {
            let sink = sink(&location, &[BY_TIME[0], ("sink.partition-commit.success-file.name", "_done")]);
            let mut writers = writers(&sink, 1, delivery);
            for epoch in 1..3 {
                writers[1].write(&rows(0..10, |_| format!("{delivery:?}"))).unwrap();
                let record = checkpoint(&mut writers, epoch, [Watermark::Idle(i64::MIN); 2]);
                commit(&sink, epoch, &record).unwrap();
                let marker = format!("day={delivery:?}/_done");
                assert!(is_there(&location, &marker));
                match &location {
                    Location::Local(folder) => std::fs::remove_file(folder.join(&marker)).unwrap(),
                    Location::Remote(remote) => runtime().block_on(remote.store.delete(&remote.object(&marker))).unwrap(),
                }
            }
        }
    }
}

#[test]
fn a_partition_whose_name_tells_no_time_is_refused_when_its_first_row_comes() {
    let location = remote().1;
    let sink = sink(&location, &BY_TIME);
    let mut writers = writers(&sink, 1, Delivery::ExactlyOnce);
    let error = writers[0].write(&rows(0..1, |_| "soon".to_owned())).unwrap_err();
    assert!(error.kind == ErrorKind::Data && error.message.contains("partition day=soon/: 'soon'"), "{error}");
}

#[test]
fn part_files_of_a_checkpoint_hold_at_their_limit_and_not_beyond() {
    let location = remote().1;
    let sink = sink(&location, &[]);
    let mut writers = writers(&sink, 1, Delivery::ExactlyOnce);
    writers[0].write(&rows(0..MAX_PARTS as i64, |n| n.to_string())).unwrap();
    let error = writers[0].write(&rows(0..1, |_| "one more".to_owned())).unwrap_err();
    assert!(error.kind == ErrorKind::User && error.message.contains(&format!("more than {MAX_PARTS} part files")), "{error}");
}

#[test]
fn a_part_without_rows_for_long_is_closed_at_the_end_of_an_epoch() {
    for (options, parts) in [(vec![("sink.rolling-policy.inactivity-interval", "0 s")], 2), (vec![], 1)] {
        let location = remote().1;
        let sink = sink(&location, &options);
        let mut writers = writers(&sink, 1, Delivery::ExactlyOnce);
        for n in 0..2 {
            writers[0].write(&rows(n..n + 1, |_| "a".to_owned())).unwrap();
            writers[0].end_epoch(n as u64).unwrap();
        }
        let record = prepare(writers[0].as_mut(), 0, 2);
        assert_eq!(names(&location), [""; 0]);
        commit(&sink, 2, &record).unwrap();
        assert_eq!(names(&location).len(), parts);
    }
}

#[test]
fn names_of_objects_are_taken_as_they_are() {
    let location = remote().1;
    let sink = sink(&location, &[]);
    let mut writers = writers(&sink, 1, Delivery::ExactlyOnce);
    writers[0].write(&rows(0..1, |_| "a/b ~[c]#%?".to_owned())).unwrap();
    let record = prepare(writers[0].as_mut(), 0, 1);
    commit(&sink, 1, &record).unwrap();
    let name = names(&location).remove(0);
    assert!(name.starts_with("day=a%2Fb ~%5Bc%5D%23%25%3F/part-"), "{name}");
    assert!(is_there(&location, &name));
}
