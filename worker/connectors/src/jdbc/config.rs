//! [pure] Options and columns of `jdbc` tables.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Field, Schema, SchemaRef};
use rheos_dataflow::graph::{LookupSpec, SinkSpec, SourceSpec};
use rheos_dataflow::lookup::CachePolicy;

use super::arrays::element;
use super::name::TableName;
use super::statement::Shape;
use super::url::{self, Address};
use crate::options::{Options, Problems};

/// How long something that may heal is tried again, unless told.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(60);
/// Rows of a statement, unless told.
const DEFAULT_FLUSH_ROWS: i64 = 10_000;
/// More rows than this make no statement faster, and a slow one heavy.
const MAX_FLUSH_ROWS: i64 = 1_000_000;
/// Rows of a page, unless told.
const DEFAULT_PAGE_ROWS: i64 = 10_000;
/// More than this a page must not have: it lies in memory.
const MAX_PAGE_ROWS: i64 = 1_000_000;
/// Parts of a table, at most; each is a session while it is read.
const MAX_PARTS: i64 = 1_024;
/// Rows that are written at once wait at most so long, unless told.
const DEFAULT_FLUSH_INTERVAL: Duration = Duration::from_secs(1);
/// Where commits are remembered, unless told.
const DEFAULT_COMMITS: &str = "rheos_commits";

/// Rows that a lookup keeps, unless told.
const DEFAULT_CACHE_ROWS: i64 = 10_000;
/// More than this it must not keep: they lie in memory.
const MAX_CACHE_ROWS: i64 = 10_000_000;
/// More tries than this make no sense: the waits between them grow.
const MAX_RETRIES: i64 = 10_000;
/// What only a table that is read knows, only one that is written, only one that is looked up: a table may be all of them.
const OF_SCANS: [&str; 5] =
    ["scan.fetch-size", "scan.partition.column", "scan.partition.num", "scan.partition.lower-bound", "scan.partition.upper-bound"];
const OF_SINKS: [&str; 3] = ["sink.buffer-flush.max-rows", "sink.buffer-flush.interval", "sink.commit-table"];
const OF_LOOKUPS: [&str; 6] = [
    "lookup.cache",
    "lookup.max-retries",
    "lookup.partial-cache.max-rows",
    "lookup.partial-cache.expire-after-write",
    "lookup.partial-cache.expire-after-access",
    "lookup.partial-cache.cache-missing-key",
];

/// How to reach the database; values may hold references to Secrets.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(super) address: Address,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    /// How long something that may heal is tried again.
    pub(super) patience: Duration,
}

impl Connection {
    /// The options that reading and writing share, the table's name among them.
    fn parse(options: &mut Options<'_>) -> Option<(Self, TableName)> {
        let address = options.required("url", "jdbc:postgresql://localhost:5432/shop").map(url::parse);
        let address = match address {
            Some(Err(message)) => {
                // Not shown: it may hold what it should not.
                options.problem(format!("option 'url': {message}"));
                None
            }
            other => other.and_then(Result::ok),
        };
        let table = options.required("table-name", "public.orders");
        let table = table.and_then(|text| {
            let name = TableName::parse(text);
            if name.is_none() {
                options.bad_value("table-name", "'table' or 'schema.table'; parts may stand between quotation marks");
            }
            name
        });
        let (user, password) = (options.text("username").map(str::to_owned), options.text("password").map(str::to_owned));
        if let Some(address) = &address {
            for (name, given, in_url) in [("username", &user, &address.user), ("password", &password, &address.password)] {
                if given.is_some() && in_url.is_some() {
                    options.problem(format!("option '{name}': the URL says it, too; say it once"));
                }
            }
        }
        let patience = options.duration("connection.max-retry-timeout").unwrap_or(DEFAULT_PATIENCE);
        // One database, whose driver is this program; errors that heal are tried again as long as the time-out says.
        options.without_effect(&["driver", "sink.max-retries", "sink.parallelism", "scan.parallelism", "scan.auto-commit"]);
        for names in [&OF_SCANS[..], &OF_SINKS, &OF_LOOKUPS] {
            options.without_effect(names);
        }
        options.unsupported(&["compatible-mode", "lookup.cache.max-rows", "lookup.cache.ttl", "lookup.cache.caching-missing-key"]);
        Some((Self { address: address?, user, password, patience }, table?))
    }
}

/// A part of a table: values of an integer column, both included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) column: String,
    pub(super) low: i64,
    pub(super) high: i64,
}

