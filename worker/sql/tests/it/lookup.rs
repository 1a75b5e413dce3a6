//! Lookup joins: their plans, the names of operators around them, and what the graph tells the engine.

use arrow::datatypes::DataType;
use expect_test::{Expect, expect};
use rheos_dataflow::graph::{LookupJoinSpec, OperatorSpec};

use crate::support::{explained, planned};

const TABLES: &str = "CREATE TABLE orders (id BIGINT, currency STRING, shop INT, cents BIGINT, unused STRING, proc AS PROCTIME()) WITH ('connector' = 'datagen');
    CREATE TABLE rates (rate DECIMAL(10, 4), currency STRING, id BIGINT, note STRING, PRIMARY KEY (currency) NOT ENFORCED)
      WITH ('connector' = 'jdbc', 'lookup.cache' = 'PARTIAL');
    CREATE TABLE shops (id BIGINT, name STRING) WITH ('connector' = 'jdbc');
    CREATE TABLE o (id BIGINT, rate DECIMAL(10, 4)) WITH ('connector' = 'print');
";

fn check(rest: &str, expected: Expect) {
    expected.assert_eq(&explained(&format!("{TABLES}{rest}")));
}

fn lookups(rest: &str) -> Vec<LookupJoinSpec> {
    let nodes = planned(&format!("{TABLES}{rest}")).graph.nodes.into_iter();
    nodes.filter_map(|node| if let OperatorSpec::LookupJoin(spec) = node.spec { Some(spec) } else { None }).collect()
}

