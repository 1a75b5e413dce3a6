//! [io] The reading half: pages in the order of the primary key.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, SchemaRef};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::source::{Read, Source, SplitId, SplitReader, Start, Waker};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, error::TryRecvError};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::catalog;
use super::client::{Server, failed};
use super::config::{Part, SourceConfig};
use super::decode::{Raw, cast, column};
use super::name::quoted;
use super::types::TargetColumn;
use crate::environment::Environment;
use crate::options::did_you_mean;

/// Pages that wait to be taken by a reader; then no more is fetched.
const PAGES: usize = 2;

/// See [`crate::jdbc`].
pub struct JdbcSource {
    config: Arc<SourceConfig>,
    server: Arc<Server>,
    runtime: Handle,
}

impl JdbcSource {
    /// The source of a table; nothing is connected yet.
    ///
    /// # Errors
    /// When a Secret is not there.
    pub fn new(config: SourceConfig, environment: &Environment) -> Result<Self> {
        let server = Arc::new(Server::new(&config.connection, &environment.secrets, environment.runtime.clone())?);
        Ok(Self { config: Arc::new(config), server, runtime: environment.runtime.clone() })
    }
}

impl Source for JdbcSource {
    fn discover(&self) -> Result<Vec<SplitId>> {
        Ok(self.config.parts.iter().map(|(name, _)| name.clone()).collect())
    }

    fn open(&self, split: &SplitId, start: Start<'_>, waker: Waker) -> Result<Box<dyn SplitReader>> {
        let state = |message: String| DataflowError::new(place(&self.config), ErrorKind::State, message);
        let part = self.config.parts.iter().find(|(name, _)| name == split);
        let part = part.ok_or_else(|| state(format!("there is no part '{split}' any more: 'scan.partition.*' has changed")))?.1.clone();
        let last: Option<Key> = start
            .offset()?
            .map(|offset| serde_json::from_value(offset.clone()))
            .transpose()
            .map_err(|error| state(format!("the offset of part '{split}' cannot be read: {error}")))?;
        let (pages, taken) = mpsc::channel(PAGES);
        let scan = Scan { config: Arc::clone(&self.config), server: Arc::clone(&self.server), part, last: last.clone() };
        self.runtime.spawn(scan.run(pages, waker));
        Ok(Box::new(Reader { table: place(&self.config), taken, page: None, last }))
    }
}

/// What a person knows the table by.
fn place(config: &SourceConfig) -> String {
    format!("table {} (jdbc)", config.table)
}

/// The key of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    columns: Vec<String>,
    /// As texts that the server has written and reads again.
    values: Vec<String>,
}

/// Rows, and their keys.
struct Page {
    rows: RecordBatch,
    columns: Arc<[String]>,
    keys: Vec<StringArray>,
}

impl Page {
    fn key(&self, row: usize) -> Key {
        Key { columns: self.columns.to_vec(), values: self.keys.iter().map(|values| values.value(row).to_owned()).collect() }
    }
}

struct Reader {
    table: String,
    taken: mpsc::Receiver<Result<Page>>,
    /// A page and how many of its rows were read.
    page: Option<(Page, usize)>,
    /// The key of the last row that was read.
    last: Option<Key>,
}

impl SplitReader for Reader {
    fn read(&mut self, rows: usize) -> Result<Read> {
        if self.page.is_none() {
            match self.taken.try_recv() {
                Ok(Ok(page)) => self.page = Some((page, 0)),
                Ok(Err(error)) => return Err(DataflowError { place: self.table.clone(), ..error }),
                Err(TryRecvError::Empty) => return Ok(Read::Pending),
                Err(TryRecvError::Disconnected) => return Ok(Read::End),
            }
        }
        let Some((page, from)) = self.page.take() else { return Ok(Read::Pending) };
        let to = page.rows.num_rows().min(from + rows.max(1));
        self.last = Some(page.key(to - 1));
        let batch = page.rows.slice(from, to - from);
        self.page = (to < page.rows.num_rows()).then_some((page, to));
        Ok(Read::Rows(batch))
    }

    fn offset(&self) -> serde_json::Value {
        // A key is texts: it always has a form.
        self.last.as_ref().and_then(|key| serde_json::to_value(key).ok()).unwrap_or_default()
    }
}

/// Fetches page after page.
struct Scan {
    config: Arc<SourceConfig>,
    server: Arc<Server>,
    part: Option<Part>,
    /// The key of the last row that was fetched.
    last: Option<Key>,
}