/// A table that is read.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// Its name in the SQL text.
    pub(super) table: String,
    pub(super) connection: Connection,
    pub(super) target: TableName,
    /// The columns to give.
    pub(super) columns: SchemaRef,
    /// Rows of a page.
    pub(super) page_rows: i64,
    /// The splits by name; `None`: the whole table.
    pub(super) parts: Vec<(String, Option<Part>)>,
}

impl SourceConfig {
    /// Reads the options of a table.
    pub fn parse(spec: &SourceSpec) -> Result<Self, Problems> {
        let mut options = Options::new(&spec.table, &spec.options);
        let connection = Connection::parse(&mut options);
        let page_rows = options.integer("scan.fetch-size", DEFAULT_PAGE_ROWS, 1..=MAX_PAGE_ROWS);
        let parts = parts(&mut options);
        for field in spec.declared.fields() {
            if element(field.data_type()).is_none() || field.data_type().is_nested() {
                options.problem(format!("column '{}' has parts, which cannot be read: declare it STRING, and read its text", field.name()));
            }
        }
        options.finish()?;
        let (connection, target) = connection.ok_or_else(Problems::new)?;
        let columns = SchemaRef::clone(&spec.physical);
        Ok(Self { table: spec.table.clone(), connection, target, columns, page_rows, parts })
    }
}

/// The splits of a table.
fn parts(options: &mut Options<'_>) -> Vec<(String, Option<Part>)> {
    let whole = vec![("all".to_owned(), None)];
    let column = options.text("scan.partition.column").map(str::to_owned);
    let number = options.integer("scan.partition.num", 0, 1..=MAX_PARTS);
    let mut bound = |name: &str| options.parsed(name, "a whole number", |text| text.parse::<i64>().ok());
    let bounds = (bound("scan.partition.lower-bound"), bound("scan.partition.upper-bound"));
    match (column, number, bounds) {
        (None, 0, (None, None)) => whole,
        (Some(column), 1.., (Some(low), Some(high))) if low <= high => {
            let span = (i128::from(high) - i128::from(low) + 1).unsigned_abs();
            let count = u128::from(number.unsigned_abs()).min(span);
            // Below `high`, so each fits again.
            let edge = |part: u128| (i128::from(low) + (span * part / count) as i128) as i64;
            let part = |part: u128| Part {
                column: column.clone(),
                low: edge(part),
                high: if part + 1 == count { high } else { edge(part + 1) - 1 },
            };
            (0..count).map(part).map(|part| (format!("{} to {}", part.low, part.high), Some(part))).collect()
        }
        _ => {
            options.problem(
                "a table in parts needs 'scan.partition.column', 'scan.partition.num', 'scan.partition.lower-bound' and \
                 'scan.partition.upper-bound', the lower one not above the upper one",
            );
            whole
        }
    }
}

/// A table that is asked for rows by key.
#[derive(Debug, Clone)]
pub struct LookupConfig {
    /// Its name in the SQL text.
    pub(super) table: String,
    pub(super) connection: Connection,
    pub(super) target: TableName,
    /// The columns to compare, and those to give.
    pub(super) keys: SchemaRef,
    pub(super) columns: SchemaRef,
    pub(super) cache: Option<CachePolicy>,
    /// How often a request is tried again; `None`: as long as the connection's patience lasts.
    pub(super) max_retries: Option<i64>,
}

impl LookupConfig {
    /// Reads the options of a table.
    pub fn parse(spec: &LookupSpec) -> Result<Self, Problems> {
        let mut options = Options::new(&spec.table, &spec.options);
        let connection = Connection::parse(&mut options);
        let cache = cache(&mut options);
        let retries = options.integer("lookup.max-retries", -1, 0..=MAX_RETRIES);
        for field in spec.columns.fields().iter().chain(spec.keys.fields()) {
            if element(field.data_type()).is_none() || field.data_type().is_nested() {
                options.problem(format!("column '{}' has parts, which cannot be read: declare it STRING, and read its text", field.name()));
            }
        }
        options.finish()?;
        let (connection, target) = connection.ok_or_else(Problems::new)?;
        let (keys, columns) = (SchemaRef::clone(&spec.keys), SchemaRef::clone(&spec.columns));
        Ok(Self { table: spec.table.clone(), connection, target, keys, columns, cache, max_retries: (retries >= 0).then_some(retries) })
    }
}

