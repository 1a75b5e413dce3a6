//! [io] Formats, malformed input, replay.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use object_store::{ObjectStoreExt, PutPayload};
use proptest::prelude::*;
use rheos_dataflow::error::{DataflowError, ErrorKind};
use rheos_dataflow::source::Source;

use super::super::config::SourceConfig;
use super::super::location::Location;
use super::super::source::FilesystemSource;
use super::super::split::FileSplit;
use super::{gzip, remote, write};
use crate::format::RECORD_LIMIT;
use crate::testing::{Opened, assert_replays, environment, options as to_options, read_all, runtime, schema, source_spec};

const FLIGHTS: &[(&str, &str)] = &[("day", "INT"), ("delay", "DOUBLE"), ("carrier", "STRING"), ("at", "TIMESTAMP")];

fn config(options: &[(&str, &str)], declared: &SchemaRef, wanted: &SchemaRef) -> SourceConfig {
    let mut given = vec![("connector", "filesystem"), ("path", "in")];
    given.retain(|(name, _)| options.iter().all(|(other, _)| other != name));
    given.extend(options.iter().copied());
    SourceConfig::parse(&source_spec(&given, declared, wanted)).unwrap()
}

fn source(folder: &Path, options: &[(&str, &str)], columns: &[(&str, &str)]) -> FilesystemSource {
    let columns = schema(columns);
    FilesystemSource::new(config(options, &columns, &columns), &environment(folder)).unwrap()
}

/// The files that a look finds.
fn found(source: &FilesystemSource) -> Vec<String> {
    source.discover().unwrap().iter().map(|split| FileSplit::parse(split).file).collect()
}

/// The rows of one file, or the error.
fn rows(name: &str, content: impl AsRef<[u8]>, options: &[(&str, &str)], columns: &[(&str, &str)]) -> Result<Vec<String>, DataflowError> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &format!("in/{name}"), content);
    read_all(&source(folder.path(), options, columns), 1000)
}

#[test]
fn csv_fields_become_typed_columns() {
    let columns = [
        ("i", "INT"),
        ("l", "BIGINT"),
        ("d", "DOUBLE"),
        ("b", "BOOLEAN"),
        ("s", "STRING"),
        ("t", "TIMESTAMP"),
        ("z", "TIMESTAMP_LTZ"),
        ("day", "DATE"),
        ("m", "DECIMAL"),
    ];
    let content = "1,-9223372036854775808,1.5,true,\"a,\"\"b\"\"\n c\",2013-01-01T10:00:00Z,2013-01-01 10:00:00.250,2013-01-31,12345678.90\r\n\
                   ,,,,,,,,\n\n 7 ,8, -2e3 ,FALSE,x,2013-01-01 10:00:01,2013-01-01T10:00:00+02:00,1969-12-31,-0.5";
    let found = rows("a.csv", content, &[("format", "csv")], &columns).unwrap();
    assert_eq!(
        found,
        [
            "1, -9223372036854775808, 1.5, true, a,\"b\"\n c, 2013-01-01T10:00, 2013-01-01T10:00:00.250Z, 2013-01-31, 12345678.90",
            // An empty field is an empty text, and null elsewhere.
            "null, null, null, null, , null, null, null, null",
            "7, 8, -2000.0, false, x, 2013-01-01T10:00:01, 2013-01-01T08:00Z, 1969-12-31, -0.50",
        ]
    );
}

#[test]
fn csv_quirks_of_real_files_are_read() {
    let options = [("format", "csv"), ("csv.header", "true"), ("csv.null-literal", "NA")];
    // A byte order mark, columns in another order, some that nobody wants, NA for what is missing.
    let content = "\u{feff}year,carrier,delay,day,at\n2013,UA,2,1,2013-01-01T10:00:00Z\n2013,NA,NA,1,2013-01-01T10:00:00Z\n";
    let found = rows("flights.csv", content, &options, FLIGHTS).unwrap();
    assert_eq!(found, ["1, 2.0, UA, 2013-01-01T10:00", "1, null, null, 2013-01-01T10:00"]);
    let found = rows(
        "a.csv",
        "# note\n1;'x;y'\n#2;z\n",
        &[("format", "csv"), ("csv.field-delimiter", ";"), ("csv.quote-character", "'"), ("csv.allow-comments", "true")],
        &[("n", "INT"), ("s", "STRING")],
    );
    assert_eq!(found.unwrap(), ["1, x;y"]);
    let found = rows(
        "a.csv",
        "title of the file\n1\t\"\n",
        &[("format", "csv"), ("csv.field-delimiter", "\\t"), ("csv.disable-quote-character", "true"), ("csv.ignore-first-line", "true")],
        &[("n", "INT"), ("s", "STRING")],
    );
    assert_eq!(found.unwrap(), ["1, \""]);
}

