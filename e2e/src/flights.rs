//! [io] Real data: the flights example, against SQLite over the same file.

use std::io::Read;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::oracle::{Multiset, compare, part_files};
use crate::worker::Job;

const QUERIES: &str = include_str!("../golden/flights.sql");
const MANIFEST: &str = include_str!("../../crds/examples/flight-delays.yaml");
/// Sums of integers below 2^53, divided once: both engines round the same quotient.
const DIGITS: usize = 9;

/// The month that is in the repository.
pub fn month() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/examples/data/flights-2013-01.csv.gz")
}

/// Runs the example over `file` (CSV, gzipped or not) and over SQLite, and compares every row of both tables.
///
/// # Panics
/// When anything differs.
pub async fn equals_sqlite(file: &Path, rows: usize) {
    let database = load(file, rows);
    let manifest = MANIFEST.replace("data/flights-2013-01.csv.gz", &file.canonicalize().expect("the file is there").to_string_lossy());
    assert_ne!(manifest, MANIFEST, "the manifest names the file");
    let job = Job::new(&manifest);
    let mut run = job.start();
    let code = run.wait().await;
    assert_eq!(code, 0, "{}", run.log());
    assert_eq!(run.summary().rows_in, rows as u64);
    for (table, query) in queries() {
        let expected = ask(&database, query);
        let actual = committed(&job.path("out").join(table));
        let difference = compare(&expected, &actual);
        assert_eq!(difference, Default::default(), "{table}, of {} rows", expected.len());
    }
}

/// The queries of the golden file, by the name in the comment above each.
fn queries() -> Vec<(&'static str, &'static str)> {
    let named = ["departures", "delays_by_origin"];
    named
        .map(|name| {
            let start = QUERIES.find(&format!("-- {name}\n")).unwrap_or_else(|| panic!("no query {name}"));
            let query = &QUERIES[start..];
            (name, &query[..query.find(';').expect("a query ends with a semicolon")])
        })
        .to_vec()
}

fn load(file: &Path, rows: usize) -> Connection {
    let mut text = String::new();
    let raw = std::fs::File::open(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    if file.extension().is_some_and(|end| end == "gz") {
        flate2::read::GzDecoder::new(raw).read_to_string(&mut text).expect("gzip");
    } else {
        std::io::BufReader::new(raw).read_to_string(&mut text).expect("text");
    }
    let mut database = Connection::open_in_memory().expect("a database");
    database.execute("CREATE TABLE flights (dep_time INT, dep_delay INT, carrier TEXT, origin TEXT, hours INT)", []).expect("a table");
    let transaction = database.transaction().expect("a transaction");
    let mut loaded = 0;
    for line in text.lines().skip(1) {
        let field: Vec<&str> = line.split(',').collect();
        let number = |at: usize| field[at].parse::<i64>().ok();
        transaction
            .prepare_cached("INSERT INTO flights VALUES (?, ?, ?, ?, strftime('%s', ?) / 3600)")
            .and_then(|mut insert| insert.execute((number(3), number(5), field[9], field[12], field[18].trim())))
            .expect("a row");
        loaded += 1;
    }
    transaction.commit().expect("a commit");
    assert_eq!(loaded, rows, "rows of {}", file.display());
    database
}

fn ask(database: &Connection, query: &str) -> Multiset {
    let mut statement = database.prepare(query).expect("a query");
    let names: Vec<String> = statement.column_names().iter().map(|name| (*name).to_owned()).collect();
    let mut rows = statement.query([]).expect("an answer");
    let mut answer = Multiset::new();
    while let Some(row) = rows.next().expect("a row") {
        let fields = names.iter().enumerate().map(|(at, name)| {
            let value = match row.get_ref(at).expect("a value") {
                rusqlite::types::ValueRef::Null => "null".to_owned(),
                rusqlite::types::ValueRef::Integer(number) => number.to_string(),
                rusqlite::types::ValueRef::Real(number) => format!("{number:.DIGITS$}"),
                rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
                other => panic!("{name}: {other:?}"),
            };
            format!("{name}={value}")
        });
        *answer.entry(fields.collect::<Vec<_>>().join(" ")).or_default() += 1;
    }
    answer
}

/// The committed rows, in the form of [`ask`]. A null may be written or left out.
fn committed(folder: &Path) -> Multiset {
    let columns: &[&str] = match folder.file_name().and_then(|name| name.to_str()) {
        Some("departures") => &["carrier", "window_start", "flights", "cancelled", "mean_delay"],
        _ => &["origin", "window_start", "window_end", "delayed", "worst", "mean_delay"],
    };
    let mut rows = Multiset::new();
    for file in part_files(folder).expect("a listing") {
        for line in std::fs::read_to_string(&file).expect("a part file").lines() {
            let row: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let fields = columns.iter().map(|name| {
                let value = match &row[*name] {
                    serde_json::Value::Null => "null".to_owned(),
                    serde_json::Value::Number(number) if number.is_f64() => format!("{:.DIGITS$}", number.as_f64().expect("a float")),
                    serde_json::Value::Number(number) => number.to_string(),
                    serde_json::Value::String(text) => text.trim_end_matches(".000").replace('T', " "),
                    other => panic!("{name}: {other}"),
                };
                format!("{name}={value}")
            });
            *rows.entry(fields.collect::<Vec<_>>().join(" ")).or_default() += 1;
        }
    }
    rows
}
