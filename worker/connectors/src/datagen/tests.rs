//! [io] Rows of `datagen` against their options.

use arrow::datatypes::SchemaRef;
use rheos_dataflow::source::Source;

use super::{Config, DatagenSource};
use crate::testing::{assert_replays, environment, read_all, schema, source_spec};

fn source(options: &[(&str, &str)], columns: &SchemaRef) -> DatagenSource {
    let given: Vec<_> = [("connector", "datagen"), ("rows-per-second", "-1")].into_iter().chain(options.iter().copied()).collect();
    let config = Config::parse(&source_spec(&given, columns, columns)).unwrap();
    DatagenSource::new(config, &environment(std::path::Path::new(".")))
}

#[test]
fn reading_on_from_any_offset_gives_the_rows_that_follow() {
    let columns = schema(&[("a", "BIGINT"), ("b", "STRING"), ("c", "DOUBLE"), ("d", "TIMESTAMP"), ("e", "BOOLEAN"), ("f", "DECIMAL")]);
    assert_replays(&source(&[("number-of-rows", "1001"), ("splits", "3"), ("fields.b.length", "5")], &columns), 90, 64);
}

#[test]
fn a_sequence_gives_each_number_once_and_ends() {
    let columns = schema(&[("n", "INT")]);
    let options = [("fields.n.kind", "sequence"), ("fields.n.start", "-5"), ("fields.n.end", "1000"), ("splits", "4")];
    let mut numbers: Vec<i64> = read_all(&source(&options, &columns), 100).unwrap().iter().map(|text| text.parse().unwrap()).collect();
    numbers.sort();
    assert_eq!(numbers, (-5..=1000).collect::<Vec<_>>());
}

#[test]
fn random_values_keep_their_bounds_and_nulls_their_rate() {
    let columns = schema(&[("n", "TINYINT"), ("x", "DOUBLE"), ("s", "STRING"), ("w", "BIGINT")]);
    let options = [
        ("number-of-rows", "20000"),
        ("fields.n.min", "-3"),
        ("fields.n.max", "3"),
        ("fields.x.min", "10"),
        ("fields.x.max", "20"),
        ("fields.s.length", "4"),
        ("fields.s.null-rate", "0.25"),
    ];
    let rows = read_all(&source(&options, &columns), 4096).unwrap();
    assert_eq!(rows.len(), 20_000);
    let (mut sum, mut nulls, mut wide) = (0.0, 0, 0);
    let mut seen = std::collections::BTreeSet::new();
    for row in &rows {
        let fields: Vec<&str> = row.split(", ").collect();
        seen.insert(fields[0].parse::<i8>().unwrap());
        let x: f64 = fields[1].parse().unwrap();
        assert!((10.0..20.0).contains(&x));
        sum += x;
        nulls += usize::from(fields[2] == "null");
        assert!(fields[2] == "null" || fields[2].len() == 4);
        wide += usize::from(fields[3].parse::<i64>().unwrap().unsigned_abs() > 1 << 60);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), (-3..=3).collect::<Vec<_>>());
    assert!((sum / 20_000.0 - 15.0).abs() < 0.1);
    assert!((4_700..5_300).contains(&nulls), "{nulls}");
    assert!(wide > 15_000, "whole numbers use their whole range: {wide}");
}

#[test]
fn wrong_tables_are_refused_by_name() {
    let cases = [
        (("fields.n.kind", "sequence"), "option 'fields.n.start' is missing"),
        (("fields.n.min", "300"), "option 'fields.n.min' = '300': expected a whole number from -128 to 127"),
        (("fields.m.min", "3"), "unknown option 'fields.m.min'; did you mean 'fields.n.min'?"),
        (("fields.n.null-rate", "2"), "expected a number from 0 to 1"),
    ];
    let columns = schema(&[("n", "TINYINT")]);
    for (option, expected) in cases {
        let problems = Config::parse(&source_spec(&[("connector", "datagen"), option], &columns, &columns)).unwrap_err();
        assert!(problems[0].message.contains(expected), "{}", problems[0]);
    }
}

#[test]
fn few_rows_make_few_splits() {
    let columns = schema(&[("n", "INT")]);
    assert_eq!(source(&[("number-of-rows", "100")], &columns).discover().unwrap().len(), 2);
}