#[test]
fn csv_errors_tell_file_line_column_text_and_what_is_right() {
    let cases: [(&[u8], &str); 7] = [
        (b"1,2,UA,2013-01-01\nx1,2,UA,2013-01-01\n", "a.csv, line 2 (record 2): column 'day': expected INT, found 'x1'. To leave such"),
        (
            b"1,2,\"U\nA\",2013-01-01\n1,2,UA,noon\n",
            "line 3 (record 2): column 'at': expected TIMESTAMP such as 2013-01-31 10:00:00, found 'noon'",
        ),
        (b"1,2,UA\n", "line 1 (record 1): expected 4 fields, found 3: 1,2,UA"),
        (b"99999999999,2,UA,2013-01-01\n", "column 'day': expected INT, found '99999999999'"),
        (b"1,2,\xff\xfe,2013-01-01\n", "column 'carrier': expected text in UTF-8, found"),
        (b"1,NaN!,UA,2013-01-01\n", "column 'delay': expected DOUBLE, found 'NaN!'"),
        (b"1,2,UA,2013-02-30 10:00:00\n", "column 'at': expected TIMESTAMP"),
    ];
    for (content, expected) in cases {
        let error = rows("a.csv", content, &[("format", "csv")], FLIGHTS).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Data);
        assert!(error.message.contains(expected), "{error}");
        assert!(error.message.len() < 700, "{} bytes", error.message.len());
        // Skipping leaves the others.
        let skipping = rows("a.csv", content, &[("format", "csv"), ("format.on-error", "skip")], FLIGHTS).unwrap();
        assert!(skipping.len() <= 1);
    }
}

#[test]
fn the_first_malformed_record_is_told_whatever_its_column() {
    let content = "1,soon,UA,2013-01-01\nx,2,UA,2013-01-01\n";
    let error = rows("a.csv", content, &[("format", "csv")], FLIGHTS).unwrap_err();
    assert!(error.message.contains("line 1 (record 1): column 'delay'"), "{error}");
}

#[test]
fn lines_and_records_are_counted_from_batch_to_batch() {
    // Two lines each, and more records than a batch.
    let good: String = (0..2_500).map(|n| format!("{n},\"a\nb\"\n")).collect();
    let columns = [("n", "INT"), ("s", "STRING")];
    let error = rows("a.csv", format!("{good}x,c\n"), &[("format", "csv")], &columns).unwrap_err();
    assert!(error.message.contains("line 5001 (record 2501)"), "{error}");
}

#[test]
fn an_open_quote_and_a_null_that_is_not_taken_are_malformed() {
    let columns = [("n", "INT"), ("s", "STRING!")];
    let cases = [
        ("1,a\n2,\"b\n3,c\n", "line 2 (record 2): a quote is not closed before the end of the file", 1),
        ("1,a\n2,NA\n3,c\n", "line 2 (record 2): column 's': expected STRING (the column is NOT NULL), found 'NA'", 2),
    ];
    for (content, expected, left) in cases {
        let options = [("format", "csv"), ("csv.null-literal", "NA")];
        let error = rows("a.csv", content, &options, &columns).unwrap_err();
        assert!(error.message.contains(expected), "{error}");
        let skipping = [options[0], options[1], ("format.on-error", "skip")];
        assert_eq!(rows("a.csv", content, &skipping, &columns).unwrap().len(), left);
    }
    assert_eq!(rows("a.csv", "1,\"a\"", &[("format", "csv")], &columns).unwrap(), ["1, a"], "a last line needs no end");
}

#[test]
fn a_header_is_read_once_and_holds_for_every_replay() {
    let folder = tempfile::tempdir().unwrap();
    let content: String = (0..100).map(|n| format!("{n},x{n}\n")).collect();
    write(folder.path(), "in/a.csv", format!("n,s\n{content}"));
    // The table has the columns the other way round.
    let source = source(folder.path(), &[("format", "csv"), ("csv.header", "true")], &[("s", "STRING"), ("n", "INT")]);
    assert_eq!(read_all(&source, 7).unwrap()[99], "x99, 99");
    assert_replays(&source, 7, 50);
    let twice = rows("a.csv", "n,s,n\n1,a,2\n", &[("format", "csv"), ("csv.header", "true")], &[("n", "INT")]).unwrap_err();
    assert!(twice.message.contains("the header names column 'n' twice"), "{twice}");
}

