//! [io] The half that is asked: rows by key, some hundred keys a statement.
//!
//! Which rows belong to a key is the server's decision alone: it joins the keys with the table and says of each row which
//! key it is for. So collations, blanks at the end of `char(n)` and the like count as they do there.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use rheos_dataflow::lookup::{Answer, CachePolicy, Lookup, LookupTable, Ticket};
use rheos_dataflow::source::Waker;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, error::TryRecvError};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::arrays::{self, Param, element};
use super::catalog;
use super::client::{Server, failed};
use super::config::LookupConfig;
use super::decode::{cast, column};
use super::name::TableName;
use super::source::{of_table, selected, values};
use super::types::TargetColumn;
use crate::environment::Environment;
use crate::options::did_you_mean;

/// Rows of an answer, at most: they lie in memory.
const MAX_ANSWER_ROWS: usize = 100_000;
/// How an UUID is shown, as a regular expression of PostgreSQL.
const UUID: &str = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$";

/// See [`crate::jdbc`].
pub struct JdbcLookup {
    config: Arc<LookupConfig>,
    server: Arc<Server>,
    runtime: Handle,
}

impl JdbcLookup {
    /// The table; nothing is connected yet.
    ///
    /// # Errors
    /// When a Secret is not there.
    pub fn new(config: LookupConfig, environment: &Environment) -> Result<Self> {
        let server = Arc::new(Server::new(&config.connection, &environment.secrets, environment.runtime.clone())?);
        Ok(Self { config: Arc::new(config), server, runtime: environment.runtime.clone() })
    }
}

impl Lookup for JdbcLookup {
    fn cache(&self) -> Option<CachePolicy> {
        self.config.cache
    }

    fn open(&self, waker: Waker) -> Result<Box<dyn LookupTable>> {
        let (questions, asked) = mpsc::unbounded_channel();
        let (replies, answers) = mpsc::unbounded_channel();
        let desk = Desk { config: Arc::clone(&self.config), server: Arc::clone(&self.server) };
        self.runtime.spawn(desk.run(asked, replies, waker));
        Ok(Box::new(Table { place: format!("table {} (jdbc)", self.config.table), questions, answers }))
    }
}

type Question = (Ticket, RecordBatch);

/// The worker's end. What may be under way is bounded by the operator.
struct Table {
    place: String,
    questions: UnboundedSender<Question>,
    answers: UnboundedReceiver<Result<Answer>>,
}

impl LookupTable for Table {
    fn ask(&mut self, ticket: Ticket, keys: RecordBatch) -> Result<()> {
        // One that is not heard any more has left an error behind.
        let _ = self.questions.send((ticket, keys));
        Ok(())
    }

    fn answer(&mut self) -> Result<Option<Answer>> {
        match self.answers.try_recv() {
            Ok(answer) => answer.map(Some).map_err(|error| DataflowError { place: self.place.clone(), ..error }),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(DataflowError::new(self.place.as_str(), ErrorKind::Bug, "nobody answers any more")),
        }
    }
}

/// Answers one question after the other.
struct Desk {
    config: Arc<LookupConfig>,
    server: Arc<Server>,
}

/// A session that is ready to be asked.
struct Session {
    client: Client,
    statement: Statement,
}

impl Desk {
    async fn run(self, mut asked: UnboundedReceiver<Question>, replies: UnboundedSender<Result<Answer>>, waker: Waker) {
        let mut session = None;
        while let Some((ticket, keys)) = asked.recv().await {
            let Some(answer) = self.try_to_answer(&mut session, ticket, &keys, &replies).await else { return };
            let last = answer.is_err();
            if replies.send(answer).is_err() {
                return;
            }
            waker();
            if last {
                // The worker meets the error and ends; a closed channel before that would hide it.
                replies.closed().await;
                return;
            }
        }
    }

    /// The answer, or the error that does not heal; `None`: nobody waits for it any more.
    async fn try_to_answer(
        &self,
        session: &mut Option<Session>,
        ticket: Ticket,
        keys: &RecordBatch,
        replies: &UnboundedSender<Result<Answer>>,
    ) -> Option<Result<Answer>> {
        let mut tries = self.server.tries().at_most(self.config.max_retries);
        loop {
            let error = match self.answer(session, ticket, keys).await {
                Ok(answer) => return Some(Ok(answer)),
                Err(error) => error,
            };
            *session = None;
            tokio::select! {
                again = tries.again(error) => if let Err(error) = again {
                    return Some(Err(error));
                },
                () = replies.closed() => return None,
            }
        }
    }

    async fn answer(&self, session: &mut Option<Session>, ticket: Ticket, keys: &RecordBatch) -> Result<Answer> {
        let asked = match session.take() {
            Some(known) => known,
            None => self.session().await?,
        };
        let Session { client, statement } = session.insert(asked);
        let schema = keys.schema();
        let params = schema.fields().iter().zip(keys.columns()).map(|(field, column)| arrays::encode(field, column.as_ref()));
        let params = params.collect::<Result<Vec<Param>>>()?;
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|param| param as _).collect();
        let wrong = |error: tokio_postgres::Error| failed(&format!("looking up rows of {}", self.config.target), &error);
        let rows = client.query(&*statement, &params).await.map_err(wrong)?;
        if rows.len() > MAX_ANSWER_ROWS {
            let message = format!(
                "{} keys have more than {MAX_ANSWER_ROWS} rows in table {}: compare more of its columns, so that a key has few rows",
                keys.num_rows(),
                self.config.target
            );
            return Err(DataflowError::new("jdbc", ErrorKind::Data, message));
        }
        let wanted = &self.config.columns;
        let columns = (1..).zip(wanted.fields()).map(|(place, field)| column(field, &values(&rows, place)?)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let numbers = rows.iter().map(|row| row.try_get::<_, i64>(0).map(|number| number as u32 - 1));
        let numbers = numbers.collect::<Result<_, _>>().map_err(wrong)?;
        Ok(Answer { ticket, rows: RecordBatch::try_new_with_options(SchemaRef::clone(wanted), columns, &options)?, keys: numbers })
    }