/// What may be kept of answers.
fn cache(options: &mut Options<'_>) -> Option<CachePolicy> {
    let partial = options.choice("lookup.cache", &[("NONE", false), ("PARTIAL", true)], false);
    let mut age = |name: &str| options.duration(name).map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let (write, access) = (age("lookup.partial-cache.expire-after-write"), age("lookup.partial-cache.expire-after-access"));
    let policy = CachePolicy {
        max_rows: options.integer("lookup.partial-cache.max-rows", DEFAULT_CACHE_ROWS, 1..=MAX_CACHE_ROWS).unsigned_abs() as usize,
        expire_after_write: write,
        expire_after_access: access,
        missing: options.boolean("lookup.partial-cache.cache-missing-key", true),
    };
    if !partial && !options.prefixed("lookup.partial-cache.").is_empty() {
        options.problem("'lookup.partial-cache.*' says how to keep rows, and none are kept without 'lookup.cache' = 'PARTIAL'");
    }
    partial.then_some(policy)
}

/// A table that is written.
#[derive(Debug, Clone)]
pub struct SinkConfig {
    /// Its name in the SQL text.
    pub(super) table: String,
    pub(super) connection: Connection,
    pub(super) shape: Shape,
    /// Rows of a statement, and of a flush.
    pub(super) flush_rows: usize,
    pub(super) flush_interval: Duration,
    pub(super) commits: TableName,
}

impl SinkConfig {
    /// Reads the options of a table.
    pub fn parse(spec: &SinkSpec) -> Result<Self, Problems> {
        let mut options = Options::new(&spec.table, &spec.options);
        let connection = Connection::parse(&mut options);
        let flush_rows = options.integer("sink.buffer-flush.max-rows", DEFAULT_FLUSH_ROWS, 0..=MAX_FLUSH_ROWS);
        let flush_interval = options.duration("sink.buffer-flush.interval").unwrap_or(DEFAULT_FLUSH_INTERVAL);
        let expected = "'table' or 'schema.table'";
        let commits = options.parsed("sink.commit-table", expected, TableName::parse).or_else(|| TableName::parse(DEFAULT_COMMITS));
        let mut fields = Vec::new();
        for field in spec.schema.fields() {
            if element(field.data_type()).is_none() {
                options.problem(format!("column '{}': PostgreSQL has no type for {}", field.name(), field.data_type()));
            }
            fields.push(Field::new(field.name(), field.data_type().clone(), true));
        }
        for name in &spec.primary_key {
            if spec.schema.field_with_name(name).is_ok_and(|field| field.data_type().is_nested()) {
                options.problem(format!("column '{name}' of the PRIMARY KEY has parts; a key has plain columns"));
            }
        }
        if spec.changelog && spec.primary_key.is_empty() {
            options.problem("rows are changed and deleted by their key: declare it, PRIMARY KEY (a, b) NOT ENFORCED");
        }
        if !spec.partition_by.is_empty() {
            options.problem("PARTITIONED BY is the server's affair: leave it out");
        }
        options.finish()?;
        let (connection, table) = connection.ok_or_else(Problems::new)?;
        Ok(Self {
            table: spec.table.clone(),
            connection,
            shape: Shape { table, columns: schema(fields), key: spec.primary_key.clone() },
            flush_rows: if flush_rows == 0 { MAX_FLUSH_ROWS } else { flush_rows } as usize,
            flush_interval,
            commits: commits.ok_or_else(Problems::new)?,
        })
    }
}