#[test]
fn a_header_without_the_column_is_refused() {
    let error = rows("a.csv", "day,delay,carier,at\n", &[("format", "csv"), ("csv.header", "true")], FLIGHTS).unwrap_err();
    assert!(error.message.contains("the header has no column 'carrier'; did you mean 'carier'?"), "{error}");
}

#[test]
fn skipped_records_are_counted_and_the_count_survives_a_replay() {
    let folder = tempfile::tempdir().unwrap();
    let content: String = (0..100).map(|n| if n % 7 == 3 { "bad\n".to_owned() } else { format!("{n}\n") }).collect();
    write(folder.path(), "in/a.csv", content);
    for alias in [("format.on-error", "skip"), ("csv.ignore-parse-errors", "true")] {
        let source = source(folder.path(), &[("format", "csv"), alias], &[("n", "INT")]);
        let mut opened = Opened::new(&source, &"a.csv".to_owned(), None).unwrap();
        opened.next(50).unwrap();
        let offset = opened.reader.offset();
        assert_eq!(opened.rest(10).unwrap().len() as u64 + opened.reader.skipped() + 43, 100);
        assert_eq!(opened.reader.skipped(), 14);
        assert_eq!(opened.reader.offset()["records"], 100, "malformed ones too");
        let mut replayed = Opened::new(&source, &"a.csv".to_owned(), Some(&offset)).unwrap();
        assert_eq!(replayed.reader.skipped(), 7);
        replayed.rest(10).unwrap();
        assert_eq!(replayed.reader.skipped(), 14);
        assert_replays(&source, 7, 50);
    }
}

#[test]
fn json_fields_are_found_by_name() {
    let columns = [("n", "BIGINT"), ("x", "DOUBLE"), ("s", "STRING"), ("b", "BOOLEAN"), ("t", "TIMESTAMP"), ("m", "DECIMAL")];
    let content = r#"{"x": 1, "n": 9223372036854775807, "unknown": {"deep": [1, {"a": null}]}, "s": "a\n\u00e9", "b": true, "t": "2013-01-01T10:00:00Z", "m": 1.25}

{"s": 5, "n": "12", "t": "2013-01-01 10:00:00.5"}
{}"#;
    let found = rows("a.json", content, &[("format", "json")], &columns).unwrap();
    assert_eq!(
        found,
        [
            "9223372036854775807, 1.0, a\né, true, 2013-01-01T10:00, 1.25",
            "12, null, 5, null, 2013-01-01T10:00:00.500, null",
            "null, null, null, null, null, null"
        ]
    );
}

#[test]
fn json_errors_tell_file_line_field_and_text() {
    let good = "{\"n\": 1}\n";
    let deep = "[".repeat(100_000);
    let cases = [
        ("{\"n\": 9223372036854775808}", "line 2 (record 2): "),
        ("{\"n\": \"x\"}", "n"),
        ("{\"n\": 1", "does not end on its line"),
        ("{\"n\": 1} {\"n\": 2}", "expected one JSON object on a line"),
        ("[1]", "line 2"),
        ("7", "line 2"),
        ("nothing", "line 2"),
        ("{\"n\": \u{1}}", "line 2"),
        (&deep, "line 2"),
    ];
    for (bad, expected) in cases {
        let content = format!("{good}{bad}\n{good}");
        let error = rows("a.json", &content, &[("format", "json")], &[("n", "BIGINT")]).unwrap_err();
        assert!(error.kind == ErrorKind::Data && error.message.contains("a.json, line 2 (record 2)"), "{error}");
        assert!(error.message.contains(expected) && error.message.len() < 1000, "{error}");
        let skipping = [("format", "json"), ("json.ignore-parse-errors", "true")];
        assert_eq!(rows("a.json", &content, &skipping, &[("n", "BIGINT")]).unwrap(), ["1", "1"]);
    }
    let mixed = "\u{feff}{\"n\": 1}\n{\"n\": 2}\nbad\n{\"n\": 3}\n{\"n\": 4}\n";
    let skipping = [("format", "json"), ("format.on-error", "skip")];
    assert_eq!(rows("a.json", mixed, &skipping, &[("n", "BIGINT")]).unwrap(), ["1", "2", "3", "4"], "in the order of the file");
    let invalid = rows("a.json", b"{\"n\": \"\xff\"}\n", &[("format", "json")], &[("n", "STRING")]).unwrap_err();
    assert_eq!(invalid.kind, ErrorKind::Data);
    let null = rows("a.json", "{}\n", &[("format", "json")], &[("n", "BIGINT!")]).unwrap_err();
    assert!(null.message.contains("column 'n': it is NOT NULL, and null or not there"), "{null}");
    let columns = [("s", "STRING"), ("m", "DECIMAL")];
    let wide = rows("a.json", "{\"s\": \"x\", \"m\": 123456789012}\n", &[("format", "json")], &columns).unwrap_err();
    assert!(wide.message.contains("column 'm': "), "{wide}");
}