/// A session, and what to ask.
struct Session {
    client: Client,
    key: Arc<[String]>,
    /// The pages' statement; with the place of a last key.
    first: String,
    next: String,
}

impl Scan {
    async fn run(mut self, pages: mpsc::Sender<Result<Page>>, waker: Waker) {
        let mut session = None;
        let mut tries = self.server.tries();
        loop {
            let sent = match self.fetch(&mut session).await {
                // The end: the reader meets the closed channel.
                Ok(None) => break,
                Ok(Some(page)) => {
                    tries = self.server.tries();
                    pages.send(Ok(page)).await.is_ok()
                }
                Err(error) => {
                    session = None;
                    match tries.again(error).await {
                        Ok(()) => continue,
                        Err(error) => {
                            let _ = pages.send(Err(error)).await;
                            false
                        }
                    }
                }
            };
            waker();
            if !sent {
                // Nobody reads any more, or there is no more to be had.
                return;
            }
        }
        drop(pages);
        waker();
    }

    async fn fetch(&mut self, session: &mut Option<Session>) -> Result<Option<Page>> {
        let asked = match session.take() {
            Some(known) => known,
            None => self.session().await?,
        };
        let asked = session.insert(asked);
        let wrong = |error: tokio_postgres::Error| failed(&format!("reading {}", self.config.target), &error);
        let rows = match &self.last {
            None => asked.client.query(&asked.first, &[]).await,
            Some(last) => {
                let values: Vec<&(dyn ToSql + Sync)> = last.values.iter().map(|value| value as _).collect();
                asked.client.query(&asked.next, &values).await
            }
        };
        let rows = rows.map_err(wrong)?;
        if rows.is_empty() {
            return Ok(None);
        }
        let page = page(&self.config.columns, &asked.key, &rows)?;
        self.last = Some(page.key(rows.len() - 1));
        Ok(Some(page))
    }

    async fn session(&self) -> Result<Session> {
        let client = self.server.connect().await?;
        let config = &self.config;
        let wrong = |error: tokio_postgres::Error| failed(&format!("looking at table {}", config.target), &error);
        let user = |message: String| DataflowError::new("jdbc", ErrorKind::User, message);
        let oid = catalog::table_oid(&client, &config.target.sql()).await?;
        let oid = oid.ok_or_else(|| user(format!("there is no table {}, or the user does not see it", config.target)))?;
        let columns = catalog::columns(&client, oid).await.map_err(wrong)?;
        let key = catalog::primary_key(&client, oid).await.map_err(wrong)?;
        if key.is_empty() {
            return Err(user(format!("table {} has no PRIMARY KEY, by which it could be read in pages", config.target)));
        }
        if let Some(last) = self.last.as_ref().filter(|last| last.columns != key) {
            let message = format!(
                "the PRIMARY KEY of table {} is ({}) now; the job has read it by ({}), and cannot go on",
                config.target,
                key.join(", "),
                last.columns.join(", ")
            );
            return Err(DataflowError::new("jdbc", ErrorKind::State, message));
        }
        let selected = selected(&config.columns, &columns).map_err(user)?;
        let first = statement(config, self.part.as_ref(), &columns, &selected, &key, false).map_err(user)?;
        let next = statement(config, self.part.as_ref(), &columns, &selected, &key, true).map_err(user)?;
        Ok(Session { client, key: key.into(), first, next })
    }
}

/// The columns in the form that they are read in, or all that is wrong with them.
pub(super) fn selected(wanted: &SchemaRef, columns: &[TargetColumn]) -> Result<Vec<String>, String> {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let (mut selected, mut problems) = (Vec::new(), Vec::new());
    for field in wanted.fields() {
        match columns.iter().find(|column| column.name == *field.name()) {
            None => problems.push(format!("there is no column '{}'{}", field.name(), did_you_mean(field.name(), &names))),
            Some(column) => match cast(column, field.data_type()) {
                Some(cast) => selected.push(format!("{}::{cast}", of_table(&column.name))),
                None => problems.push(format!(
                    "column '{}' is {}, which is not what the table declares; STRING reads its text",
                    column.name, column.shown
                )),
            },
        }
    }
    if problems.is_empty() { Ok(selected) } else { Err(problems.join("; ")) }
}

/// A column of the table, which what is selected may be named like.
pub(super) fn of_table(name: &str) -> String {
    format!("t.{}", quoted(name))
}

