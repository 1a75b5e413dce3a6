//! Limits at the limit and one above. They run in the test's ordinary stack of 2 MiB.

use rheos_sql::limits::{MAX_COLUMNS, MAX_NESTING, MAX_PLAN_NODES, MAX_QUERY_NESTING, MAX_STATEMENTS, MAX_TEXT_BYTES, MAX_TREE_HEIGHT};

use crate::support::errors;

const TABLES: &str =
    "CREATE TABLE t (i INT, b BOOLEAN) WITH ('connector' = 'datagen'); CREATE TABLE o (i INT) WITH ('connector' = 'print');";

fn insert(expr: &str) -> String {
    format!("{TABLES} INSERT INTO o SELECT {expr} FROM t;")
}

#[track_caller]
fn refused(sql: &str, message: &str) {
    let errors = errors(sql);
    assert!(errors.contains(message), "expected {message:?} in {errors:?}");
}

#[test]
fn text_length() {
    let base = insert("i");
    let padded = |length: usize| format!("{base}{}", " ".repeat(length - base.len()));
    assert_eq!(errors(&padded(MAX_TEXT_BYTES)), "");
    refused(&padded(MAX_TEXT_BYTES + 1), "the limit is 65536");
}

#[test]
fn nesting() {
    let nested = |depth: usize| insert(&format!("{}i{}", "(".repeat(depth), ")".repeat(depth)));
    assert_eq!(errors(&nested(MAX_NESTING)), "");
    refused(&nested(MAX_NESTING + 1), "more than 64 parentheses");
    let cases = |depth: usize| insert(&format!("{}i{}", "CASE WHEN b THEN ".repeat(depth), " END".repeat(depth)));
    assert_eq!(errors(&cases(MAX_NESTING)), "");
    refused(&cases(MAX_NESTING + 1), "more than 64 parentheses");
    let functions = |depth: usize| insert(&format!("{}i{}", "COALESCE(1, ".repeat(depth), ")".repeat(depth)));
    assert_eq!(errors(&functions(MAX_NESTING)), "");
}

#[test]
fn nested_queries_and_types() {
    let queries =
        |depth: usize| format!("{TABLES} INSERT INTO o SELECT i FROM {}t{};", "(SELECT * FROM ".repeat(depth - 1), ")".repeat(depth - 1));
    assert_eq!(errors(&queries(MAX_QUERY_NESTING)), "");
    refused(&queries(MAX_QUERY_NESTING + 1), "more than 16 queries");
    let mut views = format!("{TABLES} CREATE VIEW v0 AS SELECT i FROM t;");
    for n in 1..=190 {
        views += &format!("CREATE VIEW v{n} AS SELECT i FROM v{};", n - 1);
    }
    assert_eq!(errors(&(views + "INSERT INTO o SELECT i FROM v190;")), "");
    let rows = |depth: usize| {
        format!("CREATE TABLE n (r {}INT{}) WITH ('connector' = 'datagen'); {}", "ROW<a ".repeat(depth), ">".repeat(depth), insert("i"))
    };
    assert_eq!(errors(&rows(100)), "");
    assert_ne!(errors(&rows(300)), "");
}

#[test]
fn long_chains_of_operators() {
    let sum = |terms: usize| insert(&vec!["i"; terms].join(" + "));
    assert_eq!(errors(&sum(MAX_TREE_HEIGHT - 1)), "");
    refused(&sum(MAX_TREE_HEIGHT + 1), "operators high");
    let or = |terms: usize| format!("{TABLES} INSERT INTO o SELECT i FROM t WHERE {};", vec!["b"; terms].join(" OR "));
    assert_eq!(errors(&or(MAX_TREE_HEIGHT - 2)), "");
    refused(&or(MAX_TREE_HEIGHT + 1), "operators high");
    for prefix in ["NOT ", "- ", "+ "] {
        assert_ne!(errors(&insert(&format!("{}b", prefix.repeat(20_000)))), "");
    }
}

#[test]
fn columns() {
    let table = |columns: usize| {
        let list: Vec<String> = (0..columns).map(|i| format!("c{i} INT")).collect();
        format!("CREATE TABLE w ({}) WITH ('connector' = 'datagen'); {}", list.join(", "), insert("i"))
    };
    assert_eq!(errors(&table(MAX_COLUMNS)), "");
    refused(&table(MAX_COLUMNS + 1), "more than 256 columns");
    let query = |columns: usize| {
        format!("{TABLES} CREATE VIEW v AS SELECT {} FROM t; INSERT INTO o SELECT i FROM t;", vec!["i"; columns].join(", "))
    };
    assert_eq!(errors(&query(MAX_COLUMNS)), "");
    refused(&query(MAX_COLUMNS + 1), "at most 256 columns");
}

#[test]
fn plan_nodes_count_views_wherever_they_are_used() {
    let doubled = |times: usize| {
        let mut sql = format!("{TABLES} CREATE VIEW v0 AS SELECT i FROM t;");
        for n in 1..=times {
            let below = n - 1;
            sql += &format!("CREATE VIEW v{n} AS SELECT DISTINCT i FROM v{below} UNION ALL SELECT DISTINCT i FROM v{below};");
        }
        sql + &format!("INSERT INTO o SELECT i FROM v{times};")
    };
    assert_eq!(errors(&doubled(3)), "");
    refused(&doubled(40), &format!("more than {MAX_PLAN_NODES} nodes"));
}

#[test]
fn expressions_of_views_do_not_grow_exponentially() {
    let mut sql = format!("{TABLES} CREATE VIEW v0 AS SELECT i FROM t;");
    for n in 1..=80 {
        sql += &format!("CREATE VIEW v{n} AS SELECT i * i + i AS i FROM v{};", n - 1);
    }
    assert_eq!(errors(&(sql + "INSERT INTO o SELECT i FROM v80;")), "");
}

#[test]
fn statements() {
    let many = |count: usize| format!("{TABLES}{}", "INSERT INTO o SELECT i FROM t;".repeat(count - 2));
    refused(&many(MAX_STATEMENTS + 1), "more than 1000 statements");
}

#[test]
fn forbidden_characters() {
    refused(&insert("'\u{202e}'"), "U+202E");
    refused(&insert("'\0'"), "U+0000");
    assert_eq!(errors(&insert("CHAR_LENGTH('ü\t')")), "");
}