#[test]
fn gzip_is_known_by_its_ending_and_refused_when_cut_off() {
    let content: String = (0..50_000).map(|n| format!("{n}\n")).collect();
    let packed = gzip(&content);
    let columns = [("n", "BIGINT")];
    let found = rows("a.csv.gz", &packed, &[("format", "csv")], &columns).unwrap();
    assert_eq!((found.len(), found[49_999].as_str()), (50_000, "49999"));
    assert_eq!(rows("a", &packed, &[("format", "csv"), ("compression", "gzip")], &columns).unwrap().len(), 50_000);
    assert_eq!(rows("a.gzip", &packed, &[("format", "csv")], &columns).unwrap().len(), 50_000);
    let two = [packed.clone(), gzip("50000\n")].concat();
    assert_eq!(rows("a.csv.gz", two, &[("format", "csv")], &columns).unwrap().len(), 50_001);
    for bad in [
        &packed[..packed.len() / 2],
        &packed[..packed.len() - 4],
        b"not gzip at all",
        &[&packed[..200], b"rubbish", &packed[200..]].concat(),
    ] {
        let error = rows("a.csv.gz", bad, &[("format", "csv"), ("format.on-error", "skip")], &columns).unwrap_err();
        assert!(error.kind == ErrorKind::Data && error.message.contains("the gzip data is corrupt or cut off"), "{error}");
    }
}

#[test]
fn records_hold_at_the_limit_and_not_beyond() {
    let text = |length: usize| format!("\"{}\"\n1\n", "x".repeat(length));
    let columns = [("s", "STRING")];
    assert_eq!(rows("a.csv", text(RECORD_LIMIT - 3), &[("format", "csv")], &columns).unwrap().len(), 2);
    let error = rows("a.csv", text(RECORD_LIMIT), &[("format", "csv")], &columns).unwrap_err();
    assert!(error.message.contains(&format!("longer than {RECORD_LIMIT} bytes")), "{error}");
    let error = rows("a.csv", format!("\"{}", "x\n".repeat(RECORD_LIMIT)), &[("format", "csv")], &columns).unwrap_err();
    assert!(error.message.contains("is a quote not closed"), "{error}");
    let error = rows("a.json", " ".repeat(RECORD_LIMIT + 1), &[("format", "json")], &columns).unwrap_err();
    assert!(error.message.contains(&format!("longer than {RECORD_LIMIT} bytes")), "{error}");
}

#[test]
fn files_are_read_by_name_and_hidden_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let hidden = [".hidden", "_staging/d.csv", ".staging/e", "d.csv.inprogress", "d.csv.tmp"].map(|name| (name, "x\n"));
    for (name, content) in [("b.csv", "2\n"), ("a.csv", "1\n"), ("sub/c.csv", "3\n")].into_iter().chain(hidden) {
        write(folder.path(), &format!("in/{name}"), content);
    }
    let of = |options: &[(&str, &str)]| source(folder.path(), options, &[("n", "INT")]);
    assert_eq!(found(&of(&[("format", "csv")])), ["a.csv", "b.csv", "sub/c.csv"]);
    assert_eq!(read_all(&of(&[("format", "csv")]), 10).unwrap(), ["1", "2", "3"]);
    assert_eq!(read_all(&of(&[("format", "csv"), ("source.path.regex-pattern", ".*/[ab].csv")]), 10).unwrap(), ["1", "2"]);
    assert_eq!(read_all(&of(&[("format", "csv"), ("path", "in/a.csv")]), 10).unwrap(), ["1"]);
    let url = format!("file://{}/in/b.csv", folder.path().display());
    assert_eq!(read_all(&of(&[("format", "csv"), ("path", &url)]), 10).unwrap(), ["2"]);
    let error = of(&[("format", "csv"), ("path", "im")]).discover().unwrap_err();
    assert!(error.message.contains("relative paths start at the manifest's folder"), "{error}");
}

