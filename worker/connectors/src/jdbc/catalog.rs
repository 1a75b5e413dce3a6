//! [io] What the server's catalog says of tables.

use rheos_dataflow::error::{DataflowError, ErrorKind, Result};
use tokio_postgres::{Client, Row};

use super::client::failed;
use super::name::quoted;
use super::statement::{Shape, Target};
use super::types::{TargetColumn, declared};

/// Columns of a table; a domain is taken for what is below it.
const COLUMNS: &str = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), format_type(b.oid, -1), b.typname::text, b.typtype = 'e', \
      CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END, a.attnotnull, a.atthasdef OR a.attidentity <> '', \
      a.attgenerated <> '' OR a.attidentity = 'a' \
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
      JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END \
    WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
/// Its keys that are unique for all rows, at once.
const KEYS: &str = "SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE \"C\") \
    FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1]) \
    WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL \
    GROUP BY i.indexrelid";
/// Its primary key, column by column.
const PRIMARY_KEY: &str = "SELECT a.attname::text FROM pg_index i, unnest(i.indkey) WITH ORDINALITY AS k(number, place), pg_attribute a \
    WHERE i.indrelid = $1::oid AND i.indisprimary AND a.attrelid = i.indrelid AND a.attnum = k.number AND k.place <= i.indnkeyatts ORDER BY k.place";
/// Rights of the user.
const RIGHTS: &str = "SELECT has_any_column_privilege($1::oid, 'INSERT'), has_any_column_privilege($1::oid, 'UPDATE'), \
    has_any_column_privilege($1::oid, 'SELECT'), has_table_privilege($1::oid, 'DELETE'), current_user::text";

/// The number of a table in the catalog.
///
/// # Errors
/// There is none of this name.
pub(super) async fn table_oid(client: &Client, name: &str) -> Result<Option<u32>> {
    let row = client.query_one("SELECT to_regclass($1)::oid", &[&name]).await;
    row.and_then(|row| row.try_get(0)).map_err(|error| failed(&format!("looking for table {name}"), &error))
}

/// What the catalog says of the table that `shape` is for.
///
/// # Errors
/// `User`: there is none.
pub(super) async fn target(client: &Client, shape: &Shape) -> Result<Target> {
    let wrong = |error: tokio_postgres::Error| failed(&format!("looking at table {}", shape.table), &error);
    let Some(oid) = table_oid(client, &shape.table.sql()).await? else {
        return Err(missing(shape));
    };
    let columns = columns(client, oid).await.map_err(wrong)?;
    let keys = client.query(KEYS, &[&oid]).await.map_err(wrong)?;
    let unique = keys.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(wrong)?;
    let rights = client.query_one(RIGHTS, &[&oid]).await.map_err(wrong)?;
    let user: String = rights.try_get(4).map_err(wrong)?;
    let mut missing_rights = Vec::new();
    // A table that only grows needs no more than the first.
    let needed = if shape.key.is_empty() { 1 } else { 4 };
    for (place, right) in ["INSERT", "UPDATE", "SELECT", "DELETE"].iter().enumerate().take(needed) {
        if !rights.try_get::<_, bool>(place).map_err(wrong)? {
            let (table, user) = (shape.table.sql(), quoted(&user));
            missing_rights.push(format!("user {user} may not {right}: GRANT {right} ON {table} TO {user}"));
        }
    }
    Ok(Target { columns, unique, missing_rights })
}

fn missing(shape: &Shape) -> DataflowError {
    let columns = shape.columns.fields().iter().map(|field| format!("{} {}", quoted(field.name()), declared(field.data_type())));
    let key: Vec<String> = shape.key.iter().map(|name| quoted(name)).collect();
    let key = (!key.is_empty()).then(|| format!("PRIMARY KEY ({})", key.join(", ")));
    let parts: Vec<String> = columns.chain(key).collect();
    let (table, sql) = (&shape.table, shape.table.sql());
    let message = format!("there is no table {table}, or the user does not see it; create it: CREATE TABLE {sql} ({})", parts.join(", "));
    DataflowError::new("jdbc", ErrorKind::User, message)
}

/// The columns of a table.
pub(super) async fn columns(client: &Client, oid: u32) -> Result<Vec<TargetColumn>, tokio_postgres::Error> {
    client.query(COLUMNS, &[&oid]).await?.iter().map(column).collect()
}

/// The columns of a table's primary key, in its order; none: it has no key.
pub(super) async fn primary_key(client: &Client, oid: u32) -> Result<Vec<String>, tokio_postgres::Error> {
    client.query(PRIMARY_KEY, &[&oid]).await?.iter().map(|row| row.try_get(0)).collect()
}

fn column(row: &Row) -> Result<TargetColumn, tokio_postgres::Error> {
    Ok(TargetColumn {
        name: row.try_get(0)?,
        shown: row.try_get(1)?,
        cast: row.try_get(2)?,
        base: row.try_get(3)?,
        is_enum: row.try_get(4)?,
        modifier: row.try_get(5)?,
        not_null: row.try_get(6)?,
        has_default: row.try_get(7)?,
        generated: row.try_get(8)?,
    })
}
