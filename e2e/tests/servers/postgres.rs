//! PostgreSQL in and out against a real server, with real worker processes; tables are compared with what these files
//! compute from the same input. Here: the server, the input and the SQL that all of them share.

mod commits;
mod delivery;
mod lookups;
mod outages;
mod protocol;
mod refusals;
mod scans;
mod tables;
mod tls;

use std::sync::OnceLock;

use rheos_e2e::oracle::Multiset;
use rheos_e2e::postgres::Postgres;
use rheos_e2e::worker::{Job, Run};

/// One server for all tests but those that kill theirs.
fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| Postgres::start().expect("a PostgreSQL server"))
}

/// Numbers from 0, `pace` a second.
fn numbers(count: i64, pace: i64) -> String {
    format!(
        "CREATE TABLE numbers (id BIGINT) WITH ('connector' = 'datagen', 'fields.id.kind' = 'sequence', 'fields.id.start' = '0',
           'fields.id.end' = '{}', 'rows-per-second' = '{pace}', 'splits' = '4');\n",
        count - 1
    )
}

/// Numbers into a table without a key: `(id, twice, part)`. `more` are options of the sink, `, 'name' = 'value'`.
fn copy(server: &Postgres, table: &str, count: i64, pace: i64, more: &str) -> String {
    let sink = format!("CREATE TABLE out (id BIGINT, twice BIGINT, part INT) WITH ({}{more});\n", server.options(table));
    format!("{}{sink}INSERT INTO out SELECT id, id * 2, CAST(MOD(id, 3) AS INT) FROM numbers;", numbers(count, pace))
}

/// What [`copy`] writes.
fn copied(count: i64) -> Multiset {
    (0..count).map(|id| (format!("{id}|{}|{}", id * 2, id % 3), 1)).collect()
}

fn create(server: &Postgres, table: &str) {
    server.query(&format!("CREATE TABLE {table} (id bigint, twice bigint, part int)"));
}

/// Sums of numbers by key, some of which leave the result again: a change-log.
fn sums(server: &Postgres, table: &str, count: i64, pace: i64) -> String {
    let sink =
        format!("CREATE TABLE out (k BIGINT, num BIGINT, total BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ({});\n", server.options(table));
    let query = "INSERT INTO out SELECT k, COUNT(*), SUM(id) FROM (SELECT MOD(id, 97) AS k, id FROM numbers) GROUP BY k HAVING MOD(COUNT(*), 3) > 0 OR k < 50;";
    format!("{}{sink}{query}", numbers(count, pace))
}

/// What [`sums`] comes to.
fn summed(count: i64) -> Multiset {
    let of = |k: i64| (0..count).filter(move |id| id % 97 == k);
    let rows = (0..97_i64.min(count)).map(|k| (k, of(k).count(), of(k).sum::<i64>()));
    rows.filter(|(k, num, _)| num % 3 > 0 || *k < 50).map(|(k, num, total)| (format!("{k}|{num}|{total}"), 1)).collect()
}

fn create_keyed(server: &Postgres, table: &str) {
    server.query(&format!("CREATE TABLE {table} (total bigint, k bigint PRIMARY KEY, num int8)"));
}

/// All rows, as the oracle counts them.
fn rows(server: &Postgres, table: &str, columns: &str) -> Multiset {
    let mut rows = Multiset::new();
    for row in server.query(&format!("SELECT {columns} FROM {table}")) {
        *rows.entry(row).or_default() += 1;
    }
    rows
}

/// The value of `RHEOS_FAILPOINTS`.
fn failpoints(job: &Job, places: &[&str]) -> String {
    let files: Vec<String> = places.iter().map(|place| format!("{place}={}", job.path(place).display())).collect();
    files.join(";")
}

/// Waits until the table has so many rows.
async fn until_rows(run: &mut Run, server: &Postgres, table: &str, count: i64) {
    run.until("rows in the table", async || (server.number(&format!("SELECT COUNT(*) FROM {table}")) >= count).then_some(())).await;
}