    async fn session(&self) -> Result<Session> {
        let config = &self.config;
        let client = self.server.connect().await?;
        let wrong = |error: tokio_postgres::Error| failed(&format!("looking at table {}", config.target), &error);
        let user = |message: String| DataflowError::new("jdbc", ErrorKind::User, message);
        let oid = catalog::table_oid(&client, &config.target.sql()).await?;
        let oid = oid.ok_or_else(|| user(format!("there is no table {}, or the user does not see it", config.target)))?;
        let columns = catalog::columns(&client, oid).await.map_err(wrong)?;
        let text = statement(&config.target, &columns, &config.keys, &config.columns).map_err(user)?;
        let statement = client.prepare(&text).await.map_err(wrong)?;
        Ok(Session { client, statement })
    }
}

/// Keys as arrays; the number of each row's key, and its columns. Rows of a key come in the order of all their columns, so
/// that equal tables give equal answers.
fn statement(table: &TableName, columns: &[TargetColumn], keys: &Schema, wanted: &SchemaRef) -> Result<String, String> {
    let selected = selected(wanted, columns)?;
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let mut conditions = Vec::new();
    for (place, field) in keys.fields().iter().enumerate() {
        let Some(column) = columns.iter().find(|column| column.name == *field.name()) else {
            return Err(format!("there is no column '{}'{}", field.name(), did_you_mean(field.name(), &names)));
        };
        let condition = equal(column, field.data_type(), &format!("k.c{place}"));
        let problem = || format!("column '{}' is {}, which is not what the table declares", column.name, column.shown);
        conditions.push(condition.ok_or_else(problem)?);
    }
    let arrays: Vec<String> = (1..)
        .zip(keys.fields())
        .map(|(place, field)| format!("${place}::{}[]", element(field.data_type()).map_or("text", |(name, _)| name)))
        .collect();
    let aliases: String = (0..arrays.len()).map(|place| format!("c{place}, ")).collect();
    let list: String = selected.iter().map(|column| format!(", {column}")).collect();
    let order: Vec<String> = (1..selected.len() + 2).map(|place| place.to_string()).collect();
    Ok(format!(
        "SELECT k.n{list} FROM unnest({}) WITH ORDINALITY AS k({aliases}n) JOIN {} AS t ON {} ORDER BY {} LIMIT {}",
        arrays.join(", "),
        table.sql(),
        conditions.join(" AND "),
        order.join(", "),
        MAX_ANSWER_ROWS + 1
    ))
}

/// The column equals a value of type `ty`, in a form that its indexes help with; `None`: it holds no such values.
fn equal(column: &TargetColumn, ty: &DataType, value: &str) -> Option<String> {
    let here = of_table(&column.name);
    cast(column, ty)?;
    if *ty != DataType::Utf8 {
        return Some(format!("{here} = {value}"));
    }
    Some(match column.base.as_str() {
        "text" | "varchar" | "name" => format!("{here} = {value}"),
        "bpchar" | "citext" => format!("{here} = {value}::{}", column.cast),
        // A text that is no UUID equals none, and is no error.
        "uuid" => format!("{here} = CASE WHEN {value} ~ '{UUID}' THEN {value}::uuid END"),
        _ => format!("{here}::text = {value}"),
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::types::tests::column;
    use super::*;
    use crate::testing::schema;

    #[test]
    fn a_statement_joins_arrays_of_keys_with_the_table() {
        let table = TableName::parse("shop.rates").unwrap();
        let columns = [column("currency", "bpchar", 7), column("day", "date", -1), column("rate", "numeric", -1), column("id", "uuid", -1)];
        let wanted = schema(&[("rate", "DECIMAL"), ("id", "STRING")]);
        let of = |keys: &[(&str, &str)], wanted: &SchemaRef| statement(&table, &columns, &schema(keys), wanted);
        expect![[r#"SELECT k.n, t."rate"::numeric, t."id"::text FROM unnest($1::text[], $2::date[]) WITH ORDINALITY AS k(c0, c1, n) JOIN "shop"."rates" AS t ON t."currency" = k.c0::bpchar AND t."day" = k.c1 ORDER BY 1, 2, 3 LIMIT 100001"#]]
        .assert_eq(&of(&[("currency", "STRING"), ("day", "DATE")], &wanted).unwrap());
        expect![[r#"SELECT k.n FROM unnest($1::text[]) WITH ORDINALITY AS k(c0, n) JOIN "shop"."rates" AS t ON t."id" = CASE WHEN k.c0 ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN k.c0::uuid END ORDER BY 1 LIMIT 100001"#]]
        .assert_eq(&of(&[("id", "STRING")], &schema(&[])).unwrap());
        assert!(of(&[("day", "STRING")], &wanted).unwrap().contains(r#"t."day"::text = k.c0"#));
        assert!(of(&[("curency", "STRING")], &wanted).unwrap_err().contains("did you mean 'currency'"));
        assert!(of(&[("rate", "BIGINT")], &wanted).unwrap_err().contains("'rate' is numeric"));
    }
}