#[test]
fn only_used_columns_are_asked_for_and_processing_time_is_none() {
    check(
        "INSERT INTO o SELECT o.id, r.rate FROM orders AS o LEFT JOIN rates FOR SYSTEM_TIME AS OF o.proc AS r ON o.currency = r.currency;",
        expect![[r#"
            sink:o  sink o (print)
              calc:rates+orders:35fe2464  id, rate
                lookup-join:rates+orders:c0d2ab93  LEFT JOIN rates (jdbc) ON currency = rates.currency: rate
                  source:orders  source orders (datagen): id, currency
        "#]],
    );
}

#[test]
fn keys_are_computed_below_and_other_conditions_filter_above() {
    check(
        "INSERT INTO o SELECT o.id, r.rate FROM orders AS o JOIN rates FOR SYSTEM_TIME AS OF proc AS r
           ON UPPER(o.currency) = r.currency AND (r.id = 7 AND o.cents > r.id) WHERE r.note <> 'old';",
        expect![[r#"
            sink:o  sink o (print)
              calc:rates+orders:8bc6b577  id, rate WHERE (id0 < cents) AND (note != 'old')
                lookup-join:rates+orders:ddf5c0d7  JOIN rates (jdbc) ON key_currency = rates.currency AND key_id = rates.id: rate, id AS id0, note
                  calc:orders:08dc87ea  id, cents, UPPER(currency) AS key_currency, 7 AS key_id
                    source:orders  source orders (datagen): id, currency, cents
        "#]],
    );
}

#[test]
fn joins_follow_each_other_and_stars_name_all_columns() {
    check(
        "CREATE TABLE wide (id BIGINT, currency STRING, rate DECIMAL(10, 4), name STRING) WITH ('connector' = 'print');
         CREATE VIEW timed AS SELECT *, PROCTIME() AS p FROM (SELECT id, currency, shop FROM orders);
         INSERT INTO wide SELECT t.id, r.currency, r.rate, s.name FROM timed AS t
           JOIN rates FOR SYSTEM_TIME AS OF t.p AS r ON t.currency = r.currency
           LEFT JOIN shops FOR SYSTEM_TIME AS OF t.p AS s ON t.shop = s.id;
         CREATE TABLE stars (shop INT, rate DECIMAL(10, 4), currency STRING, id BIGINT, note STRING) WITH ('connector' = 'print');
         INSERT INTO stars SELECT t.shop, r.* FROM timed AS t JOIN rates FOR SYSTEM_TIME AS OF p AS r ON t.currency = r.currency;",
        expect![[r#"
            sink:wide  sink wide (print)
              calc:shops+rates+orders:8c38c790  id, currency0 AS currency, rate, name
                lookup-join:shops+rates+orders:1e059dde  LEFT JOIN shops (jdbc) ON key_id = shops.id: name
                  calc:rates+orders:cba18570  id, rate, currency0, CAST(shop AS BIGINT) AS key_id
                    lookup-join:rates+orders:c0d2ab93  JOIN rates (jdbc) ON currency = rates.currency: rate, currency AS currency0
                      source:orders  source orders (datagen): id, currency, shop
            sink:stars  sink stars (print)
              calc:rates+orders:6ab5ddf2  shop, rate, currency0 AS currency, id0 AS id, note
                lookup-join:rates+orders:c0d2ab93#2  JOIN rates (jdbc) ON currency = rates.currency: rate, currency AS currency0, id AS id0, note
                  calc:orders:1a6bdfff  currency, shop
                    source:orders (see above)
        "#]],
    );
}

#[test]
fn windows_and_groups_work_above_a_lookup() {
    check(
        "CREATE TABLE timed (id BIGINT, currency STRING, ts TIMESTAMP(3), p AS PROCTIME(), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
         CREATE TABLE sums (currency STRING, note STRING, n BIGINT) WITH ('connector' = 'print');
         CREATE VIEW joined AS SELECT t.currency, r.note, t.ts FROM timed AS t JOIN rates FOR SYSTEM_TIME AS OF t.p AS r ON t.currency = r.currency;
         INSERT INTO sums SELECT currency, note, COUNT(*) FROM joined GROUP BY currency, note, TUMBLE(ts, INTERVAL '10' SECOND);",
        expect![[r#"
            sink:sums  sink sums (print)
              calc:rates+timed:31882381  currency, note, EXPR$2 AS n
                window-aggregate:rates+timed:a64261b0  TUMBLE 10s, COUNT(*) by currency, note [state: TUMBLE 10s keys(STRING, STRING) calls(COUNT(*))]
                  local-window-aggregate:rates+timed:8523306b  partial TUMBLE 10s, COUNT(*) by currency, note => hash(currency, note)
                    calc:rates+timed:bb6caaee  currency, note, ts AS rowtime
                      lookup-join:rates+timed:f28788d0  JOIN rates (jdbc) ON currency = rates.currency: note
                        source:timed  source timed (datagen): currency, ts, watermark ts
        "#]],
    );
}

#[test]
fn the_engine_gets_the_table_and_the_types_of_its_columns() {
    let found = lookups(
        "INSERT INTO o SELECT o.id, r.rate FROM orders AS o JOIN rates FOR SYSTEM_TIME AS OF proc AS r ON o.shop = r.id AND r.currency = 'EUR';",
    );
    let [spec] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((spec.table.table.as_str(), spec.outer, spec.keys.len()), ("rates", false, 2));
    assert_eq!(spec.table.options["lookup.cache"], "PARTIAL");
    let fields = |schema: &arrow::datatypes::Schema| -> Vec<(String, DataType)> {
        schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
    };
    assert_eq!(fields(&spec.table.keys), [("id".into(), DataType::Int64), ("currency".into(), DataType::Utf8)]);
    assert_eq!(fields(&spec.table.columns), [("rate".into(), DataType::Decimal128(10, 4))]);
}

#[test]
fn edits_beside_a_lookup_keep_the_state_behind_it() {
    let state = |query: &str| -> Vec<String> {
        let sql = format!("{TABLES} CREATE TABLE s (note STRING, n BIGINT) WITH ('connector' = 'print'); INSERT INTO s {query}");
        planned(&sql)
            .graph
            .nodes
            .into_iter()
            .filter(|node| node.id.0.contains("aggregate:") || node.id.0.contains("lookup"))
            .map(|node| node.id.0)
            .collect()
    };
    let join = "FROM orders AS o JOIN rates FOR SYSTEM_TIME AS OF o.proc AS r ON o.currency = r.currency";
    let base = state(&format!("SELECT r.note, COUNT(*) {join} GROUP BY r.note;"));
    assert_eq!(base.len(), 3, "{base:?}");
    for edited in [
        format!("SELECT r.note, COUNT(*) {join} WHERE o.cents > 5 GROUP BY r.note;"),
        format!("SELECT r.note, COUNT(*) {} WHERE r.rate > 1 GROUP BY r.note;", join.replace("JOIN", "LEFT JOIN")),
    ] {
        assert_eq!(state(&edited), base, "{edited}");
    }
    let other = state(&format!("SELECT r.note, COUNT(*) {} GROUP BY r.note;", join.replace("o.currency = r.currency", "o.id = r.id")));
    assert!(other.iter().all(|id| !base.contains(id)), "{other:?}");
}
