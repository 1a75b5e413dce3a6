//! No text makes the planner panic: token soup, mutations of good scripts, and texts built to be deep.

use proptest::prelude::*;
use proptest::sample::select;
use rheos_sql::{PlanOptions, explain, plan};

use crate::support::check_operators;

const GOOD: &str = "CREATE TABLE t (k STRING, v INT, r ROW<a INT, b ROW<c STRING>>, ts AS TO_TIMESTAMP_LTZ(l, 3), l BIGINT, WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) \
    WITH ('connector' = 'datagen') ; CREATE TABLE o (k STRING, n BIGINT) WITH ('connector' = 'print') ; \
    CREATE VIEW w AS SELECT k, r.b.c AS c, CASE WHEN v > 1 THEN v ELSE 2 END AS v, ts FROM t WHERE k LIKE 'a%' ; \
    INSERT INTO o SELECT k, COUNT(DISTINCT v) FILTER (WHERE v > 2) FROM TABLE ( HOP ( TABLE w, DESCRIPTOR ( ts ), INTERVAL '1' SECOND, INTERVAL '5' SECOND ) ) \
    GROUP BY k, window_start, window_end HAVING COUNT(*) > 1 ; INSERT INTO o SELECT c, MAX(v) + 1 FROM w GROUP BY c ;";

const WORDS: [&str; 96] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "HAVING",
    "INSERT INTO",
    "CREATE TABLE",
    "CREATE VIEW",
    "AS",
    "WITH",
    "AND",
    "OR",
    "NOT",
    "IS NULL",
    "IN",
    "BETWEEN",
    "LIKE",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "CAST(",
    "TRY_CAST(",
    "COUNT(*)",
    "COUNT(DISTINCT",
    "SUM(",
    "MIN(",
    "AVG(",
    "FILTER (WHERE",
    "TABLE(",
    "TUMBLE(",
    "HOP(",
    "CUMULATE(",
    "SESSION(",
    "TABLE",
    "DESCRIPTOR(",
    "INTERVAL '1' SECOND",
    "INTERVAL '1-2' YEAR TO MONTH",
    "UNION ALL",
    "UNION",
    "ORDER BY",
    "LIMIT 1",
    "JOIN",
    "ON",
    "t",
    "o",
    "w",
    "k",
    "v",
    "r",
    "a",
    "b",
    "c",
    "ts",
    "l",
    "window_start",
    "window_end",
    "`q w`",
    "'text'",
    "1",
    "1.5",
    "1e3",
    "999999999999999999999",
    "NULL",
    "TRUE",
    "(",
    ")",
    ",",
    ";",
    ".",
    "*",
    "+",
    "-",
    "/",
    "%",
    "=",
    "<",
    ">",
    "<>",
    "||",
    "ROW<",
    "ARRAY<",
    "INT",
    "STRING",
    "TIMESTAMP(3)",
    "WATERMARK FOR",
    "PRIMARY KEY",
    "'connector' = 'print'",
    "DATE_FORMAT(",
    "EXTRACT(HOUR FROM",
    "SUBSTRING(",
    "REGEXP_EXTRACT(",
    "FLOOR(",
    "PROCTIME()",
    "OVER (",
];

fn survives(sql: &str) {
    for pushdown in [true, false] {
        if let Ok(planned) = plan(sql, &PlanOptions { pushdown, ..PlanOptions::default() }) {
            planned.graph.validate().unwrap();
            check_operators(&planned.graph);
            assert!(!explain(&planned).is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn token_soup(words in prop::collection::vec(select(WORDS.to_vec()), 0..60)) {
        survives(&words.join(" "));
        survives(&format!("{GOOD} INSERT INTO o SELECT {} ", words.join(" ")));
    }

    #[test]
    fn mutated_scripts(edits in prop::collection::vec((any::<prop::sample::Index>(), 0_u8..4, select(WORDS.to_vec())), 1..6)) {
        let mut tokens: Vec<&str> = GOOD.split(' ').collect();
        for (place, kind, word) in edits {
            let place = place.index(tokens.len());
            match kind {
                0 => { tokens.remove(place); }
                1 => tokens.insert(place, word),
                2 => tokens[place] = word,
                _ => { let other = (place * 7 + 3) % tokens.len(); tokens.swap(place, other); }
            }
            if tokens.is_empty() { break; }
        }
        survives(&tokens.join(" "));
    }

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        survives(&text);
        survives(&format!("{GOOD} INSERT INTO o SELECT k, {text} FROM t"));
    }
}

#[test]
fn repeated_fragments_end_quickly() {
    for fragment in [
        "(",
        "((",
        "CASE ",
        "NOT ",
        "- ",
        "SELECT (",
        "FROM (",
        "a.",
        "ROW<a ",
        "[",
        "f(",
        "(SELECT ",
        "(SELECT 1 FROM (",
        "x IN (",
        "CAST(",
        "INTERVAL ",
        "WITH a AS (",
        "EXISTS (",
        "TABLE (",
        "a + ",
        "a = ",
        "a BETWEEN ",
        "b AND ",
        "'",
        "`",
        "/*",
        "--",
        "t UNION ALL SELECT i FROM ",
        "a LIKE ",
        "x IS NOT DISTINCT FROM ",
        "CASE WHEN ",
        "::int",
        "{",
        "=> ",
    ] {
        for prefix in ["", "INSERT INTO o SELECT ", "INSERT INTO o SELECT * FROM ", "CREATE TABLE x (a "] {
            survives(&format!("{prefix}{}", fragment.repeat(60)));
            survives(&format!("{prefix}{}", fragment.repeat(60_000 / fragment.len())));
        }
    }
}