fn schema(fields: Vec<Field>) -> SchemaRef {
    Arc::new(Schema::new(fields))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{schema, sink_spec};

    fn messages(options: &[(&str, &str)], key: &[&str], changelog: bool) -> Vec<String> {
        let mut given = vec![("connector", "jdbc"), ("url", "postgres://h/d"), ("table-name", "t")];
        given.retain(|(name, _)| !options.iter().any(|(other, _)| other == name));
        given.extend(options);
        let mut spec = sink_spec(&given, &schema(&[("id", "BIGINT!"), ("name", "STRING")]), &[]);
        spec.primary_key = key.iter().map(ToString::to_string).collect();
        spec.changelog = changelog;
        SinkConfig::parse(&spec).err().unwrap_or_default().iter().map(|problem| problem.message.clone()).collect()
    }

    #[test]
    fn a_table_needs_a_place_and_a_change_log_a_key() {
        assert_eq!(messages(&[], &[], false), Vec::<String>::new());
        assert_eq!(messages(&[], &["id"], true), Vec::<String>::new());
        assert!(messages(&[], &[], true)[0].contains("PRIMARY KEY (a, b) NOT ENFORCED"));
        assert!(messages(&[("table-name", "a.b.c")], &[], false)[0].contains("'schema.table'"));
        assert!(messages(&[("lookup.cache", "PARTIAL"), ("scan.fetch-size", "5")], &[], false).is_empty());
        assert!(messages(&[("lookup.cashe", "PARTIAL")], &[], false)[0].contains("did you mean 'lookup.cache'?"));
        assert!(messages(&[("driver", "org.postgresql.Driver")], &[], false).is_empty());
        assert!(messages(&[("compatible-mode", "x")], &[], false)[0].contains("not supported"));
        assert!(messages(&[("sink.buffer-flush.max-rows", "-1")], &[], false)[0].contains("whole number"));
    }

    #[test]
    fn parts_cover_the_bounds_and_no_value_twice() {
        let names = ["column", "num", "lower-bound", "upper-bound"].map(|name| format!("scan.partition.{name}"));
        let parse = |values: &[&str]| {
            let mut given = vec![("connector", "jdbc"), ("url", "postgres://h/d"), ("table-name", "t")];
            given.extend(names.iter().map(String::as_str).zip(values.iter().copied()));
            let schema = schema(&[("id", "BIGINT!")]);
            SourceConfig::parse(&crate::testing::source_spec(&given, &schema, &schema))
        };
        for (num, low, high) in [("3", "0", "10"), ("5", "7", "9"), ("1", "-4", "-4"), ("7", "-9223372036854775808", "9223372036854775807")]
        {
            let parts: Vec<Part> = parse(&["id", num, low, high]).unwrap().parts.into_iter().filter_map(|(_, part)| part).collect();
            assert_eq!((parts[0].low.to_string().as_str(), parts[parts.len() - 1].high.to_string().as_str()), (low, high));
            assert!(
                parts.iter().all(|part| part.low <= part.high) && parts.windows(2).all(|two| two[0].high + 1 == two[1].low),
                "{parts:?}"
            );
        }
        assert_eq!(parse(&[]).unwrap().parts, [("all".to_owned(), None)]);
        for bad in [vec!["id"], vec!["id", "2", "5", "4"], vec!["id", "0", "1", "2"], vec!["id", "2", "x", "4"]] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_a_lookup_may_keep() {
        let parse = |more: &[(&str, &str)]| {
            let mut given = vec![("connector", "jdbc"), ("url", "postgres://h/d"), ("table-name", "t"), ("sink.commit-table", "c")];
            given.extend(more);
            let options = crate::testing::options(&given);
            let spec = LookupSpec { table: "t".into(), options, keys: schema(&[("id", "BIGINT")]), columns: schema(&[("n", "STRING")]) };
            LookupConfig::parse(&spec)
        };
        let plain = parse(&[]).unwrap();
        assert_eq!((plain.cache, plain.max_retries), (None, None));
        let rows = |name: &'static str| (name, "7");
        let full = parse(&[
            ("lookup.cache", "partial"),
            ("lookup.max-retries", "0"),
            rows("lookup.partial-cache.max-rows"),
            ("lookup.partial-cache.expire-after-write", "10 s"),
            ("lookup.partial-cache.expire-after-access", "1 min"),
            ("lookup.partial-cache.cache-missing-key", "false"),
        ]);
        let full = full.unwrap();
        let policy = CachePolicy { max_rows: 7, expire_after_write: Some(10_000), expire_after_access: Some(60_000), missing: false };
        assert_eq!((full.cache, full.max_retries), (Some(policy), Some(0)));
        let bad = |more: &[(&str, &str)], message: &str| {
            let found = parse(more).unwrap_err();
            assert!(found[0].message.contains(message), "{found:?}");
        };
        bad(&[rows("lookup.partial-cache.max-rows")], "without 'lookup.cache' = 'PARTIAL'");
        bad(&[("lookup.cache", "FULL")], "expected 'NONE' or 'PARTIAL'");
        bad(&[("lookup.cache", "PARTIAL"), ("lookup.partial-cache.max-rows", "0")], "whole number");
        bad(&[("lookup.cache.ttl", "10 s")], "not supported");
    }

    #[test]
    fn no_message_shows_a_password() {
        let found = messages(&[("url", "postgres://bob:hunter2@h/d"), ("password", "hunter2")], &[], false);
        assert!(found.len() == 1 && found[0].contains("'username'") && !found[0].contains("hunter2"), "{found:?}");
        let twice = messages(&[("url", "postgres://${secret:a/b}@h/d"), ("username", "bob")], &[], false);
        assert!(twice[0].contains("say it once"), "{twice:?}");
    }
}
