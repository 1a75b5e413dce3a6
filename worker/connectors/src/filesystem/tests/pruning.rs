//! [io] Row groups that cannot match are not read, and no row that matches is lost.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, cast::AsArray};
use arrow::datatypes::{Int64Type, SchemaRef};
use object_store::{ObjectStoreExt, PutPayload};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use proptest::prelude::*;
use rheos_dataflow::graph::{Comparator, Comparison, Pruning};
use rheos_dataflow::source::Source;

use super::super::config::SourceConfig;
use super::super::location::Location;
use super::super::source::FilesystemSource;
use super::{remote, write};
use crate::testing::{Opened, runtime, schema, source_spec};

type Row = (Option<i64>, Option<String>);

const COMPARATORS: [Comparator; 5] =
    [Comparator::Equal, Comparator::Less, Comparator::LessOrEqual, Comparator::Greater, Comparator::GreaterOrEqual];

fn file(rows: &[Row], group_rows: usize, statistics: EnabledStatistics) -> Vec<u8> {
    let columns = schema(&[("n", "BIGINT"), ("s", "STRING")]);
    let numbers: ArrayRef = Arc::new(rows.iter().map(|(n, _)| *n).collect::<Int64Array>());
    let texts: ArrayRef = Arc::new(rows.iter().map(|(_, s)| s.clone()).collect::<StringArray>());
    let batch = RecordBatch::try_new(SchemaRef::clone(&columns), vec![numbers, texts]).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).set_statistics_enabled(statistics).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), columns, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

fn source(location: &Location, pruning: Pruning) -> FilesystemSource {
    let columns = schema(&[("n", "BIGINT"), ("s", "STRING")]);
    let mut spec = source_spec(&[("connector", "filesystem"), ("path", "in"), ("format", "parquet")], &columns, &columns);
    spec.pruning = pruning;
    FilesystemSource::at(SourceConfig::parse(&spec).unwrap(), location.clone())
}

/// How many row groups are read, and the rows in them.
fn read(location: &Location, pruning: Pruning) -> (usize, Vec<Row>) {
    let source = source(location, pruning);
    let splits = source.discover().unwrap();
    let mut rows = Vec::new();
    for split in &splits {
        let mut opened = Opened::new(&source, split, None).unwrap();
        while let Some(batch) = opened.next(100).unwrap() {
            let (numbers, texts) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
            let text = |row| (!texts.is_null(row)).then(|| texts.value(row).to_owned());
            rows.extend((0..batch.num_rows()).map(|row| ((!numbers.is_null(row)).then(|| numbers.value(row)), text(row))));
        }
    }
    (splits.len(), rows)
}

fn number(comparator: Comparator, value: i64) -> Comparison {
    Comparison { column: "n".to_owned(), comparator, value: Arc::new(Int64Array::from(vec![value])) }
}

fn text(comparator: Comparator, value: &str) -> Comparison {
    Comparison { column: "s".to_owned(), comparator, value: Arc::new(StringArray::from(vec![value])) }
}

fn holds<T: PartialOrd>(value: Option<T>, comparator: Comparator, other: T) -> bool {
    value.is_some_and(|value| match comparator {
        Comparator::Equal => value == other,
        Comparator::Less => value < other,
        Comparator::LessOrEqual => value <= other,
        Comparator::Greater => value > other,
        Comparator::GreaterOrEqual => value >= other,
    })
}

/// The filter as it is evaluated behind the source, said another way.
fn matches((n, s): &Row, pruning: &Pruning) -> bool {
    pruning.0.iter().any(|list| {
        list.iter().all(|comparison| match comparison.column.as_str() {
            "n" => holds(*n, comparison.comparator, comparison.value.as_primitive::<Int64Type>().value(0)),
            _ => holds(s.as_deref(), comparison.comparator, comparison.value.as_string::<i32>().value(0)),
        })
    })
}

fn rows(count: i64) -> Vec<Row> {
    (0..count).map(|n| (Some(n), Some(format!("text {n:04}")))).collect()
}