/// A page's statement: wanted columns, then the key's texts.
fn statement(
    config: &SourceConfig,
    part: Option<&Part>,
    columns: &[TargetColumn],
    selected: &[String],
    key: &[String],
    behind: bool,
) -> Result<String, String> {
    let names: Vec<String> = key.iter().map(|name| of_table(name)).collect();
    let texts = names.iter().map(|name| format!("{name}::text"));
    let list: Vec<String> = selected.iter().cloned().chain(texts).collect();
    let mut conditions = Vec::new();
    if let Some(Part { column: name, low, high }) = part {
        let column = columns.iter().find(|column| column.name == *name);
        if !column.is_some_and(|column| matches!(column.base.as_str(), "int2" | "int4" | "int8")) {
            return Err(format!("option 'scan.partition.column': '{name}' is no integer column of table {}", config.target));
        }
        conditions.push(format!("{} BETWEEN '{low}'::bigint AND '{high}'::bigint", of_table(name)));
    }
    if behind {
        let type_of = |name: &String| columns.iter().find(|column| column.name == *name).map_or("text", |column| column.cast.as_str());
        let values: Vec<String> = (1..).zip(key).map(|(place, name)| format!("${place}::text::{}", type_of(name))).collect();
        conditions.push(format!("({}) > ({})", names.join(", "), values.join(", ")));
    }
    let condition = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let (table, order) = (config.target.sql(), names.join(", "));
    Ok(format!("SELECT {} FROM {table} AS t{condition} ORDER BY {order} LIMIT {}", list.join(", "), config.page_rows))
}

/// Rows as they came to columns.
fn page(wanted: &SchemaRef, key: &Arc<[String]>, rows: &[Row]) -> Result<Page> {
    let columns =
        wanted.fields().iter().enumerate().map(|(place, field)| column(field, &values(rows, place)?)).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let width = columns.len();
    let keys = key.iter().enumerate().map(|(place, name)| {
        let texts = column(&Field::new(name, DataType::Utf8, false), &values(rows, width + place)?)?;
        Ok(StringArray::from(texts.to_data()))
    });
    let keys = keys.collect::<Result<_>>()?;
    let batch = RecordBatch::try_new_with_options(SchemaRef::clone(wanted), columns, &options)?;
    Ok(Page { rows: batch, columns: Arc::clone(key), keys })
}

pub(super) fn values(rows: &[Row], place: usize) -> Result<Vec<Option<Raw<'_>>>> {
    rows.iter().map(|row| row.try_get(place).map_err(|error| failed("reading a value", &error))).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::types::tests::column;
    use super::*;
    use crate::testing::{schema, source_spec};

    #[test]
    fn pages_go_on_behind_the_last_key() {
        let given = [
            ("connector", "jdbc"),
            ("url", "postgres://h/d"),
            ("table-name", "a.b"),
            ("scan.fetch-size", "7"),
            ("scan.partition.column", "n"),
            ("scan.partition.num", "1"),
            ("scan.partition.lower-bound", "-1"),
            ("scan.partition.upper-bound", "9"),
        ];
        let wanted = schema(&[("price", "DECIMAL"), ("n", "BIGINT")]);
        let config = SourceConfig::parse(&source_spec(&given, &wanted, &wanted)).unwrap();
        let columns = [column("k", "uuid", -1), column("n", "int4", -1), column("price", "numeric", -1)];
        let chosen = selected(&wanted, &columns).unwrap();
        let part = config.parts[0].1.as_ref();
        let key = ["n".to_owned(), "k".to_owned()];
        expect![[r#"SELECT t."price"::numeric, t."n"::int8, t."n"::text, t."k"::text FROM "a"."b" AS t WHERE t."n" BETWEEN '-1'::bigint AND '9'::bigint AND (t."n", t."k") > ($1::text::int4, $2::text::uuid) ORDER BY t."n", t."k" LIMIT 7"#]]
        .assert_eq(&statement(&config, part, &columns, &chosen, &key, true).unwrap());
        expect![[r#"SELECT t."price"::numeric, t."n"::int8, t."n"::text, t."k"::text FROM "a"."b" AS t ORDER BY t."n", t."k" LIMIT 7"#]]
            .assert_eq(&statement(&config, None, &columns, &chosen, &key, false).unwrap());
        let bad = selected(&wanted, &[column("price", "float8", -1)]).unwrap_err();
        assert!(bad.contains("'price' is float8") && bad.contains("no column 'n'"), "{bad}");
        assert!(statement(&config, part, &columns[..1], &chosen, &key, true).unwrap_err().contains("no integer column"));
    }
}
