//! Operators with state keep their names through edits elsewhere, and their fingerprints tell edits that change it.

use std::collections::BTreeMap;

use crate::support::planned;

const TABLES: &str = "CREATE TABLE t (k STRING, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
    CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print');
    CREATE TABLE p (k STRING) WITH ('connector' = 'print');";

/// Fingerprints by id of the operators that keep state, sources and sinks left out.
fn state(rest: &str) -> BTreeMap<String, String> {
    let graph = planned(&format!("{TABLES}{rest}")).graph;
    let nodes = graph.nodes.into_iter().filter(|node| !node.id.0.starts_with("source") && !node.id.0.starts_with("sink"));
    nodes.filter_map(|node| Some((node.id.0, node.state_schema?))).collect()
}

const BASE: &str = "INSERT INTO o SELECT k, COUNT(*) FROM t WHERE v > 1 GROUP BY k;";

#[test]
fn edits_of_stateless_parts_keep_name_and_fingerprint() {
    let base = state(BASE);
    assert_eq!(base.len(), 1);
    for edited in [
        "INSERT INTO o SELECT k, COUNT(*) FROM t WHERE v > 2 AND k <> 'x' GROUP BY k;",
        "INSERT INTO o SELECT UPPER(k), COUNT(*) + 1 FROM t WHERE v > 1 GROUP BY k;",
        "INSERT INTO o SELECT k AS other, COUNT(*) FROM t GROUP BY k HAVING COUNT(*) > 3;",
        "INSERT INTO p SELECT k FROM t; INSERT INTO o SELECT k, COUNT(*) FROM t WHERE v > 1 GROUP BY k;",
        "CREATE VIEW w AS SELECT v, k, UPPER(k) AS u FROM t; INSERT INTO o SELECT k, COUNT(*) FROM w WHERE v > 1 GROUP BY k;",
    ] {
        assert_eq!(state(edited), base, "{edited}");
    }
}

#[test]
fn another_key_or_window_is_another_operator() {
    let base = state(BASE);
    for edited in [
        "INSERT INTO o SELECT UPPER(k), COUNT(*) FROM t GROUP BY UPPER(k);",
        "INSERT INTO o SELECT k, COUNT(*) FROM t GROUP BY k, v;",
        "INSERT INTO o SELECT k, COUNT(*) FROM t GROUP BY k, TUMBLE(ts, INTERVAL '1' SECOND);",
    ] {
        assert!(state(edited).keys().all(|id| !base.contains_key(id)), "{edited}");
    }
    let tumble =
        |seconds: u32| state(&format!("INSERT INTO o SELECT k, COUNT(*) FROM t GROUP BY k, TUMBLE(ts, INTERVAL '{seconds}' SECOND);"));
    assert_ne!(tumble(1).keys().collect::<Vec<_>>(), tumble(2).keys().collect::<Vec<_>>());
}

#[test]
fn other_aggregates_are_the_same_operator_with_another_fingerprint() {
    let (base, edited) = (state(BASE), state("INSERT INTO o SELECT k, COUNT(DISTINCT v) FROM t WHERE v > 1 GROUP BY k;"));
    assert_eq!(base.keys().collect::<Vec<_>>(), edited.keys().collect::<Vec<_>>());
    assert_ne!(base, edited);
}

#[test]
fn equal_operators_are_numbered_in_the_order_of_the_text() {
    let twice = format!("{BASE} INSERT INTO o SELECT k, COUNT(*) FROM t WHERE v > 5 GROUP BY k;");
    let ids: Vec<String> = state(&twice).into_keys().collect();
    let first = state(BASE).into_keys().next().unwrap();
    assert_eq!(ids, vec![first.clone(), format!("{first}#2")]);
}