#[test]
fn only_row_groups_that_may_match_are_read() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.parquet", file(&rows(1000), 100, EnabledStatistics::Chunk));
    let (store, far) = remote();
    let put = PutPayload::from(file(&rows(1000), 100, EnabledStatistics::Chunk));
    runtime().block_on(store.put(&"data/a.parquet".into(), put)).unwrap();
    let between = vec![number(Comparator::GreaterOrEqual, 250), number(Comparator::Less, 400)];
    let cases: [(Vec<Vec<Comparison>>, usize); 9] = [
        (vec![], 10),
        (vec![between.clone()], 2),
        (vec![vec![number(Comparator::Equal, 300)]], 1),
        (vec![vec![number(Comparator::LessOrEqual, 100)]], 2),
        (vec![vec![number(Comparator::Less, 100)]], 1),
        (vec![vec![number(Comparator::Greater, 899)]], 1),
        (vec![vec![number(Comparator::Greater, 5_000)]], 0),
        (vec![between.clone(), vec![text(Comparator::Equal, "text 0950")]], 3),
        (vec![between, vec![]], 10),
    ];
    for location in [Location::Local(folder.path().to_owned()), far] {
        for (lists, groups) in &cases {
            let pruning = Pruning(lists.clone());
            let (read_groups, found) = read(&location, pruning.clone());
            assert_eq!(read_groups, *groups, "{lists:?}");
            if *groups < 10 {
                let wanted = |rows: Vec<Row>| rows.into_iter().filter(|row| matches(row, &pruning)).collect::<Vec<_>>();
                assert_eq!(wanted(found), wanted(rows(1000)), "{lists:?}");
            }
        }
    }
}

#[test]
fn without_statistics_or_of_another_type_all_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Local(folder.path().to_owned());
    write(folder.path(), "a.parquet", file(&rows(100), 10, EnabledStatistics::None));
    assert_eq!(read(&location, Pruning(vec![vec![number(Comparator::Equal, 5)]])).0, 10);
    write(folder.path(), "a.parquet", file(&rows(100), 10, EnabledStatistics::Chunk));
    let wider = Comparison { value: Arc::new(arrow::array::Int32Array::from(vec![5])), ..number(Comparator::Equal, 5) };
    assert_eq!(read(&location, Pruning(vec![vec![wider]])).0, 10);
    let other = Comparison { column: "nobody".to_owned(), ..number(Comparator::Equal, 5) };
    assert_eq!(read(&location, Pruning(vec![vec![other]])).0, 10);
}

/// Texts so long that writers cut their statistics, which share what is left.
fn long_text() -> impl Strategy<Value = String> {
    (0..3u8, 0..4u8).prop_map(|(first, last)| format!("{}{}{last}", char::from(b'a' + first), "\u{10ffff}x".repeat(40)))
}

fn any_row() -> impl Strategy<Value = Row> {
    (proptest::option::weighted(0.8, -20..20i64), proptest::option::weighted(0.8, long_text()))
}

fn any_comparison() -> impl Strategy<Value = Comparison> {
    let comparator = || proptest::sample::select(COMPARATORS.to_vec());
    prop_oneof![
        (comparator(), -22..22i64).prop_map(|(comparator, value)| number(comparator, value)),
        (comparator(), long_text()).prop_map(|(comparator, value)| text(comparator, &value)),
    ]
}

proptest! {
    #[test]
    fn no_row_that_matches_is_lost(
        mut rows in proptest::collection::vec(any_row(), 1..60),
        group_rows in 1..12usize,
        sorted in any::<bool>(),
        lists in proptest::collection::vec(proptest::collection::vec(any_comparison(), 1..3), 1..3),
    ) {
        if sorted {
            rows.sort();
        }
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a.parquet", file(&rows, group_rows, EnabledStatistics::Chunk));
        let pruning = Pruning(lists);
        let (_, found) = read(&Location::Local(folder.path().to_owned()), pruning.clone());
        let wanted = |rows: Vec<Row>| rows.into_iter().filter(|row| matches(row, &pruning)).collect::<Vec<_>>();
        prop_assert_eq!(wanted(found), wanted(rows));
    }
}