#[test]
fn a_file_that_shrank_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "in/a.csv", "1\n2\n3\n");
    let source = source(folder.path(), &[("format", "csv")], &[("n", "INT")]);
    let offset = serde_json::json!({"bytes": 7, "lines": 3, "records": 3});
    let error = Opened::new(&source, &"a.csv".to_owned(), Some(&offset)).err().unwrap();
    assert!(error.kind == ErrorKind::State && error.message.contains("files must not change"), "{error}");
    let error = Opened::new(&source, &"a.csv".to_owned(), Some(&serde_json::json!({"byte": 7}))).err().unwrap();
    assert!(error.kind == ErrorKind::State && error.message.contains("is not a position"), "{error}");
}

#[test]
fn pruned_columns_are_the_same_as_among_all() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "in/a.csv", "1,2,UA,2013-01-01\n3,4,AA,2013-01-02\n");
    write(
        folder.path(),
        "json/a.json",
        "{\"day\": 1, \"delay\": 2, \"carrier\": \"UA\"}\n{\"carrier\": \"AA\", \"delay\": 4, \"at\": \"rubbish\"}\n",
    );
    let declared = schema(FLIGHTS);
    let wanted = schema(&[("carrier", "STRING"), ("delay", "DOUBLE")]);
    for (format, path) in [("csv", "in"), ("json", "json")] {
        let pruned = config(&[("format", format), ("path", path)], &declared, &wanted);
        let source = FilesystemSource::new(pruned, &environment(folder.path())).unwrap();
        assert_eq!(read_all(&source, 10).unwrap(), ["UA, 2.0", "AA, 4.0"]);
        let none = config(&[("format", format), ("path", path)], &declared, &schema(&[]));
        let source = FilesystemSource::new(none, &environment(folder.path())).unwrap();
        assert_eq!(read_all(&source, 10).unwrap(), ["", ""], "{format}: rows without columns are counted");
    }
}

fn parquet_file(rows: i64, group_rows: usize) -> Vec<u8> {
    let columns = schema(&[("n", "BIGINT"), ("s", "STRING")]);
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|n| format!("text {}", n % 100))));
    let batch = RecordBatch::try_new(SchemaRef::clone(&columns), vec![numbers, texts]).unwrap();
    let properties = parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), columns, Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn parquet_row_groups_are_splits() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "in/a.parquet", parquet_file(1000, 300));
    let of = |columns: &[(&str, &str)]| source(folder.path(), &[("format", "parquet")], columns);
    let whole = of(&[("s", "STRING"), ("n", "BIGINT")]);
    assert_eq!(whole.discover().unwrap().len(), 4);
    assert_replays(&whole, 90, 64);
    let rows = read_all(&whole, 128).unwrap();
    assert_eq!((rows.len(), rows[999].as_str()), (1000, "text 99, 999"));
    // Cast where the types allow, refused by name where not.
    assert_eq!(read_all(&of(&[("n", "INT")]), 128).unwrap()[999], "999");
    let error = read_all(&of(&[("s", "INT")]), 128).unwrap_err();
    assert!(error.message.contains("column 's' must be Int32"), "{error}");
    let error = read_all(&of(&[("m", "INT")]), 128).unwrap_err();
    assert!(error.message.contains("there is no column 'm'; the file has: n, s"), "{error}");
    assert_eq!(read_all(&of(&[]), 128).unwrap().len(), 1000);
    for bad in [&b""[..], b"PAR1", &parquet_file(1000, 300)[100..], &parquet_file(1000, 300)[..2000]] {
        write(folder.path(), "in/a.parquet", bad);
        let error = read_all(&whole, 128).unwrap_err();
        assert!(error.message.contains("not a readable Parquet file"), "{error}");
    }
}

