//! Malformed records: a file as somebody left it, read by a planned job's own source. Beside `NAME` is `NAME.expect`:
//!
//! ```text
//! columns: n INT, s STRING
//! options: 'csv.header' = 'true'
//! fail: line 2 (record 2): column 'n': expected INT, found 'x'
//! skip: 2 rows, 1 skipped
//! ```
//!
//! `fail` is a part of the error with `'format.on-error' = 'fail'`, which must name the file as well (or the rows, where a
//! format is read more liberally than its grammar); `skip` what becomes of the file with `'skip'`: rows and skipped records,
//! or `fails as well` where the file, not a record, is damaged. Parquet has no records to skip.

use std::path::Path;
use std::sync::Arc;

use rheos_connectors::Environment;
use rheos_dataflow::sink::Delivery;
use rheos_dataflow::source::{Read, Source, Start};

use super::{Watch, expectations};

/// Rows of a batch, as the engine asks for them.
const ROWS: usize = 8_192;

pub(super) fn findings(file: &Path, watch: &mut Watch) -> Vec<String> {
    let name = file.file_name().unwrap().to_str().unwrap();
    let expected = expectations(&file.with_file_name(format!("{name}.expect")));
    let get = |key: &str| expected.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let parquet = name.ends_with(".parquet");
    let mut options = get("options").map(|options| format!(", {options}")).unwrap_or_default();
    let columns = get("columns").expect("columns");
    let mut findings = Vec::new();
    let fail = get("fail").expect("the error with on-error = fail");
    match watch.time(|| read(file, columns, &options)) {
        Ok(found) if found == fail => {}
        Ok(found) => findings.push(format!("expected an error, found {found}")),
        Err(error) if error.contains(fail) && error.contains(name) => {}
        Err(error) => findings.push(format!("expected {fail}\n    found {error}")),
    }
    if parquet {
        return findings;
    }
    options.push_str(", 'format.on-error' = 'skip'");
    match (get("skip").expect("the outcome with on-error = skip"), watch.time(|| read(file, columns, &options))) {
        ("fails as well", Err(error)) if error.contains(fail) => {}
        (expected, Ok(found)) if found == expected => {}
        (expected, found) => findings.push(format!("skipping: expected {expected}, found {found:?}")),
    }
    findings
}

/// Plans a job that reads the file, and reads it to its end.
fn read(file: &Path, columns: &str, options: &str) -> Result<String, String> {
    let name = file.file_name().unwrap().to_str().unwrap();
    let format = name.split_once('-').filter(|(format, _)| *format != "gzip").map_or("csv", |(format, _)| format);
    let sql = format!(
        "CREATE TABLE input ({columns}) WITH ('connector' = 'filesystem', 'path' = '{name}', 'format' = '{format}'{options});\n\
         CREATE TABLE output ({columns}) WITH ('connector' = 'blackhole');\n\
         INSERT INTO output SELECT * FROM input;"
    );
    let planned = rheos_worker::manifest::plan(&sql, Delivery::ExactlyOnce).map_err(|errors| errors.join("\n"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let environment = Environment::new(file.parent().unwrap(), runtime.handle().clone());
    let connectors = rheos_connectors::connectors(&planned.graph, &environment).map_err(|error| error.to_string())?;
    let source = connectors.sources.into_values().next().expect("a source");
    read_all(source.as_ref()).map_err(|error| error.to_string())
}

fn read_all(source: &dyn Source) -> rheos_dataflow::error::Result<String> {
    let (mut rows, mut skipped) = (0, 0);
    for split in source.discover()? {
        let mut reader = source.open(&split, Start::New { late: false }, Arc::new(|| {}))?;
        loop {
            match reader.read(ROWS)? {
                Read::Rows(batch) => rows += batch.num_rows(),
                Read::Pending => panic!("a local file has nothing to wait for"),
                Read::End => break,
            }
        }
        skipped += reader.skipped();
    }
    Ok(format!("{rows} rows, {skipped} skipped"))
}
