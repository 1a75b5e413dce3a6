//! [pure] A database's change-log as Debezium writes it, and what SQLite, which made the same changes, holds at its end.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::oracle::Multiset;
use crate::random::Random;

/// Kinds of items.
const KINDS: u64 = 7;
/// Of so many changes to an item that is there, one deletes it.
const DELETES: u64 = 4;
/// Of so many prices, one is null.
const NULLS: u64 = 10;

/// The table that changed, as a script declares it.
pub const COLUMNS: &str = "id BIGINT NOT NULL, kind STRING, price BIGINT";
/// A grouping of it that needs every change taken back, and its columns.
pub const QUERY: &str =
    "SELECT kind, COUNT(*) AS num, SUM(price) AS total, MIN(price) AS low, MAX(price) AS high, COUNT(DISTINCT price) AS prices
    FROM items WHERE id <> 3 GROUP BY kind";
/// Columns of [`QUERY`].
pub const GROUPED: &str = "kind STRING, num BIGINT, total BIGINT, low BIGINT, high BIGINT, prices BIGINT";

/// The change-log, and its end.
#[derive(Debug)]
pub struct Changes {
    /// Events of `parts` logs; all of an item are in the same one, in order.
    pub logs: Vec<Vec<String>>,
    /// The answer to [`QUERY`] behind the last event, by SQLite.
    pub expected: Multiset,
}

/// Makes `count` changes, of items below `items`.
///
/// # Panics
/// When SQLite refuses.
pub fn changes(count: usize, items: u64, parts: usize) -> Changes {
    let mut database = Connection::open_in_memory().expect("a database");
    database.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, kind TEXT, price INTEGER)", []).expect("a table");
    let transaction = database.transaction().expect("a transaction");
    let (mut random, mut logs) = (Random(11), vec![Vec::new(); parts]);
    let mut held: BTreeMap<u64, Value> = BTreeMap::new();
    for _ in 0..count {
        let id = random.below(items);
        let before = held.get(&id).cloned();
        let gone = before.is_some() && random.below(DELETES) == 0;
        let price = (random.below(NULLS) > 0).then(|| random.below(1_000));
        let (kind, after) = (format!("kind {}", random.below(KINDS)), !gone);
        let after = after.then(|| json!({"id": id, "kind": kind, "price": price}));
        let op = match (&before, &after) {
            (None, _) if random.below(2) == 0 => "r",
            (None, _) => "c",
            (Some(_), Some(_)) => "u",
            (Some(_), None) => "d",
        };
        let done = match op {
            "d" => transaction.execute("DELETE FROM items WHERE id = ?", [id]),
            "u" => transaction.execute("UPDATE items SET kind = ?, price = ? WHERE id = ?", (&kind, price, id)),
            _ => transaction.execute("INSERT INTO items VALUES (?, ?, ?)", (id, &kind, price)),
        };
        assert_eq!(done.expect("a change"), 1, "{op} of {id}");
        let event =
            json!({"before": before, "after": after, "source": {"connector": "postgresql", "table": "items"}, "op": op, "ts_ms": 1});
        logs[id as usize % parts].push(event.to_string());
        match after {
            Some(row) => drop(held.insert(id, row)),
            None => drop(held.remove(&id)),
        }
    }
    transaction.commit().expect("a commit");
    let expected = answer(&database);
    Changes { logs, expected }
}

fn answer(database: &Connection) -> Multiset {
    let mut statement = database.prepare(QUERY).expect("a query");
    let row = |row: &rusqlite::Row<'_>| {
        let number = |at: usize| row.get::<_, Option<i64>>(at);
        let kind: Option<String> = row.get(0)?;
        let (num, total, low, high, prices) = (number(1)?, number(2)?, number(3)?, number(4)?, number(5)?);
        Ok((json!({"kind": kind, "num": num, "total": total, "low": low, "high": high, "prices": prices}).to_string(), 1))
    };
    statement.query_map([], row).expect("an answer").map(|row| row.expect("a row")).collect()
}