#[test]
fn a_store_gives_the_same_rows_as_a_folder() {
    let (store, location) = remote();
    let text: String = (0..3000).map(|n| format!("{n},text {n}\n")).collect();
    let puts = [
        ("data/a.csv", text.clone().into_bytes()),
        ("data/b.csv.gz", gzip(&text)),
        ("data/_staging/x", b"x".to_vec()),
        ("other", b"x".to_vec()),
    ];
    let parquet = [("data/a.parquet", parquet_file(3000, 1000))];
    let columns = schema(&[("n", "BIGINT"), ("s", "STRING")]);
    for (format, objects) in [("csv", &puts[..]), ("parquet", &parquet[..])] {
        for (name, content) in objects {
            let put = PutPayload::from(content.clone());
            runtime().block_on(store.put(&(*name).into(), put)).unwrap();
        }
        let options = to_options(&[("format", format), ("source.path.regex-pattern", &format!(".*{format}(.gz)?"))]);
        let options: Vec<_> = options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let source = FilesystemSource::at(config(&options, &columns, &columns), location.clone());
        let rows = read_all(&source, 500).unwrap();
        let (expected, last) = if format == "csv" { (6000, "2999, text 2999") } else { (3000, "2999, text 99") };
        assert_eq!((rows.len(), rows[rows.len() - 1].as_str()), (expected, last));
        assert_replays(&source, 700, 900);
    }
}

#[test]
fn wrong_tables_are_refused_by_name() {
    let columns = schema(FLIGHTS);
    let cases: [(&[(&str, &str)], &str); 9] = [
        (&[("path", "in")], "option 'format' is missing"),
        (&[("format", "csv")], "option 'path' is missing"),
        (&[("path", "in"), ("format", "cvs")], "option 'format' = 'cvs': expected 'csv', 'json', 'parquet' or 'debezium-json'"),
        (&[("path", "hdfs://x/y"), ("format", "csv")], "'hdfs://' is not supported"),
        (&[("path", "s3://"), ("format", "csv")], "the form s3://bucket/prefix"),
        (&[("path", "in"), ("format", "csv"), ("csv.field-delimiter", "||")], "'csv.field-delimiter' = '||': expected one ASCII character"),
        (&[("path", "in"), ("format", "csv"), ("json.ignore-parse-errors", "true")], "unknown option 'json.ignore-parse-errors'"),
        (&[("path", "in"), ("format", "csv"), ("source.monitor-interval", "1 ms")], "expected at least 100 ms"),
        (&[("path", "in"), ("format", "parquet"), ("compression", "gzip")], "Parquet files compress within"),
    ];
    for (options, expected) in cases {
        let given: Vec<_> = [("connector", "filesystem")].into_iter().chain(options.iter().copied()).collect();
        let problems = SourceConfig::parse(&source_spec(&given, &columns, &columns)).unwrap_err();
        assert!(problems.iter().any(|problem| problem.message.contains(expected)), "{problems:#?}");
    }
}

/// What a CSV file of `rows` looks like, quoted where it must be.
fn to_csv(rows: &[(i64, String)], ending: &str) -> String {
    rows.iter().map(|(number, text)| format!("{number},\"{}\"{ending}", text.replace('"', "\"\""))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_text_is_read_back_and_replayed(
        rows in prop::collection::vec((any::<i64>(), "[a-z,\"\n\r#é\\\\ ]{0,12}"), 1..60),
        windows in any::<bool>(), packed in any::<bool>(), batch in 1_usize..40, other in 1_usize..40,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let content = to_csv(&rows, if windows { "\r\n" } else { "\n" });
        let (name, content) = if packed { ("in/a.gz", gzip(&content)) } else { ("in/a", content.into_bytes()) };
        write(folder.path(), name, content);
        let source = source(folder.path(), &[("format", "csv")], &[("n", "BIGINT"), ("s", "STRING")]);
        let expected: Vec<String> = rows.iter().map(|(number, text)| format!("{number}, {text}")).collect();
        prop_assert_eq!(read_all(&source, batch).unwrap(), expected);
        assert_replays(&source, batch, other);
    }

    #[test]
    fn no_input_makes_a_reader_panic(content in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"{}[]\",:\n\r1e.-n".to_vec())], 0..400), skip in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "in/a", &content);
        for format in ["csv", "json", "parquet"] {
            let on_error = ("format.on-error", if skip { "skip" } else { "fail" });
            let options = [("format", format), on_error];
            let options = if format == "parquet" { &options[..1] } else { &options[..] };
            let source = source(folder.path(), options, &[("n", "BIGINT"), ("s", "STRING"), ("t", "TIMESTAMP")]);
            if let Ok(rows) = read_all(&source, 7) {
                prop_assert!(rows.len() <= content.len());
                assert_replays(&source, 3, 5);
            }
        }
    }
}

#[test]
fn only_local_paths_need_the_local_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::open("sub/x", &environment(folder.path())).unwrap();
    assert!(matches!(location, Location::Local(path) if path == folder.path().join("sub/x")));
}
